/*
 * From stored tensors to the packed matrices that the kernels read. Weights keep their stored
 * precision; block-scaled FP8 stays 8 bits wide with its scales beside it, or is widened to 16
 * bits (exactly: the scales stay apart), which is faster to decode but twice as much to read.
 * Packed memory comes from a store that lives as long as the model.
 */
#ifndef WORKER_CPU_PACK_H
#define WORKER_CPU_PACK_H

#include <stdbool.h>

#include "worker/cpu/kernels.h"
#include "worker/model/safetensors.h"

struct store;

struct store *store_new(void);    /* NULL: out of memory */
void store_free(struct store *s); /* NULL is fine */
/* Zeroed, aligned to 64 bytes, in large pages where the system gives them. NULL: out of memory. */
void *store_alloc(struct store *s, size_t bytes);

/* A weight tensor [rows][cols] and, for FP8, its inverse scales per block. */
struct source {
    const struct tensor *weight;
    const struct tensor *scale; /* NULL: none */
    int block_rows, block_cols;
    bool widen; /* FP8 to BF16 */
};

/* An empty matrix for weights from such sources; segment: columns of the matrix that share a
 * scale (of no effect without scales). */
enum status pack_begin(struct store *s, struct matrix *m, const struct source *like, int rows,
                       int cols, int segment, struct error *err);
/* Rows [from, from + count) of the source become rows of m, from `at` on. INVALID: the source
 * holds a NaN. */
enum status pack_rows(struct matrix *m, int at, const struct source *src, int from, int count,
                      struct error *err);
/* The transpose of those rows becomes the whole of m: m has `count` columns. */
enum status pack_transposed(struct matrix *m, const struct source *src, int from, int count,
                            struct error *err);

/* A one-dimensional tensor as floats. */
void pack_floats(float *out, const struct tensor *t);
/* n elements from the given one on, as floats. */
void pack_widen(float *out, const struct tensor *t, size_t from, size_t n);

#endif
