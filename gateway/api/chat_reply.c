#include "gateway/api/chat_reply.h"

#include "base/json.h"

/* Appends until the first failure, which stays. */
struct writer {
    struct buf *out;
    enum status st;
};

static void text(struct writer *w, const char *s)
{
    if (w->st == OK)
        w->st = buf_adds(w->out, s);
}

static void quoted(struct writer *w, const char *s, size_t len)
{
    if (w->st == OK)
        w->st = json_put_string(w->out, s, len);
}

static void number(struct writer *w, int64_t n)
{
    char digits[24];
    char *at = digits + sizeof digits;
    uint64_t left = n < 0 ? 0 : (uint64_t)n;
    do
        *--at = (char)('0' + left % 10);
    while (left /= 10);
    if (w->st == OK)
        w->st = buf_add(w->out, at, (size_t)(digits + sizeof digits - at));
}

static void head(struct writer *w, const struct chat_answer *a, const char *object)
{
    text(w, "{\"id\":\"chatcmpl-");
    text(w, a->id_text);
    text(w, "\",\"object\":\"");
    text(w, object);
    text(w, "\",\"created\":");
    number(w, a->created_s);
    text(w, ",\"model\":");
    quoted(w, a->model, strlen(a->model));
    text(w, ",\"system_fingerprint\":null,\"choices\":[");
}

static void usage(struct writer *w, const struct token_counts *c)
{
    text(w, "{\"prompt_tokens\":");
    number(w, c->prompt);
    text(w, ",\"completion_tokens\":");
    number(w, c->completion);
    text(w, ",\"total_tokens\":");
    number(w, c->prompt + c->completion);
    text(w, ",\"prompt_cache_hit_tokens\":");
    number(w, c->cached);
    text(w, ",\"prompt_cache_miss_tokens\":");
    number(w, c->prompt - c->cached);
    text(w, ",\"prompt_tokens_details\":{\"cached_tokens\":");
    number(w, c->cached);
    text(w, "},\"completion_tokens_details\":{\"reasoning_tokens\":");
    number(w, c->reasoning);
    text(w, "}}");
}

static void chunk_begin(struct writer *w, const struct chat_answer *a)
{
    text(w, "data: ");
    head(w, a, "chat.completion.chunk");
}

static void chunk_end(struct writer *w, const struct chat_answer *a)
{
    text(w, a->include_usage ? "],\"usage\":null}\n\n" : "]}\n\n");
}

static void delta(struct writer *w, const struct chat_answer *a, const char *name, const char *s,
                  size_t len)
{
    chunk_begin(w, a);
    text(w, "{\"index\":0,\"delta\":{");
    text(w, name);
    quoted(w, s, len);
    text(w, "},\"logprobs\":null,\"finish_reason\":null}");
    chunk_end(w, a);
}

enum status chat_put_role(struct buf *out, const struct chat_answer *a)
{
    struct writer w = {out, OK};
    delta(&w, a, "\"role\":\"assistant\",\"content\":", "", 0);
    return w.st;
}

enum status chat_put_delta(struct buf *out, const struct chat_answer *a, const struct chat_text *t)
{
    struct writer w = {out, OK};
    if (t->reasoning_len)
        delta(&w, a, "\"reasoning_content\":", t->reasoning, t->reasoning_len);
    if (t->content_len)
        delta(&w, a, "\"content\":", t->content, t->content_len);
    return w.st;
}

enum status chat_put_end(struct buf *out, const struct chat_answer *a, const char *finish_reason,
                         const struct token_counts *counts)
{
    struct writer w = {out, OK};
    chunk_begin(&w, a);
    text(&w, "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"");
    text(&w, finish_reason);
    text(&w, "\"}");
    chunk_end(&w, a);
    if (a->include_usage) {
        chunk_begin(&w, a);
        text(&w, "],\"usage\":");
        usage(&w, counts);
        text(&w, "}\n\n");
    }
    text(&w, "data: [DONE]\n\n");
    return w.st;
}

enum status chat_put_whole(struct buf *out, const struct chat_answer *a, const struct chat_text *t,
                           const char *finish_reason, const struct token_counts *counts)
{
    struct writer w = {out, OK};
    head(&w, a, "chat.completion");
    text(&w, "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
    quoted(&w, t->content, t->content_len);
    if (t->reasoning_len) {
        text(&w, ",\"reasoning_content\":");
        quoted(&w, t->reasoning, t->reasoning_len);
    }
    text(&w, ",\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"");
    text(&w, finish_reason);
    text(&w, "\"}],\"usage\":");
    usage(&w, counts);
    text(&w, "}");
    return w.st;
}
