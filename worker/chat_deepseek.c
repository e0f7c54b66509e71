/*
 * DeepSeek's templates.
 *
 * V2: systems, then "User: words\n\nAssistant: answer<eos>...".
 * V3 and R1: systems<User>words<Assistant>answer<eos>...; R1 adds <think> and a newline where an
 * answer is asked for. Calls carry a kind and a fenced block; results stand between marks.
 * V3.1: systems<User>words<Assistant></think>answer<eos>..., and to be continued <Assistant><think>
 * or <Assistant></think>; calls are a name and arguments; results follow the answer that asked for
 * them, and the model goes on without a mark of its own. Reasoning of earlier answers is left out.
 *
 * The first templates of V3 and R1 leave out the end of a message with one call, and the beginning
 * of a second message with calls; here each message is whole, as in the later ones (V3-0324,
 * R1-0528). None but V3.1's shows the tools: for the others the text is that of V2.5's model card.
 */
#include "worker/chat_private.h"

#define BOS "<｜begin▁of▁sentence｜>"
#define EOS "<｜end▁of▁sentence｜>"
#define USER "<｜User｜>"
#define ASSISTANT "<｜Assistant｜>"
#define CALLS_BEGIN "<｜tool▁calls▁begin｜>"
#define CALLS_END "<｜tool▁calls▁end｜>"
#define CALL_BEGIN "<｜tool▁call▁begin｜>"
#define CALL_END "<｜tool▁call▁end｜>"
#define SEP "<｜tool▁sep｜>"
#define OUTPUTS_BEGIN "<｜tool▁outputs▁begin｜>"
#define OUTPUTS_END "<｜tool▁outputs▁end｜>"
#define OUTPUT_BEGIN "<｜tool▁output▁begin｜>"
#define OUTPUT_END "<｜tool▁output▁end｜>"

/* ---- V2 ---- */

static enum status render_v2(const struct chat_request *in, struct prompt *p, struct error *err)
{
    const struct chat_message *prefix = chat_prefix(in);
    prompt_literal(p, BOS);
    for (int i = 0; i < in->count; i++) {
        const struct chat_message *m = &in->messages[i];
        if (chat_is(m, "tool"))
            return error_set(err, INVALID, "messages[%d]: this model knows no tools", i);
        if (chat_is(m, "user"))
            prompt_words(p, "User: ");
        else if (chat_is(m, "assistant"))
            prompt_words(p, "Assistant: ");
        prompt_words(p, m->content);
        if (!chat_is(m, "assistant"))
            prompt_words(p, "\n\n");
        else if (m != prefix)
            prompt_literal(p, EOS);
    }
    if (!prefix)
        prompt_words(p, "Assistant:");
    return OK;
}

const struct chat_kind chat_deepseek_v2 = {
    .name = "DeepSeek-V2",
    .has = {"'User: '", "Assistant:"},
    .has_not = {USER, "[INST]"},
    .needs = {BOS, EOS},
    .ends = {EOS},
    .render = render_v2,
    .overhead = {.prompt = 16, .message = 16},
};

/* ---- V3, R1 ---- */

enum style { STYLE_FIRST, STYLE_LATER };

struct walk {
    const struct chat_request *in;
    struct prompt *p;
    enum style style;
    bool strips_thinking, begins_thinking;
    bool is_tool, after_user, in_outputs;
};

static void put_tools(struct walk *w)
{
    if (!w->in->tool_count)
        return;
    prompt_words(w->p,
                 "## Tools\n\n### Function\n\nYou have the following functions available:\n\n");
    for (int i = 0; i < w->in->tool_count; i++) {
        prompt_words(w->p, "- `");
        prompt_words(w->p, w->in->tools[i].name);
        prompt_words(w->p, "`:\n```json\n");
        prompt_tool(w->p, &w->in->tools[i], 4, true);
        prompt_words(w->p, "\n```\n\n");
    }
}

static void put_system(struct walk *w)
{
    bool any;
    prompt_literal(w->p, BOS);
    chat_systems(w->in, w->p, &any);
    if (any && w->in->tool_count)
        prompt_words(w->p, "\n\n");
    put_tools(w);
}

static void put_calls(struct walk *w, const struct chat_message *m)
{
    prompt_literal(w->p, CALLS_BEGIN);
    for (int i = 0; i < m->tool_call_count; i++) {
        prompt_literal(w->p, i ? "\n" CALL_BEGIN "function" SEP : CALL_BEGIN "function" SEP);
        prompt_words(w->p, m->tool_calls[i].name);
        prompt_words(w->p, "\n```json\n");
        prompt_words(w->p, m->tool_calls[i].arguments);
        prompt_literal(w->p, "\n```" CALL_END);
    }
    prompt_literal(w->p, CALLS_END);
}

static void put_prefix_reasoning(struct walk *w, const struct chat_message *m)
{
    if (!*m->reasoning_content || !w->strips_thinking)
        return;
    prompt_literal(w->p, "<think>\n");
    prompt_words(w->p, m->reasoning_content);
    if (*m->content)
        prompt_literal(w->p, "\n</think>\n\n");
}

static void put_assistant(struct walk *w, const struct chat_message *m)
{
    if (w->is_tool)
        prompt_literal(w->p, OUTPUTS_END);
    else if (w->style == STYLE_FIRST)
        prompt_literal(w->p, ASSISTANT);
    bool plain_after_tool = w->is_tool && w->style == STYLE_FIRST && !m->tool_call_count;
    w->is_tool = w->after_user = w->in_outputs = false;
    bool prefix = m == chat_prefix(w->in);
    if (prefix)
        put_prefix_reasoning(w, m);
    bool strip = w->strips_thinking && !plain_after_tool && !prefix;
    prompt_words(w->p, strip ? chat_after_last_think(m->content) : m->content);
    if (m->tool_call_count)
        put_calls(w, m);
    if (!prefix)
        prompt_literal(w->p, EOS);
}

static void put_message(struct walk *w, const struct chat_message *m)
{
    if (chat_is(m, "user")) {
        prompt_literal(w->p, USER);
        prompt_words(w->p, m->content);
        if (w->style == STYLE_LATER)
            prompt_literal(w->p, ASSISTANT);
        w->is_tool = false;
        w->in_outputs = w->style == STYLE_LATER && w->in_outputs;
        w->after_user = true;
    } else if (chat_is(m, "assistant")) {
        put_assistant(w, m);
    } else if (chat_is(m, "tool")) {
        prompt_literal(w->p, w->in_outputs ? "\n" OUTPUT_BEGIN : OUTPUTS_BEGIN OUTPUT_BEGIN);
        prompt_words(w->p, m->content);
        prompt_literal(w->p, OUTPUT_END);
        w->is_tool = w->in_outputs = true;
        w->after_user = false;
    }
}

static enum status render_v3(struct walk *w)
{
    put_system(w);
    for (int i = 0; i < w->in->count; i++)
        put_message(w, &w->in->messages[i]);
    if (chat_prefix(w->in))
        return OK;
    if (w->is_tool)
        prompt_literal(w->p, OUTPUTS_END);
    else if (w->style == STYLE_FIRST || !w->after_user)
        prompt_literal(w->p, ASSISTANT);
    if (w->begins_thinking && !w->is_tool)
        prompt_literal(w->p, "<think>\n");
    return OK;
}

static enum status render_v3_first(const struct chat_request *in, struct prompt *p,
                                   struct error *err)
{
    struct walk w = {.in = in, .p = p, .style = STYLE_FIRST};
    return render_v3(&w);
}

static enum status render_v3_0324(const struct chat_request *in, struct prompt *p,
                                  struct error *err)
{
    struct walk w = {.in = in, .p = p, .style = STYLE_LATER};
    return render_v3(&w);
}

static enum status render_r1(const struct chat_request *in, struct prompt *p, struct error *err)
{
    struct walk w = {
        .in = in, .p = p, .style = STYLE_FIRST, .strips_thinking = true, .begins_thinking = true};
    return render_v3(&w);
}

static enum status render_r1_0528(const struct chat_request *in, struct prompt *p,
                                  struct error *err)
{
    struct walk w = {.in = in, .p = p, .style = STYLE_LATER, .strips_thinking = true};
    return render_v3(&w);
}

/* A prefix that is reasoning alone is to be thought on. */
static bool prefix_reasons(const struct chat_message *prefix)
{
    return *prefix->reasoning_content && !*prefix->content;
}

static bool r1_starts_in_reasoning(const struct chat_request *in)
{
    const struct chat_message *prefix = chat_prefix(in);
    return prefix ? prefix_reasons(prefix) : !chat_is(&in->messages[in->count - 1], "tool");
}

static bool r1_0528_starts_in_reasoning(const struct chat_request *in)
{
    const struct chat_message *prefix = chat_prefix(in);
    return prefix && prefix_reasons(prefix);
}

#define V3_TOKENS                                                                                  \
    {                                                                                              \
        BOS, EOS, USER, ASSISTANT, CALLS_BEGIN, CALLS_END, CALL_BEGIN, CALL_END, SEP,              \
            OUTPUTS_BEGIN, OUTPUTS_END, OUTPUT_BEGIN, OUTPUT_END                                   \
    }
#define R1_TOKENS                                                                                  \
    {                                                                                              \
        BOS, EOS, USER, ASSISTANT, CALLS_BEGIN, CALLS_END, CALL_BEGIN, CALL_END, SEP,              \
            OUTPUTS_BEGIN, OUTPUTS_END, OUTPUT_BEGIN, OUTPUT_END, "<think>", "</think>"            \
    }
/* Each message: its marks; each call: its marks and the fence. */
#define V3_OVERHEAD                                                                                \
    {                                                                                              \
        .prompt = 16, .message = 12, .tools = 80, .tool = 120                                      \
    }

const struct chat_kind chat_deepseek_v3 = {
    .name = "DeepSeek-V3",
    .has = {USER, "```json"},
    .has_not = {"is_last_user", "<think>"},
    .needs = V3_TOKENS,
    .ends = {EOS},
    .tools = TOOLS_DEEPSEEK,
    .render = render_v3_first,
    .overhead = V3_OVERHEAD,
};

const struct chat_kind chat_deepseek_v3_0324 = {
    .name = "DeepSeek-V3-0324",
    .has = {USER, "```json", "is_last_user"},
    .has_not = {"think>"},
    .needs = V3_TOKENS,
    .ends = {EOS},
    .tools = TOOLS_DEEPSEEK,
    .render = render_v3_0324,
    .overhead = V3_OVERHEAD,
};

const struct chat_kind chat_deepseek_r1 = {
    .name = "DeepSeek-R1",
    .has = {USER, "```json", ASSISTANT "<think>"},
    .has_not = {"is_last_user"},
    .needs = R1_TOKENS,
    .ends = {EOS},
    .tools = TOOLS_DEEPSEEK,
    .thinks = true,
    .render = render_r1,
    .starts_in_reasoning = r1_starts_in_reasoning,
    .overhead = V3_OVERHEAD,
};

const struct chat_kind chat_deepseek_r1_0528 = {
    .name = "DeepSeek-R1-0528",
    .has = {USER, "```json", "is_last_user", "</think>"},
    .has_not = {ASSISTANT "<think>", "set thinking"},
    .needs = R1_TOKENS,
    .ends = {EOS},
    .tools = TOOLS_DEEPSEEK,
    .thinks = true,
    .opens_thinking = true,
    .render = render_r1_0528,
    .starts_in_reasoning = r1_0528_starts_in_reasoning,
    .overhead = V3_OVERHEAD,
};
