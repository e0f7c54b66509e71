/*
 * Qwen's templates, all of the form <|im_start|>role newline words<|im_end|> newline. Those up to
 * 2.5 have a system text of their own when none is given; from 2.5 on they show tools in the system
 * message and calls as JSON between <tool_call> marks. QwQ drops the reasoning of all answers but
 * the last. Qwen3 keeps it since the last question, and begins an answer that is not to think with
 * an empty one; its Instruct of July 2025 does not think, its Thinking always does.
 */
#include "worker/chat_private.h"

static void put_turn(struct prompt *p, const char *role, const char *words)
{
    prompt_literal(p, "<|im_start|>");
    prompt_words(p, role);
    prompt_words(p, "\n");
    prompt_words(p, words);
    prompt_literal(p, "<|im_end|>\n");
}

/* The template that Qwen2.5 was published with first doubles the braces of its example. */
static void put_tools(const struct chat_request *in, struct prompt *p, bool doubled)
{
    prompt_words(p, "# Tools\n\nYou may call one or more functions to assist with the user "
                    "query.\n\nYou are provided with function signatures within <tools></tools> "
                    "XML tags:\n<tools>");
    for (int i = 0; i < in->tool_count; i++) {
        prompt_words(p, "\n");
        prompt_tool(p, &in->tools[i], 0, false);
    }
    prompt_literal(p, "\n</tools>\n\nFor each function call, return a json object with function "
                      "name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n");
    prompt_words(p, doubled ? "{" : "");
    prompt_words(p, "{\"name\": <function-name>, \"arguments\": <args-json-object>}");
    prompt_literal(p, doubled ? "}\n</tool_call><|im_end|>\n" : "\n</tool_call><|im_end|>\n");
}

/* usual: the system text when the messages do not begin with one; NULL: none. */
static void put_system(const struct chat_request *in, struct prompt *p, const char *usual,
                       bool doubled)
{
    bool given = chat_is(&in->messages[0], "system");
    const char *text = given ? in->messages[0].content : usual;
    if (!in->tool_count) {
        if (text)
            put_turn(p, "system", text);
        return;
    }
    prompt_literal(p, "<|im_start|>system\n");
    if (text) {
        prompt_words(p, text);
        prompt_words(p, "\n\n");
    }
    put_tools(in, p, doubled);
}

static void put_call(struct prompt *p, const struct tool_call *call)
{
    prompt_literal(p, "<tool_call>\n");
    prompt_words(p, "{\"name\": \"");
    prompt_words(p, call->name);
    prompt_words(p, "\", \"arguments\": ");
    prompt_json(p, call->arguments, 0);
    prompt_literal(p, "}\n</tool_call>");
}

/* The results that follow each other share a turn of the user. */
static void put_result(const struct chat_request *in, struct prompt *p, int at)
{
    if (at == 0 || !chat_is(&in->messages[at - 1], "tool"))
        prompt_literal(p, "<|im_start|>user");
    prompt_literal(p, "\n<tool_response>\n");
    prompt_words(p, in->messages[at].content);
    prompt_literal(p, "\n</tool_response>");
    if (at + 1 == in->count || !chat_is(&in->messages[at + 1], "tool"))
        prompt_literal(p, "<|im_end|>\n");
}

/* ---- Qwen1.5, Qwen2, Qwen2.5, QwQ ---- */

static void put_prefix(struct prompt *p, const struct chat_message *m)
{
    prompt_literal(p, "<|im_start|>assistant\n");
    prompt_words(p, m->content);
}

static void put_assistant_25(struct prompt *p, const struct chat_message *m, const char *content)
{
    prompt_literal(p, "<|im_start|>assistant");
    if (*m->content) {
        prompt_words(p, "\n");
        prompt_words(p, content);
    }
    for (int i = 0; i < m->tool_call_count; i++) {
        prompt_words(p, "\n");
        put_call(p, &m->tool_calls[i]);
    }
    prompt_literal(p, "<|im_end|>\n");
}

static const char *without_thought(const char *content)
{
    content = chat_after_last_think(content);
    return content + strspn(content, "\n");
}

static void put_message_2(const struct chat_request *in, struct prompt *p, int at, bool thinks)
{
    const struct chat_message *m = &in->messages[at];
    bool old = thinks && chat_is(m, "assistant") && at + 1 < in->count;
    const char *content = old ? without_thought(m->content) : m->content;
    if (m->prefix)
        put_prefix(p, m);
    else if (chat_is(m, "tool"))
        put_result(in, p, at);
    else if (m->tool_call_count)
        put_assistant_25(p, m, content);
    else
        put_turn(p, m->role, content);
}

static enum status render_2(const struct chat_request *in, struct prompt *p, const char *usual,
                            bool doubled)
{
    put_system(in, p, usual, doubled);
    for (int i = chat_is(&in->messages[0], "system"); i < in->count; i++)
        put_message_2(in, p, i, false);
    if (!chat_prefix(in))
        prompt_literal(p, "<|im_start|>assistant\n");
    return OK;
}

static const char qwen25_system[] =
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";

static enum status render_qwen15(const struct chat_request *in, struct prompt *p, struct error *err)
{
    return render_2(in, p, "You are a helpful assistant", false);
}

static enum status render_qwen2(const struct chat_request *in, struct prompt *p, struct error *err)
{
    return render_2(in, p, "You are a helpful assistant.", false);
}

static enum status render_qwen25(const struct chat_request *in, struct prompt *p, struct error *err)
{
    return render_2(in, p, qwen25_system, false);
}

static enum status render_qwen25_first(const struct chat_request *in, struct prompt *p,
                                       struct error *err)
{
    return render_2(in, p, qwen25_system, true);
}

static enum status render_qwq_preview(const struct chat_request *in, struct prompt *p,
                                      struct error *err)
{
    return render_2(in, p,
                    "You are a helpful and harmless assistant. You are Qwen developed by Alibaba. "
                    "You should think step-by-step.",
                    false);
}

/* ---- Qwen3 ---- */

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static bool ends(const char *text, const char *with)
{
    size_t len = strlen(text), n = strlen(with);
    return len >= n && strcmp(text + len - n, with) == 0;
}

/* The last message of a user that is none of results. */
static int last_question(const struct chat_request *in)
{
    for (int i = in->count - 1; i >= 0; i--) {
        const struct chat_message *m = &in->messages[i];
        if (chat_is(m, "user") &&
            !(begins(m->content, "<tool_response>") && ends(m->content, "</tool_response>")))
            return i;
    }
    return in->count - 1;
}

struct text {
    const char *at;
    size_t len;
};

static struct text strip_lines(struct text t)
{
    while (t.len && *t.at == '\n') {
        t.at++;
        t.len--;
    }
    while (t.len && t.at[t.len - 1] == '\n')
        t.len--;
    return t;
}

/* Of reasoning_content, or of what stands before </think> in the content. */
static struct text reasoning_of(const struct chat_message *m)
{
    struct text t = {m->reasoning_content, strlen(m->reasoning_content)};
    const char *end = strstr(m->content, "</think>");
    if (t.len || !end)
        return strip_lines(t);
    t = (struct text){m->content, (size_t)(end - m->content)};
    for (const char *s; (s = memmem(t.at, t.len, "<think>", 7));)
        t = (struct text){s + 7, t.len - (size_t)(s + 7 - t.at)};
    return strip_lines(t);
}

static void put_thought(struct prompt *p, struct text reasoning)
{
    prompt_literal(p, "<think>\n");
    prompt_words_n(p, reasoning.at, reasoning.len);
    prompt_literal(p, "\n</think>\n\n");
}

static void put_assistant_3(const struct chat_request *in, struct prompt *p, int at, bool thinks)
{
    const struct chat_message *m = &in->messages[at];
    struct text reasoning = reasoning_of(m);
    const char *content = m->content;
    if (thinks && !*m->reasoning_content && strstr(content, "</think>"))
        content = without_thought(content);
    prompt_literal(p, "<|im_start|>assistant\n");
    if (thinks && at > last_question(in) && (at + 1 == in->count || reasoning.len)) {
        put_thought(p, reasoning);
        content += strspn(content, "\n");
    }
    prompt_words(p, content);
    for (int i = 0; i < m->tool_call_count; i++) {
        if (i || *content)
            prompt_words(p, "\n");
        put_call(p, &m->tool_calls[i]);
    }
    prompt_literal(p, "<|im_end|>\n");
}

static void put_prefix_3(const struct chat_request *in, struct prompt *p, bool always)
{
    const struct chat_message *m = chat_prefix(in);
    bool thinking = in->thinking || always;
    prompt_literal(p, "<|im_start|>assistant\n");
    if (thinking && *m->reasoning_content && !*m->content) {
        prompt_literal(p, "<think>\n");
        prompt_words(p, m->reasoning_content);
        return;
    }
    put_thought(p, thinking ? reasoning_of(m) : (struct text){"", 0});
    prompt_words(p, m->content);
}

enum thinking { THINKS_NEVER, THINKS_WHEN_ASKED, THINKS_ALWAYS };

static void put_message_3(const struct chat_request *in, struct prompt *p, int at,
                          enum thinking thinking)
{
    const struct chat_message *m = &in->messages[at];
    if (m->prefix && thinking == THINKS_NEVER)
        put_prefix(p, m);
    else if (m->prefix)
        put_prefix_3(in, p, thinking == THINKS_ALWAYS);
    else if (chat_is(m, "tool"))
        put_result(in, p, at);
    else if (chat_is(m, "assistant"))
        put_assistant_3(in, p, at, thinking != THINKS_NEVER);
    else
        put_turn(p, m->role, m->content);
}

static enum status render_3(const struct chat_request *in, struct prompt *p, enum thinking thinking)
{
    put_system(in, p, NULL, false);
    for (int i = chat_is(&in->messages[0], "system"); i < in->count; i++)
        put_message_3(in, p, i, thinking);
    if (chat_prefix(in))
        return OK;
    prompt_literal(p, "<|im_start|>assistant\n");
    if (thinking == THINKS_ALWAYS)
        prompt_literal(p, "<think>\n");
    else if (thinking == THINKS_WHEN_ASKED && !in->thinking)
        put_thought(p, (struct text){"", 0});
    return OK;
}

static enum status render_qwen3(const struct chat_request *in, struct prompt *p, struct error *err)
{
    return render_3(in, p, THINKS_WHEN_ASKED);
}

static enum status render_qwen3_thinking(const struct chat_request *in, struct prompt *p,
                                         struct error *err)
{
    return render_3(in, p, THINKS_ALWAYS);
}

static enum status render_qwen3_instruct(const struct chat_request *in, struct prompt *p,
                                         struct error *err)
{
    return render_3(in, p, THINKS_NEVER);
}

/* With tools there is a system text, if an empty one. */
static enum status render_qwq(const struct chat_request *in, struct prompt *p, struct error *err)
{
    const struct chat_message *prefix = chat_prefix(in);
    put_system(in, p, in->tool_count ? "" : NULL, false);
    for (int i = chat_is(&in->messages[0], "system"); i < in->count; i++)
        if (&in->messages[i] != prefix)
            put_message_2(in, p, i, true);
    if (prefix)
        put_prefix_3(in, p, true);
    else
        prompt_literal(p, "<|im_start|>assistant\n<think>\n");
    return OK;
}

static bool prefix_reasons(const struct chat_message *m)
{
    return *m->reasoning_content && !*m->content;
}

static bool qwen3_starts(const struct chat_request *in)
{
    const struct chat_message *m = chat_prefix(in);
    return in->thinking && m && prefix_reasons(m);
}

static bool always_starts(const struct chat_request *in)
{
    const struct chat_message *m = chat_prefix(in);
    return !m || prefix_reasons(m);
}

/* The usual system text; role, newlines and the empty thought of each message. */
#define OVERHEAD                                                                                   \
    {                                                                                              \
        .prompt = 144, .message = 24, .tools = 512, .tool = 64                                     \
    }
#define ENDS                                                                                       \
    {                                                                                              \
        "<|im_end|>", "<|endoftext|>"                                                              \
    }

#define MARKS "<|im_start|>", "<|im_end|>"
#define CALLS "<tool_call>", "</tool_call>"
#define THOUGHTS "<think>", "</think>"
#define DOUBLED "{{\\\"name\\\""

const struct chat_kind chat_qwen15 = {
    .name = "Qwen1.5",
    .has = {"<|im_start|>", "You are a helpful assistant<|im_end|>"},
    .has_not = {"tool", "<think>", "bos_token"},
    .needs = {MARKS},
    .ends = ENDS,
    .render = render_qwen15,
    .overhead = OVERHEAD,
};

const struct chat_kind chat_qwen2 = {
    .name = "Qwen2",
    .has = {"<|im_start|>", "You are a helpful assistant.<|im_end|>"},
    .has_not = {"tool", "<think>", "bos_token"},
    .needs = {MARKS},
    .ends = ENDS,
    .render = render_qwen2,
    .overhead = OVERHEAD,
};

const struct chat_kind chat_qwen25 = {
    .name = "Qwen2.5",
    .has = {"<|im_start|>", "You are Qwen, created by Alibaba Cloud.", "<tool_call>",
            "<tool_response>"},
    .has_not = {"think>", "<function=", DOUBLED},
    .needs = {MARKS, CALLS},
    .ends = ENDS,
    .tools = TOOLS_QWEN,
    .render = render_qwen25,
    .overhead = OVERHEAD,
};

const struct chat_kind chat_qwen25_first = {
    .name = "Qwen2.5 (first)",
    .has = {"<|im_start|>", "You are Qwen, created by Alibaba Cloud.", "<tool_call>",
            "<tool_response>", DOUBLED},
    .has_not = {"think>", "<function="},
    .needs = {MARKS, CALLS},
    .ends = ENDS,
    .tools = TOOLS_QWEN,
    .render = render_qwen25_first,
    .overhead = OVERHEAD,
};

const struct chat_kind chat_qwq_preview = {
    .name = "QwQ-Preview",
    .has = {"<|im_start|>", "You should think step-by-step.", "<tool_call>", "<tool_response>"},
    .has_not = {"think>", "<function="},
    .needs = {MARKS, CALLS},
    .ends = ENDS,
    .tools = TOOLS_QWEN,
    .render = render_qwq_preview,
    .overhead = OVERHEAD,
};

const struct chat_kind chat_qwq = {
    .name = "QwQ",
    .has = {"<|im_start|>assistant\\n<think>\\n", "</think>", "<tool_call>", "<tool_response>"},
    .has_not = {"<function=", "enable_thinking", "last_query_index"},
    .needs = {MARKS, CALLS, THOUGHTS},
    .ends = ENDS,
    .tools = TOOLS_QWEN,
    .render = render_qwq,
    .starts_in_reasoning = always_starts,
    .overhead = OVERHEAD,
};

const struct chat_kind chat_qwen3 = {
    .name = "Qwen3",
    .has = {"<|im_start|>", "enable_thinking", "last_query_index", "<tool_call>"},
    .has_not = {"<function="},
    .needs = {MARKS, CALLS, THOUGHTS},
    .ends = ENDS,
    .tools = TOOLS_QWEN,
    .opens_thinking = true,
    .render = render_qwen3,
    .starts_in_reasoning = qwen3_starts,
    .overhead = OVERHEAD,
};

const struct chat_kind chat_qwen3_thinking = {
    .name = "Qwen3-Thinking",
    .has = {"<|im_start|>assistant\\n<think>\\n", "last_query_index", "<tool_call>"},
    .has_not = {"<function=", "enable_thinking"},
    .needs = {MARKS, CALLS, THOUGHTS},
    .ends = ENDS,
    .tools = TOOLS_QWEN,
    .render = render_qwen3_thinking,
    .starts_in_reasoning = always_starts,
    .overhead = OVERHEAD,
};

const struct chat_kind chat_qwen3_instruct = {
    .name = "Qwen3-Instruct",
    .has = {"<|im_start|>assistant\\n'", "<tool_call>", "<tool_response>",
            "set content = message.content"},
    .has_not = {"think", "You are a", "You are Qwen", "<function=", "boxed"},
    .needs = {MARKS, CALLS},
    .ends = ENDS,
    .tools = TOOLS_QWEN,
    .render = render_qwen3_instruct,
    .overhead = OVERHEAD,
};
