#include "gateway/request.h"

#include <assert.h>

#include "base/clock.h"
#include "base/json.h"
#include "gateway/meter.h"

enum { ARENA_BYTES = 24 << 20, SPARES_MAX = 512, KEPT_BYTES = 32 << 10, HEADERS_MAX = 16 };

#define TO(state) (1u << REQUEST_##state)
static const unsigned steps[REQUEST_STATES] = {
    [REQUEST_PARSED] = TO(KEY) | TO(DONE),
    [REQUEST_KEY] = TO(ADMISSION) | TO(DONE),
    [REQUEST_ADMISSION] = TO(QUEUED) | TO(DISPATCHED) | TO(DONE),
    [REQUEST_QUEUED] = TO(DISPATCHED) | TO(QUEUED) | TO(GRACE) | TO(DONE),
    [REQUEST_DISPATCHED] = TO(STREAMING) | TO(QUEUED) | TO(GRACE) | TO(SETTLING),
    [REQUEST_STREAMING] = TO(QUEUED) | TO(GRACE) | TO(SETTLING),
    [REQUEST_GRACE] = TO(SETTLING),
    [REQUEST_SETTLING] = TO(DONE),
};
#undef TO

bool request_step_allowed(enum request_state from, enum request_state to)
{
    return steps[from] >> to & 1;
}

void request_set_state(struct request *r, enum request_state next)
{
    assert(request_step_allowed(r->state, next));
    r->gl->grace_count += (next == REQUEST_GRACE) - (r->state == REQUEST_GRACE);
    r->state = next;
}

/* Pooled with its arena and buffers, unless they have grown large. */
static struct request *take_spare(struct gateway_loop *gl)
{
    struct request *r = gl->spare;
    if (r) {
        gl->spare = r->next_spare;
        gl->spare_count--;
        return r;
    }
    r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->arena = arena_new(ARENA_BYTES);
    if (!r->arena) {
        free(r);
        return NULL;
    }
    chat_choice_init(&r->first, 0);
    return r;
}

struct request *request_new(struct gateway_loop *gl, struct http_exchange *ex)
{
    struct request *r = take_spare(gl);
    if (!r)
        return NULL;
    struct arena *arena = r->arena;
    struct chat_choice first = r->first;
    memset(r, 0, sizeof *r);
    r->arena = arena;
    r->first = first;
    chat_choice_limit(&r->first, (size_t)gl->tunables.answer_bytes_max);
    r->choices = &r->first;
    r->gl = gl;
    r->ex = ex;
    list_init(&r->fifo);
    list_append(&gl->requests, &r->all);
    r->id = uuid_v7(clock_wall_ms());
    uuid_format(&r->id, r->id_text);
    r->begun_ms = r->output_ms = loop_now_ms(gl->loop);
    stat_set(&gl->stats.in_flight, (uint64_t)++gl->request_count);
    atomic_store_explicit(&gl->live_requests, gl->request_count, memory_order_relaxed);
    http_set_user(ex, r);
    return r;
}

bool request_make_choices(struct request *r)
{
    if (r->chat.choices == 1)
        return true;
    r->own = calloc(r->chat.choices, sizeof *r->own);
    for (uint32_t i = 0; r->own && i < r->chat.choices; i++)
        chat_choice_init(&r->own[i], (size_t)r->gl->tunables.answer_bytes_max);
    r->choices = r->own;
    return r->own != NULL;
}

/* From here on the client is no longer ours. */
static struct http_exchange *let_go(struct request *r)
{
    struct http_exchange *ex = r->ex;
    r->ex = NULL;
    http_set_user(ex, NULL);
    return ex;
}

static void recycle(struct gateway_loop *gl, struct request *r)
{
    for (uint32_t i = 0; r->own && i < r->chat.choices; i++)
        chat_choice_done(&r->own[i]);
    free(r->own);
    r->own = NULL;
    if (chat_choice_bytes(&r->first) > KEPT_BYTES || gl->spare_count >= SPARES_MAX)
        chat_choice_done(&r->first);
    if (gl->spare_count >= SPARES_MAX) {
        arena_free(r->arena);
        free(r);
        return;
    }
    chat_choice_reset(&r->first);
    arena_reset(r->arena);
    r->next_spare = gl->spare;
    gl->spare = r;
    gl->spare_count++;
}

void request_release(struct request *r)
{
    struct gateway_loop *gl = r->gl;
    assert(!r->journaled || r->state == REQUEST_SETTLING);
    if (r->ex)
        http_reply_abort(let_go(r)); /* nobody is left who could answer */
    if (r->held) {
        const struct meter_context *c = &r->context;
        struct settle_request s = {.request_id = r->id,
                                   .key_id = c->key_id,
                                   .project_id = c->project_id,
                                   .tenant_id = c->tenant_id};
        admission_settle(gl->admission, &s);
        loop_again(gl->loop);
    }
    request_set_state(r, REQUEST_DONE);
    list_remove(&r->all);
    assert(list_empty(&r->fifo));
    json_free(r->body);
    r->body = NULL;
    stat_set(&gl->stats.in_flight, (uint64_t)--gl->request_count);
    atomic_store_explicit(&gl->live_requests, gl->request_count, memory_order_relaxed);
    recycle(gl, r);
}

/* --- answers --- */

struct headers {
    struct http_header list[HEADERS_MAX];
    int count;
    char text[8][32];
    int texts;
};

static void add(struct headers *h, const char *name, const char *value)
{
    assert(h->count < HEADERS_MAX);
    h->list[h->count++] = (struct http_header){name, value};
}

static void add_number(struct headers *h, const char *name, int64_t n)
{
    char *text = h->text[h->texts++];
    snprintf(text, sizeof h->text[0], "%lld", (long long)n);
    add(h, name, text);
}

/* "120ms", "6m0s", as clients of this kind of API read it. */
static void add_reset(struct headers *h, const char *name, int64_t ms)
{
    char *text = h->text[h->texts++];
    long long seconds = ms / 1000;
    if (ms < 1000)
        snprintf(text, sizeof h->text[0], "%lldms", (long long)ms);
    else if (seconds < 60)
        snprintf(text, sizeof h->text[0], "%lld.%03llds", seconds, (long long)(ms % 1000));
    else
        snprintf(text, sizeof h->text[0], "%lldm%llds", seconds / 60, seconds % 60);
    add(h, name, text);
}

static void gather(const struct request *r, struct headers *h)
{
    const struct admit_result *l = &r->limits;
    h->count = h->texts = 0;
    add(h, "x-request-id", r->id_text);
    if (l->requests_limit > 0) {
        add_number(h, "x-ratelimit-limit-requests", l->requests_limit);
        add_number(h, "x-ratelimit-remaining-requests", l->requests_remaining);
        add_reset(h, "x-ratelimit-reset-requests", l->requests_reset_ms);
    }
    if (l->tokens_limit > 0) {
        add_number(h, "x-ratelimit-limit-tokens", l->tokens_limit);
        add_number(h, "x-ratelimit-remaining-tokens", l->tokens_remaining);
        add_reset(h, "x-ratelimit-reset-tokens", l->tokens_reset_ms);
    }
}

static void count_answer(struct request *r, int status)
{
    stat_add(&r->gl->stats.responses[status / 100 < STATS_CLASSES ? status / 100 : 0], 1);
    stats_observe(&r->gl->stats.total, loop_now_ms(r->gl->loop) - r->begun_ms);
}

void request_reply(struct request *r, int status, const struct buf *body)
{
    struct headers h;
    if (!r->ex)
        return;
    gather(r, &h);
    count_answer(r, status);
    http_reply(let_go(r), status, h.list, h.count, "application/json", buf_head(body),
               buf_len(body));
}

void request_begin_reply(struct request *r)
{
    struct headers h;
    gather(r, &h);
    if (r->chat.stream) {
        add(&h, "cache-control", "no-cache");
        add(&h, "x-accel-buffering", "no");
    }
    http_reply_begin(r->ex, 200, h.list, h.count,
                     r->chat.stream ? "text/event-stream; charset=utf-8" : "application/json");
    r->head_sent = true;
}

/* The status line has gone: the error is the last thing in the body. */
static void late_error(struct request *r, const struct api_error *e)
{
    struct buf *out = &r->gl->scratch;
    buf_clear(out);
    enum status st = r->chat.stream ? buf_adds(out, "data: ") : OK;
    if (st == OK)
        st = api_error_body(out, e);
    if (st == OK)
        st = buf_adds(out, r->chat.stream ? "\n\n" : "\n");
    count_answer(r, e->status);
    struct http_exchange *ex = let_go(r);
    if (st == OK)
        http_reply_write(ex, buf_head(out), buf_len(out));
    http_reply_end(ex);
}

void request_error(struct request *r, const struct api_error *e)
{
    if (!r->ex)
        return;
    if (r->head_sent) {
        late_error(r, e);
        return;
    }
    struct buf *out = &r->gl->scratch;
    buf_clear(out);
    if (api_error_body(out, e) != OK)
        buf_clear(out);
    struct headers h;
    gather(r, &h);
    if (e->retry_ms > 0) {
        add_number(&h, "retry-after", (e->retry_ms + 999) / 1000);
        add_number(&h, "retry-after-ms", e->retry_ms);
    }
    if (e->no_retry)
        add(&h, "x-should-retry", "false");
    if (e->status == 401)
        add(&h, "www-authenticate", "Bearer");
    count_answer(r, e->status);
    http_reply(let_go(r), e->status, h.list, h.count, "application/json", buf_head(out),
               buf_len(out));
}

void request_refuse(struct request *r, const struct api_error *e)
{
    request_error(r, e);
    request_release(r);
}
