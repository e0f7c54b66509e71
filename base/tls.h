/*
 * TLS of the servers, and of links between our own processes: OpenSSL (included in base/tls.c and
 * base/crypto.c alone). One tls_server a loop thread, since OpenSSL 3 contends on a shared context.
 * TLS 1.2 at least, 1.3 preferred, no renegotiation, session tickets, ALPN http/1.1. Certificates
 * are loaded aside, checked (key matches, not expired, chain readable), then swapped: a bad one
 * leaves the old in place.
 */
#ifndef BASE_TLS_H
#define BASE_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct tls_server;
struct tls_conn;

struct tls_options {
    const char *certificate_file, *key_file; /* PEM; the chain behind the certificate */
    const char *client_ca_file;              /* NULL: client certificates are not asked for */
};

struct tls_server *tls_server_new(const struct tls_options *options, struct error *err);
/* New connections use the new files; on failure nothing changes. */
enum status tls_server_reload(struct tls_server *t, struct error *err);
void tls_server_free(struct tls_server *t); /* NULL is fine */
/* The end of the certificate's validity, in ms since 1970. */
int64_t tls_server_expires_ms(const struct tls_server *t);

/* The other end of such a link: TLS 1.3, both sides show a certificate. One a thread. */
struct tls_client;

struct tls_client_options {
    const char *certificate_file, *key_file; /* its own, PEM */
    const char *ca_file;                     /* whose certificates it believes */
};

struct tls_client *tls_client_new(const struct tls_client_options *options, struct error *err);
/* New connections use the new files; on failure nothing changes. */
enum status tls_client_reload(struct tls_client *t, struct error *err);
void tls_client_free(struct tls_client *t); /* NULL is fine */

enum tls_io { TLS_IO_OK, TLS_IO_WANT_READ, TLS_IO_WANT_WRITE, TLS_IO_EOF, TLS_IO_FAILED };

/* The fd is non-blocking and stays the caller's. NULL: out of memory. */
struct tls_conn *tls_accept(struct tls_server *t, int fd);
/* The certificate must be for host: a DNS name or an IP address. NULL: out of memory. */
struct tls_conn *tls_connect(struct tls_client *t, int fd, const char *host);
void tls_conn_free(struct tls_conn *c);        /* sends close_notify if it can, no waiting */
enum tls_io tls_handshake(struct tls_conn *c); /* tls_read and tls_write do it too */
/* Why it failed, in a few words of OpenSSL's; static text. */
const char *tls_why(const struct tls_conn *c);
enum tls_io tls_read(struct tls_conn *c, void *out, size_t size, size_t *got);
/* True: input is already inside, so the fd need not become readable for the next tls_read. */
bool tls_pending(const struct tls_conn *c);
/* After WANT_*: call again with the same bytes (at any address), or more behind them. */
enum tls_io tls_write(struct tls_conn *c, const void *data, size_t len, size_t *put);
void tls_close_notify(struct tls_conn *c); /* the last thing sent; reading may go on */
void tls_abort(struct tls_conn *c);        /* nothing more is sent: the client sees a cut */

#endif
