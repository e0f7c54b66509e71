/* runs: thread */
/*
 * Every kernel set of this machine, by name, against sums in double precision: all types of
 * weights at any alignment, widths that end in the middle of a vector, panels that are not full.
 */
#include <math.h>

#include "base/error.h"
#include "tests/unit/check.h"
#include "worker/cpu/kernels.h"
#include "worker/cpu/pack.h"
#include "worker/cpu/widen.h"

enum { ROWS = 37, COLS_MOST = 384, INPUTS = 13, PANELS = (ROWS + 15) / 16 };

static const char *const sets[] = {"avx512-bf16", "avx512-vnni", "avx512", "avx2", "portable"};
enum { SETS = sizeof sets / sizeof *sets };

static uint8_t bytes[ROWS * COLS_MOST * 4 + 16], scale_bytes[4096];
static float inputs[INPUTS][COLS_MOST];
static double weights[ROWS][COLS_MOST]; /* what the stored ones stand for */
static struct store *store;
static struct pool *pool;
static uint64_t seed = 1;

/* In [-1, 1). */
static float random_float(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(seed >> 32) / 2147483648.0f;
}

static void put(uint8_t *to, uint32_t bits, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (uint8_t)(bits >> (8 * i));
}

/* One stored element; returns its value. */
static double put_random(enum dtype dtype, uint8_t *to)
{
    float v = random_float();
    uint32_t bits;
    memcpy(&bits, &v, 4);
    if (dtype == DTYPE_F32) {
        put(to, bits, 4);
        return v;
    }
    if (dtype == DTYPE_BF16) {
        put(to, bits >> 16, 2);
        bits &= 0xffff0000u;
        memcpy(&v, &bits, 4);
        return v;
    }
    if (dtype == DTYPE_F16) {
        uint16_t h = (uint16_t)((bits >> 31 << 15) | (bits >> 7 & 0x3fff));
        put(to, h, 2);
        return (double)widen_f16(h);
    }
    uint8_t b = (uint8_t)(bits >> 9);
    *to = (b & 0x7f) == 0x7f ? 0 : b;
    return (double)widen_f8(*to);
}

static double scale_of(const struct source *s, int row, int col)
{
    float scale = 1;
    if (s->scale)
        memcpy(&scale,
               s->scale->data + ((size_t)(row / s->block_rows) * (size_t)s->scale->shape[1] +
                                 (size_t)(col / s->block_cols)) *
                                    4,
               4);
    return (double)scale;
}

/* A source [rows][cols] of random numbers, and what they are. */
static void fill(enum dtype dtype, int rows, int cols, struct tensor *t, struct source *s)
{
    static struct tensor scales;
    size_t element = dtype_bytes(dtype), skew = 1 + (size_t)cols / 16 % 3;
    *t = (struct tensor){.name = "w", .file = "f", .dtype = dtype, .dims = 2};
    t->shape[0] = rows;
    t->shape[1] = cols;
    t->data = bytes + skew;
    t->bytes = (size_t)rows * (size_t)cols * element;
    *s = (struct source){.weight = t};
    if (dtype == DTYPE_F8_E4M3) {
        *s = (struct source){t, &scales, 32, 48, false};
        scales = (struct tensor){.dtype = DTYPE_F32, .dims = 2, .data = scale_bytes + 3};
        scales.shape[0] = (rows + 31) / 32;
        scales.shape[1] = (cols + 47) / 48;
        for (int i = 0; i < scales.shape[0] * scales.shape[1]; i++)
            put_random(DTYPE_F32, scale_bytes + 3 + i * 4);
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++)
            weights[i][j] = put_random(dtype, bytes + skew + (size_t)(i * cols + j) * element) *
                            scale_of(s, i, j);
}

/* Of the numbers that `fill` put there. */
static void pack(const struct source *s, int cols, const struct pack_options *options,
                 struct matrix *m)
{
    struct error err;
    struct packer *p = packer_new(store, NULL);
    CHECK_FATAL(p && pack_begin(p, m, s, ROWS, cols, &err) == OK);
    pack_rows(m, 0, s, 0, ROWS);
    CHECK(pack_finish(p, pool, options, &err) == OK);
    CHECK_INT(pack_widest(p), cols);
    packer_free(p);
}

static void make(enum dtype dtype, int cols, enum weight_type quantise, struct matrix *m)
{
    static struct tensor t;
    struct source s;
    fill(dtype, ROWS, cols, &t, &s);
    struct pack_options options = {.kernels = kernels_find(NULL), .quantise = quantise};
    options.copy = cols % 32 == 0; /* some stay where they are */
    pack(&s, cols, &options, m);
    for (int i = 0; i < INPUTS; i++)
        for (int j = 0; j < cols; j++)
            inputs[i][j] = random_float() * (float)(1 << (i % 5));
}

struct rows {
    _Alignas(64) uint8_t data[INPUTS][COLS_MOST * 4];
};

static struct input convert_all(const struct kernels *k, enum input_type type, int cols,
                                struct rows *to)
{
    for (int i = 0; i < INPUTS; i++)
        for (int j = 0; j < cols; j += 32) /* in pieces */
            k->convert(type, inputs[i] + j, j, cols - j < 32 ? cols - j : 32, cols, to->data[i]);
    return (struct input){.data = to->data, .stride = COLS_MOST, .type = type};
}

/* An input as the products see it. */
static double input_at(const struct input *in, int row, int col, int cols)
{
    const uint8_t *data = (const uint8_t *)in->data + (size_t)row * in->stride * 4;
    float v;
    uint32_t bits;
    if (in->type == INPUT_F32)
        return (double)inputs[row][col];
    if (in->type == INPUT_BF16) {
        bits = (uint32_t)(data[col * 2] | data[col * 2 + 1] << 8) << 16;
        memcpy(&v, &bits, 4);
        return (double)v;
    }
    memcpy(&v, data + cols + col / 32 * 4, 4);
    return (double)v * (int8_t)data[col];
}

/* A quantised weight, read as the layout's description says. */
static double quantised_at(const struct matrix *m, int row, int col)
{
    const uint8_t *panel = m->packed + (size_t)(row / 16) * m->panel_bytes;
    int block = col / 32, k = col % 32, lane = row % 16;
    bool wide = m->type == WEIGHT_INT8;
    panel += block / 2 * (wide ? 1088 : 576); /* two blocks, then their scales */
    const uint8_t *scale = panel + (wide ? 1024 : 512) + (block % 2 * 16 + lane) * 2;
    panel += block % 2 * (wide ? 512 : 256);
    uint32_t bits = (uint32_t)(scale[0] | scale[1] << 8) << 16;
    float s;
    memcpy(&s, &bits, 4);
    if (wide)
        return (double)s * (panel[k / 4 * 64 + lane * 4 + k % 4] - 128);
    int both = panel[k % 16 / 4 * 64 + lane * 4 + k % 4];
    return (double)s * ((k < 16 ? both & 15 : both >> 4) - 8);
}

static void check_sums(const struct matrix *m, const struct input *in, float (*got)[PANELS * 16])
{
    for (int i = 0; i < INPUTS; i++)
        for (int row = 0; row < (m->rows + 15) / 16 * 16; row++) {
            double want = 0, size = 0;
            for (int j = 0; row < m->rows && j < m->cols; j++) {
                double term = weights[row][j] * input_at(in, i, j, m->cols);
                want += term;
                size += fabs(term);
            }
            if (row >= m->rows)
                CHECK(got[i][row] == 99); /* padding: not written */
            else
                CHECK(fabs((double)got[i][row] - want) <= 2e-6 * size);
        }
}

static void multiply(const struct kernels *k, const struct matrix *m, const struct input *in,
                     int count, float (*out)[PANELS * 16])
{
    for (int i = 0; i < count; i++)
        for (int j = 0; j < PANELS * 16; j++)
            out[i][j] = 99;
    k->matmul(&(struct product){.w = m,
                                .end = m->panels,
                                .in = *in,
                                .count = count,
                                .out = out[0],
                                .out_stride = PANELS * 16});
}

/* Every number of rows at once, in any order, and panels apart: the same bits. */
static void check_same(const struct kernels *k, const struct matrix *m, const struct input *in,
                       float (*want)[PANELS * 16])
{
    float got[INPUTS][PANELS * 16];
    int32_t index[INPUTS];
    struct input some = *in;
    some.index = index;
    for (int count = 1; count <= INPUTS; count++) {
        for (int i = 0; i < count; i++)
            index[i] = (i * 5 + count) % INPUTS;
        multiply(k, m, &some, count, got);
        for (int i = 0; i < count; i++)
            CHECK(memcmp(got[i], want[index[i]], (size_t)m->rows * sizeof(float)) == 0);
    }
    k->matmul(&(struct product){.w = m,
                                .begin = 1,
                                .end = m->panels,
                                .in = *in,
                                .count = 1,
                                .out = got[0],
                                .out_stride = PANELS * 16});
    CHECK(memcmp(got[0], want[0] + 16, (size_t)(m->rows - 16) * sizeof(float)) == 0);
}

static void check_matrix(const struct matrix *m, bool rounded)
{
    static float out[SETS][INPUTS][PANELS * 16];
    const float(*first)[PANELS * 16] = NULL;
    for (int i = 0; i < SETS; i++) {
        const struct kernels *k = kernels_find(sets[i]);
        static struct rows rows;
        if (!k)
            continue; /* not of this machine */
        struct input in = convert_all(k, kernels_input(k, m, rounded), m->cols, &rows);
        multiply(k, m, &in, INPUTS, out[i]);
        check_sums(m, &in, out[i]);
        check_same(k, m, &in, out[i]);
        /* Those that multiply and add in one rounding have the same bits. */
        if (in.type == INPUT_BF16 || strcmp(sets[i], "portable") == 0)
            continue;
        if (first)
            CHECK(memcmp(first, out[i], sizeof out[i]) == 0);
        first = (const float(*)[PANELS * 16]) out[i];
    }
}

static void test_stored(void)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_F8_E4M3};
    static const int cols[] = {16, 32, 48, 96, 176, 384};
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (size_t c = 0; c < sizeof cols / sizeof *cols; c++) {
            struct matrix m;
            make(types[t], cols[c], WEIGHT_F32, &m);
            check_matrix(&m, false);
            check_matrix(&m, true);
        }
}

static void multiply_by_all(const struct matrix *m, float (*out)[INPUTS][PANELS * 16])
{
    static struct rows rows;
    for (int i = 0; i < SETS; i++) {
        const struct kernels *k = kernels_find(sets[i]);
        if (!k)
            continue;
        struct input in = convert_all(k, INPUT_F32, m->cols, &rows);
        multiply(k, m, &in, INPUTS, out[i]);
    }
}

/* FP8 at twice the width: the same bits come out. */
static void test_wide(void)
{
    static const int cols[] = {16, 48, 384};
    static float narrow_out[SETS][INPUTS][PANELS * 16], wide_out[SETS][INPUTS][PANELS * 16];
    for (size_t c = 0; c < sizeof cols / sizeof *cols; c++) {
        struct tensor t;
        struct source s;
        struct matrix narrow, wide;
        make(DTYPE_F8_E4M3, cols[c], WEIGHT_F32, &narrow); /* and random inputs */
        fill(DTYPE_F8_E4M3, ROWS, cols[c], &t, &s);
        pack(&s, cols[c], &(struct pack_options){0}, &narrow);
        CHECK(narrow.type == WEIGHT_F8);
        multiply_by_all(&narrow, narrow_out);
        pack(&s, cols[c], &(struct pack_options){.widen = true},
             &wide); /* and its source is gone */
        CHECK(wide.type == WEIGHT_F8_WIDE);
        check_matrix(&wide, false);
        multiply_by_all(&wide, wide_out);
        CHECK(memcmp(narrow_out, wide_out, sizeof wide_out) == 0);
    }
}

/* The squares of the errors of 4 bits whose scale just holds the largest value. */
static double plain_error(const double *x)
{
    double most = 0, sum = 0;
    for (int j = 0; j < 32; j++)
        most = fabs(x[j]) > fabs(most) ? x[j] : most;
    for (int j = 0; j < 32; j++) {
        double d = x[j] - fmin(nearbyint(x[j] / (most / -8)), 7) * (most / -8);
        sum += d * d;
    }
    return sum;
}

/* 8 bits: off by half a step at most. 4 bits: all in all better than the plain choice of scale. */
static void check_quantised(const struct matrix *m)
{
    double error = 0, plain = 0;
    for (int i = 0; i < ROWS; i++)
        for (int b = 0; b < m->cols; b += 32) {
            double most = 0;
            plain += plain_error(weights[i] + b);
            for (int j = b; j < b + 32; j++)
                most = fmax(most, fabs(weights[i][j]));
            for (int j = b; j < b + 32; j++) {
                double d = fabs(quantised_at(m, i, j) - weights[i][j]);
                if (m->type == WEIGHT_INT8)
                    CHECK(d <= most / 127 * 1.01 / 2 + 1e-9);
                error += d * d;
            }
        }
    if (m->type == WEIGHT_INT4)
        CHECK(error < 0.95 * plain);
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < m->cols; j++)
            weights[i][j] = quantised_at(m, i, j);
}

static void test_quantised(void)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_F8_E4M3};
    static const int cols[] = {32, 96, 384};
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (size_t c = 0; c < sizeof cols / sizeof *cols; c++)
            for (enum weight_type to = WEIGHT_INT8; to <= WEIGHT_INT4; to++) {
                struct matrix m;
                make(types[t], cols[c], to, &m);
                CHECK(m.type == to);
                check_quantised(&m);
                check_matrix(&m, false);
            }
    struct matrix odd;
    make(DTYPE_BF16, 48, WEIGHT_INT8, &odd); /* not whole blocks: stays as it is */
    CHECK(odd.type == WEIGHT_BF16 && !odd.packed);
}

/* Rows [16, 16 + 48) of [80][32], transposed; the blocks of scales are cut. */
static void test_transposed(void)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F8_E4M3};
    static uint8_t scales[3 * 4];
    static double whole[80][32];
    for (size_t n = 0; n < sizeof types / sizeof *types; n++) {
        size_t element = dtype_bytes(types[n]);
        struct packer *p = packer_new(store, NULL);
        struct matrix m;
        struct error err;
        struct tensor scale = {.dtype = DTYPE_F32, .dims = 2, .shape = {3, 1}, .data = scales};
        struct tensor t = {.dtype = types[n], .dims = 2, .shape = {80, 32}, .data = bytes + 1};
        struct source s = {.weight = &t, .block_rows = 32, .block_cols = 32};
        s.scale = types[n] == DTYPE_F8_E4M3 ? &scale : NULL;
        for (int i = 0; i < 3; i++)
            put_random(DTYPE_F32, scales + i * 4);
        for (int i = 0; i < 80; i++)
            for (int j = 0; j < 32; j++)
                whole[i][j] = put_random(types[n], bytes + 1 + (size_t)(i * 32 + j) * element) *
                              scale_of(&s, i, j);
        CHECK_FATAL(p && pack_transposed(p, &m, &s, 16, 48, &err) == OK);
        CHECK(m.rows == 32 && m.cols == 48);
        CHECK(pack_finish(p, pool, &(struct pack_options){0}, &err) == OK);
        for (int row = 0; row < 32; row++)
            for (int j = 0; j < 48; j++)
                weights[row][j] = whole[16 + j][row];
        check_matrix(&m, false);
        packer_free(p);
    }
}

/* The largest value is kept to half a step, a row of zeros stays one, and so does a tiny one. */
static void test_convert(void)
{
    float x[32] = {0};
    uint8_t row[64];
    for (int i = 0; i < SETS; i++) {
        const struct kernels *k = kernels_find(sets[i]);
        if (!k)
            continue;
        int32_t minus;
        float scale;
        memset(x, 0, sizeof x);
        k->convert(INPUT_INT8, x, 0, 32, 32, row);
        for (int j = 0; j < 32; j++)
            CHECK_INT(row[j], 0);
        x[5] = -127;
        x[9] = 63;
        k->convert(INPUT_INT8, x, 0, 32, 32, row);
        memcpy(&scale, row + 32, 4);
        memcpy(&minus, row + 36, 4);
        CHECK(scale == 1 && (int8_t)row[5] == -127 && row[9] == 63);
        CHECK_INT(minus, 64);
    }
}

int main(void)
{
    store = store_new();
    pool = pool_new(3);
    CHECK_FATAL(store && pool);
    test_stored();
    test_wide();
    test_quantised();
    test_transposed();
    test_convert();
    store_free(store);
    pool_free(pool);
    return check_done();
}
