/* The server as a whole: options, the chores at the end of a turn, the sweep, drain and free. */
#include "base/http_server_internal.h"

enum { SWEEP_MS = 1000, SWEEP_LEAST_MS = 20 };

static void flush_dirty(void *arg)
{
    struct http_server *s = arg;
    /* What becomes dirty from here on is for the next turn, so that no handler can hold us. */
    struct http_conn *c = s->dirty;
    s->dirty = NULL;
    while (c) {
        struct http_conn *next = c->dirty_next;
        c->dirty = false;
        conn_flush(c);
        c = next;
    }
}

static void resume_due(void *arg)
{
    struct http_server *s = arg;
    struct http_conn *c = s->resume;
    s->resume = NULL;
    while (c) {
        struct http_conn *next = c->resume_next;
        c->resuming = false;
        if (c->state != CONN_DEAD)
            conn_resume(c);
        c = next;
    }
}

static void drop_dead(struct http_server *s)
{
    struct http_conn **at = &s->dirty;
    while (*at) {
        struct http_conn *c = *at;
        if (c->state == CONN_DEAD) {
            *at = c->dirty_next;
            c->dirty = false;
        } else {
            at = &c->dirty_next;
        }
    }
    at = &s->resume;
    while (*at) {
        struct http_conn *c = *at;
        if (c->state == CONN_DEAD) {
            *at = c->resume_next;
            c->resuming = false;
        } else {
            at = &c->resume_next;
        }
    }
}

static void reap(void *arg)
{
    struct http_server *s = arg;
    while (s->reap) {
        drop_dead(s);
        struct http_conn *c = s->reap;
        s->reap = NULL;
        while (c) {
            struct http_conn *next = c->reap_next;
            if (c->ex.user && s->options.handlers->closed) {
                s->options.handlers->closed(&c->ex, false, s->options.arg);
                loop_again(s->loop); /* a cancel belongs to an earlier phase */
            }
            conn_free(c);
            c = next;
        }
    }
    if (s->dirty)
        loop_again(s->loop);
}

static void sweep_list(struct conn_list *l, int64_t now_ms)
{
    for (struct http_conn *c = l->first, *next; c; c = next) {
        next = c->next;
        conn_expire(c, now_ms);
    }
}

static void sweep(void *arg)
{
    struct http_server *s = arg;
    int64_t now_ms = loop_now_ms(s->loop);
    sweep_list(&s->idle, now_ms);
    sweep_list(&s->busy, now_ms);
    http_listen_resume(s);
    loop_timer_start(s->sweep_timer, s->sweep_ms);
}

static int64_t or_default(int64_t value, int64_t fallback)
{
    return value ? value : fallback;
}

/* Settings that are absent become the documented defaults. */
static void complete_options(struct http_options *o)
{
    o->limits.head_bytes = (size_t)or_default((int64_t)o->limits.head_bytes, 32 << 10);
    o->limits.fields = (int)or_default(o->limits.fields, 100);
    o->limits.body_bytes = (size_t)or_default((int64_t)o->limits.body_bytes, 8 << 20);
    o->handshake_timeout_ms = or_default(o->handshake_timeout_ms, 5000);
    o->head_timeout_ms = or_default(o->head_timeout_ms, 10000);
    o->body_timeout_ms = or_default(o->body_timeout_ms, 60000);
    o->idle_timeout_ms = or_default(o->idle_timeout_ms, 75000);
    o->write_timeout_ms = or_default(o->write_timeout_ms, 60000);
    o->connections_max = (int)or_default(o->connections_max, 10000);
    o->output_mark_bytes = (size_t)or_default((int64_t)o->output_mark_bytes, 64 << 10);
    o->output_max_bytes = (size_t)or_default((int64_t)o->output_max_bytes, 4 << 20);
    o->bodies_max_bytes = (size_t)or_default((int64_t)o->bodies_max_bytes, 512 << 20);
}

/* Often enough for the shortest deadline to mean something. */
static int64_t sweep_interval(const struct http_options *o)
{
    const int64_t timeouts[] = {o->handshake_timeout_ms, o->head_timeout_ms, o->body_timeout_ms,
                                o->idle_timeout_ms, o->write_timeout_ms};
    int64_t ms = SWEEP_MS;
    for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++)
        if (timeouts[i] / 4 < ms)
            ms = timeouts[i] / 4;
    return ms < SWEEP_LEAST_MS ? SWEEP_LEAST_MS : ms;
}

static enum status open_server(struct http_server *s, struct error *err)
{
    s->sweep_timer = loop_timer_new(s->loop, sweep, s);
    s->resume_timer = loop_timer_new(s->loop, resume_due, s);
    s->probe_timer = loop_timer_new(s->loop, http_watch_probe, s);
    if (s->options.alt_headers) {
        s->alt_headers = strdup(s->options.alt_headers);
        s->alt_headers_len = strlen(s->options.alt_headers);
    }
    if (!s->sweep_timer || !s->resume_timer || !s->probe_timer ||
        (s->options.alt_headers && !s->alt_headers))
        return error_set(err, NOMEM, "out of memory for the server %s", s->options.listen);
    enum status st = http_watch_open(s, err);
    return st == OK ? http_listen_open(s, err) : st;
}

struct http_server *http_server_new(struct loop *loop, const struct http_options *options,
                                    struct error *err)
{
    struct http_server *s = calloc(1, sizeof *s);
    if (!s) {
        error_set(err, NOMEM, "out of memory for the server %s", options->listen);
        return NULL;
    }
    s->loop = loop;
    s->options = *options;
    s->listen_fd = s->reserve_fd = s->watch_fd = -1;
    complete_options(&s->options);
    s->sweep_ms = sweep_interval(&s->options);
    loop_hook(loop, LOOP_PHASE_OUTPUT, flush_dirty, s);
    loop_hook(loop, LOOP_PHASE_REAP, reap, s);
    if (open_server(s, err) != OK) {
        http_server_free(s);
        return NULL;
    }
    loop_timer_start(s->sweep_timer, s->sweep_ms);
    return s;
}

int http_server_port(const struct http_server *s)
{
    return address_port(s->listen_fd);
}

void http_server_drain(struct http_server *s)
{
    s->draining = true;
    http_listen_close(s);
    for (struct http_conn *c = s->idle.first, *next; c; c = next) {
        next = c->next;
        /* One that has asked nothing yet may be about to: it gets one answer. */
        if (c->served && !(c->work && (buf_len(&c->work->out) || buf_len(&c->work->in))))
            conn_cut(c);
    }
    loop_again(s->loop);
}

static void cut_all(struct conn_list *l)
{
    while (l->first)
        conn_cut(l->first);
}

void http_server_free(struct http_server *s)
{
    if (!s)
        return;
    s->freeing = true;
    http_listen_close(s);
    cut_all(&s->idle);
    cut_all(&s->busy);
    reap(s);
    loop_unhook(s->loop, LOOP_PHASE_OUTPUT, flush_dirty, s);
    loop_unhook(s->loop, LOOP_PHASE_REAP, reap, s);
    http_watch_close(s);
    loop_timer_free(s->sweep_timer);
    loop_timer_free(s->resume_timer);
    loop_timer_free(s->probe_timer);
    while (s->pool) {
        struct http_work *w = s->pool;
        s->pool = w->next;
        work_free(w);
    }
    free(s->alt_headers);
    free(s);
}

const struct http_server_stats *http_server_stats(const struct http_server *s)
{
    return &s->stats;
}

const struct http1_request *http_request(const struct http_exchange *ex)
{
    return http1_request(conn_of(ex)->work->parser);
}

const uint8_t *http_body(const struct http_exchange *ex, size_t *len)
{
    const struct buf *body = &conn_of(ex)->work->body;
    *len = buf_len(body);
    return buf_head(body);
}

struct arena *http_arena(struct http_exchange *ex)
{
    return conn_of(ex)->work->arena;
}

void http_set_user(struct http_exchange *ex, void *user)
{
    ex->user = user;
}

void *http_user(const struct http_exchange *ex)
{
    return ex->user;
}
