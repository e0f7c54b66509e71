/*
 * Weights times rows of input. A tile is R rows of input by P panels of weights: per column, one
 * weight vector of each panel is decoded once and multiplied into R sums, and one input value is
 * broadcast into P. Each output is a sum over the columns in ascending order (per segment, where
 * there are scales), whatever the tile, so a row's result does not depend on how many there are.
 * Decode (one row) is bound by reading the weights: four panels keep four independent sums busy.
 */
#include "worker/cpu/kernels.h"
#include "worker/cpu/vec.h"

#if defined(__AVX512F__)
enum { ROWS_MOST = 8, PANELS_AT_8 = 2, PANELS_AT_4 = 4, PANELS_AT_2 = 4 };
#elif defined(__AVX2__)
enum { ROWS_MOST = 4, PANELS_AT_8 = 1, PANELS_AT_4 = 1, PANELS_AT_2 = 2 };
#else
enum { ROWS_MOST = 2, PANELS_AT_8 = 1, PANELS_AT_4 = 1, PANELS_AT_2 = 1 };
#endif
enum { PANEL_GROUP = 4 };

INLINE void load_pair(enum weight_type type, const uint8_t *panel, int col, f32x16 *a, f32x16 *b)
{
    switch (type) {
    case WEIGHT_F32:
        *a = vec_load((const float *)panel + (size_t)col * 16);
        *b = vec_load((const float *)panel + (size_t)col * 16 + 16);
        break;
    case WEIGHT_BF16:
    case WEIGHT_BF16_SCALED:
        vec_load_bf16(panel + (size_t)col * 32, a, b);
        break;
    case WEIGHT_F16:
        vec_load_f16(panel + (size_t)col * 32, a, b);
        break;
    case WEIGHT_F8:
        vec_load_f8(panel + (size_t)col * 16, a, b);
        break;
    }
}

INLINE void store_rows(const struct matrix *w, int panel, float *out, f32x16 v)
{
    int left = w->rows - panel * 16;
    if (left >= 16) {
        vec_store(out, v);
        return;
    }
    for (int i = 0; i < left; i++)
        out[i] = v[i];
}

struct place {
    const float *x[8];
    float *out;
    size_t out_stride;
};

/* The sums over the columns [from, to). */
INLINE void add_columns(const struct matrix *w, int panel, const struct place *at, int from, int to,
                        f32x16 *sum, const int R, const int P, const enum weight_type type)
{
#pragma GCC unroll 32
    for (int i = 0; i < R * P; i++)
        sum[i] = vec_set(0.0f);
    for (int k = from; k < to; k += 2) {
        f32x16 a[PANEL_GROUP], b[PANEL_GROUP];
#pragma GCC unroll 4
        for (int p = 0; p < P; p++)
            load_pair(type, w->data + (size_t)(panel + p) * w->panel_bytes, k, &a[p], &b[p]);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            f32x16 x = vec_set(at->x[r][k]), y = vec_set(at->x[r][k + 1]);
#pragma GCC unroll 4
            for (int p = 0; p < P; p++) {
                sum[r * P + p] = sum[r * P + p] + a[p] * x;
                sum[r * P + p] = sum[r * P + p] + b[p] * y;
            }
        }
    }
}

/* The scaled types sum up each segment by itself. */
INLINE void tile(const struct matrix *w, int panel, const struct place *at, const int R,
                 const int P, const enum weight_type type)
{
    f32x16 total[8 * PANEL_GROUP], sum[8 * PANEL_GROUP];
    if (type != WEIGHT_F8 && type != WEIGHT_BF16_SCALED) {
        add_columns(w, panel, at, 0, w->cols, total, R, P, type);
    } else {
#pragma GCC unroll 32
        for (int i = 0; i < R * P; i++)
            total[i] = vec_set(0.0f);
        for (int s = 0; s < w->segments; s++) {
            int from = s * w->segment;
            int to = from + w->segment < w->cols ? from + w->segment : w->cols;
            add_columns(w, panel, at, from, to, sum, R, P, type);
#pragma GCC unroll 32
            for (int i = 0; i < R * P; i++)
                total[i] +=
                    sum[i] *
                    vec_load(w->scales +
                             ((size_t)(panel + i % P) * (size_t)w->segments + (size_t)s) * 16);
        }
    }
#pragma GCC unroll 32
    for (int i = 0; i < R * P; i++)
        store_rows(w, panel + i % P, at->out + (size_t)(i / P) * at->out_stride + i % P * 16,
                   total[i]);
}

#define TILES(R, P, TYPE)                                                                          \
    static __attribute__((noinline)) void tile_##R##_##P##_##TYPE(                                 \
        const struct matrix *w, int panel, const struct place *at)                                 \
    {                                                                                              \
        tile(w, panel, at, R, P, WEIGHT_##TYPE);                                                   \
    }
#define TILES_OF(TYPE)                                                                             \
    TILES(8, 1, TYPE)                                                                              \
    TILES(8, 2, TYPE)                                                                              \
    TILES(4, 1, TYPE)                                                                              \
    TILES(4, 4, TYPE)                                                                              \
    TILES(2, 1, TYPE)                                                                              \
    TILES(2, 2, TYPE)                                                                              \
    TILES(2, 4, TYPE)                                                                              \
    TILES(1, 1, TYPE)                                                                              \
    TILES(1, 4, TYPE)
TILES_OF(F32)
TILES_OF(BF16)
TILES_OF(F16)
TILES_OF(F8)
TILES_OF(BF16_SCALED)

typedef void (*tile_function)(const struct matrix *w, int panel, const struct place *at);

/* By rows (1, 2, 4, 8): for one panel, and for as many as the registers hold. */
struct tiles {
    tile_function one[4], wide[4];
};

#define WIDE_8(TYPE) (PANELS_AT_8 == 2 ? tile_8_2_##TYPE : tile_8_1_##TYPE)
#define WIDE_4(TYPE) (PANELS_AT_4 == 4 ? tile_4_4_##TYPE : tile_4_1_##TYPE)
#define WIDE_2(TYPE)                                                                               \
    (PANELS_AT_2 == 4 ? tile_2_4_##TYPE : PANELS_AT_2 == 2 ? tile_2_2_##TYPE : tile_2_1_##TYPE)
#define TILES_ROW(TYPE)                                                                            \
    [WEIGHT_##TYPE] = {                                                                            \
        {tile_1_1_##TYPE, tile_2_1_##TYPE, tile_4_1_##TYPE, tile_8_1_##TYPE},                      \
        {tile_1_4_##TYPE, WIDE_2(TYPE), WIDE_4(TYPE), WIDE_8(TYPE)},                               \
    }

static const int wide_panels[4] = {4, PANELS_AT_2, PANELS_AT_4, PANELS_AT_8};

static void matmul(const struct matrix *w, int begin, int end, const struct input *in, int count,
                   float *out, size_t out_stride)
{
    static const struct tiles tiles[] = {TILES_ROW(F32), TILES_ROW(BF16), TILES_ROW(F16),
                                         TILES_ROW(F8), TILES_ROW(BF16_SCALED)};
    const struct tiles *t = &tiles[w->type];
    for (int group = begin; group < end; group += PANEL_GROUP) {
        int stop = group + PANEL_GROUP < end ? group + PANEL_GROUP : end;
        int i = 0, rows = ROWS_MOST, size = ROWS_MOST == 8 ? 3 : ROWS_MOST == 4 ? 2 : 1;
        while (i < count) {
            while (rows > count - i) {
                rows /= 2;
                size--;
            }
            struct place at = {.out_stride = out_stride};
            for (int r = 0; r < rows; r++)
                at.x[r] = in->data + (size_t)(in->index ? in->index[i + r] : i + r) * in->stride;
            for (int panel = group; panel < stop;) {
                at.out = out + (size_t)i * out_stride + (size_t)(panel - begin) * 16;
                bool wide = panel + wide_panels[size] <= stop;
                (wide ? t->wide : t->one)[size](w, panel, &at);
                panel += wide ? wide_panels[size] : 1;
            }
            i += rows;
        }
    }
}
