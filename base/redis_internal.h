/* Shared by base/redis.c, base/redis_sync.c and base/redis_codec.c alone. */
#ifndef BASE_REDIS_INTERNAL_H
#define BASE_REDIS_INTERNAL_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/redis.h"

struct redis_address {
    bool is_unix;
    char path[108];
    char host[256], port[8];
    int db;
    char user[64], password[128]; /* from the URL; empty: none */
};

enum status redis_address_parse(const char *url, struct redis_address *out, struct error *err);
/* A non-blocking socket whose connect has begun; -1: err. */
int redis_address_connect(const struct redis_address *a, struct error *err);
/* AUTH and SELECT as needed, and a PING: a connection counts when the server has answered.
 * *count: how many replies will come. */
enum status redis_put_hello(struct buf *out, const struct redis_address *a, const char *password,
                            int *count);

/* Replies out of bytes. A reply lives until redis_codec_drop. */
struct redis_codec {
    struct redisReader *reader;
    struct arena *arena;
};

enum status redis_codec_init(struct redis_codec *c);
void redis_codec_done(struct redis_codec *c); /* fine on a zeroed one */
enum status redis_codec_feed(struct redis_codec *c, const char *data, size_t len);
/* OK, NOT_FOUND: more bytes are needed, CORRUPT: not Redis, or a reply above 64 MiB. */
enum status redis_codec_next(struct redis_codec *c, const struct redis_reply **out);
void redis_codec_drop(struct redis_codec *c);

/* *N head, then the arguments. */
enum status redis_put_head(struct buf *out, int argc);
enum status redis_put_arg(struct buf *out, const char *arg, size_t len);

struct redis_script {
    int refs; /* its maker's, and one for each command under way */
    char sha[41];
    size_t len;
    char *text;
};

/* Kept by a command; given back with redis_script_free. */
struct redis_script *redis_script_ref(const struct redis_script *s);
bool redis_is_noscript(const struct redis_reply *reply);

#endif
