/* The listening socket: accepting in batches, and what happens when descriptors run out. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/http_server_internal.h"

enum { ACCEPT_BATCH = 64, BACKLOG = 4096, KEEPALIVE_IDLE_S = 60, NOTSENT_BYTES = 65536 };

/* Accepted sockets inherit these, which saves a system call for each. The low-water mark keeps
 * the kernel from buffering megabytes for a client that reads slowly. */
static void tune_listener(int fd)
{
    int one = 1, idle_s = KEEPALIVE_IDLE_S, notsent = NOTSENT_BYTES;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &notsent, sizeof notsent);
}

/* At the limit a client without a request gives way to a new one. */
static bool make_room(struct http_server *s)
{
    if (s->stats.connections < s->options.connections_max)
        return true;
    if (!s->idle.first)
        return false;
    conn_cut(s->idle.first);
    return true;
}

/* No descriptor is left: without taking the client off the queue the loop would spin on it. */
static void shed_one(struct http_server *s)
{
    if (s->idle.first)
        conn_cut(s->idle.first);
    if (s->reserve_fd >= 0) {
        close(s->reserve_fd);
        int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            close(fd);
        s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        s->stats.shed_total++;
    }
    if (s->reserve_fd < 0) {
        s->accept_paused = true; /* the sweep tries again */
        loop_io_want(s->listen_io, 0);
    }
}

static bool accept_one(struct http_server *s)
{
    struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof peer;
    int fd = accept4(s->listen_fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        int why = errno;
        if (why == EMFILE || why == ENFILE || why == ENOMEM || why == ENOBUFS)
            shed_one(s);
        return why == ECONNABORTED || why == EINTR;
    }
    if (make_room(s)) {
        conn_new(s, fd, &peer);
    } else {
        close(fd);
        s->stats.shed_total++;
    }
    return true;
}

static void accept_ready(int fd, int ready, void *arg)
{
    struct http_server *s = arg;
    for (int i = 0; i < ACCEPT_BATCH && s->listen_io && !s->accept_paused; i++)
        if (!accept_one(s))
            return;
}

enum status http_listen_open(struct http_server *s, struct error *err)
{
    struct address_listen_options how = {.backlog = BACKLOG, .reuse_port = s->options.reuse_port};
    enum status st = address_parse(s->options.listen, &s->address, err);
    if (st == OK)
        st = address_listen(&s->address, &how, &s->listen_fd, err);
    if (st != OK)
        return st;
    if (!address_is_unix(&s->address))
        tune_listener(s->listen_fd);
    s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    s->listen_io = loop_io_new(s->loop, s->listen_fd, accept_ready, s);
    if (!s->listen_io)
        return error_set(err, NOMEM, "out of memory for the listener %s", s->options.listen);
    loop_io_want(s->listen_io, LOOP_READ);
    return OK;
}

void http_listen_resume(struct http_server *s)
{
    if (!s->accept_paused || !s->listen_io)
        return;
    if (s->reserve_fd < 0)
        s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (s->reserve_fd < 0)
        return;
    s->accept_paused = false;
    loop_io_want(s->listen_io, LOOP_READ);
}

/* Clients whose connection the kernel has completed already are taken, not reset. */
void http_listen_close(struct http_server *s)
{
    if (s->listen_io && !s->freeing)
        accept_ready(s->listen_fd, LOOP_READ, s);
    loop_io_free(s->listen_io);
    s->listen_io = NULL;
    if (s->listen_fd >= 0) {
        close(s->listen_fd);
        address_unlink(&s->address);
    }
    if (s->reserve_fd >= 0)
        close(s->reserve_fd);
    s->listen_fd = s->reserve_fd = -1;
}
