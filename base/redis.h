/*
 * Asynchronous Redis: one connection of one loop, over TCP or a Unix socket (hiredis behind it,
 * included in base/redis.c alone). It reconnects by itself with growing pauses. Timers are
 * ours: a connect and each command have a deadline, so that nothing waits on a stopped server.
 * Loop thread only.
 */
#ifndef BASE_REDIS_H
#define BASE_REDIS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"

struct redis;

enum redis_state { REDIS_CONNECTING, REDIS_CONNECTED, REDIS_BROKEN };

/* A reply as a plain value, valid during the callback alone. */
struct redis_reply {
    enum { REDIS_NIL, REDIS_STRING, REDIS_INT, REDIS_ARRAY, REDIS_STATUS, REDIS_ERROR } type;
    const char *text; /* STRING, STATUS, ERROR: len bytes and a NUL; data may hold NULs */
    size_t len;
    int64_t integer;
    const struct redis_reply *items; /* ARRAY */
    size_t count;
};

/* st OK: reply is set (it may be REDIS_ERROR). TIMED_OUT, CLOSED, UNAVAILABLE: reply is NULL,
 * and whether the server ran the command is unknown, except UNAVAILABLE: it was not sent. */
typedef void redis_fn(enum status st, const struct redis_reply *reply, void *arg);
typedef void redis_state_fn(enum redis_state state, void *arg);

struct redis_options {
    const char *url;      /* redis://host:port/db, unix:/path/to/socket, unix:/path?db=1 */
    const char *password; /* NULL: none */
    int64_t connect_timeout_ms, command_timeout_ms;
    redis_state_fn *on_state; /* may be NULL */
    void *arg;
};

/* NULL: err names what is wrong with the url. Connecting goes on in the background. */
struct redis *redis_new(struct loop *loop, const struct redis_options *options, struct error *err);
void redis_free(struct redis *r); /* callbacks get CLOSED first; NULL is fine */
enum redis_state redis_state(const struct redis *r);
/* Calls fn exactly once, before returning only when memory is out (UNAVAILABLE). */
void redis_command(struct redis *r, redis_fn *fn, void *arg, int argc, const char *const *argv,
                   const size_t *lens);
/* EVALSHA with the fallback on NOSCRIPT: sends the text again, once. */
struct redis_script;
struct redis_script *redis_script_new(const char *text); /* any connection, one thread */
void redis_script_free(struct redis_script *s);
void redis_eval(struct redis *r, const struct redis_script *s, int keys, int argc,
                const char *const *argv, const size_t *lens, redis_fn *fn, void *arg);
/* A connection that only listens: fn gets each message of the channel (a REDIS_STRING). It
 * subscribes again after a reconnect; on_state tells when messages may have been missed. */
enum status redis_subscribe(struct redis *r, const char *channel, redis_fn *fn, void *arg);

/* The blocking kind, for command-line tools and threads without a loop. */
struct redis_sync;
struct redis_sync *redis_sync_new(const struct redis_options *options, struct error *err);
void redis_sync_free(struct redis_sync *r);
/* The reply belongs to r and lives until its next call. NULL: err says why. */
const struct redis_reply *redis_sync_command(struct redis_sync *r, int argc,
                                             const char *const *argv, const size_t *lens,
                                             struct error *err);
const struct redis_reply *redis_sync_eval(struct redis_sync *r, const struct redis_script *s,
                                          int keys, int argc, const char *const *argv,
                                          const size_t *lens, struct error *err);

#endif
