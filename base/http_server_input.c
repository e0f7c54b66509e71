/* From the socket to whole requests. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/http_server_internal.h"

enum { LINGER_BYTES = 1 << 20, READ_BATCH = 16 };

static enum tls_io receive(struct http_conn *c, uint8_t *out, size_t size, size_t *got)
{
    if (c->tls && c->state != CONN_LINGER)
        return tls_read(c->tls, out, size, got);
    ssize_t n = recv(c->fd, out, size, 0);
    if (n > 0) {
        *got = (size_t)n;
        return TLS_IO_OK;
    }
    if (n == 0)
        return TLS_IO_EOF;
    return errno == EAGAIN || errno == EINTR ? TLS_IO_WANT_READ : TLS_IO_FAILED;
}

static void begin_request(struct http_conn *c)
{
    struct http_server *s = c->server;
    if (!conn_take_work(c)) {
        conn_cut(c);
        return;
    }
    arena_reset(c->work->arena);
    http1_begin(c->work->parser, c->work->arena);
    conn_set_state(c, CONN_HEAD, s->options.head_timeout_ms);
}

static void head_done(struct http_conn *c, bool body_waits)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    const struct http1_request *r = http1_request(c->work->parser);
    if (!r->chunked && r->content_length <= 0)
        return;
    conn_set_state(c, CONN_BODY, c->server->options.body_timeout_ms);
    if (!r->expect_continue || body_waits)
        return;
    if (buf_add(&c->work->out, go_on, sizeof go_on - 1) != OK)
        conn_cut(c);
    else
        conn_mark_dirty(c);
}

static void body_part(struct http_conn *c, const uint8_t *data, size_t len)
{
    struct http_server *s = c->server;
    struct buf *body = &c->work->body;
    if (s->body_bytes + len > s->options.bodies_max_bytes || buf_add(body, data, len) != OK) {
        conn_refuse(c, 503, "too much is being uploaded at the moment, try again");
        return;
    }
    c->body_counted += len;
    s->body_bytes += len;
}

static void serve(struct http_conn *c)
{
    struct http_server *s = c->server;
    const struct http1_request *r = http1_request(c->work->parser);
    if (!buf_cstr(&c->work->body)) {
        conn_refuse(c, 503, "out of memory");
        return;
    }
    conn_set_state(c, CONN_RUNNING, 0);
    c->served = true;
    c->ex = (struct http_exchange){.head_only = strcmp(r->method, "HEAD") == 0};
    if (!r->keep_alive)
        c->close_after = true;
    s->stats.requests_total++;
    s->options.handlers->request(&c->ex, s->options.arg);
    /* Answered on the spot, and nobody waits for the bytes to leave: the next request may join
     * its answer to the same write. */
    if (c->state == CONN_ENDING && !c->ex.user && !c->close_after &&
        buf_len(&c->work->out) <= s->options.output_mark_bytes)
        conn_finish_exchange(c);
}

/* False: more input is needed. */
static bool step(struct http_conn *c, const uint8_t *data, size_t len, size_t *used)
{
    const uint8_t *body;
    size_t body_len;
    struct http1_parser *p = c->work->parser;
    switch (http1_feed(p, data, len, used, &body, &body_len)) {
    case HTTP1_MORE:
        return false;
    case HTTP1_HEAD:
        head_done(c, *used < len);
        return true;
    case HTTP1_BODY:
        body_part(c, body, body_len);
        return true;
    case HTTP1_DONE:
        serve(c);
        return true;
    case HTTP1_ERROR:
        break;
    }
    conn_refuse(c, http1_error_status(p), http1_error_text(p));
    return true;
}

/* Returns the bytes used up: less than len when an exchange must end first, or when the parser
 * wants to see an unfinished line again. */
static size_t parse(struct http_conn *c, const uint8_t *data, size_t len)
{
    size_t at = 0, used;
    for (;;) {
        if (c->state == CONN_IDLE && at < len)
            begin_request(c);
        if (c->state != CONN_HEAD && c->state != CONN_BODY)
            return c->refused || c->state == CONN_DEAD ? len : at;
        bool go_on = step(c, data + at, len - at, &used);
        at += used;
        if (!go_on)
            return at;
    }
}

static void parse_kept(struct http_conn *c)
{
    struct buf *in = &c->work->in;
    size_t used = parse(c, buf_head(in), buf_len(in));
    if (c->state != CONN_DEAD)
        buf_eat(in, used);
}

static void pause_reading(struct http_conn *c)
{
    c->paused = true;
    conn_watch(c);
    conn_update_interest(c);
}

static void take_input(struct http_conn *c, const uint8_t *data, size_t len)
{
    bool waits = c->state == CONN_RUNNING || c->state == CONN_ENDING;
    if (c->refused)
        return;
    if (!waits && (!c->work || buf_len(&c->work->in) == 0)) {
        size_t used = parse(c, data, len);
        if (c->state == CONN_DEAD || used == len)
            return;
        data += used;
        len -= used;
        waits = true;
    }
    if (!conn_take_work(c) || buf_add(&c->work->in, data, len) != OK) {
        conn_cut(c);
        return;
    }
    if (!waits)
        parse_kept(c);
    if ((c->state == CONN_RUNNING || c->state == CONN_ENDING) &&
        buf_len(&c->work->in) >= READ_AHEAD_BYTES)
        pause_reading(c);
}

static void discard(struct http_conn *c, size_t len)
{
    c->drained_bytes += len;
    if (c->drained_bytes > LINGER_BYTES)
        conn_cut(c);
}

/* The client has shut its side: what it asked for before is still answered. */
static void end_of_input(struct http_conn *c)
{
    c->eof = true;
    bool output = c->work && buf_len(&c->work->out) > 0;
    bool reading = c->state == CONN_IDLE || c->state == CONN_HEAD || c->state == CONN_BODY;
    if (reading && output) {
        c->close_after = true;
        conn_set_state(c, CONN_ENDING, 0);
    }
    if (c->state != CONN_RUNNING && c->state != CONN_ENDING) {
        conn_cut(c);
        return;
    }
    conn_watch(c);
    conn_update_interest(c);
}

static void received(struct http_conn *c, enum tls_io io, size_t got)
{
    if (io == TLS_IO_OK && c->state == CONN_LINGER)
        discard(c, got);
    else if (io == TLS_IO_OK)
        take_input(c, c->server->scratch, got);
    else if (io == TLS_IO_EOF)
        end_of_input(c);
    else if (io == TLS_IO_FAILED)
        conn_cut(c);
}

/* Readiness says when the socket has more; it knows nothing of bytes inside the TLS layer. */
void conn_read(struct http_conn *c)
{
    struct http_server *s = c->server;
    bool more = true;
    c->inside = false;
    for (int i = 0; more && c->state != CONN_DEAD && !c->paused && !c->eof; i++) {
        if (i == READ_BATCH) {
            c->inside = true; /* the others' turn */
            conn_queue_resume(c);
            break;
        }
        size_t got = 0;
        enum tls_io io = receive(c, s->scratch, sizeof s->scratch, &got);
        bool writes = io == TLS_IO_WANT_WRITE;
        if (writes != c->read_writes) {
            c->read_writes = writes;
            conn_update_interest(c);
        }
        received(c, io, got);
        more = io == TLS_IO_OK && c->tls && c->state != CONN_LINGER && tls_pending(c->tls);
    }
}

/* The alert that says why is on its way: closing over unread input could overtake it. */
static void handshake_failed(struct http_conn *c)
{
    c->server->stats.handshakes_failed_total++;
    shutdown(c->fd, SHUT_WR);
    conn_set_state(c, CONN_LINGER, c->server->options.handshake_timeout_ms);
    conn_update_interest(c);
}

static void handshake(struct http_conn *c)
{
    enum tls_io io = tls_handshake(c->tls);
    c->handshake_writes = io == TLS_IO_WANT_WRITE;
    if (io == TLS_IO_FAILED) {
        handshake_failed(c);
    } else if (io == TLS_IO_EOF) {
        c->server->stats.handshakes_failed_total++;
        conn_cut(c);
    } else {
        if (io == TLS_IO_OK)
            conn_set_state(c, CONN_IDLE, c->server->options.head_timeout_ms);
        conn_update_interest(c);
    }
    if (c->state == CONN_IDLE && tls_pending(c->tls))
        conn_read(c);
}

void conn_ready(int fd, int ready, void *arg)
{
    struct http_conn *c = arg;
    if (c->state == CONN_DEAD)
        return;
    if (c->state == CONN_HANDSHAKE) {
        handshake(c);
        return;
    }
    if ((ready & LOOP_WRITE) && c->blocked)
        conn_flush(c);
    if (ready & LOOP_READ || c->read_writes)
        conn_read(c);
}

/* An exchange has ended and input of the next one is here already: in the next turn, so that one
 * client's pipeline does not hold up the others. */
void conn_queue_resume(struct http_conn *c)
{
    struct http_server *s = c->server;
    if (c->resuming)
        return;
    if (!s->resume)
        loop_timer_start(s->resume_timer, 0);
    c->resuming = true;
    c->resume_next = s->resume;
    s->resume = c;
}

void conn_resume(struct http_conn *c)
{
    if (c->state == CONN_IDLE && c->work && buf_len(&c->work->in) > 0)
        parse_kept(c);
    if (c->state == CONN_DEAD)
        return;
    if (c->paused && (!c->work || buf_len(&c->work->in) < READ_AHEAD_BYTES)) {
        c->paused = false;
        if (!c->eof)
            conn_unwatch(c);
        conn_update_interest(c);
        conn_read(c);
    } else if (c->inside) {
        conn_read(c);
    }
    if (c->eof && (c->state == CONN_IDLE || c->state == CONN_HEAD || c->state == CONN_BODY))
        end_of_input(c);
}
