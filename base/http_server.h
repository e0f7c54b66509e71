/*
 * HTTP/1.1 over TLS (or in the clear, for local listeners) on one loop. A handler gets a whole
 * request (head and body), answers at once or later, with one body or a stream of pieces.
 * Pipelined requests are served one after another, in order. Output gathers during a turn
 * and is sent in LOOP_PHASE_OUTPUT. Loop thread only.
 */
#ifndef BASE_HTTP_SERVER_H
#define BASE_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/http1.h"
#include "base/loop.h"

struct tls_server; /* base/tls.h */
struct http_server;
struct http_exchange; /* one request and its answer; owned by the server */

struct http_handlers {
    /* The request is whole. Answer now or later, exactly once. May set a pointer of its own
     * with http_set_user. */
    void (*request)(struct http_exchange *ex, void *arg);
    /* Output that was over the mark has drained below it: more may be written. May be NULL. */
    void (*drained)(struct http_exchange *ex, void *arg);
    /* The last call for this exchange, when http_set_user gave it a pointer. complete: the
     * whole answer has been handed to the system; else the client has gone or was cut off. */
    void (*closed)(struct http_exchange *ex, bool complete, void *arg);
    /* The server refused a request itself (parser, limits, time): fill in the JSON error body
     * to send. NULL: {"error": {...}} as the OpenAI surface has it. */
    void (*refuse)(int status, const char *text, struct buf *body, void *arg);
};

/* Zero in a number means the default. */
struct http_options {
    const char *listen; /* "127.0.0.1:8443", "[::]:8443", "unix:/path"; port 0: any free one */
    bool reuse_port;
    struct tls_server *tls; /* NULL: in the clear */
    struct http1_limits limits;
    int64_t handshake_timeout_ms, head_timeout_ms, body_timeout_ms, idle_timeout_ms,
        write_timeout_ms; /* write: no progress towards the client for so long */
    int connections_max;
    size_t output_mark_bytes; /* http_pending above it: wait for `drained` */
    size_t output_max_bytes;  /* past it the exchange is cut off */
    size_t bodies_max_bytes;  /* of all requests at once; past it 503 */
    const char *alt_headers;  /* sent with each answer, "Name: value\r\n..." or NULL */
    const struct http_handlers *handlers;
    void *arg;
};

struct http_server_stats {
    uint64_t connections_total, handshakes_failed_total, requests_total, refused_total;
    uint64_t shed_total; /* closed at once: too many connections, or no descriptors */
    int connections;
};

/* NULL: err names the address. The program ignores SIGPIPE. */
struct http_server *http_server_new(struct loop *loop, const struct http_options *options,
                                    struct error *err);
int http_server_port(const struct http_server *s); /* the port in use; 0 for a Unix socket */
/* Stops accepting; idle connections close; running exchanges go on, with connection: close. */
void http_server_drain(struct http_server *s);
/* Cuts off what is left (`closed` is called); NULL is fine. Not from a handler. */
void http_server_free(struct http_server *s);
const struct http_server_stats *http_server_stats(const struct http_server *s);

const struct http1_request *http_request(const struct http_exchange *ex);
const uint8_t *http_body(const struct http_exchange *ex, size_t *len); /* NUL behind it */
struct arena *http_arena(struct http_exchange *ex);                    /* freed with the exchange */
const char *http_peer(const struct http_exchange *ex);                 /* address without port */
void http_set_user(struct http_exchange *ex, void *user);
void *http_user(const struct http_exchange *ex);

struct http_header {
    const char *name, *value; /* CR, LF or NUL inside: asserts */
};

/* A whole answer. content_type may be NULL for an empty body. */
void http_reply(struct http_exchange *ex, int status, const struct http_header *headers,
                int header_count, const char *content_type, const void *body, size_t len);
/* An answer in pieces: chunked (or to the end of the connection for HTTP/1.0). */
void http_reply_begin(struct http_exchange *ex, int status, const struct http_header *headers,
                      int header_count, const char *content_type);
void http_reply_write(struct http_exchange *ex, const void *data, size_t len);
void http_reply_end(struct http_exchange *ex);
/* Cuts the connection without a proper end, so that the client sees a broken answer. */
void http_reply_abort(struct http_exchange *ex);
size_t http_pending(const struct http_exchange *ex); /* bytes not yet taken by the system */
/* True while an answer is still wanted: not ended, and the client is there. When it has gone,
 * replies are ignored and `closed` follows. */
bool http_open(const struct http_exchange *ex);

#endif
