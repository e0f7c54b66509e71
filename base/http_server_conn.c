/* The life of a connection: states and their deadlines, workspaces, refusals, the end. */
#include <arpa/inet.h>
#include <assert.h>
#include <unistd.h>

#include "base/http_server_internal.h"

enum { LINGER_MS = 2000 };

static const bool allowed[CONN_STATES][CONN_STATES] = {
    [CONN_HANDSHAKE] = {[CONN_IDLE] = true, [CONN_LINGER] = true, [CONN_DEAD] = true},
    [CONN_IDLE] =
        {[CONN_HEAD] = true, [CONN_ENDING] = true, [CONN_LINGER] = true, [CONN_DEAD] = true},
    [CONN_HEAD] =
        {[CONN_BODY] = true, [CONN_RUNNING] = true, [CONN_ENDING] = true, [CONN_DEAD] = true},
    [CONN_BODY] = {[CONN_RUNNING] = true, [CONN_ENDING] = true, [CONN_DEAD] = true},
    [CONN_RUNNING] = {[CONN_ENDING] = true, [CONN_DEAD] = true},
    [CONN_ENDING] = {[CONN_IDLE] = true, [CONN_LINGER] = true, [CONN_DEAD] = true},
    [CONN_LINGER] = {[CONN_DEAD] = true},
};

static void list_add(struct conn_list *l, struct http_conn *c)
{
    c->prev = l->last;
    c->next = NULL;
    *(l->last ? &l->last->next : &l->first) = c;
    l->last = c;
}

static void list_remove(struct conn_list *l, struct http_conn *c)
{
    *(c->prev ? &c->prev->next : &l->first) = c->next;
    *(c->next ? &c->next->prev : &l->last) = c->prev;
    c->prev = c->next = NULL;
}

/* The only writer of c->state. timeout_ms 0: the new state has no deadline. */
void conn_set_state(struct http_conn *c, enum conn_state state, int64_t timeout_ms)
{
    struct http_server *s = c->server;
    assert(allowed[c->state][state]);
    bool was_idle = c->state == CONN_IDLE, is_idle = state == CONN_IDLE;
    c->state = state;
    c->deadline_ms = timeout_ms ? loop_now_ms(s->loop) + timeout_ms : 0;
    if (was_idle == is_idle && state != CONN_DEAD)
        return;
    list_remove(was_idle ? &s->idle : &s->busy, c);
    if (state != CONN_DEAD)
        list_add(is_idle ? &s->idle : &s->busy, c);
}

void work_free(struct http_work *w)
{
    if (!w)
        return;
    arena_free(w->arena);
    http1_free(w->parser);
    buf_done(&w->in);
    buf_done(&w->body);
    buf_done(&w->out);
    free(w);
}

static struct http_work *work_new(const struct http_options *o)
{
    struct http_work *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    buf_init(&w->in, o->limits.head_bytes + READ_AHEAD_BYTES + 2 * SCRATCH_BYTES);
    buf_init(&w->body, o->limits.body_bytes);
    buf_init(&w->out, SIZE_MAX / 4); /* bounded by output_max_bytes where answers are written */
    w->arena = arena_new(o->limits.head_bytes * 4 + o->limits.body_bytes * 4 + (1 << 20));
    w->parser = http1_new(&o->limits);
    if (!w->arena || !w->parser) {
        work_free(w);
        return NULL;
    }
    return w;
}

bool conn_take_work(struct http_conn *c)
{
    struct http_server *s = c->server;
    if (c->work)
        return true;
    c->work = s->pool;
    if (c->work) {
        s->pool = c->work->next;
        s->pooled--;
        return true;
    }
    c->work = work_new(&s->options);
    return c->work;
}

static void trim(struct buf *b)
{
    if (b->size > WORK_BUFFER_KEEP)
        buf_done(b);
    else
        buf_clear(b);
}

void conn_release_work(struct http_conn *c)
{
    struct http_server *s = c->server;
    struct http_work *w = c->work;
    if (!w)
        return;
    c->work = NULL;
    if (s->pooled >= WORK_POOL) {
        work_free(w);
        return;
    }
    arena_reset(w->arena);
    trim(&w->in);
    trim(&w->body);
    trim(&w->out);
    w->next = s->pool;
    s->pool = w;
    s->pooled++;
}

static void keep_peer(struct http_conn *c, const struct sockaddr_storage *peer)
{
    if (peer->ss_family == AF_INET || peer->ss_family == AF_INET6)
        memcpy(&c->peer_addr, peer, sizeof c->peer_addr);
}

const char *http_peer(const struct http_exchange *ex)
{
    struct http_conn *c = conn_of(ex);
    if (c->peer[0])
        return c->peer;
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&c->peer_addr;
    const struct in6_addr *v6 = &c->peer_addr.sin6_addr;
    if (c->peer_addr.sin6_family == AF_INET)
        inet_ntop(AF_INET, &v4->sin_addr, c->peer, sizeof c->peer);
    else if (c->peer_addr.sin6_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(v6))
        inet_ntop(AF_INET, v6->s6_addr + 12, c->peer, sizeof c->peer);
    else if (c->peer_addr.sin6_family == AF_INET6)
        inet_ntop(AF_INET6, v6, c->peer, sizeof c->peer);
    else
        snprintf(c->peer, sizeof c->peer, "unix");
    return c->peer;
}

/* Takes the fd over, also when it fails. */
void conn_new(struct http_server *s, int fd, const struct sockaddr_storage *peer)
{
    struct http_conn *c = calloc(1, sizeof *c);
    if (c) {
        c->server = s;
        c->fd = fd;
        c->io = loop_io_new(s->loop, fd, conn_ready, c);
        c->tls = s->options.tls ? tls_accept(s->options.tls, fd) : NULL;
    }
    if (!c || !c->io || (s->options.tls && !c->tls)) {
        if (c) {
            loop_io_free(c->io);
            tls_conn_free(c->tls);
        }
        free(c);
        close(fd);
        s->stats.shed_total++;
        return;
    }
    keep_peer(c, peer);
    s->stats.connections_total++;
    s->stats.connections++;
    c->state = CONN_HANDSHAKE;
    c->deadline_ms = loop_now_ms(s->loop) + s->options.handshake_timeout_ms;
    list_add(&s->busy, c);
    if (!c->tls)
        conn_set_state(c, CONN_IDLE, s->options.head_timeout_ms);
    conn_update_interest(c);
}

void conn_cut(struct http_conn *c)
{
    struct http_server *s = c->server;
    if (c->state == CONN_DEAD)
        return;
    conn_set_state(c, CONN_DEAD, 0);
    conn_update_interest(c);
    conn_unwatch(c);
    s->stats.connections--;
    c->reap_next = s->reap;
    s->reap = c;
}

/* At the reap alone. */
void conn_free(struct http_conn *c)
{
    assert(c->state == CONN_DEAD && !c->dirty && !c->resuming);
    loop_io_free(c->io);
    tls_conn_free(c->tls);
    close(c->fd);
    c->server->body_bytes -= c->body_counted;
    conn_release_work(c);
    free(c);
}

void conn_update_interest(struct http_conn *c)
{
    int interest = 0;
    if (c->state == CONN_HANDSHAKE)
        interest = c->handshake_writes ? LOOP_WRITE : LOOP_READ;
    else if (c->state != CONN_DEAD) {
        interest = c->paused || c->eof ? 0 : LOOP_READ;
        if (c->blocked || c->read_writes)
            interest |= LOOP_WRITE;
    }
    loop_io_want(c->io, interest);
}

static void add_escaped(struct buf *out, const char *text)
{
    for (; *text; text++) {
        char c = (unsigned char)*text < 0x20 ? ' ' : *text;
        if (c == '"' || c == '\\')
            buf_add(out, "\\", 1);
        buf_add(out, &c, 1);
    }
}

static void default_body(int status, const char *text, struct buf *out)
{
    buf_adds(out, "{\"error\":{\"message\":\"");
    add_escaped(out, text);
    buf_addf(out, "\",\"type\":\"%s\",\"param\":null,\"code\":null}}",
             status >= 500 ? "server_error" : "invalid_request_error");
}

/* The request never becomes whole: the server answers it itself, and the connection ends. */
void conn_refuse(struct http_conn *c, int status, const char *text)
{
    struct http_server *s = c->server;
    struct buf body;
    buf_init(&body, 65536);
    s->stats.refused_total++;
    if (s->options.handlers->refuse)
        s->options.handlers->refuse(status, text, &body, s->options.arg);
    else
        default_body(status, text, &body);
    c->refused = c->close_after = true;
    c->ex = (struct http_exchange){0};
    buf_clear(&c->work->body);
    http_reply(&c->ex, status, NULL, 0, "application/json", buf_head(&body), buf_len(&body));
    buf_done(&body);
}

/* Everything is sent. What the client still sends is thrown away for a moment: closing over
 * unread input would make a reset of it, which can overtake the answer. */
static void linger(struct http_conn *c)
{
    if (c->eof) {
        conn_cut(c);
        return;
    }
    if (c->tls)
        tls_close_notify(c->tls);
    shutdown(c->fd, SHUT_WR);
    conn_set_state(c, CONN_LINGER, LINGER_MS);
    c->paused = false;
    conn_unwatch(c);
    conn_release_work(c);
    conn_update_interest(c);
}

void conn_finish_exchange(struct http_conn *c)
{
    struct http_server *s = c->server;
    void *user = c->ex.user;
    if (user && s->options.handlers->closed)
        s->options.handlers->closed(&c->ex, true, s->options.arg);
    if (c->state == CONN_DEAD)
        return;
    c->ex = (struct http_exchange){0};
    s->body_bytes -= c->body_counted;
    c->body_counted = 0;
    trim(&c->work->body);
    if (c->close_after && buf_len(&c->work->out) == 0)
        linger(c);
    else if (!c->close_after)
        conn_set_state(c, CONN_IDLE, s->options.idle_timeout_ms);
}

/* From the sweep: a deadline has passed. */
void conn_expire(struct http_conn *c, int64_t now_ms)
{
    if (c->write_deadline_ms && c->write_deadline_ms <= now_ms) {
        conn_cut(c);
        return;
    }
    if (!c->deadline_ms || c->deadline_ms > now_ms)
        return;
    if (c->state == CONN_HEAD)
        conn_refuse(c, 408, "the request's header took too long");
    else if (c->state == CONN_BODY)
        conn_refuse(c, 408, "the request's body took too long");
    else if (c->state != CONN_RUNNING)
        conn_cut(c);
}
