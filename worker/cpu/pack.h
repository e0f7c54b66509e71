/*
 * From stored tensors to the matrices that the kernels read. A weight stays where it lies in the
 * mapped file, in its stored precision, so that workers of one machine share its pages; what is
 * quantised or transposed is memory of the model's own. A packer is used by one thread;
 * pack_finish puts its threads to work.
 */
#ifndef WORKER_CPU_PACK_H
#define WORKER_CPU_PACK_H

#include <stdbool.h>

#include "worker/cpu/kernels.h"
#include "worker/cpu/pool.h"
#include "worker/cpu/store.h"
#include "worker/model/safetensors.h"

/* A weight tensor [rows][cols] and, for FP8, its inverse scales per block. */
struct source {
    const struct tensor *weight;
    const struct tensor *scale; /* NULL: none */
    int block_rows, block_cols;
    bool exact; /* never quantised, its input never rounded: the router's */
};

struct packer;

/* Both outlive the packer. NULL: out of memory. */
struct packer *packer_new(struct store *store, const struct safetensors *files);
void packer_free(struct packer *p); /* NULL is fine */

/* An empty matrix for weights like those; m stays where it is until pack_finish. */
enum status pack_begin(struct packer *p, struct matrix *m, const struct source *like, int rows,
                       int cols, struct error *err);
/* Rows [from, from + count) of the source become rows of m, from `at` on, a multiple of 16. */
void pack_rows(struct matrix *m, int at, const struct source *src, int from, int count);
/* The transpose of those rows becomes the whole of m, which has `count` columns. */
enum status pack_transposed(struct packer *p, struct matrix *m, const struct source *src, int from,
                            int count, struct error *err);
/* A tensor that is used as it is, to be checked with the rest. */
enum status pack_check(struct packer *p, const struct tensor *t, struct error *err);
struct pack_options {
    const struct kernels *kernels; /* that quantise */
    enum weight_type quantise;     /* to this, what may be; WEIGHT_F32: nothing */
    bool widen;                    /* FP8 that is not quantised, to 16 bits */
    bool copy;                     /* the rest, into the store's large pages */
};

/* Behind the last: reads all weights once, and does that. INVALID: one of them is not finite. */
enum status pack_finish(struct packer *p, struct pool *pool, const struct pack_options *options,
                        struct error *err);
/* Of the matrices so far: the most columns. */
int pack_widest(const struct packer *p);

/* A one-dimensional tensor as floats. */
void pack_floats(float *out, const struct tensor *t);
/* n elements from the given one on, as floats. */
void pack_widen(float *out, const struct tensor *t, size_t from, size_t n);

#endif
