/*
 * A strict, incremental HTTP/1.1 request parser on plain buffers (RFC 9110, RFC 9112), stricter
 * than the RFCs allow where leniency has meant request smuggling. It holds no input: the caller
 * feeds the front of its input buffer until a whole head, then body bytes, are out. One owner.
 */
#ifndef BASE_HTTP1_H
#define BASE_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

struct http1_limits {
    size_t head_bytes; /* request line and fields; 431 past it */
    int fields;        /* 431 past it */
    size_t body_bytes; /* 413 past it */
};

struct http1_field {
    const char *name;  /* lower-cased, NUL-terminated, in the arena */
    const char *value; /* trimmed, NUL-terminated */
    size_t name_len, value_len;
};

struct http1_request {
    const char *method; /* as sent, token characters */
    const char *path;   /* before '?', percent-decoded never: compared as it is */
    const char *query;  /* behind '?', or NULL */
    const char *host;
    int minor_version; /* HTTP/1.0: 0, HTTP/1.1: 1 */
    struct http1_field *fields;
    int field_count;
    bool keep_alive;
    bool expect_continue;
    bool chunked;
    int64_t content_length; /* -1: none was given */
};

struct http1_parser;

/* The request's strings live in the arena given to _begin. */
struct http1_parser *http1_new(const struct http1_limits *limits); /* NULL: out of memory */
void http1_free(struct http1_parser *p);                           /* NULL is fine */
void http1_begin(struct http1_parser *p, struct arena *arena);

enum http1_event {
    HTTP1_MORE,  /* all of the input was looked at; give it again with more behind it */
    HTTP1_HEAD,  /* the head is whole: http1_request */
    HTTP1_BODY,  /* *body, *body_len: bytes of the body, inside the input */
    HTTP1_DONE,  /* the request is whole; the rest of the input is the next request's */
    HTTP1_ERROR, /* answer http1_error_status, then close; nothing behind it may be served */
};

/* Consumes *used bytes of the input (0 with MORE for an unfinished head). */
enum http1_event http1_feed(struct http1_parser *p, const uint8_t *in, size_t len, size_t *used,
                            const uint8_t **body, size_t *body_len);
const struct http1_request *http1_request(const struct http1_parser *p);
int http1_error_status(const struct http1_parser *p); /* 400, 413, ... */
const char *http1_error_text(const struct http1_parser *p);
/* The first field of that lower-case name; NULL: none. */
const char *http1_field(const struct http1_request *r, const char *name);

#endif
