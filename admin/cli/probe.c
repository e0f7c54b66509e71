#include "admin/cli/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

static enum status wait_connected(int fd, int64_t timeout_ms, struct error *err)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int n = poll(&p, 1, (int)timeout_ms);
    if (n == 0)
        return error_set(err, TIMED_OUT, "no connection within %lld ms", (long long)timeout_ms);
    if (n < 0)
        return error_errno(err, errno, "poll");
    return address_connected(fd, err);
}

int probe_connect(const struct address *to, int64_t timeout_ms, struct error *err)
{
    int fd = -1;
    bool done = false;
    if (address_connect(to, &fd, &done, err) != OK)
        return -1;
    if (!done && wait_connected(fd, timeout_ms, err) != OK) {
        close(fd);
        return -1;
    }
    int flags = fcntl(fd, F_GETFL);
    struct timeval tv = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv) < 0) {
        error_errno(err, errno, "socket");
        close(fd);
        return -1;
    }
    return fd;
}

static enum status exchange(int fd, const char *path, int64_t end_ms, char *out, size_t size,
                            struct error *err)
{
    char head[256];
    int n = snprintf(head, sizeof head,
                     "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
    if (send(fd, head, (size_t)n, MSG_NOSIGNAL) != n)
        return error_errno(err, errno, "send");
    size_t len = 0;
    while (len + 1 < size) {
        ssize_t got = recv(fd, out + len, size - 1 - len, 0);
        if (got == 0)
            break;
        if (got < 0 || clock_mono_ms() > end_ms)
            return error_set(err, TIMED_OUT, "it accepts connections but does not answer");
        len += (size_t)got;
    }
    out[len] = 0;
    return OK;
}

enum status probe_get(const struct address *to, const char *path, int64_t timeout_ms,
                      struct probe_answer *out, struct error *err)
{
    char answer[4096];
    int fd = probe_connect(to, timeout_ms, err);
    if (fd < 0)
        return UNAVAILABLE;
    enum status st = exchange(fd, path, clock_mono_ms() + timeout_ms, answer, sizeof answer, err);
    close(fd);
    if (st != OK)
        return st;
    int code = 0;
    if (sscanf(answer, "HTTP/1.%*1d %3d", &code) != 1)
        return error_set(err, CORRUPT, "what answers there does not speak HTTP");
    const char *body = strstr(answer, "\r\n\r\n");
    out->status = code;
    snprintf(out->body, sizeof out->body, "%s", body ? body + 4 : "");
    size_t len = strlen(out->body);
    while (len && (out->body[len - 1] == '\n' || out->body[len - 1] == '\r'))
        out->body[--len] = 0;
    return OK;
}
