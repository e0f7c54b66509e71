/*
 * The arithmetic of a forward pass behind one table per instruction set, picked at run time.
 * Every kernel computes one row's result in an order that depends on nothing but that row, so
 * results do not depend on the batch. All widths are multiples of 16 unless said. Any thread.
 */
#ifndef WORKER_CPU_KERNELS_H
#define WORKER_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/kv.h"

enum weight_type {
    WEIGHT_F32, /* as stored in the file, and read from its mapping: */
    WEIGHT_BF16,
    WEIGHT_F16,
    WEIGHT_F8,      /* e4m3 with a scale per block */
    WEIGHT_F8_WIDE, /* the same numbers as bfloat16, in memory of the model's own */
    WEIGHT_INT8,    /* quantised at load, a scale per 32 columns of a row: */
    WEIGHT_INT4,
};

enum { QUANT_BLOCK = 32 };

/* Up to 16 rows of a matrix that is read where it lies: row-major, of any alignment. */
struct panel {
    const uint8_t *data; /* row i is at data + i * row_bytes */
    /* F8, F8_WIDE: row i's scales are the floats from (block_row + i) / block_rows * segments on */
    const uint8_t *scales;
    int16_t block_row; /* of the first row, within its block */
    int16_t rows;      /* 0: the panel is padding */
};

/* Weights [rows][cols] in panels of 16 rows, the last one or any padded. */
struct matrix {
    enum weight_type type;
    bool exact; /* its input is never rounded, whatever the setting */
    int rows, cols;
    int panels; /* rows / 16, rounded up */
    /* As stored: */
    struct panel *panel;
    size_t row_bytes;
    int segment, segments, block_rows; /* F8, F8_WIDE: columns and rows that share a scale */
    /* Quantised, [panel] of panel_bytes, aligned to 64 bytes (worker/cpu/blocks.inc.h): */
    uint8_t *packed;
    size_t panel_bytes;
};

enum input_type {
    INPUT_F32,
    INPUT_BF16, /* rounded to bfloat16, zeros up to a multiple of 32 */
    INPUT_INT8, /* [cols] int8, [cols / 32] float scales, [cols / 32] int32: minus their sums */
};

/* Rows of input: number i is at data + (index ? index[i] : i) * stride floats (4 bytes each). */
struct input {
    const void *data;
    size_t stride;
    const int32_t *index;
    enum input_type type;
};

/* out row i, from its first float: the panels [begin, end) of w times input row i, which has the
 * type that w wants. Rows of w that are padding are not written. */
struct product {
    const struct matrix *w;
    int begin, end;
    struct input in;
    int count;
    float *out;
    size_t out_stride;   /* floats */
    const uint8_t *next; /* weights that will be read next, fetched early; NULL: unknown */
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
    enum kv_type type, value_type; /* of keys and of values: one, unless made for the occasion */
    int group;                     /* of INT8 */
    bool rounded; /* the queries may be rounded to the precision of BF16 keys, for speed */
    const uint8_t *cache, *value_cache; /* of the layer; the two may be one */
    size_t block_bytes, value_block_bytes;
    const int32_t *blocks;
    /* bytes, in an image, of the first key and value and their scales */
    size_t keys, key_scales, values, value_scales;
    size_t value_stride; /* bytes between the values of two positions; 0: they are in columns */
    int key_count, value_count; /* multiples of 16, of the group where there are scales */
    int begin;                  /* the segment's first position */
    int count;
    const float *queries[ATTEND_QUERIES]; /* scaled already */
    int from[ATTEND_QUERIES];             /* the query attends to positions from this one on, */
    int tokens[ATTEND_QUERIES];           /* and below this one */
    float *out[ATTEND_QUERIES];           /* [value_count] */
    struct attend_state *states[ATTEND_QUERIES];
    float *scratch; /* attend_scratch(key_count, value_count) floats */
};

static inline size_t attend_scratch(int key_count, int value_count)
{
    size_t rounded = ((size_t)key_count + 31) / 32 * 16;
    return ATTEND_QUERIES * (2 * (size_t)ATTEND_SEGMENT + (size_t)value_count + rounded);
}

struct kernels {
    const char *name;
    bool bf16; /* multiplies bfloat16 numbers as they are */
    void (*matmul)(const struct product *p);
    /* The columns [from, from + n) of a row of `cols` floats, into a row of another type; x is
     * the first of them. INPUT_INT8: from is a multiple of 32, and n too. */
    void (*convert)(enum input_type type, const float *x, int from, int n, int cols, void *row);
    /* One panel of a stored matrix, whose packed panels it shall have, to m->panel_bytes. */
    void (*quantise)(const struct matrix *m, int panel, enum weight_type type, uint8_t *packed);
    void (*attend)(const struct attend *a);
    /* Onto out and its state, those of later segments. */
    void (*attend_merge)(float *out, struct attend_state *state, const float *later,
                         const struct attend_state *later_state, int n);
    /* One block of the segment as floats: out[key_count][16]. */
    void (*attend_widen)(const struct attend *a, int block, float *out);
    /* out by 1 / total. */
    void (*attend_finish)(float *out, const struct attend_state *state, int n);
    void (*rms_norm)(float *out, const float *x, const float *weight, int n, float epsilon);
    void (*swiglu)(float *out, const float *gate, const float *up, int n); /* silu(gate) x up */
    void (*add_scaled)(float *sum, const float *x, float scale, int n);
};

/* NULL name: the best of this machine. NULL answer: unknown, or not of this machine. */
const struct kernels *kernels_find(const char *name);
/* What the input of w must be. rounded: floats may be rounded to bfloat16 where it is faster. */
enum input_type kernels_input(const struct kernels *k, const struct matrix *w, bool rounded);
/* Of one row, rounded up to a multiple of 64. */
size_t kernels_input_bytes(enum input_type type, int cols);
/* Of a packed panel; cols is a multiple of 32. */
size_t kernels_panel_bytes(enum weight_type type, int cols);
/* Where a panel's weights begin. */
const uint8_t *matrix_panel(const struct matrix *w, int panel);
/* Of all that a product reads of w. */
double matrix_bytes(const struct matrix *w);

extern const struct kernels kernels_portable;
#if defined(__x86_64__)
extern const struct kernels kernels_avx2;
extern const struct kernels kernels_avx512;
extern const struct kernels kernels_avx512_vnni;
extern const struct kernels kernels_avx512_bf16; /* and VNNI */
#endif

#endif
