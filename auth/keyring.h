/*
 * API keys to key records, for one loop: a bounded cache; on a miss Redis, then PostgreSQL,
 * without blocking. Malformed, unknown, expired and revoked keys take the same path and give
 * the same DENIED. Revocation reaches the cache by a Redis message; while that channel is down
 * entries older than 1 s are asked for again. Loop thread only.
 */
#ifndef AUTH_KEYRING_H
#define AUTH_KEYRING_H

#include "auth/key_record.h"
#include "base/loop.h"
#include "base/pg.h"
#include "base/redis.h"

struct keyring;

struct keyring_options {
    struct redis *redis;                       /* commands */
    const struct redis_options *redis_options; /* to make the subscriber's own connection */
    struct pg_async *pg;                       /* may be NULL: then unknown keys are UNAVAILABLE */
    int entries_max;                           /* 100,000 */
    int64_t ttl_ms;                            /* while the channel is up; 60 s */
    int64_t ttl_blind_ms;                      /* while it is down; 1 s */
};

/* OK: record is valid during the callback alone (copy it). DENIED: the one 401. UNAVAILABLE:
 * neither store could say (503). */
typedef void keyring_fn(enum status st, const struct key_record *record, void *arg);

struct keyring *keyring_new(struct loop *loop, const struct keyring_options *options,
                            struct error *err);
/* Waiting callbacks get UNAVAILABLE. Call it before redis and pg are freed. */
void keyring_free(struct keyring *k);
/* Calls fn exactly once, at once on a cache hit. The key is text as the client sent it. */
void keyring_find(struct keyring *k, const char *key, size_t len, keyring_fn *fn, void *arg);

#endif
