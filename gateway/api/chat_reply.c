#include "gateway/api/chat_reply.h"

#include <string.h>

static void head(struct writer *w, const struct chat_answer *a, const char *object)
{
    writer_text(w, a->completion ? "{\"id\":\"cmpl-" : "{\"id\":\"chatcmpl-");
    writer_text(w, a->id_text);
    writer_text(w, "\",\"object\":\"");
    writer_text(w, object);
    writer_text(w, "\",\"created\":");
    writer_number(w, a->created_s);
    writer_text(w, ",\"model\":");
    writer_quoted(w, a->model, strlen(a->model));
    writer_text(w, ",\"system_fingerprint\":null,\"choices\":[");
}

static void usage(struct writer *w, const struct token_counts *c)
{
    writer_text(w, "{\"prompt_tokens\":");
    writer_number(w, c->prompt);
    writer_text(w, ",\"completion_tokens\":");
    writer_number(w, c->completion);
    writer_text(w, ",\"total_tokens\":");
    writer_number(w, c->prompt + c->completion);
    writer_text(w, ",\"prompt_cache_hit_tokens\":");
    writer_number(w, c->cached);
    writer_text(w, ",\"prompt_cache_miss_tokens\":");
    writer_number(w, c->prompt - c->cached);
    writer_text(w, ",\"prompt_tokens_details\":{\"cached_tokens\":");
    writer_number(w, c->cached);
    writer_text(w, "},\"completion_tokens_details\":{\"reasoning_tokens\":");
    writer_number(w, c->reasoning);
    writer_text(w, "}}");
}

static void chunk_begin(struct writer *w, const struct chat_answer *a)
{
    writer_text(w, "data: ");
    head(w, a, a->completion ? "text_completion" : "chat.completion.chunk");
}

static void chunk_end(struct writer *w, const struct chat_answer *a)
{
    writer_text(w, a->include_usage ? "],\"usage\":null}\n\n" : "]}\n\n");
}

/* --- a stream --- */

static void delta_begin(struct writer *w, const struct chat_answer *a, uint32_t index)
{
    chunk_begin(w, a);
    writer_text(w, "{\"index\":");
    writer_number(w, index);
    writer_text(w, ",\"delta\":{");
}

static void delta_end(struct writer *w, const struct chat_answer *a)
{
    writer_text(w, "},\"logprobs\":null,\"finish_reason\":null}");
    chunk_end(w, a);
}

static void put_role(struct writer *w, const struct chat_answer *a, uint32_t index)
{
    delta_begin(w, a, index);
    writer_text(w, "\"role\":\"assistant\",\"content\":\"\"");
    delta_end(w, a);
}

static void put_call(struct writer *w, const Wire__ToolCallDelta *d)
{
    writer_text(w, "{\"index\":");
    writer_number(w, d->index);
    if (*d->id) {
        writer_text(w, ",\"id\":");
        writer_quoted(w, d->id, strlen(d->id));
        writer_text(w, ",\"type\":\"function\"");
    }
    writer_text(w, ",\"function\":{");
    if (*d->name) {
        writer_text(w, "\"name\":");
        writer_quoted(w, d->name, strlen(d->name));
        writer_text(w, ",");
    }
    writer_text(w, "\"arguments\":");
    writer_quoted(w, d->arguments, strlen(d->arguments));
    writer_text(w, "}}");
}

static void put_calls(struct writer *w, const struct chat_answer *a, const Wire__Tokens *m)
{
    delta_begin(w, a, m->choice);
    writer_text(w, "\"tool_calls\":[");
    for (size_t i = 0; i < m->n_tool_calls; i++) {
        if (i > 0)
            writer_text(w, ",");
        put_call(w, m->tool_calls[i]);
    }
    writer_text(w, "]");
    delta_end(w, a);
}

static void put_content(struct writer *w, const struct chat_answer *a, const Wire__Tokens *m)
{
    delta_begin(w, a, m->choice);
    writer_text(w, "\"content\":");
    writer_quoted(w, m->content, strlen(m->content));
    if (m->n_logprobs == 0) {
        delta_end(w, a);
        return;
    }
    writer_text(w, "},\"logprobs\":{\"content\":[");
    logprobs_put(w, m->logprobs, m->n_logprobs);
    writer_text(w, "],\"refusal\":null},\"finish_reason\":null}");
    chunk_end(w, a);
}

static const char *const array_names[LOGPROBS_ARRAYS] = {
    "{\"tokens\":[", "],\"token_logprobs\":[", "],\"top_logprobs\":[", "],\"text_offset\":["};

static void put_completion_text(struct writer *w, const struct chat_answer *a,
                                struct chat_choice *c, const Wire__Tokens *m)
{
    chunk_begin(w, a);
    writer_text(w, "{\"index\":");
    writer_number(w, m->choice);
    writer_text(w, ",\"text\":");
    writer_quoted(w, m->content, strlen(m->content));
    writer_text(w, ",\"logprobs\":");
    for (int i = 0; i < LOGPROBS_ARRAYS && m->n_logprobs > 0; i++) {
        writer_text(w, array_names[i]);
        logprobs_put_array(w, i, m->logprobs, m->n_logprobs, &c->text_chars);
    }
    writer_text(w, m->n_logprobs > 0 ? "]}" : "null");
    writer_text(w, ",\"finish_reason\":null}");
    chunk_end(w, a);
}

enum status chat_put_tokens(struct buf *out, const struct chat_answer *a, struct chat_choice *c,
                            const Wire__Tokens *m)
{
    struct writer w = {out, OK};
    bool says = *m->content || m->n_logprobs > 0;
    if (a->completion) {
        if (says)
            put_completion_text(&w, a, c, m);
        return w.st;
    }
    if (!c->role_sent && (says || *m->reasoning || m->n_tool_calls > 0)) {
        put_role(&w, a, m->choice);
        c->role_sent = true;
    }
    if (*m->reasoning) {
        delta_begin(&w, a, m->choice);
        writer_text(&w, "\"reasoning_content\":");
        writer_quoted(&w, m->reasoning, strlen(m->reasoning));
        delta_end(&w, a);
    }
    if (says)
        put_content(&w, a, m);
    if (m->n_tool_calls > 0)
        put_calls(&w, a, m);
    return w.st;
}

enum status chat_put_finish(struct buf *out, const struct chat_answer *a, struct chat_choice *c,
                            uint32_t index)
{
    struct writer w = {out, OK};
    if (!c->role_sent && !a->completion)
        put_role(&w, a, index); /* an empty answer has a role too */
    chunk_begin(&w, a);
    writer_text(&w, "{\"index\":");
    writer_number(&w, index);
    writer_text(&w, a->completion ? ",\"text\":\"\"" : ",\"delta\":{}");
    writer_text(&w, ",\"logprobs\":null,\"finish_reason\":\"");
    writer_text(&w, c->finish);
    writer_text(&w, "\"}");
    chunk_end(&w, a);
    c->role_sent = c->ended = true;
    return w.st;
}

enum status chat_put_end(struct buf *out, const struct chat_answer *a,
                         const struct token_counts *counts)
{
    struct writer w = {out, OK};
    if (a->include_usage) {
        chunk_begin(&w, a);
        writer_text(&w, "],\"usage\":");
        usage(&w, counts);
        writer_text(&w, "}\n\n");
    }
    writer_text(&w, "data: [DONE]\n\n");
    return w.st;
}

/* --- a whole answer --- */

static void put_buf(struct writer *w, const struct buf *b)
{
    writer_bytes(w, buf_head(b), buf_len(b));
}

static void quote_buf(struct writer *w, const struct buf *b)
{
    writer_quoted(w, (const char *)buf_head(b), buf_len(b));
}

static void whole_calls(struct writer *w, const struct chat_choice *c)
{
    writer_text(w, ",\"tool_calls\":[");
    for (int i = 0; i < c->call_count; i++) {
        const struct chat_call *call = &c->calls[i];
        writer_text(w, i > 0 ? ",{\"id\":" : "{\"id\":");
        writer_quoted(w, call->id, strlen(call->id));
        writer_text(w, ",\"type\":\"function\",\"function\":{\"name\":");
        writer_quoted(w, call->name, strlen(call->name));
        writer_text(w, ",\"arguments\":");
        quote_buf(w, &call->arguments);
        writer_text(w, "}}");
    }
    writer_text(w, "]");
}

static void whole_message(struct writer *w, const struct chat_choice *c)
{
    writer_text(w, ",\"message\":{\"role\":\"assistant\",\"content\":");
    if (buf_len(&c->content) == 0 && c->call_count > 0)
        writer_text(w, "null");
    else
        quote_buf(w, &c->content);
    if (buf_len(&c->reasoning) > 0) {
        writer_text(w, ",\"reasoning_content\":");
        quote_buf(w, &c->reasoning);
    }
    if (c->call_count > 0)
        whole_calls(w, c);
    writer_text(w, ",\"refusal\":null},\"logprobs\":");
    if (buf_len(&c->logprobs[0]) > 0) {
        writer_text(w, "{\"content\":[");
        put_buf(w, &c->logprobs[0]);
        writer_text(w, "],\"refusal\":null}");
    } else {
        writer_text(w, "null");
    }
}

static void whole_text(struct writer *w, const struct chat_choice *c)
{
    writer_text(w, ",\"text\":");
    quote_buf(w, &c->content);
    writer_text(w, ",\"logprobs\":");
    bool some = buf_len(&c->logprobs[0]) > 0;
    for (int i = 0; i < LOGPROBS_ARRAYS && some; i++) {
        writer_text(w, array_names[i]);
        put_buf(w, &c->logprobs[i]);
    }
    writer_text(w, some ? "]}" : "null");
}

enum status chat_put_whole(struct buf *out, const struct chat_answer *a,
                           const struct chat_choice *choices, uint32_t count,
                           const struct token_counts *counts)
{
    struct writer w = {out, OK};
    head(&w, a, a->completion ? "text_completion" : "chat.completion");
    for (uint32_t i = 0; i < count; i++) {
        const struct chat_choice *c = &choices[i];
        writer_text(&w, i > 0 ? ",{\"index\":" : "{\"index\":");
        writer_number(&w, i);
        if (a->completion)
            whole_text(&w, c);
        else
            whole_message(&w, c);
        writer_text(&w, ",\"finish_reason\":\"");
        writer_text(&w, c->finish);
        writer_text(&w, "\"}");
    }
    writer_text(&w, "],\"usage\":");
    usage(&w, counts);
    writer_text(&w, "}");
    return w.st;
}
