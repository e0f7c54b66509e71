/*
 * The arithmetic of a forward pass, in float32, behind one table per instruction set, picked at
 * run time. Every kernel computes one row's result in an order that depends on nothing but that
 * row, so results do not depend on the batch. All widths are multiples of 16 unless said.
 */
#ifndef WORKER_CPU_KERNELS_H
#define WORKER_CPU_KERNELS_H

#include <stddef.h>
#include <stdint.h>

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

/* One row's attention for up to 4 queries (heads) that share the cache rows. */
struct attend {
    const float *queries; /* scaled already */
    size_t query_stride;
    int query_count;     /* 1, 2 or 4 */
    const float *cache;  /* of the layer: position p is row p % 16 of block blocks[p / 16] */
    size_t block_stride; /* floats */
    size_t row_stride;   /* floats */
    const int32_t *blocks;
    int tokens;          /* positions 0 .. tokens - 1 are attended to */
    int key_floats;      /* the keys are the first values of a row */
    int value_floats;
    int value_offset;    /* where in a row the values begin; MLA: 0, the latent serves as both */
    float *scores;       /* scratch: 4 x score_stride */
    size_t score_stride; /* tokens rounded up to 16, at least */
    float *out;
    size_t out_stride;
};

struct kernels {
    const char *name;
    /* out row i, from its first float: the panels [begin, end) of w times input row i. Rows of
     * w past w->rows are not written. */
    void (*matmul)(const struct matrix *w, int begin, int end, const struct input *in, int count,
                   float *out, size_t out_stride);
    void (*attend)(const struct attend *a);
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
