/*
 * Quantised weights times quantised rows of input. Both have a scale per block of 32 columns; a
 * block's products are summed exactly, in 32-bit integers, so that only the sum over the blocks
 * rounds: in ascending order, as floats, the same for any tile.
 *
 * Sixteen rows of weights make a panel, so that a vector lane is one output and nothing is added
 * across lanes. A panel is read from front to back: the weights of two blocks, each
 * [group][16 rows][4 columns], then their scales [2][16 rows] as bfloat16, then the next two; an
 * odd last block leaves room for its neighbour. A stored weight has no sign: 8 bits hold it + 128,
 * in 8 groups of 4 columns; 4 bits hold it + 8, in 4 groups, whose low halves are the columns 4 g
 * .. 4 g + 3 and whose high halves are those + 16. As 4 products are added by one instruction that
 * wants one factor without a sign, what was added is taken back at the block's start: the sum of
 * the inputs' block x 128 or x 8.
 */
#include "worker/cpu/kernels.h"
#include "worker/cpu/stored.h"

#if defined(__AVX512F__)
enum { BLOCK_ROWS_MOST = 6, BLOCK_PANELS = 2 };
#elif defined(__AVX2__)
enum { BLOCK_ROWS_MOST = 4, BLOCK_PANELS = 1 };
#else
enum { BLOCK_ROWS_MOST = 2, BLOCK_PANELS = 1 };
#endif
enum { BLOCK_GROUP_BYTES = 384 << 10 };

struct block_tile {
    const uint8_t *w[2];
    const uint8_t *x[6];
    int blocks;
    float *out[2]; /* a panel's, of the first row */
    int outputs[2];
    size_t out_stride;
    const uint8_t *ahead; /* what will be needed soon, fetched line by line */
};

typedef void (*block_function)(const struct block_tile *t);

/* Bytes from a panel's start to a block's weights, and to its scales. */
INLINE size_t block_place(int block, size_t weight_bytes)
{
    return (size_t)(block / 2) * (2 * weight_bytes + 64) + (size_t)(block % 2) * weight_bytes;
}

INLINE size_t scale_place(int block, size_t weight_bytes)
{
    return (size_t)(block / 2) * (2 * weight_bytes + 64) + 2 * weight_bytes +
           (size_t)(block % 2) * 32;
}

INLINE int32_t load_int(const uint8_t *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE float load_float(const uint8_t *p)
{
    float v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void store_lanes(float *out, f32x16 v, int outputs)
{
    if (outputs >= 16)
        vec_store(out, v);
    else
        for (int i = 0; i < outputs; i++)
            out[i] = v[i];
}

#if defined(__AVX2__) && !defined(__AVX512F__)
#include "worker/cpu/blocks_avx2.inc.h"
#else
/* Lane i of sum, plus the products of the 4 bytes (without sign) of lane i of w and those of x. */
#if defined(__AVX512VNNI__)
INLINE i32x16 dot4(i32x16 sum, u32x16 w, int32_t x)
{
    return (i32x16)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, _mm512_set1_epi32(x));
}
#elif defined(__AVX512BW__)
/* Even and odd bytes apart, as 16-bit numbers: their products never overflow. */
INLINE i32x16 dot4(i32x16 sum, u32x16 w, int32_t x)
{
    __m512i both = _mm512_set1_epi32(x), bytes = (__m512i)w;
    __m512i even = _mm512_srai_epi16(_mm512_slli_epi16(both, 8), 8);
    __m512i odd = _mm512_srai_epi16(both, 8);
    __m512i a = _mm512_madd_epi16(_mm512_and_si512(bytes, _mm512_set1_epi16(0xff)), even);
    __m512i b = _mm512_madd_epi16(_mm512_srli_epi16(bytes, 8), odd);
    return (i32x16)_mm512_add_epi32((__m512i)sum, _mm512_add_epi32(a, b));
}
#else
INLINE i32x16 dot4(i32x16 sum, u32x16 w, int32_t x)
{
    for (int i = 0; i < 4; i++)
        sum = sum + (i32x16)(w >> (8 * i) & 0xffu) * (int32_t)(int8_t)((uint32_t)x >> (8 * i));
    return sum;
}
#endif

INLINE u32x16 load_weight_bytes(const uint8_t *p)
{
    u32x16 v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* With few sums a block has two of each, so that fewer products wait for the one before. */
enum { TWO_SUMS_MOST = 4 };

/* Else the compiler would read it again for each row of input. */
INLINE void keep_in_register(u32x16 *v)
{
#if defined(__AVX512F__)
    __asm__("" : "+v"(*v));
#endif
}

/* Integer sums of R rows of input x P panels, one group of 4 or 2 x 4 columns further. */
INLINE void add_group(const u32x16 *w, const uint8_t *const *x, int at, i32x16 *sum, i32x16 *other,
                      const int R, const int P, const enum weight_type type)
{
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int p = 0; p < P; p++) {
            int i = r * P + p;
            if (type == WEIGHT_INT8) {
                sum[i] = dot4(sum[i], w[p], load_int(x[r] + at));
                continue;
            }
            sum[i] = dot4(sum[i], w[p] & 0x0f0f0f0fu, load_int(x[r] + at));
            /* The other sum is 16 times too large. */
            if (R * P <= TWO_SUMS_MOST)
                other[i] = dot4(other[i], w[p] & 0xf0f0f0f0u, load_int(x[r] + at + 16));
            else
                sum[i] = dot4(sum[i], w[p] >> 4 & 0x0f0f0f0fu, load_int(x[r] + at + 16));
        }
}

/* One block: integer sums of R rows of input x P panels. */
INLINE void add_block(const struct block_tile *t, int block, i32x16 *sum, const int R, const int P,
                      const enum weight_type type)
{
    const int groups = type == WEIGHT_INT8 ? 8 : 4;
    const bool two = R * P <= TWO_SUMS_MOST;
    const size_t at = block_place(block, (size_t)groups * 64);
    i32x16 other[TWO_SUMS_MOST] = {{0}};
#pragma GCC unroll 8
    for (int g = 0; g < groups; g++) {
        u32x16 w[2];
#pragma GCC unroll 2
        for (int p = 0; p < P; p++) {
            w[p] = load_weight_bytes(t->w[p] + at + g * 64);
            if (R > 1)
                keep_in_register(&w[p]);
        }
        bool swap = two && type == WEIGHT_INT8 && g % 2;
        add_group(w, t->x, block * QUANT_BLOCK + g * 4, swap ? other : sum, other, R, P, type);
    }
    if (two)
#pragma GCC unroll 4
        for (int i = 0; i < R * P; i++)
            sum[i] += type == WEIGHT_INT8 ? other[i] : other[i] >> 4;
}

INLINE void run_block_tile(const struct block_tile *t, const int R, const int P,
                           const enum weight_type type)
{
    const int shift = type == WEIGHT_INT8 ? 7 : 3;
    const size_t weight_bytes = type == WEIGHT_INT8 ? 512 : 256;
    const size_t scales = (size_t)t->blocks * QUANT_BLOCK, sums = scales + (size_t)t->blocks * 4;
    const int lines = (P * ((int)weight_bytes + 32) + 63) / 64;
    const uint8_t *ahead = t->ahead;
    f32x16 total[12];
#pragma GCC unroll 12
    for (int i = 0; i < R * P; i++)
        total[i] = vec_set(0.0f);
    for (int b = 0; b < t->blocks; b++) {
#pragma GCC unroll 17
        for (int i = 0; i < lines; i++)
            __builtin_prefetch(ahead + i * 64, 0, 2);
        ahead += lines * 64;
        i32x16 sum[12];
#pragma GCC unroll 12
        for (int i = 0; i < R * P; i++)
            sum[i] = ((i32x16){0} + load_int(t->x[i / P] + sums + b * 4)) << shift;
        add_block(t, b, sum, R, P, type);
#pragma GCC unroll 2
        for (int p = 0; p < P; p++) {
            f32x16 scale = vec_from_bf16(t->w[p] + scale_place(b, weight_bytes));
#pragma GCC unroll 6
            for (int r = 0; r < R; r++) {
                f32x16 both = scale * load_float(t->x[r] + scales + b * 4);
                total[r * P + p] =
                    total[r * P + p] + __builtin_convertvector(sum[r * P + p], f32x16) * both;
            }
        }
    }
    for (int i = 0; i < R * P; i++)
        store_lanes(t->out[i % P] + (size_t)(i / P) * t->out_stride, total[i], t->outputs[i % P]);
}
#endif

#define BLOCK_TILE(R, P, TYPE)                                                                     \
    static                                                                                         \
        __attribute__((noinline)) void block_tile_##R##_##P##_##TYPE(const struct block_tile *t)   \
    {                                                                                              \
        run_block_tile(t, R <= BLOCK_ROWS_MOST ? R : 1, P <= BLOCK_PANELS ? P : 1, WEIGHT_##TYPE); \
    }
#define BLOCK_TILES(P, TYPE)                                                                       \
    BLOCK_TILE(1, P, TYPE)                                                                         \
    BLOCK_TILE(2, P, TYPE)                                                                         \
    BLOCK_TILE(3, P, TYPE)                                                                         \
    BLOCK_TILE(4, P, TYPE)                                                                         \
    BLOCK_TILE(5, P, TYPE)                                                                         \
    BLOCK_TILE(6, P, TYPE)
BLOCK_TILES(1, INT8)
BLOCK_TILES(2, INT8)
BLOCK_TILES(1, INT4)
BLOCK_TILES(2, INT4)

#define BLOCK_ROW(P, TYPE)                                                                         \
    {                                                                                              \
        block_tile_1_##P##_##TYPE, block_tile_2_##P##_##TYPE, block_tile_3_##P##_##TYPE,           \
            block_tile_4_##P##_##TYPE, block_tile_5_##P##_##TYPE, block_tile_6_##P##_##TYPE        \
    }

/* The first rows of input fetch the panels that follow; the others have them in the cache. */
static const uint8_t *block_ahead(const struct product *p, int row, int panel, int next)
{
    if (row == 0 && next < p->end)
        return matrix_panel(p->w, next);
    return row == 0 && p->next ? p->next : matrix_panel(p->w, panel);
}

static void run_panels(const struct product *p, int begin, int end, struct block_tile *t)
{
    static const block_function functions[2][2][6] = {{BLOCK_ROW(1, INT8), BLOCK_ROW(2, INT8)},
                                                      {BLOCK_ROW(1, INT4), BLOCK_ROW(2, INT4)}};
    const struct matrix *w = p->w;
    for (int i = 0; i < p->count; i += BLOCK_ROWS_MOST) {
        int rows = p->count - i < BLOCK_ROWS_MOST ? p->count - i : BLOCK_ROWS_MOST;
        for (int r = 0; r < rows; r++) {
            int from = p->in.index ? p->in.index[i + r] : i + r;
            t->x[r] = (const uint8_t *)p->in.data + (size_t)from * p->in.stride * 4;
        }
        for (int j = begin, panels; j < end; j += panels) {
            panels = end - j < BLOCK_PANELS || p->count == 1 ? 1 : BLOCK_PANELS;
            t->ahead = block_ahead(p, i, j, j + panels);
            for (int k = 0; k < panels; k++) {
                t->w[k] = w->packed + (size_t)(j + k) * w->panel_bytes;
                t->outputs[k] = w->panel[j + k].rows;
                t->out[k] = p->out + (size_t)i * p->out_stride + (size_t)(j + k - p->begin) * 16;
            }
            functions[w->type == WEIGHT_INT4][panels - 1][rows - 1](t);
        }
    }
}

static void blocks_matmul(const struct product *p)
{
    int group = (int)(BLOCK_GROUP_BYTES / p->w->panel_bytes) & ~1;
    if (group < 2)
        group = 2;
    struct block_tile t = {.blocks = p->w->cols / QUANT_BLOCK, .out_stride = p->out_stride};
    for (int j = p->begin; j < p->end; j += group)
        run_panels(p, j, j + group < p->end ? j + group : p->end, &t);
}

/* Nearest, ties to even. */
INLINE u32x16 round_bf16(f32x16 v)
{
    u32x16 bits = (u32x16)v;
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

static void convert_bf16(const float *x, int from, int n, int cols, uint8_t *row)
{
    u16x16 zero = {0};
    for (int i = 0; i < n; i += 16) {
        u16x16 v = __builtin_convertvector(round_bf16(vec_load(x + i)), u16x16);
        memcpy(row + (size_t)(from + i) * 2, &v, sizeof v);
    }
    if (from + n == cols && cols % 32)
        memcpy(row + (size_t)cols * 2, &zero, sizeof zero);
}

INLINE f32x16 vec_abs(f32x16 v)
{
    return (f32x16)((u32x16)v & 0x7fffffffu);
}

/* Writes 16 rounded numbers; returns them as floats. */
INLINE f32x16 store_bytes(uint8_t *to, f32x16 v)
{
    const float round = 12582912.0f; /* 1.5 x 2^23: leaves a whole number in the low bits */
    f32x16 biased = v + round;
    u8x16 bytes = vec_low_bytes((u32x16)biased);
    memcpy(to, &bytes, sizeof bytes);
    return biased - round;
}

/* Where blocks of a row go. */
struct int8_blocks {
    uint8_t *bytes, *scales, *minus;
};

/* Up to four blocks at once, as adding across lanes takes no longer for four. */
INLINE void convert_blocks(const float *x, const int count, const struct int8_blocks *to)
{
    f32x16 v[8] = {{0}}, sum[4] = {{0}}, most[4] = {{0}};
#pragma GCC unroll 4
    for (int i = 0; i < count; i++) {
        v[2 * i] = vec_load(x + i * QUANT_BLOCK);
        v[2 * i + 1] = vec_load(x + i * QUANT_BLOCK + 16);
        most[i] = vec_max(vec_abs(v[2 * i]), vec_abs(v[2 * i + 1]));
    }
    f32x4 largest = vec_largest4(most[0], most[1], most[2], most[3]);
    f32x4 scale = largest / 127.0f;
    f32x4 inverse = (f32x4)((i32x4)(127.0f / largest) & (largest > 0.0f));
#pragma GCC unroll 4
    for (int i = 0; i < count; i++)
        sum[i] = store_bytes(to->bytes + i * QUANT_BLOCK, v[2 * i] * inverse[i]) +
                 store_bytes(to->bytes + i * QUANT_BLOCK + 16, v[2 * i + 1] * inverse[i]);
    i32x4 minus = -__builtin_convertvector(vec_sum4(sum[0], sum[1], sum[2], sum[3]), i32x4);
    memcpy(to->scales, &scale, (size_t)count * sizeof scale[0]);
    memcpy(to->minus, &minus, (size_t)count * sizeof minus[0]);
}

static void convert_int8(const float *x, int from, int n, int cols, uint8_t *row)
{
    size_t block = (size_t)from / QUANT_BLOCK, blocks = (size_t)cols / QUANT_BLOCK;
    struct int8_blocks to = {row + from, row + (size_t)cols + block * 4,
                             row + (size_t)cols + (blocks + block) * 4};
    for (int left = n / QUANT_BLOCK, count; left; left -= count) {
        count = left < 4 ? 1 : 4;
        if (count == 4)
            convert_blocks(x, 4, &to);
        else
            convert_blocks(x, 1, &to);
        x += count * QUANT_BLOCK;
        to.bytes += count * QUANT_BLOCK;
        to.scales += count * 4;
        to.minus += count * 4;
    }
}

static void convert(enum input_type type, const float *x, int from, int n, int cols, void *row)
{
    if (type == INPUT_INT8)
        convert_int8(x, from, n, cols, row);
    else if (type == INPUT_BF16)
        convert_bf16(x, from, n, cols, row);
    else
        memcpy((float *)row + from, x, (size_t)n * sizeof *x);
}
