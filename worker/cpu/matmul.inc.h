/*
 * Weights where they lie in the file, row after row, times rows of input. A tile is 4 rows of
 * weights by R rows of input. Each of its 4 R sums is a vector whose lane j adds the products of
 * the columns j, j + 16, j + 32, ... in ascending order; the 16 lanes are added at the end, four
 * sums at a time. That order is the same whatever R is, so a row's result does not depend on how
 * many there are. Where there are scales, a segment's sums are scaled and added to a total.
 *
 * Decode (one row) is bound by reading the weights. With many rows a group of panels that stays
 * in the second-level cache is used for all of them, R rows, which stay in the first, at a time.
 */
#include "worker/cpu/kernels.h"
#include "worker/cpu/vec.h"

#if defined(__AVX512F__)
enum { ROWS_MOST = 6, TOGETHER = 4 };
#elif defined(__AVX2__)
enum { ROWS_MOST = 3, TOGETHER = 2 };
#else
enum { ROWS_MOST = 2, TOGETHER = 2 };
#endif
enum { GROUP_BYTES = 256 << 10 };

struct tile {
    const uint8_t *w[4];      /* rows of weights; what is past the last one repeats the first */
    const uint8_t *scales[4]; /* F8: floats of a row, per segment */
    const float *x[6];
    int cols, segment;
    int outputs; /* how many of the four are wanted */
    float *out;  /* of the first row of input */
    size_t out_stride;
    size_t ahead; /* bytes from a row to what will be needed soon */
};

typedef void (*tile_function)(const struct tile *t);

INLINE void store_quad(const struct tile *t, int row, f32x4 v)
{
    float *out = t->out + (size_t)row * t->out_stride;
    if (t->outputs == 4)
        memcpy(out, &v, sizeof v);
    else
        for (int i = 0; i < t->outputs; i++)
            out[i] = v[i];
}

INLINE f32x16 load_weights(const enum weight_type type, const uint8_t *p)
{
    if (type == WEIGHT_F32) {
        f32x16 v;
        memcpy(&v, p, sizeof v);
        return v;
    }
    return type == WEIGHT_BF16  ? vec_from_bf16(p)
           : type == WEIGHT_F16 ? vec_from_f16(p)
                                : vec_from_f8(p);
}

/* The sums over the columns [from, to) of P rows of weights, from the given one on. */
INLINE void add_columns(const struct tile *t, int row, int from, int to, f32x16 *sum, const int R,
                        const int P, const enum weight_type type)
{
    const size_t element = type == WEIGHT_F32 ? 4 : type == WEIGHT_F8 ? 1 : 2;
#pragma GCC unroll 24
    for (int i = 0; i < R * P; i++)
        sum[i] = vec_set(0.0f);
    for (int k = from; k < to; k += 16) {
        f32x16 w[4];
#pragma GCC unroll 4
        for (int p = 0; p < P; p++) {
            const uint8_t *at = t->w[row + p] + (size_t)k * element;
            w[p] = load_weights(type, at);
            if (R <= 2)
                __builtin_prefetch(at + t->ahead);
        }
#pragma GCC unroll 6
        for (int r = 0; r < R; r++) {
            f32x16 x = vec_load(t->x[r] + k);
#pragma GCC unroll 4
            for (int p = 0; p < P; p++)
                sum[r * P + p] = sum[r * P + p] + w[p] * x;
        }
    }
}

INLINE void add_segments(const struct tile *t, int row, f32x16 *total, const int R, const int P)
{
    f32x16 sum[24];
#pragma GCC unroll 24
    for (int i = 0; i < R * P; i++)
        total[i] = vec_set(0.0f);
    for (int s = 0, from = 0; from < t->cols; s++, from += t->segment) {
        int to = from + t->segment < t->cols ? from + t->segment : t->cols;
        add_columns(t, row, from, to, sum, R, P, WEIGHT_F8);
#pragma GCC unroll 4
        for (int p = 0; p < P; p++) {
            /* Decoding makes e4m3 2^8 too small. */
            float scale = load_float(t->scales[row + p] + (size_t)s * 4) * 256.0f;
#pragma GCC unroll 6
            for (int r = 0; r < R; r++)
                total[r * P + p] = total[r * P + p] + sum[r * P + p] * scale;
        }
    }
}

INLINE void run_tile(const struct tile *t, const int R, const int P, const enum weight_type type)
{
    f32x16 sum[6 * 4];
    f32x4 quads[6][4 / TOGETHER];
    for (int row = 0; row < 4; row += P) {
        if (type == WEIGHT_F8)
            add_segments(t, row, sum, R, P);
        else
            add_columns(t, row, 0, t->cols, sum, R, P, type);
#pragma GCC unroll 6
        for (int r = 0; r < R; r++) {
            const f32x16 *s = sum + r * P;
            quads[r][row / P] = vec_sum4(s[0], s[1], s[P > 2 ? 2 : 0], s[P > 2 ? 3 : 1]);
        }
    }
    for (int r = 0; r < R; r++)
        store_quad(t, r,
                   P == 4 ? quads[r][0]
                          : __builtin_shufflevector(quads[r][0], quads[r][4 / P - 1], 0, 1, 4, 5));
}

#define TILE(R, TYPE)                                                                              \
    static __attribute__((noinline)) void tile_##R##_##TYPE(const struct tile *t)                  \
    {                                                                                              \
        run_tile(t, R <= ROWS_MOST ? R : 1, TOGETHER, WEIGHT_##TYPE);                              \
    }
#define TILES(TYPE)                                                                                \
    TILE(1, TYPE) TILE(2, TYPE) TILE(3, TYPE) TILE(4, TYPE) TILE(5, TYPE) TILE(6, TYPE)
TILES(F32)
TILES(BF16)
TILES(F16)
TILES(F8)

#if defined(__AVX512BF16__)
#include "worker/cpu/bf16.inc.h"
#endif

#define TILES_ROW(TYPE)                                                                            \
    {                                                                                              \
        tile_1_##TYPE, tile_2_##TYPE, tile_3_##TYPE, tile_4_##TYPE, tile_5_##TYPE, tile_6_##TYPE   \
    }

static tile_function const *tiles_for(const struct product *p)
{
    static const tile_function exact[][6] = {[WEIGHT_F32] = TILES_ROW(F32),
                                             [WEIGHT_BF16] = TILES_ROW(BF16),
                                             [WEIGHT_F16] = TILES_ROW(F16),
                                             [WEIGHT_F8] = TILES_ROW(F8)};
#if defined(__AVX512BF16__)
    static const tile_function rounded[6] = TILES_ROW(ROUNDED);
    if (p->in.type == INPUT_BF16)
        return rounded;
#endif
    return exact[p->w->type];
}

static void set_weights(const struct matrix *w, const struct panel *panel, int first,
                        struct tile *t)
{
    t->outputs = panel->rows - first < 4 ? panel->rows - first : 4;
    for (int i = 0; i < 4; i++) {
        int row = first + (i < t->outputs ? i : 0);
        t->w[i] = panel->data + (size_t)row * w->row_bytes;
        if (panel->scales)
            t->scales[i] = panel->scales + (size_t)((panel->block_row + row) / w->block_rows) *
                                               (size_t)w->segments * sizeof(float);
    }
}

static void run_rows(const struct product *p, const tile_function *tiles, int begin, int end,
                     struct tile *t)
{
    for (int i = 0; i < p->count; i += ROWS_MOST) {
        int rows = p->count - i < ROWS_MOST ? p->count - i : ROWS_MOST;
        for (int r = 0; r < rows; r++) {
            int from = p->in.index ? p->in.index[i + r] : i + r;
            t->x[r] = (const float *)p->in.data + (size_t)from * p->in.stride;
        }
        for (int j = begin; j < end; j++)
            for (int first = 0; first < p->w->panel[j].rows; first += 4) {
                set_weights(p->w, &p->w->panel[j], first, t);
                t->out = p->out + (size_t)i * p->out_stride + (size_t)(j - p->begin) * 16 +
                         (size_t)first;
                tiles[rows - 1](t);
            }
    }
}

static void matmul(const struct product *p)
{
    const struct matrix *w = p->w;
    if (w->packed) {
        blocks_matmul(p);
        return;
    }
    int group = GROUP_BYTES / (int)(16 * w->row_bytes);
    if (group < 1)
        group = 1;
    struct tile t = {.cols = w->cols, .segment = w->segment, .out_stride = p->out_stride};
    t.ahead = 4 * w->row_bytes;
    for (int j = p->begin; j < p->end; j += group)
        run_rows(p, tiles_for(p), j, j + group < p->end ? j + group : p->end, &t);
}
