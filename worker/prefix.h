/*
 * Which full blocks of the KV cache hold what, so that a prompt that begins like an earlier one
 * need not be computed again. A block's key is a digest of the salt and of all tokens up to its
 * end; sequences with different salts never meet. An entry holds one reference to its block. The
 * blocks that nobody else holds are given back, the ones not used for longest first, when the
 * cache runs out. One thread owns it.
 */
#ifndef WORKER_PREFIX_H
#define WORKER_PREFIX_H

#include "worker/kv.h"

enum { PREFIX_KEY_BYTES = 32 };

struct prefix_key {
    uint8_t bytes[PREFIX_KEY_BYTES];
};

struct prefix;

struct prefix *prefix_new(struct kv *kv); /* NULL: out of memory */
void prefix_free(struct prefix *p);       /* NULL is fine; gives all blocks back */

/* The key in front of a sequence's first block. */
void prefix_begin(const uint8_t *salt, uint32_t salt_len, struct prefix_key *out);
/* From the key in front of a block of tokens (KV_BLOCK_TOKENS of them) to the one behind it. */
void prefix_advance(struct prefix_key *key, const int32_t *tokens);

/* The block with that key, with a reference for the caller; -1: none. */
int32_t prefix_take(struct prefix *p, const struct prefix_key *key);
/* The block is full and will not change. An entry that has the key already stays. */
void prefix_add(struct prefix *p, const struct prefix_key *key, int32_t block);
/* The block, if it has an entry, was used just now. Of a sequence's blocks the first should be
 * told last: without it, the others are of no use. */
void prefix_touch(struct prefix *p, int32_t block);
/* Gives blocks back until so many are free, or none is left to give. */
void prefix_make_room(struct prefix *p, int blocks);
int prefix_count(const struct prefix *p);
/* Entries that could be given back now: nobody else holds their blocks. Walks over all. */
int prefix_unused(const struct prefix *p);

#endif
