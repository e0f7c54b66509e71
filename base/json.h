/*
 * JSON from outside passes a strict, iterative guard before cJSON sees it: UTF-8, depth, node
 * count, duplicate keys, number range, lone surrogates, \u0000, trailing bytes. Only base/json.c
 * includes cJSON. Object members are found case-sensitively. Any thread; a document has one owner.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

struct json_limits {
    int depth;    /* nesting of arrays and objects */
    int nodes;    /* values in all */
    size_t bytes; /* of the text */
};
extern const struct json_limits json_limits_default; /* 64, 100,000, 8 MiB */

/* INVALID with the byte offset, the place (messages[2].content) and what is wrong there, in
 * words a developer can act on; LIMITED when a limit is passed. A whole number must be one
 * that a double holds exactly. limits NULL: the defaults; their depth is at most 1000.
 * Memory: a fixed stack; past 64 keys in the objects open at once, some 50 bytes for each. */
enum status json_guard(const char *text, size_t len, const struct json_limits *limits,
                       struct error *err);

struct json; /* a value inside a parsed document */

/* Guard, then parse. limits NULL: the defaults. *out is freed with json_free. */
enum status json_parse(const char *text, size_t len, const struct json_limits *limits,
                       struct json **out, struct error *err);
enum status json_parse_file(const char *path, size_t max_bytes, struct json **out,
                            struct error *err);
void json_free(struct json *root); /* NULL is fine; the root alone */

bool json_is_object(const struct json *v); /* each: false for NULL */
bool json_is_array(const struct json *v);
bool json_is_string(const struct json *v);
bool json_is_number(const struct json *v);
bool json_is_bool(const struct json *v);
bool json_is_null(const struct json *v);
const struct json *json_get(const struct json *object, const char *key); /* NULL: none */
const struct json *json_first(const struct json *container);             /* NULL: empty */
const struct json *json_next(const struct json *v);
const char *json_key(const struct json *v); /* of an object's member */
int json_count(const struct json *container);
const char *json_string(const struct json *v); /* NULL: not a string; NUL-free inside */
double json_number(const struct json *v);      /* NAN: not a number */
bool json_bool(const struct json *v);
/* A whole number in [least, most]; false: not one. Exact up to 2^53. */
bool json_int(const struct json *v, int64_t least, int64_t most, int64_t *out);

/* Building text. The string gets its quotes and is escaped; invalid UTF-8 becomes U+FFFD.
 * On failure nothing is added. */
enum status json_put_string(struct buf *out, const char *text, size_t len);
/* A whole value on one line, with ", " and ": " between its parts: the form in which models see
 * JSON in prompts. */
enum status json_put(struct buf *out, const struct json *v);

#endif
