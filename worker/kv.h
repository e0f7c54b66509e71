/*
 * The paged cache of keys and values. A block holds KV_BLOCK_TOKENS positions of one sequence in
 * all layers; a sequence has a table of block numbers. Blocks are counted by reference, so that
 * sequences may share the blocks of a common prefix. free + used = total at all times, checked.
 * One thread owns it.
 */
#ifndef WORKER_KV_H
#define WORKER_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { KV_BLOCK_TOKENS = 16 };

struct kv_shape {
    int layers;
    int row_floats; /* values per token and layer, a multiple of 16 */
};

struct kv;

size_t kv_block_bytes(const struct kv_shape *shape);
enum status kv_new(const struct kv_shape *shape, int blocks, struct kv **out, struct error *err);
void kv_free(struct kv *kv); /* NULL is fine */

static inline int kv_blocks_for(int64_t tokens)
{
    return (int)((tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS);
}

int kv_total(const struct kv *kv);
int kv_free_count(const struct kv *kv);
int kv_used_count(const struct kv *kv);
/* Takes count blocks, or none of them (false). Each has one reference. */
bool kv_take(struct kv *kv, int count, int32_t *blocks);
void kv_ref(struct kv *kv, int32_t block);
void kv_unref(struct kv *kv, int32_t block); /* the last one frees it */
/* The values of all positions, in all layers. */
void kv_copy(struct kv *kv, int32_t to, int32_t from);
/* References to one block, and to all together. */
uint32_t kv_references_of(const struct kv *kv, int32_t block);
int64_t kv_references(const struct kv *kv);
void kv_check(const struct kv *kv); /* asserts the invariant, counting every block */
/* The values of position (0 .. KV_BLOCK_TOKENS - 1) of a block in a layer. */
float *kv_row(const struct kv *kv, int layer, int32_t block, int position);

#endif
