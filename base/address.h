/*
 * Where a daemon listens or connects: "unix:/path", "host:port", "[v6]:port" or ":port" (all
 * interfaces). Plain values; any thread. A host name is looked up once, in address_parse, which
 * may block: call it while settings are read, not on a loop.
 */
#ifndef BASE_ADDRESS_H
#define BASE_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/error.h"

struct address {
    struct sockaddr_storage addr;
    socklen_t len;
    char text[256]; /* as it was given, for messages */
};

struct address_listen_options {
    int backlog;     /* 0: 512 */
    bool reuse_port; /* TCP: several listeners share the port */
};

/* INVALID: err says what is wrong with the text. UNAVAILABLE: the name has no address now. */
enum status address_parse(const char *text, struct address *out, struct error *err);
bool address_is_unix(const struct address *a);
/* A Unix socket, or TCP on this machine alone. */
bool address_is_local(const struct address *a);

/* A non-blocking, close-on-exec listener. The socket file of a dead process is replaced;
 * CONFLICT: someone else listens there. Options may be NULL. */
enum status address_listen(const struct address *a, const struct address_listen_options *options,
                           int *fd, struct error *err);
/* TCP port of a listener (useful when 0 was asked for), 0 for a Unix socket. */
int address_port(int fd);
/* Removes the socket file, if it is one. */
void address_unlink(const struct address *a);

/* Begins a non-blocking connect. *done: connected already; else wait until the socket is
 * writable and ask address_connected. Nagle is off and keep-alive on for TCP. */
enum status address_connect(const struct address *a, int *fd, bool *done, struct error *err);
enum status address_connected(int fd, struct error *err);
/* The same for an accepted socket. A Unix socket is left as it is. */
void address_tune(int fd);

#endif
