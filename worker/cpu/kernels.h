/*
 * The arithmetic of a forward pass, in float32, behind one table per instruction set, picked at
 * run time. Every kernel computes one row's result in an order that depends on nothing but that
 * row, so results do not depend on the batch. All widths are multiples of 16 unless said.
 */
#ifndef WORKER_CPU_KERNELS_H
#define WORKER_CPU_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "worker/kv.h"

enum weight_type { WEIGHT_F32, WEIGHT_BF16, WEIGHT_F16, WEIGHT_F8, WEIGHT_BF16_SCALED };

/*
 * Weights [rows][cols], packed in panels of 16 rows so that a vector lane is one output:
 *   F32, F16, F8   [panel][col][16]
 *   BF16 (SCALED)  [panel][col / 2][16][2]: one 32-bit load holds two columns of a row
 * With scales, weight (row, col) is its stored value x scales[panel][col / segment][row % 16].
 */
struct matrix {
    enum weight_type type;
    int rows, cols; /* cols is even */
    int panels;     /* rows / 16, rounded up; the last one is filled with zeros */
    int segment;    /* columns that share a scale; even */
    int segments;
    size_t panel_bytes;
    uint8_t *data;
    float *scales; /* of F8 and BF16_SCALED; the other types have none */
};

/* Rows of input: number i is at data + (index ? index[i] : i) * stride. */
struct input {
    const float *data;
    size_t stride;
    const int32_t *index;
};

/* Positions that are attended to in one go: a segment begins at a multiple of it. */
enum { ATTEND_SEGMENT = 512, ATTEND_QUERIES = 8 };

/* Of a query whose softmax goes on: out is the sum of the values, each by e^(its score - largest);
 * total is the sum of these factors. total is 0 before the first segment. */
struct attend_state {
    float largest, total;
};

/*
 * Up to ATTEND_QUERIES queries, of any rows and heads, attend to one segment of a sequence's
 * cache (worker/kv.h has the layout). A query's result depends on itself and the cache alone, not
 * on the queries beside it, and segments are added in order; so it is the same whatever the batch.
 */
struct attend {
    enum kv_type type;
    int group;            /* of INT8 */
    const uint8_t *cache; /* of the layer */
    size_t block_bytes;
    const int32_t *blocks;
    /* bytes, in an image, of the first key and value and their scales */
    size_t keys, key_scales, values, value_scales;
    size_t value_stride; /* bytes between the values of two positions; 0: they are in columns */
    int key_count, value_count; /* multiples of 16, of the group where there are scales */
    int begin;                  /* the segment's first position */
    int count;
    const float *queries[ATTEND_QUERIES]; /* scaled already */
    int tokens[ATTEND_QUERIES];           /* the query attends to positions below it */
    float *out[ATTEND_QUERIES];           /* [value_count] */
    struct attend_state *states[ATTEND_QUERIES];
    float *scratch; /* attend_scratch(value_count) floats */
};

static inline size_t attend_scratch(int value_count)
{
    return ATTEND_QUERIES * (2 * (size_t)ATTEND_SEGMENT + (size_t)value_count);
}

struct kernels {
    const char *name;
    /* out row i, from its first float: the panels [begin, end) of w times input row i. Rows of
     * w past w->rows are not written. */
    void (*matmul)(const struct matrix *w, int begin, int end, const struct input *in, int count,
                   float *out, size_t out_stride);
    void (*attend)(const struct attend *a);
    /* Onto out and its state, those of later segments. */
    void (*attend_merge)(float *out, struct attend_state *state, const float *later,
                         const struct attend_state *later_state, int n);
    /* out by 1 / total. */
    void (*attend_finish)(float *out, const struct attend_state *state, int n);
    void (*rms_norm)(float *out, const float *x, const float *weight, int n, float epsilon);
    /* pairs: 16 gates, their 16 ups, the next 16 gates, ... ; out[i] = silu(gate) * up */
    void (*swiglu)(float *out, const float *pairs, int n);
    void (*add_scaled)(float *sum, const float *x, float scale, int n);
};

/* NULL name: the best of this machine. NULL answer: unknown, or not of this machine. */
const struct kernels *kernels_find(const char *name);

extern const struct kernels kernels_portable;
#if defined(__x86_64__)
extern const struct kernels kernels_avx2;
extern const struct kernels kernels_avx512;
#endif

#endif
