/* DeepSeek-V3.1; see chat_deepseek.c. */
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
#define OUTPUT_BEGIN "<｜tool▁output▁begin｜>"
#define OUTPUT_END "<｜tool▁output▁end｜>"

/* Where the walk through the messages stands; the names are the template's. */
struct walk {
    const struct chat_request *in;
    struct prompt *p;
    bool is_last_user, is_tool;
    bool always_asks; /* V3.1-Terminus: an answer is asked for whatever came last but results */
    bool is_only_sys; /* its too: there are system messages, and none but them so far */
};

static void put_tools(struct walk *w)
{
    if (!w->in->tool_count)
        return;
    prompt_words(w->p, "\n\n## Tools\nYou have access to the following tools:\n");
    for (int i = 0; i < w->in->tool_count; i++) {
        const struct tool *t = &w->in->tools[i];
        prompt_words(w->p, "\n### ");
        prompt_words(w->p, t->name);
        prompt_words(w->p, "\nDescription: ");
        prompt_words(w->p, t->description);
        prompt_words(w->p, "\n\nParameters: ");
        prompt_json(w->p, *t->parameters ? t->parameters : "{}", 0);
        prompt_words(w->p, "\n");
    }
    prompt_literal(
        w->p,
        "\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\n" CALLS_BEGIN CALL_BEGIN
        "tool_call_name" SEP "tool_call_arguments" CALL_END "{additional_tool_calls}" CALLS_END
        "\n\nWhere:\n- `tool_call_name` must be an exact match to one of the available "
        "tools\n- `tool_call_arguments` must be valid JSON and strictly follow the "
        "tool's Parameters Schema\n- For multiple tool calls, chain them directly "
        "without separators or spaces\n");
}

/* The reasoning that a prefix brings: <think>reasoning, and </think> when content follows. */
static void put_prefix_reasoning(struct walk *w, const struct chat_message *m)
{
    if (!w->in->thinking || m != chat_prefix(w->in) || !*m->reasoning_content)
        return;
    prompt_words(w->p, m->reasoning_content);
    if (*m->content)
        prompt_literal(w->p, "</think>");
}

static void put_calls(struct walk *w, const struct chat_message *m)
{
    prompt_words(w->p, m->content);
    prompt_literal(w->p, CALLS_BEGIN);
    for (int i = 0; i < m->tool_call_count; i++) {
        prompt_literal(w->p, CALL_BEGIN);
        prompt_words(w->p, m->tool_calls[i].name);
        prompt_literal(w->p, SEP);
        prompt_words(w->p, m->tool_calls[i].arguments);
        prompt_literal(w->p, CALL_END);
    }
    prompt_literal(w->p, CALLS_END EOS);
}

static void put_assistant(struct walk *w, const struct chat_message *m)
{
    bool calls = m->tool_call_count > 0, was_tool = w->is_tool;
    if (w->is_last_user || (calls && w->is_only_sys)) {
        bool think = m->prefix && w->in->thinking && !calls;
        prompt_literal(w->p, think ? ASSISTANT "<think>" : ASSISTANT "</think>");
        put_prefix_reasoning(w, m);
    }
    w->is_last_user = w->is_tool = false;
    if (calls) {
        put_calls(w, m);
        return;
    }
    prompt_words(w->p, was_tool ? m->content : chat_after_first_think(m->content));
    if (m != chat_prefix(w->in))
        prompt_literal(w->p, EOS);
}

static void put_message(struct walk *w, const struct chat_message *m)
{
    if (chat_is(m, "assistant")) {
        put_assistant(w, m);
    } else if (chat_is(m, "user")) {
        prompt_literal(w->p, USER);
        prompt_words(w->p, m->content);
        w->is_last_user = true;
        w->is_tool = false;
    } else if (chat_is(m, "tool")) {
        prompt_literal(w->p, OUTPUT_BEGIN);
        prompt_words(w->p, m->content);
        prompt_literal(w->p, OUTPUT_END);
        w->is_last_user = false;
        w->is_tool = true;
    }
}

static bool asks(const struct walk *w)
{
    return w->always_asks ? !w->is_tool && !chat_prefix(w->in) : w->is_last_user;
}

static enum status render_all(struct walk *w)
{
    const struct chat_request *in = w->in;
    bool any;
    prompt_literal(w->p, BOS);
    chat_systems(in, w->p, &any);
    put_tools(w);
    for (int i = 0; i < in->count && w->always_asks; i++)
        w->is_only_sys = w->is_only_sys || chat_is(&in->messages[i], "system");
    for (int i = 0; i < in->count; i++) {
        put_message(w, &in->messages[i]);
        w->is_only_sys = w->is_only_sys && chat_is(&in->messages[i], "system");
    }
    if (asks(w))
        prompt_literal(w->p, in->thinking ? ASSISTANT "<think>" : ASSISTANT "</think>");
    return OK;
}

static enum status render(const struct chat_request *in, struct prompt *p, struct error *err)
{
    struct walk w = {.in = in, .p = p};
    return render_all(&w);
}

static enum status render_terminus(const struct chat_request *in, struct prompt *p,
                                   struct error *err)
{
    struct walk w = {.in = in, .p = p, .always_asks = true};
    return render_all(&w);
}

/* The last message that is not a system one, before `end`. */
static const struct chat_message *last_before(const struct chat_request *in, int end)
{
    while (end-- > 0)
        if (!chat_is(&in->messages[end], "system"))
            return &in->messages[end];
    return NULL;
}

static bool starts(const struct chat_request *in, bool always_asks)
{
    const struct chat_message *last = &in->messages[in->count - 1], *before;
    if (!in->thinking)
        return false;
    if (!last->prefix) {
        before = last_before(in, in->count);
        return always_asks ? !chat_is(before, "tool") : chat_is(before, "user");
    }
    return chat_is(last_before(in, in->count - 1), "user") &&
           !(*last->reasoning_content && *last->content);
}

static bool starts_in_reasoning(const struct chat_request *in)
{
    return starts(in, false);
}

static bool terminus_starts_in_reasoning(const struct chat_request *in)
{
    return starts(in, true);
}

#define CALL_TOKENS                                                                                \
    {                                                                                              \
        CALLS_BEGIN, CALLS_END, CALL_BEGIN, CALL_END, SEP, OUTPUT_BEGIN, OUTPUT_END                \
    }
/* bos, Assistant, think and the end of a prefix's reasoning; Assistant, think, calls, eos; the text
 * about tools, a byte a token at worst. */
#define OVERHEAD                                                                                   \
    {                                                                                              \
        .prompt = 4, .message = 5, .tools = 512, .tool = 48                                        \
    }

const struct chat_kind chat_deepseek_v31 = {
    .name = "DeepSeek-V3.1",
    .has = {USER, "is_last_user", "thinking", "<think>", SEP},
    .has_not = {"```json", "enable_thinking", "is_only_sys", "{{additional_tool_calls}}"},
    .needs = {BOS, EOS, USER, ASSISTANT, "<think>", "</think>"},
    .tool_tokens = CALL_TOKENS,
    .ends = {EOS},
    .tools = TOOLS_DEEPSEEK_31,
    .render = render,
    .starts_in_reasoning = starts_in_reasoning,
    .overhead = OVERHEAD,
};

const struct chat_kind chat_deepseek_terminus = {
    .name = "DeepSeek-V3.1-Terminus",
    .has = {USER, "is_last_user", "thinking", "<think>", SEP, "is_only_sys"},
    .has_not = {"```json", "enable_thinking", "if tools"},
    .needs = {BOS, EOS, USER, ASSISTANT, "<think>", "</think>"},
    .tool_tokens = CALL_TOKENS,
    .ends = {EOS},
    .tools = TOOLS_DEEPSEEK_31,
    .render = render_terminus,
    .starts_in_reasoning = terminus_starts_in_reasoning,
    .overhead = OVERHEAD,
};
