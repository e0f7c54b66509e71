/*
 * Has a client gone? While an exchange runs, the end of its input says only that it has shut its
 * sending side; RFC 9112 lets it wait for the answer. Readiness on the main loop cannot tell more
 * (a shut socket stays readable for ever), so such sockets go to an epoll set of their own that
 * reports only errors and hang-ups. A client that has really gone answers the first bytes it
 * gets with a reset. If the handler sends none for a while, an interim 100 (Continue), which
 * every HTTP/1.1 client must skip, takes their place.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/http_server_internal.h"

enum { WATCH_BATCH = 64, PROBE_DELAY_MS = 50 };

/* The input has ended behind what was not read yet: from now on only errors are of interest. */
static void note_shut(struct http_conn *c)
{
    struct epoll_event none = {.data.ptr = c};
    epoll_ctl(c->server->watch_fd, EPOLL_CTL_MOD, c->fd, &none);
    c->probe_ms = loop_now_ms(c->server->loop) + PROBE_DELAY_MS;
    if (!c->server->probing) {
        c->server->probing = true;
        loop_timer_start(c->server->probe_timer, PROBE_DELAY_MS);
    }
}

static void watch_ready(int fd, int ready, void *arg)
{
    struct epoll_event events[WATCH_BATCH];
    int count = epoll_wait(fd, events, WATCH_BATCH, 0);
    for (int i = 0; i < count; i++) {
        struct http_conn *c = events[i].data.ptr;
        if (events[i].events & (EPOLLERR | EPOLLHUP))
            conn_cut(c);
        else
            note_shut(c);
    }
}

/* Not read from, because its input has ended or because enough was read ahead. */
void conn_watch(struct http_conn *c)
{
    if (c->watched)
        return;
    struct epoll_event want = {.events = EPOLLRDHUP, .data.ptr = c};
    if (epoll_ctl(c->server->watch_fd, EPOLL_CTL_ADD, c->fd, &want) != 0) {
        conn_cut(c); /* out of memory: better cut than blind */
        return;
    }
    c->watched = true;
}

void conn_unwatch(struct http_conn *c)
{
    if (!c->watched)
        return;
    epoll_ctl(c->server->watch_fd, EPOLL_CTL_DEL, c->fd, NULL);
    c->watched = false;
    c->probe_ms = 0;
}

static void probe(struct http_conn *c)
{
    static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";
    c->probe_ms = 0;
    if (c->state != CONN_RUNNING || c->ex.answer != ANSWER_NONE ||
        http_request(&c->ex)->minor_version == 0)
        return;
    if (buf_add(&c->work->out, interim, sizeof interim - 1) != OK)
        conn_cut(c);
    else
        conn_mark_dirty(c);
}

void http_watch_probe(void *arg)
{
    struct http_server *s = arg;
    int64_t now_ms = loop_now_ms(s->loop);
    s->probing = false;
    for (struct http_conn *c = s->busy.first, *next; c; c = next) {
        next = c->next;
        if (c->probe_ms && c->probe_ms <= now_ms)
            probe(c);
        else if (c->probe_ms)
            s->probing = true;
    }
    if (s->probing)
        loop_timer_start(s->probe_timer, PROBE_DELAY_MS);
}

enum status http_watch_open(struct http_server *s, struct error *err)
{
    s->watch_fd = epoll_create1(EPOLL_CLOEXEC);
    if (s->watch_fd < 0)
        return error_errno(err, errno, "cannot watch the clients of %s", s->options.listen);
    s->watch_io = loop_io_new(s->loop, s->watch_fd, watch_ready, s);
    if (!s->watch_io)
        return error_set(err, NOMEM, "out of memory for the server %s", s->options.listen);
    loop_io_want(s->watch_io, LOOP_READ);
    return OK;
}

void http_watch_close(struct http_server *s)
{
    loop_io_free(s->watch_io);
    if (s->watch_fd >= 0)
        close(s->watch_fd);
    s->watch_io = NULL;
    s->watch_fd = -1;
}
