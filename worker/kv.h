/*
 * The paged cache of keys and values. A block holds KV_BLOCK_TOKENS positions of one sequence in
 * all layers; a sequence has a table of block numbers. Blocks are counted by reference, so that
 * sequences may share the blocks of a common prefix. free + used = total at all times, checked.
 * One thread owns it; several may write and read rows of different positions at the same time.
 *
 * What a block holds of one layer is its image, laid out for the kernels that read it:
 *   keys          F32, INT8 [keys][16]: a vector lane is a position; BF16 [keys / 2][16][2]
 *   values        [16][values]
 *   key scales    INT8 only: float [keys / group][16], of `group` neighbouring keys each
 *   value scales  INT8 only: float [values / group][16]
 */
#ifndef WORKER_KV_H
#define WORKER_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { KV_BLOCK_TOKENS = 16 };

/* How the values are stored: exactly, in 16 bits, or in 8 with a scale per group. */
enum kv_type { KV_F32, KV_BF16, KV_INT8 };

struct kv_shape {
    int layers;
    enum kv_type type;
    int keys;   /* per token and layer; a multiple of 16 and of group */
    int values; /* the same; 0: parts of the keys serve as values */
    int group;  /* of INT8 */
};

/* Where the parts of an image begin, in bytes; its size, a multiple of 64. */
struct kv_layout {
    size_t values, key_scales, value_scales, bytes;
};

struct kv;

extern const char *const kv_type_names[]; /* by type: "f32", "bf16", "int8"; NULL */
bool kv_type_parse(const char *name, enum kv_type *out);
void kv_layout(const struct kv_shape *shape, struct kv_layout *out);
size_t kv_block_bytes(const struct kv_shape *shape); /* in all layers */
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
const struct kv_shape *kv_shape_of(const struct kv *kv);
/* The image of a block in a layer; the layer's other blocks lie kv_layout bytes apart. */
uint8_t *kv_block(const struct kv *kv, int layer, int32_t block);
/* Stores the row of a position of the sequence with that block table: its keys, then its values.
 * A row that is not finite stays so. */
void kv_write(const struct kv *kv, int layer, const int32_t *blocks, int position,
              const float *row);

#endif
