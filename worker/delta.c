#include "worker/delta.h"

#include <assert.h>

struct call_head {
    uint32_t index, id_len, name_len, arguments_len; /* the strings follow, each with its NUL */
};

struct candidate_head {
    float logprob;
    uint32_t len; /* the bytes follow */
};

void delta_init(struct delta *d, size_t max_bytes)
{
    *d = (struct delta){.end = JOB_GOES_ON};
    for (int i = 0; i < DELTA_PARTS; i++)
        buf_init(&d->parts[i], max_bytes);
}

void delta_done(struct delta *d)
{
    for (int i = 0; i < DELTA_PARTS; i++)
        buf_done(&d->parts[i]);
}

void delta_clear(struct delta *d)
{
    for (int i = 0; i < DELTA_PARTS; i++)
        buf_clear(&d->parts[i]);
    d->last_call = 0;
    d->end = JOB_GOES_ON;
}

/* The arguments go behind those of the record that ends the part. */
static enum status join_call(struct delta *d, const char *arguments, size_t len)
{
    struct buf *b = &d->parts[DELTA_CALLS];
    struct call_head head;
    enum status st = buf_reserve(b, len);
    if (st != OK)
        return st;
    b->end--; /* its NUL */
    buf_add(b, arguments, len + 1);
    d->last_call += len;
    uint8_t *record = buf_head(b) + buf_len(b) - d->last_call;
    memcpy(&head, record, sizeof head);
    head.arguments_len += (uint32_t)len;
    memcpy(record, &head, sizeof head);
    return OK;
}

static bool continues_last(const struct delta *d, const struct delta_call *call)
{
    struct call_head head;
    const struct buf *b = &d->parts[DELTA_CALLS];
    if (!d->last_call || *call->id || *call->name)
        return false;
    memcpy(&head, buf_head(b) + buf_len(b) - d->last_call, sizeof head);
    return head.index == call->index;
}

enum status delta_add_call(struct delta *d, const struct delta_call *call)
{
    size_t id = strlen(call->id), name = strlen(call->name), arguments = strlen(call->arguments);
    if (id > UINT32_MAX / 4 || name > UINT32_MAX / 4 || arguments > UINT32_MAX / 4)
        return LIMITED;
    if (continues_last(d, call))
        return join_call(d, call->arguments, arguments);
    struct buf *b = &d->parts[DELTA_CALLS];
    struct call_head head = {call->index, (uint32_t)id, (uint32_t)name, (uint32_t)arguments};
    size_t bytes = sizeof head + id + name + arguments + 3;
    enum status st = buf_reserve(b, bytes);
    if (st != OK)
        return st;
    buf_add(b, &head, sizeof head);
    buf_add(b, call->id, id + 1);
    buf_add(b, call->name, name + 1);
    buf_add(b, call->arguments, arguments + 1);
    d->last_call = bytes;
    return OK;
}

static void add_candidate(struct buf *b, const struct delta_candidate *c)
{
    struct candidate_head head = {c->logprob, c->len};
    buf_add(b, &head, sizeof head);
    buf_add(b, c->bytes, c->len);
}

enum status delta_add_logprob(struct delta *d, const struct delta_logprob *l)
{
    assert(l->top_count >= 0 && l->top_count <= DELTA_TOP_MAX);
    struct buf *b = &d->parts[DELTA_LOGPROBS];
    size_t bytes = sizeof l->top_count + sizeof(struct candidate_head) + l->token.len;
    for (int i = 0; i < l->top_count; i++)
        bytes += sizeof(struct candidate_head) + l->top[i].len;
    enum status st = buf_reserve(b, bytes);
    if (st != OK)
        return st;
    buf_add(b, &l->top_count, sizeof l->top_count);
    add_candidate(b, &l->token);
    for (int i = 0; i < l->top_count; i++)
        add_candidate(b, &l->top[i]);
    return OK;
}

enum status delta_merge(struct delta *d, const struct delta_view *more)
{
    static const enum delta_part plain[] = {DELTA_CONTENT, DELTA_REASONING, DELTA_LOGPROBS};
    enum status st = OK;
    for (int i = 0; i < 3 && st == OK; i++)
        if (more->len[plain[i]])
            st = buf_add(&d->parts[plain[i]], more->data[plain[i]], more->len[plain[i]]);
    struct delta_call call;
    for (size_t at = 0; st == OK && delta_next_call(more, &at, &call);)
        st = delta_add_call(d, &call);
    if (more->end != JOB_GOES_ON)
        d->end = more->end;
    return st;
}

void delta_see(const struct delta *d, struct delta_view *out)
{
    out->end = d->end;
    for (int i = 0; i < DELTA_PARTS; i++) {
        out->len[i] = buf_len(&d->parts[i]);
        out->data[i] = out->len[i] ? buf_head(&d->parts[i]) : NULL;
    }
}

bool delta_is_empty(const struct delta_view *v)
{
    for (int i = 0; i < DELTA_PARTS; i++)
        if (v->len[i])
            return false;
    return v->end == JOB_GOES_ON;
}

size_t delta_text_bytes(const struct delta_view *v)
{
    size_t bytes = v->len[DELTA_CONTENT] + v->len[DELTA_REASONING];
    struct delta_call call;
    for (size_t at = 0; delta_next_call(v, &at, &call);)
        bytes += strlen(call.id) + strlen(call.name) + strlen(call.arguments);
    return bytes;
}

bool delta_next_call(const struct delta_view *v, size_t *at, struct delta_call *out)
{
    struct call_head head;
    if (*at >= v->len[DELTA_CALLS])
        return false;
    const uint8_t *p = v->data[DELTA_CALLS] + *at;
    memcpy(&head, p, sizeof head);
    p += sizeof head;
    out->index = head.index;
    out->id = (const char *)p;
    out->name = out->id + head.id_len + 1;
    out->arguments = out->name + head.name_len + 1;
    *at += sizeof head + head.id_len + head.name_len + head.arguments_len + 3;
    assert(*at <= v->len[DELTA_CALLS]);
    return true;
}

static const uint8_t *read_candidate(const uint8_t *p, struct delta_candidate *out)
{
    struct candidate_head head;
    memcpy(&head, p, sizeof head);
    *out = (struct delta_candidate){p + sizeof head, head.len, head.logprob};
    return p + sizeof head + head.len;
}

bool delta_next_logprob(const struct delta_view *v, size_t *at, struct delta_logprob *out)
{
    if (*at >= v->len[DELTA_LOGPROBS])
        return false;
    const uint8_t *p = v->data[DELTA_LOGPROBS] + *at;
    memcpy(&out->top_count, p, sizeof out->top_count);
    assert(out->top_count >= 0 && out->top_count <= DELTA_TOP_MAX);
    p = read_candidate(p + sizeof out->top_count, &out->token);
    for (int i = 0; i < out->top_count; i++)
        p = read_candidate(p, &out->top[i]);
    *at = (size_t)(p - v->data[DELTA_LOGPROBS]);
    return true;
}
