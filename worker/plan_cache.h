/*
 * Compiled grammars by the digest of what they are made of; those not used for longest go first.
 * One owner, but for the thread that computes masks ahead.
 */
#ifndef WORKER_PLAN_CACHE_H
#define WORKER_PLAN_CACHE_H

#include "base/crypto.h"
#include "worker/grammar/state.h"

enum { PLAN_CACHE_ENTRIES = 256, PLAN_CACHE_BYTES = 256 << 20 };

struct plan_cache;

struct plan_cache *plan_cache_new(const struct grammar_vocab *v, struct error *err);
void plan_cache_free(struct plan_cache *c); /* NULL is fine; joins the thread */
/* With a reference for the caller; NULL: none. */
struct grammar *plan_cache_find(struct plan_cache *c, const uint8_t key[SHA256_BYTES]);
void plan_cache_add(struct plan_cache *c, const uint8_t key[SHA256_BYTES], struct grammar *g);
/* Computes the first masks of a grammar ahead, soon; when many wait, not at all. */
void plan_cache_warm(struct plan_cache *c, struct grammar *g);

#endif
