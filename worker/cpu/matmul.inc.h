/*
 * Weights where they lie in the file, row after row, times rows of input. A tile is 4 rows of
 * weights by R rows of input. Each of its 4 R sums is a vector whose lane j adds the products of
 * the columns j, j + 16, j + 32, ... in ascending order; the 16 lanes are added at the end, four
 * sums at a time. That order is the same whatever R is, so a row's result does not depend on how
 * many there are. Where there are scales, a segment's sums are scaled and added to a total.
 *
 * Decode (one row) is bound by reading the weights. Memory is fastest when it is read from front
 * to back, one row of weights after the other; only rows so long that the input does not stay in
 * the first-level cache are read four at a time.
 *
 * With many rows a group of weights that stays in the second-level cache is used for all of them,
 * R rows, which stay in the first, at a time; meanwhile the next group is fetched.
 */
#include "worker/cpu/kernels.h"
#include "worker/cpu/stored.h"

#if defined(__AVX512F__)
enum { ROWS_MOST = 6, TOGETHER = 4 };
#elif defined(__AVX2__)
enum { ROWS_MOST = 3, TOGETHER = 2 };
#else
enum { ROWS_MOST = 2, TOGETHER = 2 };
#endif
enum { GROUP_BYTES = 64 << 10, LONG_ROW_BYTES = 8192 };

struct tile {
    const uint8_t *w[4];      /* rows of weights; what is past the last one repeats the first */
    const uint8_t *scales[4]; /* F8: floats of a row, per segment */
    const void *x[6];
    int cols, segment;
    int outputs; /* how many of the four are wanted */
    float *out;  /* of the first row of input */
    size_t out_stride;
    const uint8_t *ahead; /* what will be needed soon, fetched line by line */
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

INLINE f32xn load_part(const enum weight_type type, const uint8_t *p)
{
    switch (type) {
    case WEIGHT_F32:
        return part_load((const float *)p);
    case WEIGHT_BF16:
    case WEIGHT_F8_WIDE:
        return part_bf16(p);
    case WEIGHT_F16:
        return part_f16(p);
    default:
        return part_f8(p);
    }
}

INLINE const uint8_t *fetch(const uint8_t *at, const int lines)
{
#pragma GCC unroll 4
    for (int i = 0; i < lines; i++)
        __builtin_prefetch(at + i * 64, 0, 2);
    return at + lines * 64;
}

/* The sums over the columns [from, to) of P rows of weights, from the given one on. One part of
 * all rows after the other, so that few weights are held beside the sums. */
INLINE const uint8_t *add_columns(const struct tile *t, int row, int from, int to,
                                  struct lanes *sum, const uint8_t *ahead, const int R, const int P,
                                  const int lines, const enum weight_type type)
{
    const size_t element = type == WEIGHT_F32 ? 4 : type == WEIGHT_F8 ? 1 : 2;
#pragma GCC unroll 24
    for (int i = 0; i < R * P; i++)
        sum[i] = lanes_zero();
    for (int k = from; k < to; k += 16) {
        ahead = fetch(ahead, lines);
#pragma GCC unroll 4
        for (int j = 0; j < PARTS; j++) {
            const int at = k + j * PART;
            f32xn w[4];
#pragma GCC unroll 4
            for (int p = 0; p < P; p++)
                w[p] = load_part(type, t->w[row + p] + (size_t)at * element);
#pragma GCC unroll 6
            for (int r = 0; r < R; r++) {
                f32xn x = part_load((const float *)t->x[r] + at);
#pragma GCC unroll 4
                for (int p = 0; p < P; p++)
                    sum[r * P + p].p[j] = sum[r * P + p].p[j] + w[p] * x;
            }
        }
    }
    return ahead;
}

INLINE const uint8_t *add_segments(const struct tile *t, int row, struct lanes *total,
                                   const uint8_t *ahead, const int R, const int P, const int lines,
                                   const enum weight_type type)
{
    /* Decoding makes e4m3 2^8 too small. */
    const float correction = type == WEIGHT_F8 ? 256.0f : 1.0f;
    struct lanes sum[24];
#pragma GCC unroll 24
    for (int i = 0; i < R * P; i++)
        total[i] = lanes_zero();
    for (int s = 0, from = 0; from < t->cols; s++, from += t->segment) {
        int to = from + t->segment < t->cols ? from + t->segment : t->cols;
        ahead = add_columns(t, row, from, to, sum, ahead, R, P, lines, type);
#pragma GCC unroll 4
        for (int p = 0; p < P; p++) {
            f32xn scale = part_set(load_float(t->scales[row + p] + (size_t)s * 4) * correction);
#pragma GCC unroll 6
            for (int r = 0; r < R; r++)
                lanes_add_scaled(&total[r * P + p], &sum[r * P + p], scale);
        }
    }
    return ahead;
}

/* shared: the lines to fetch are shared out among the tiles of all rows of input. */
INLINE void run_tile(const struct tile *t, const int R, const int P, const bool shared,
                     const enum weight_type type)
{
    const int bytes = 16 * P * (type == WEIGHT_F32 ? 4 : type == WEIGHT_F8 ? 1 : 2);
    const int lines = P == 1 ? 0 : bytes < 256 || shared ? (bytes + 255) / 256 : bytes / 64;
    const uint8_t *ahead = t->ahead;
    struct lanes sum[4 * 6]; /* [row][4] */
    /* Unrolled, the sums of some rows would compete for registers with those of others. */
#pragma GCC unroll 1
    for (int row = 0; row < 4; row += P) {
        struct lanes part[6 * 4];
        if (type == WEIGHT_F8 || type == WEIGHT_F8_WIDE)
            ahead = add_segments(t, row, part, ahead, R, P, lines, type);
        else
            ahead = add_columns(t, row, 0, t->cols, part, ahead, R, P, lines, type);
#pragma GCC unroll 24
        for (int i = 0; i < R * P; i++)
            sum[i / P * 4 + row + i % P] = part[i];
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
        store_quad(t, r,
                   lanes_sum4(&sum[r * 4], &sum[r * 4 + 1], &sum[r * 4 + 2], &sum[r * 4 + 3]));
}

/* [0]: one row of input and short rows of weights; then by rows, and again for many. */
enum { TILE_KINDS = 13 };

#define TILE(R, TYPE)                                                                              \
    static __attribute__((noinline)) void tile_##R##_##TYPE(const struct tile *t)                  \
    {                                                                                              \
        run_tile(t, R <= ROWS_MOST ? R : 1, TOGETHER, false, WEIGHT_##TYPE);                       \
    }                                                                                              \
    static __attribute__((noinline)) void tile_##R##_##TYPE##_many(const struct tile *t)           \
    {                                                                                              \
        run_tile(t, R <= ROWS_MOST ? R : 1, TOGETHER, true, WEIGHT_##TYPE);                        \
    }
#define TILES(TYPE)                                                                                \
    static __attribute__((noinline)) void tile_0_##TYPE(const struct tile *t)                      \
    {                                                                                              \
        run_tile(t, 1, 1, false, WEIGHT_##TYPE);                                                   \
    }                                                                                              \
    TILE(1, TYPE) TILE(2, TYPE) TILE(3, TYPE) TILE(4, TYPE) TILE(5, TYPE) TILE(6, TYPE)
TILES(F32)
TILES(BF16)
TILES(F16)
TILES(F8)
TILES(F8_WIDE)

#if defined(__AVX512BF16__)
#include "worker/cpu/bf16.inc.h"
#endif

#define TILES_ROW(TYPE)                                                                            \
    {                                                                                              \
        tile_0_##TYPE, tile_1_##TYPE, tile_2_##TYPE, tile_3_##TYPE, tile_4_##TYPE, tile_5_##TYPE,  \
            tile_6_##TYPE, tile_1_##TYPE##_many, tile_2_##TYPE##_many, tile_3_##TYPE##_many,       \
            tile_4_##TYPE##_many, tile_5_##TYPE##_many, tile_6_##TYPE##_many                       \
    }

static const tile_function *tiles_for(const struct product *p)
{
    static const tile_function exact[][TILE_KINDS] = {[WEIGHT_F32] = TILES_ROW(F32),
                                                      [WEIGHT_BF16] = TILES_ROW(BF16),
                                                      [WEIGHT_F16] = TILES_ROW(F16),
                                                      [WEIGHT_F8] = TILES_ROW(F8),
                                                      [WEIGHT_F8_WIDE] = TILES_ROW(F8_WIDE)};
#if defined(__AVX512BF16__)
    static const tile_function rounded[TILE_KINDS] = TILES_ROW(ROUNDED);
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

/* Panels of a matrix, and where those begin that come next. */
struct panel_group {
    int begin, end;
    const uint8_t *next;
};

/* The quad's place in the group, in the next one: all of it, or a tile's quarter. */
static const uint8_t *ahead_of(const struct product *p, const struct panel_group *g,
                               const struct tile *t, int tile_index, bool last)
{
    size_t quad = 4 * p->w->row_bytes;
    if (p->count <= ROWS_MOST)
        return !last ? t->w[0] + quad : p->next ? p->next : t->w[0];
    if (!g->next || tile_index > 3)
        return t->w[0];
    return g->next + (size_t)(t->w[0] - p->w->panel[g->begin].data) + (size_t)tile_index * quad / 4;
}

static void run_rows(const struct product *p, const tile_function *tiles,
                     const struct panel_group *g, struct tile *t)
{
    const struct matrix *w = p->w;
    bool many = p->count > ROWS_MOST, alone = p->count == 1 && w->row_bytes <= LONG_ROW_BYTES;
    for (int i = 0; i < p->count; i += ROWS_MOST) {
        int rows = p->count - i < ROWS_MOST ? p->count - i : ROWS_MOST;
        for (int r = 0; r < rows; r++) {
            int from = p->in.index ? p->in.index[i + r] : i + r;
            t->x[r] = (const float *)p->in.data + (size_t)from * p->in.stride;
        }
        tile_function run = tiles[alone ? 0 : many ? rows + 6 : rows];
        for (int j = g->begin; j < g->end; j++)
            for (int first = 0; first < w->panel[j].rows; first += 4) {
                set_weights(w, &w->panel[j], first, t);
                bool last = j == p->end - 1 && first + 4 >= w->panel[j].rows;
                t->ahead = ahead_of(p, g, t, i / ROWS_MOST, last);
                t->out = p->out + (size_t)i * p->out_stride + (size_t)(j - p->begin) * 16 +
                         (size_t)first;
                run(t);
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
    int panels = GROUP_BYTES / (int)(16 * w->row_bytes);
    if (panels < 1)
        panels = 1;
    struct tile t = {.cols = w->cols, .segment = w->segment, .out_stride = p->out_stride};
    const tile_function *tiles = tiles_for(p);
    for (int j = p->begin; j < p->end; j += panels) {
        struct panel_group g = {j, j + panels < p->end ? j + panels : p->end, p->next};
        if (g.end < p->end)
            g.next = w->panel[g.end].data;
        run_rows(p, tiles, &g, &t);
    }
}
