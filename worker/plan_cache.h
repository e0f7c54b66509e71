/*
 * Compiled grammars by the digest of what they are made of. Those that somebody uses stay; of the
 * others the least recently used go first, when there are more than PLAN_CACHE_BYTES of automata
 * or PLAN_CACHE_ENTRIES. (Masks are bounded on their own: grammar/mask_store.h.) Any thread.
 */
#ifndef WORKER_PLAN_CACHE_H
#define WORKER_PLAN_CACHE_H

#include "base/crypto.h"
#include "worker/grammar/grammar.h"

enum { PLAN_CACHE_ENTRIES = 2048, PLAN_CACHE_BYTES = 32 << 20 };

struct plan_cache;

struct plan_cache *plan_cache_new(void);    /* NULL: out of memory */
void plan_cache_free(struct plan_cache *c); /* NULL is fine */
/* With a reference for the caller; NULL: none. */
struct grammar *plan_cache_find(struct plan_cache *c, const uint8_t key[SHA256_BYTES]);
/* LIMITED: those in use leave no room. */
enum status plan_cache_add(struct plan_cache *c, const uint8_t key[SHA256_BYTES],
                           struct grammar *g);
size_t plan_cache_bytes(struct plan_cache *c); /* of automata */

#endif
