/*
 * DeepSeek-V3.1: <bos>systems<User>words<Assistant></think>answer<eos>... and, to be continued,
 * <Assistant><think> or <Assistant></think>. Reasoning of earlier answers is left out. Tool
 * results follow the answer that asked for them; the model goes on without a mark of its own.
 */
#include "base/buf.h"
#include "worker/chat_private.h"

/* Where the walk through the messages stands; the names are the template's. */
struct walk {
    const struct chat_input *in;
    struct token_list *out;
    bool is_last_user, is_tool;
};

static enum status add_mark(struct walk *w, enum chat_token mark)
{
    return token_list_add(w->out, w->in->c->ids[mark]);
}

static enum status add_words(struct walk *w, const char *words)
{
    return tokenizer_encode(w->in->c->tokenizer, words, strlen(words), false, w->out);
}

/* All system messages stand at the front as one text: a token may span two of them. */
static enum status add_systems(struct walk *w)
{
    struct buf text;
    buf_init(&text, SIZE_MAX / 4);
    enum status st = OK;
    bool first = true;
    for (int i = 0; i < w->in->count && st == OK; i++) {
        if (strcmp(w->in->messages[i].role, "system") != 0)
            continue;
        st = first ? OK : buf_adds(&text, "\n\n");
        if (st == OK)
            st = buf_adds(&text, w->in->messages[i].content);
        first = false;
    }
    if (st == OK && buf_len(&text))
        st = tokenizer_encode(w->in->c->tokenizer, (const char *)buf_head(&text), buf_len(&text),
                              false, w->out);
    buf_done(&text);
    return st;
}

static bool is_prefix(const struct chat_input *in, const struct chat_message *m)
{
    return m->prefix && m == &in->messages[in->count - 1];
}

static const char *without_reasoning(const char *content)
{
    const char *end = strstr(content, "</think>");
    return end ? end + strlen("</think>") : content;
}

/* The reasoning that a prefix brings: <think>reasoning, and </think> when content follows. */
static enum status add_prefix_reasoning(struct walk *w, const struct chat_message *m)
{
    if (!w->in->thinking || !is_prefix(w->in, m) || !*m->reasoning_content)
        return OK;
    enum status st = add_words(w, m->reasoning_content);
    return st == OK && *m->content ? add_mark(w, CHAT_THINK_END) : st;
}

static enum status add_assistant(struct walk *w, const struct chat_message *m)
{
    enum status st = OK;
    if (w->is_last_user) {
        bool think = m->prefix && w->in->thinking;
        st = add_mark(w, CHAT_ASSISTANT);
        if (st == OK)
            st = add_mark(w, think ? CHAT_THINK_BEGIN : CHAT_THINK_END);
        if (st == OK)
            st = add_prefix_reasoning(w, m);
    }
    if (st == OK)
        st = add_words(w, w->is_tool ? m->content : without_reasoning(m->content));
    w->is_last_user = w->is_tool = false;
    return st == OK && !is_prefix(w->in, m) ? add_mark(w, CHAT_EOS) : st;
}

static enum status add_user(struct walk *w, const struct chat_message *m)
{
    enum status st = add_mark(w, CHAT_USER);
    w->is_last_user = true;
    w->is_tool = false;
    return st == OK ? add_words(w, m->content) : st;
}

static enum status add_tool(struct walk *w, const struct chat_message *m)
{
    enum status st = add_mark(w, CHAT_TOOL_OUTPUT_BEGIN);
    w->is_last_user = false;
    w->is_tool = true;
    if (st == OK)
        st = add_words(w, m->content);
    return st == OK ? add_mark(w, CHAT_TOOL_OUTPUT_END) : st;
}

static enum status add_message(struct walk *w, int at, struct error *err)
{
    const struct chat_message *m = &w->in->messages[at];
    bool assistant = strcmp(m->role, "assistant") == 0;
    if (m->prefix && !(assistant && is_prefix(w->in, m)))
        return error_set(err, INVALID,
                         "messages[%d]: prefix is for the last message, of role assistant", at);
    enum status st;
    if (assistant)
        st = add_assistant(w, m);
    else if (strcmp(m->role, "user") == 0)
        st = add_user(w, m);
    else if (strcmp(m->role, "tool") == 0)
        st = add_tool(w, m);
    else if (strcmp(m->role, "system") == 0)
        st = OK; /* at the front already */
    else
        return error_set(err, INVALID,
                         "messages[%d]: unknown role \"%.40s\" (system, user, assistant, tool)", at,
                         m->role);
    if (st == INVALID)
        error_set(err, st, "messages[%d]: not UTF-8", at);
    return st;
}

static enum status render(const struct chat_input *in, struct token_list *out, struct error *err)
{
    struct walk w = {.in = in, .out = out};
    enum status st = add_mark(&w, CHAT_BOS);
    if (st == OK)
        st = add_systems(&w);
    if (st == INVALID)
        error_set(err, st, "a system message is not UTF-8");
    for (int i = 0; i < in->count && st == OK; i++)
        st = add_message(&w, i, err);
    if (st == OK && w.is_last_user && !w.is_tool) {
        st = add_mark(&w, CHAT_ASSISTANT);
        if (st == OK)
            st = add_mark(&w, in->thinking ? CHAT_THINK_BEGIN : CHAT_THINK_END);
    }
    return st;
}

/* The last message that is not a system one, before `end`. */
static const struct chat_message *last_before(const struct chat_input *in, int end)
{
    while (end-- > 0)
        if (strcmp(in->messages[end].role, "system") != 0)
            return &in->messages[end];
    return NULL;
}

static bool is_user(const struct chat_message *m)
{
    return m && strcmp(m->role, "user") == 0;
}

static bool starts_in_reasoning(const struct chat_input *in)
{
    const struct chat_message *last = &in->messages[in->count - 1];
    if (!in->thinking)
        return false;
    if (!last->prefix)
        return is_user(last_before(in, in->count));
    return is_user(last_before(in, in->count - 1)) && !(*last->reasoning_content && *last->content);
}

const struct chat_kind chat_deepseek_v31 = {
    .name = "DeepSeek-V3.1",
    .sha256 = "d1193938ffa5fb911f4b9a4d17f8aa133e8d3450d7c5943ec0a190b7de9fa465",
    .tokens =
        {
            [CHAT_BOS] = "<｜begin▁of▁sentence｜>",
            [CHAT_EOS] = "<｜end▁of▁sentence｜>",
            [CHAT_USER] = "<｜User｜>",
            [CHAT_ASSISTANT] = "<｜Assistant｜>",
            [CHAT_THINK_BEGIN] = "<think>",
            [CHAT_THINK_END] = "</think>",
            [CHAT_TOOL_OUTPUT_BEGIN] = "<｜tool▁output▁begin｜>",
            [CHAT_TOOL_OUTPUT_END] = "<｜tool▁output▁end｜>",
        },
    .render = render,
    .starts_in_reasoning = starts_in_reasoning,
    .prompt_overhead = 4,  /* bos, Assistant, think and the end of a prefix's reasoning */
    .message_overhead = 3, /* Assistant, think, eos */
};
