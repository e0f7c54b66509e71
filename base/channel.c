#include "base/channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/tls.h"

void channel_open(struct channel *c, int fd, struct tls_conn *tls)
{
    *c = (struct channel){.fd = fd, .tls = tls};
}

void channel_close(struct channel *c)
{
    tls_conn_free(c->tls);
    if (c->fd >= 0)
        close(c->fd);
    *c = (struct channel){.fd = -1};
}

static enum channel_io failed(struct channel *c, const char *why)
{
    c->why = why;
    return CHANNEL_FAILED;
}

static enum channel_io outcome(struct channel *c, enum tls_io io, bool writing)
{
    switch (io) {
    case TLS_IO_OK:
        return CHANNEL_OK;
    case TLS_IO_WANT_READ:
        c->write_needs_input = writing;
        return CHANNEL_AGAIN;
    case TLS_IO_WANT_WRITE:
        c->read_needs_output = !writing;
        return CHANNEL_AGAIN;
    case TLS_IO_EOF:
        c->why = "it was closed";
        return CHANNEL_EOF;
    default:
        return failed(c, tls_why(c->tls));
    }
}

enum channel_io channel_read(struct channel *c, void *out, size_t size, size_t *got)
{
    if (c->tls) {
        c->write_needs_input = c->read_needs_output = false; /* there is input: try again */
        return outcome(c, tls_read(c->tls, out, size, got), false);
    }
    for (;;) {
        ssize_t n = recv(c->fd, out, size, 0);
        if (n > 0) {
            *got = (size_t)n;
            return CHANNEL_OK;
        }
        if (n == 0) {
            c->why = "it was closed";
            return CHANNEL_EOF;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return CHANNEL_AGAIN;
        if (errno != EINTR)
            return failed(c, strerror(errno));
    }
}

enum channel_io channel_write(struct channel *c, const void *data, size_t len, size_t *put)
{
    if (c->tls) {
        c->write_needs_input = false;
        return outcome(c, tls_write(c->tls, data, len, put), true);
    }
    for (;;) {
        ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);
        if (n >= 0) {
            *put = (size_t)n;
            return CHANNEL_OK;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return CHANNEL_AGAIN;
        if (errno != EINTR)
            return failed(c, strerror(errno));
    }
}

bool channel_reads_on(const struct channel *c)
{
    return c->tls != NULL;
}

void channel_shut(struct channel *c)
{
    if (c->tls)
        tls_close_notify(c->tls);
    shutdown(c->fd, SHUT_WR);
}

int channel_want(const struct channel *c, bool output_waits)
{
    bool write = c->read_needs_output || (output_waits && !c->write_needs_input);
    return LOOP_READ | (write ? LOOP_WRITE : 0);
}
