/* A small blocking client for the server tests: plain or TLS, always with a timeout. */
#ifndef TESTS_UNIT_BASE_CLIENT_H
#define TESTS_UNIT_BASE_CLIENT_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/unit/check.h"

enum { CLIENT_TIMEOUT_S = 20 };

struct client {
    int fd;
    SSL_CTX *ctx;
    SSL *ssl;
    bool eof; /* the server has ended the connection in an orderly way */
    char text[1 << 20];
    size_t len;
};

static inline int client_connect_fd(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval limit = {.tv_sec = CLIENT_TIMEOUT_S};
    CHECK_FATAL(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    CHECK_FATAL(connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
    return fd;
}

static inline struct client *client_open(int port)
{
    struct client *c = calloc(1, sizeof *c);
    CHECK_FATAL(c);
    c->fd = client_connect_fd(port);
    return c;
}

static inline struct client *client_open_tls(int port)
{
    struct client *c = client_open(port);
    c->ctx = SSL_CTX_new(TLS_client_method());
    c->ssl = SSL_new(c->ctx);
    SSL_set_fd(c->ssl, c->fd);
    CHECK_FATAL(SSL_connect(c->ssl) == 1);
    return c;
}

static inline void client_close(struct client *c)
{
    if (c->ssl)
        SSL_shutdown(c->ssl);
    SSL_free(c->ssl);
    SSL_CTX_free(c->ctx);
    close(c->fd);
    free(c);
}

static inline bool client_send(struct client *c, const char *data, size_t len)
{
    if (c->ssl) {
        size_t put;
        return SSL_write_ex(c->ssl, data, len, &put) == 1 && put == len;
    }
    while (len > 0) {
        ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

static inline bool client_sends(struct client *c, const char *text)
{
    return client_send(c, text, strlen(text));
}

/* Reads once; false at the end of the connection (c->eof: an orderly one). */
static inline bool client_read(struct client *c)
{
    size_t room = sizeof c->text - 1 - c->len;
    CHECK_FATAL(room > 0);
    ssize_t n;
    if (c->ssl) {
        n = SSL_read(c->ssl, c->text + c->len, (int)room);
        c->eof = n <= 0 && SSL_get_error(c->ssl, (int)n) == SSL_ERROR_ZERO_RETURN;
    } else {
        n = recv(c->fd, c->text + c->len, room, 0);
        c->eof = n == 0;
    }
    if (n <= 0)
        return false;
    c->len += (size_t)n;
    c->text[c->len] = 0;
    return true;
}

/* Reads until the text has come; false: the connection ended first. */
static inline bool client_wait(struct client *c, const char *text)
{
    while (!strstr(c->text, text))
        if (!client_read(c))
            return false;
    return true;
}

static inline void client_read_all(struct client *c)
{
    while (client_read(c))
        ;
}

static inline void client_forget(struct client *c)
{
    c->len = 0;
    c->text[0] = 0;
}

static inline int client_count(const struct client *c, const char *text)
{
    int count = 0;
    for (const char *p = c->text; (p = strstr(p, text)); p++)
        count++;
    return count;
}

/* A fresh certificate in dir/NAME.crt and dir/NAME.key. */
static inline void client_make_certificate(const char *dir, const char *name, const char *how)
{
    char command[1024];
    snprintf(command, sizeof command,
             "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
             "-subj /CN=%s %s -keyout %s/%s.key -out %s/%s.crt 2>/dev/null",
             name, how, dir, name, dir, name);
    CHECK_FATAL(system(command) == 0);
}

#endif
