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
 * The first templates leave out parts of calls (decision 071); here each message is whole, as in
 * the later ones (V3-0324, R1-0528). The tools are shown as the model cards of V2.5 and V3.1 do it.
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
    .has = {"'User: ' + message['content']", "'Assistant: ' + message['content'] + eos_token"},
    .has_not = {USER, "tool"},
    .needs = {BOS, EOS},
    .ends = {EOS},
    .render = render_v2,
    .overhead = {.prompt = 16, .message = 16},
};

/* ---- V3, R1 ---- */

enum style {
    STYLE_FIRST, /* Assistant stands in front of the answer; V2.5, V3, the distills */
    STYLE_R1,    /* the same; results follow each other without a newline */
    STYLE_LATER, /* Assistant stands behind the question; V3-0324, R1-0528 */
};

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
    else if (w->style != STYLE_LATER)
        prompt_literal(w->p, ASSISTANT);
    /* The first templates keep the reasoning of what follows results, and of what has calls. */
    bool keeps = w->style != STYLE_LATER && (w->is_tool || m->tool_call_count);
    w->is_tool = w->after_user = w->in_outputs = false;
    bool prefix = m == chat_prefix(w->in);
    if (prefix)
        put_prefix_reasoning(w, m);
    bool strip = w->strips_thinking && !keeps && !prefix;
    prompt_words(w->p, strip ? chat_after_last_think(m->content) : m->content);
    if (m->tool_call_count)
        put_calls(w, m);
    if (!prefix)
        prompt_literal(w->p, EOS);
}

static void put_result(struct walk *w, const struct chat_message *m)
{
    if (!w->in_outputs)
        prompt_literal(w->p, OUTPUTS_BEGIN);
    else if (w->style != STYLE_R1)
        prompt_words(w->p, "\n");
    prompt_literal(w->p, OUTPUT_BEGIN);
    prompt_words(w->p, m->content);
    prompt_literal(w->p, OUTPUT_END);
    w->is_tool = w->in_outputs = true;
    w->after_user = false;
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
        put_result(w, m);
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
    else if (w->style != STYLE_LATER || !w->after_user)
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
        .in = in, .p = p, .style = STYLE_R1, .strips_thinking = true, .begins_thinking = true};
    return render_v3(&w);
}

static enum status render_r1_free(const struct chat_request *in, struct prompt *p,
                                  struct error *err)
{
    struct walk w = {.in = in, .p = p, .style = STYLE_R1, .strips_thinking = true};
    return render_v3(&w);
}

static enum status render_distill(const struct chat_request *in, struct prompt *p,
                                  struct error *err)
{
    struct walk w = {
        .in = in, .p = p, .style = STYLE_FIRST, .strips_thinking = true, .begins_thinking = true};
    return render_v3(&w);
}

static enum status render_distill_free(const struct chat_request *in, struct prompt *p,
                                       struct error *err)
{
    struct walk w = {.in = in, .p = p, .style = STYLE_FIRST, .strips_thinking = true};
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

static bool free_starts_in_reasoning(const struct chat_request *in)
{
    const struct chat_message *prefix = chat_prefix(in);
    return prefix && prefix_reasons(prefix);
}

#define CALL_TOKENS                                                                                \
    {                                                                                              \
        CALLS_BEGIN, CALLS_END, CALL_BEGIN, CALL_END, SEP, OUTPUTS_BEGIN, OUTPUTS_END,             \
            OUTPUT_BEGIN, OUTPUT_END                                                               \
    }
#define MARKS BOS, EOS, USER, ASSISTANT
/* Each message: its marks; each call: its marks and the fence. */
#define V3_OVERHEAD                                                                                \
    {                                                                                              \
        .prompt = 16, .message = 12, .tools = 80, .tool = 120                                      \
    }

const struct chat_kind chat_deepseek_v3 = {
    .name = "DeepSeek-V3",
    .has = {USER, "```json"},
    .has_not = {"is_last_user", "think>", "'tool_calls' in message", "if tools"},
    .needs = {MARKS},
    .tool_tokens = CALL_TOKENS,
    .ends = {EOS},
    .tools = TOOLS_DEEPSEEK,
    .render = render_v3_first,
    .overhead = V3_OVERHEAD,
};

const struct chat_kind chat_deepseek_v3_0324 = {
    .name = "DeepSeek-V3-0324",
    .has = {USER, "```json", "is_last_user"},
    .has_not = {"think>", "if tools"},
    .needs = {MARKS},
    .tool_tokens = CALL_TOKENS,
    .ends = {EOS},
    .tools = TOOLS_DEEPSEEK,
    .render = render_v3_0324,
    .overhead = V3_OVERHEAD,
};

const struct chat_kind chat_deepseek_r1 = {
    .name = "DeepSeek-R1",
    .has = {USER, "```json", ASSISTANT "<think>", "'tool_calls' in message"},
    .has_not = {"is_last_user", "enable_thinking", "if tools"},
    .needs = {MARKS, "<think>", "</think>"},
    .tool_tokens = CALL_TOKENS,
    .ends = {EOS},
    .tools = TOOLS_DEEPSEEK,
    .render = render_r1,
    .starts_in_reasoning = r1_starts_in_reasoning,
    .overhead = V3_OVERHEAD,
};

/* As it was published first: the model begins to think by itself. */
const struct chat_kind chat_deepseek_r1_free = {
    .name = "DeepSeek-R1 (first)",
    .has = {USER, "```json", "</think>", "'tool_calls' in message"},
    .has_not = {"is_last_user", "<think>", "enable_thinking", "if tools"},
    .needs = {MARKS, "<think>", "</think>"},
    .tool_tokens = CALL_TOKENS,
    .ends = {EOS},
    .tools = TOOLS_DEEPSEEK,
    .opens_thinking = true,
    .render = render_r1_free,
    .starts_in_reasoning = free_starts_in_reasoning,
    .overhead = V3_OVERHEAD,
};

/* Their vocabularies are Qwen's and Llama's: as a rule they have no tokens for calls. */
const struct chat_kind chat_deepseek_distill = {
    .name = "DeepSeek-R1-Distill",
    .has = {USER, "```json", ASSISTANT "<think>"},
    .has_not = {"is_last_user", "'tool_calls' in message", "enable_thinking", "if tools"},
    .needs = {MARKS, "<think>", "</think>"},
    .tool_tokens = CALL_TOKENS,
    .ends = {EOS},
    .tools = TOOLS_DEEPSEEK,
    .render = render_distill,
    .starts_in_reasoning = r1_starts_in_reasoning,
    .overhead = V3_OVERHEAD,
};

const struct chat_kind chat_deepseek_distill_free = {
    .name = "DeepSeek-R1-Distill (first)",
    .has = {USER, "```json", "</think>"},
    .has_not = {"is_last_user", "<think>", "'tool_calls' in message", "enable_thinking",
                "if tools"},
    .needs = {MARKS, "<think>", "</think>"},
    .tool_tokens = CALL_TOKENS,
    .ends = {EOS},
    .tools = TOOLS_DEEPSEEK,
    .opens_thinking = true,
    .render = render_distill_free,
    .starts_in_reasoning = free_starts_in_reasoning,
    .overhead = V3_OVERHEAD,
};

const struct chat_kind chat_deepseek_r1_0528 = {
    .name = "DeepSeek-R1-0528",
    .has = {USER, "```json", "is_last_user", "</think>"},
    .has_not = {ASSISTANT "<think>", "set thinking", "enable_thinking", "if tools"},
    .needs = {MARKS, "<think>", "</think>"},
    .tool_tokens = CALL_TOKENS,
    .ends = {EOS},
    .tools = TOOLS_DEEPSEEK,
    .opens_thinking = true,
    .render = render_r1_0528,
    .starts_in_reasoning = free_starts_in_reasoning,
    .overhead = V3_OVERHEAD,
};
