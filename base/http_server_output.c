/* Answers: gathered in the connection's buffer, written once a turn. */
#include <assert.h>
#include <errno.h>
#include <sys/socket.h>
#include <time.h>

#include "base/http_server_internal.h"

static const char *reason_of(int status)
{
    static const char *const names[] = {
        [200 - 200] = "OK",
        [201 - 200] = "Created",
        [202 - 200] = "Accepted",
        [204 - 200] = "No Content",
        [301 - 200] = "Moved Permanently",
        [302 - 200] = "Found",
        [303 - 200] = "See Other",
        [304 - 200] = "Not Modified",
        [307 - 200] = "Temporary Redirect",
        [308 - 200] = "Permanent Redirect",
        [400 - 200] = "Bad Request",
        [401 - 200] = "Unauthorized",
        [402 - 200] = "Payment Required",
        [403 - 200] = "Forbidden",
        [404 - 200] = "Not Found",
        [405 - 200] = "Method Not Allowed",
        [406 - 200] = "Not Acceptable",
        [408 - 200] = "Request Timeout",
        [409 - 200] = "Conflict",
        [410 - 200] = "Gone",
        [411 - 200] = "Length Required",
        [412 - 200] = "Precondition Failed",
        [413 - 200] = "Content Too Large",
        [415 - 200] = "Unsupported Media Type",
        [417 - 200] = "Expectation Failed",
        [422 - 200] = "Unprocessable Content",
        [429 - 200] = "Too Many Requests",
        [431 - 200] = "Request Header Fields Too Large",
        [500 - 200] = "Internal Server Error",
        [501 - 200] = "Not Implemented",
        [502 - 200] = "Bad Gateway",
        [503 - 200] = "Service Unavailable",
        [504 - 200] = "Gateway Timeout",
        [505 - 200] = "HTTP Version Not Supported",
        [529 - 200] = "Overloaded",
    };
    size_t at = (size_t)(status - 200);
    return at < sizeof names / sizeof *names && names[at] ? names[at] : "Status";
}

static enum tls_io transmit(struct http_conn *c, const void *data, size_t len, size_t *put)
{
    if (c->tls)
        return tls_write(c->tls, data, len, put);
    ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);
    if (n >= 0) {
        *put = (size_t)n;
        return TLS_IO_OK;
    }
    return errno == EAGAIN || errno == EINTR ? TLS_IO_WANT_WRITE : TLS_IO_FAILED;
}

void conn_mark_dirty(struct http_conn *c)
{
    if (c->dirty || c->state == CONN_DEAD)
        return;
    c->dirty = true;
    c->dirty_next = c->server->dirty;
    c->server->dirty = c;
}

/* The output has gone as far as it goes for now: what follows from that. */
static void after_flush(struct http_conn *c)
{
    struct http_server *s = c->server;
    size_t left = buf_len(&c->work->out);
    if (c->ex.over_mark && left <= s->options.output_mark_bytes) {
        c->ex.over_mark = false;
        if (c->state == CONN_RUNNING && s->options.handlers->drained) {
            s->options.handlers->drained(&c->ex, s->options.arg);
            loop_again(s->loop); /* what it asks of workers belongs to an earlier phase */
        }
    }
    if (left == 0 && c->state == CONN_ENDING)
        conn_finish_exchange(c);
    if (c->state == CONN_DEAD)
        return;
    bool more = c->work && buf_len(&c->work->in) > 0;
    if (c->state == CONN_IDLE && (more || c->paused || c->eof))
        conn_queue_resume(c);
    else if (c->state == CONN_IDLE && s->draining && c->served && left == 0)
        conn_cut(c);
    else if (c->state == CONN_IDLE && left == 0)
        conn_release_work(c);
}

/* False: the connection is dead. */
static bool write_out(struct http_conn *c)
{
    struct buf *out = &c->work->out;
    size_t before = buf_len(out);
    enum tls_io io = TLS_IO_OK;
    while (io == TLS_IO_OK && buf_len(out) > 0) {
        size_t put = 0;
        io = transmit(c, buf_head(out), buf_len(out), &put);
        if (io == TLS_IO_OK)
            buf_eat(out, put);
    }
    if (io != TLS_IO_OK && io != TLS_IO_WANT_WRITE) {
        conn_cut(c);
        return false;
    }
    bool blocked = buf_len(out) > 0;
    if (!blocked)
        c->write_deadline_ms = 0;
    else if (buf_len(out) < before || !c->write_deadline_ms)
        c->write_deadline_ms = loop_now_ms(c->server->loop) + c->server->options.write_timeout_ms;
    if (blocked != c->blocked) {
        c->blocked = blocked;
        conn_update_interest(c);
    }
    return true;
}

void conn_flush(struct http_conn *c)
{
    if (c->state != CONN_DEAD && c->work && write_out(c))
        after_flush(c);
}

static void add_date(struct http_server *s, struct buf *out)
{
    time_t now = time(NULL);
    if (now != s->date_s) {
        struct tm utc;
        gmtime_r(&now, &utc);
        s->date_len =
            strftime(s->date, sizeof s->date, "date: %a, %d %b %Y %H:%M:%S GMT\r\n", &utc);
        s->date_s = now;
    }
    buf_add(out, s->date, s->date_len);
}

static size_t format_decimal(uint64_t n, char out[20])
{
    char reversed[20];
    size_t len = 0;
    do
        reversed[len++] = (char)('0' + n % 10);
    while (n /= 10);
    for (size_t i = 0; i < len; i++)
        out[i] = reversed[len - 1 - i];
    return len;
}

static bool clean_value(const char *text)
{
    return !text[strcspn(text, "\r\n")];
}

static void add_field(struct buf *out, const char *name, const char *value)
{
    assert(clean_value(name) && clean_value(value));
    buf_adds(out, name);
    buf_add(out, ": ", 2);
    buf_adds(out, value);
    buf_add(out, "\r\n", 2);
}

static void add_status_line(struct buf *out, int status)
{
    assert(status >= 200 && status <= 599);
    char digits[20];
    size_t len = format_decimal((uint64_t)status, digits);
    buf_add(out, "HTTP/1.1 ", 9);
    buf_add(out, digits, len);
    buf_add(out, " ", 1);
    buf_adds(out, reason_of(status));
    buf_add(out, "\r\n", 2);
}

/* How the end of the answer is told, and whether the connection goes on behind it. */
static void add_framing(struct http_conn *c, int status, int64_t length, struct buf *out)
{
    const struct http1_request *r = http1_request(c->work->parser);
    bool old = !c->refused && r->minor_version == 0;
    bool bodiless = status == 204 || status == 304;
    if (bodiless)
        c->ex.head_only = true;
    if (c->server->draining || (length < 0 && old && !c->ex.head_only))
        c->close_after = true;
    if (length >= 0 && !bodiless) {
        char digits[20];
        size_t len = format_decimal((uint64_t)length, digits);
        buf_add(out, "content-length: ", 16);
        buf_add(out, digits, len);
        buf_add(out, "\r\n", 2);
    } else if (length < 0 && !old && !bodiless) {
        buf_adds(out, "transfer-encoding: chunked\r\n");
        c->ex.chunked = true;
    }
    if (c->close_after)
        buf_adds(out, "connection: close\r\n");
    else if (old)
        buf_adds(out, "connection: keep-alive\r\n");
}

struct answer_head {
    int status;
    const struct http_header *headers;
    int header_count;
    const char *content_type;
    int64_t length; /* -1: not known, the answer comes in pieces */
};

/* Room is made first, so that none of the pieces can fail on its own. */
static bool add_head(struct http_conn *c, const struct answer_head *h)
{
    struct http_server *s = c->server;
    struct buf *out = &c->work->out;
    size_t need = 512 + s->alt_headers_len + (h->content_type ? strlen(h->content_type) : 0);
    for (int i = 0; i < h->header_count; i++)
        need += strlen(h->headers[i].name) + strlen(h->headers[i].value) + 4;
    if (h->length > 0)
        need += (size_t)h->length;
    if (buf_reserve(out, need) != OK)
        return false;
    add_status_line(out, h->status);
    add_date(s, out);
    if (h->content_type)
        add_field(out, "content-type", h->content_type);
    add_framing(c, h->status, h->length, out);
    for (int i = 0; i < h->header_count; i++)
        add_field(out, h->headers[i].name, h->headers[i].value);
    buf_add(out, s->alt_headers, s->alt_headers_len);
    buf_add(out, "\r\n", 2);
    return true;
}

static bool can_answer(const struct http_conn *c)
{
    return c->state == CONN_RUNNING || c->refused;
}

void conn_answer_ended(struct http_conn *c)
{
    c->ex.answer = ANSWER_ENDED;
    conn_set_state(c, CONN_ENDING, 0);
    conn_mark_dirty(c);
}

void http_reply(struct http_exchange *ex, int status, const struct http_header *headers,
                int header_count, const char *content_type, const void *body, size_t len)
{
    struct http_conn *c = conn_of(ex);
    if (!can_answer(c) || c->state == CONN_DEAD)
        return;
    assert(ex->answer == ANSWER_NONE && c->state != CONN_ENDING);
    struct answer_head head = {status, headers, header_count, content_type, (int64_t)len};
    if (!add_head(c, &head)) {
        conn_cut(c);
        return;
    }
    if (!ex->head_only)
        buf_add(&c->work->out, body, len); /* the room is there */
    conn_answer_ended(c);
}

void http_reply_begin(struct http_exchange *ex, int status, const struct http_header *headers,
                      int header_count, const char *content_type)
{
    struct http_conn *c = conn_of(ex);
    if (c->state != CONN_RUNNING)
        return;
    assert(ex->answer == ANSWER_NONE);
    struct answer_head head = {status, headers, header_count, content_type, -1};
    if (!add_head(c, &head)) {
        conn_cut(c);
        return;
    }
    ex->answer = ANSWER_BEGUN;
    conn_mark_dirty(c);
}

static enum status add_piece(struct http_conn *c, const void *data, size_t len)
{
    static const char hex[] = "0123456789abcdef";
    struct buf *out = &c->work->out;
    if (!c->ex.chunked)
        return buf_add(out, data, len);
    char size[24];
    size_t at = sizeof size;
    size[--at] = '\n';
    size[--at] = '\r';
    for (size_t n = len; n; n >>= 4)
        size[--at] = hex[n & 15];
    enum status st = buf_reserve(out, len + sizeof size);
    if (st != OK)
        return st;
    buf_add(out, size + at, sizeof size - at);
    buf_add(out, data, len);
    return buf_add(out, "\r\n", 2);
}

void http_reply_write(struct http_exchange *ex, const void *data, size_t len)
{
    struct http_conn *c = conn_of(ex);
    struct http_options *o = &c->server->options;
    if (c->state != CONN_RUNNING || ex->head_only || len == 0)
        return;
    assert(ex->answer == ANSWER_BEGUN);
    if (len > o->output_max_bytes || http_pending(ex) > o->output_max_bytes - len ||
        add_piece(c, data, len) != OK) {
        conn_cut(c);
        return;
    }
    if (http_pending(ex) > o->output_mark_bytes)
        ex->over_mark = true;
    conn_mark_dirty(c);
}

void http_reply_end(struct http_exchange *ex)
{
    struct http_conn *c = conn_of(ex);
    if (c->state != CONN_RUNNING)
        return;
    assert(ex->answer == ANSWER_BEGUN);
    if (ex->chunked && !ex->head_only && buf_add(&c->work->out, "0\r\n\r\n", 5) != OK)
        conn_cut(c);
    else
        conn_answer_ended(c);
}

void http_reply_abort(struct http_exchange *ex)
{
    struct http_conn *c = conn_of(ex);
    if (c->state != CONN_RUNNING)
        return;
    if (!write_out(c))
        return;
    /* An answer without chunks ends with the connection: only a reset shows that it broke. */
    struct linger reset = {.l_onoff = 1};
    if (ex->answer == ANSWER_BEGUN && !ex->chunked && !c->tls)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (c->tls)
        tls_abort(c->tls);
    conn_cut(c);
}

size_t http_pending(const struct http_exchange *ex)
{
    const struct http_conn *c = conn_of(ex);
    return c->work ? buf_len(&c->work->out) : 0;
}

bool http_open(const struct http_exchange *ex)
{
    return conn_of(ex)->state == CONN_RUNNING;
}
