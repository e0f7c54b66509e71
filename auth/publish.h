/*
 * Copies of key records in Redis, and the message that tells gateways of a change. A copy is
 * `tg:k:<hex sha256>`: its version, ':' and the JSON of its row in the view key_records. It is
 * only ever replaced by a newer one, so a slow writer cannot bring a revoked key back.
 */
#ifndef AUTH_PUBLISH_H
#define AUTH_PUBLISH_H

#include "base/error.h"
#include "base/pg.h"
#include "base/redis.h"

#define PUBLISH_CHANNEL "tg:invalidate" /* messages: the hex SHA-256 of a key */
#define PUBLISH_PREFIX "tg:k:"

enum { PUBLISH_TTL_S = 600 };

/* The script that puts a copy if it is newer. KEYS: the copy; ARGV: version, text, seconds. */
extern const char publish_put_script[];
/* $1: the hex hash. One row, if there is such a key: version and the JSON. */
extern const char publish_select_sql[];

/* After a change has been committed, and for each message of PostgreSQL's tollgate_invalidate:
 * reads the key's record, puts the copy, tells the gateways. Blocking. UNAVAILABLE: one of the
 * two is away; try again. */
enum status publish_key(struct pg *pg, struct redis_sync *redis, const char *sha256_hex,
                        struct error *err);

#endif
