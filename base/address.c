#include "base/address.h"

#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static enum status parse_unix(const char *path, struct address *out, struct error *err)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&out->addr;
    size_t len = strlen(path);
    if (len == 0)
        return error_set(err, INVALID, "\"unix:\" without a path");
    if (len >= sizeof un->sun_path)
        return error_set(err, INVALID, "the socket path %s is longer than %zu bytes", path,
                         sizeof un->sun_path - 1);
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, len + 1);
    out->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    return OK;
}

static bool parse_port(const char *text)
{
    size_t len = strlen(text);
    if (len < 1 || len > 5)
        return false;
    for (const char *p = text; *p; p++)
        if (!isdigit((unsigned char)*p))
            return false;
    return strtol(text, NULL, 10) <= 65535;
}

/* "host:port" or "[v6]:port" into host and port. */
static enum status split(const char *text, char host[256], const char **port, struct error *err)
{
    const char *begin = text, *end, *colon;
    if (*text == '[') {
        begin = text + 1;
        end = strchr(begin, ']');
        colon = end ? end + 1 : NULL;
    } else {
        end = colon = strrchr(text, ':');
        if (colon && memchr(text, ':', (size_t)(colon - text)))
            return error_set(err, INVALID, "%s: an IPv6 address goes in brackets, as in [::1]:8080",
                             text);
    }
    if (!colon || *colon != ':')
        return error_set(err, INVALID, "%s is not unix:/path, host:port or [v6]:port", text);
    if (!parse_port(colon + 1))
        return error_set(err, INVALID, "%s: \"%s\" is not a port (0 to 65535)", text, colon + 1);
    size_t len = (size_t)(end - begin);
    if (len >= 256)
        return error_set(err, INVALID, "the host name is longer than 255 bytes");
    memcpy(host, begin, len);
    host[len] = 0;
    *port = colon + 1;
    return OK;
}

static enum status parse_tcp(const char *text, struct address *out, struct error *err)
{
    char host[256];
    const char *port = NULL;
    enum status st = split(text, host, &port, err);
    if (st != OK)
        return st;
    bool any = !*host || strcmp(host, "*") == 0;
    struct addrinfo hints = {.ai_family = any ? AF_INET : AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICSERV | (any ? AI_PASSIVE : 0)};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(any ? NULL : host, port, &hints, &found);
    if (rc != 0)
        return error_set(err, UNAVAILABLE, "%s: no address for this host: %s", text,
                         gai_strerror(rc));
    memcpy(&out->addr, found->ai_addr, found->ai_addrlen);
    out->len = found->ai_addrlen;
    freeaddrinfo(found);
    return OK;
}

enum status address_parse(const char *text, struct address *out, struct error *err)
{
    struct address next = {.len = 0};
    size_t len = strlen(text);
    if (len >= sizeof next.text)
        return error_set(err, INVALID, "the address is longer than %zu bytes",
                         sizeof next.text - 1);
    memcpy(next.text, text, len + 1);
    enum status st = strncmp(text, "unix:", 5) == 0 ? parse_unix(text + 5, &next, err)
                                                    : parse_tcp(text, &next, err);
    if (st == OK)
        *out = next;
    return st;
}

bool address_is_unix(const struct address *a)
{
    return a->addr.ss_family == AF_UNIX;
}

bool address_is_local(const struct address *a)
{
    if (a->addr.ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)&a->addr)->sin_addr.s_addr) >> 24 == 127;
    if (a->addr.ss_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)&a->addr)->sin6_addr);
    return address_is_unix(a);
}

static int open_socket(const struct address *a)
{
    return socket(a->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

void address_unlink(const struct address *a)
{
    const char *path = ((const struct sockaddr_un *)&a->addr)->sun_path;
    struct stat s;
    if (address_is_unix(a) && lstat(path, &s) == 0 && S_ISSOCK(s.st_mode))
        unlink(path);
}

/* A process that was killed leaves its socket file behind: nobody answers there. */
static enum status clear_stale(const struct address *a, struct error *err)
{
    const char *path = ((const struct sockaddr_un *)&a->addr)->sun_path;
    struct stat s;
    if (lstat(path, &s) != 0)
        return OK;
    if (!S_ISSOCK(s.st_mode))
        return error_set(err, CONFLICT, "%s exists and is not a socket", path);
    int fd = open_socket(a);
    if (fd < 0)
        return error_errno(err, errno, "cannot make a socket");
    int rc = connect(fd, (const struct sockaddr *)&a->addr, a->len);
    int why = errno;
    close(fd);
    if (rc == 0 || why == EAGAIN)
        return error_set(err, CONFLICT, "%s: another process listens there", a->text);
    if (why == ECONNREFUSED)
        unlink(path);
    return OK;
}

enum status address_listen(const struct address *a, const struct address_listen_options *options,
                           int *fd, struct error *err)
{
    struct address_listen_options none = {0};
    const struct address_listen_options *o = options ? options : &none;
    if (address_is_unix(a)) {
        enum status st = clear_stale(a, err);
        if (st != OK)
            return st;
    }
    int s = open_socket(a);
    if (s < 0)
        return error_errno(err, errno, "cannot make a socket");
    int one = 1;
    if (!address_is_unix(a))
        setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (o->reuse_port)
        setsockopt(s, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    if (bind(s, (const struct sockaddr *)&a->addr, a->len) != 0 ||
        listen(s, o->backlog ? o->backlog : 512) != 0) {
        int why = errno;
        close(s);
        error_errno(err, why, "cannot listen on %s", a->text);
        return why == EADDRINUSE ? CONFLICT : IO_FAILED;
    }
    *fd = s;
    return OK;
}

int address_port(int fd)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    if (getsockname(fd, (struct sockaddr *)&addr, &len) != 0)
        return 0;
    if (addr.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *)&addr)->sin_port);
    if (addr.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&addr)->sin6_port);
    return 0;
}

void address_tune(int fd)
{
    /* On a Unix socket the TCP options fail, which is fine. */
    int one = 1, unread_ms = 30000;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unread_ms, sizeof unread_ms);
}

enum status address_connect(const struct address *a, int *fd, bool *done, struct error *err)
{
    int s = open_socket(a);
    if (s < 0)
        return error_errno(err, errno, "cannot make a socket");
    address_tune(s);
    int rc = connect(s, (const struct sockaddr *)&a->addr, a->len);
    /* EAGAIN of a Unix socket: its queue is full; nothing is under way. */
    if (rc != 0 && errno != EINPROGRESS) {
        int why = errno;
        close(s);
        error_errno(err, why, "cannot connect to %s", a->text);
        return UNAVAILABLE;
    }
    *fd = s;
    *done = rc == 0;
    return OK;
}

enum status address_connected(int fd, struct error *err)
{
    int why = 0;
    socklen_t len = sizeof why;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &len) != 0)
        why = errno;
    if (why == 0)
        return OK;
    error_errno(err, why, "cannot connect");
    return UNAVAILABLE;
}
