/*
 * Attention over a segment of the cache for several queries at once: scores (a matrix product of
 * queries and keys), a softmax of each query over the segment, the weighted sum of the values,
 * and the merge with the segments before. Keys lie in columns, so that a vector is sixteen
 * positions; each score is a sum over its dimensions in ascending order. Values in rows: a vector
 * is sixteen dimensions, summed over the positions in ascending order. Values in columns (the
 * latents, which are keys too): a vector is sixteen positions, summed over the blocks, and at the
 * segment's end over its lanes. None of these orders depends on which queries share a tile.
 */
#include "worker/cpu/attention_load.h"
#include "worker/cpu/kernels.h"
#include "worker/cpu/vec.h"

/* What the registers hold: queries by blocks of scores, queries by vectors of values in rows, and
 * queries by pairs of dimensions in columns. */
#if defined(__AVX512F__)
enum { SCORE_QUERIES = 8, SCORE_BLOCKS = 2, ROW_QUERIES = 8, ROW_VECTORS = 2, COLUMN_QUERIES = 8 };
#elif defined(__AVX2__)
enum { SCORE_QUERIES = 4, SCORE_BLOCKS = 1, ROW_QUERIES = 4, ROW_VECTORS = 1, COLUMN_QUERIES = 2 };
#else
enum { SCORE_QUERIES = 2, SCORE_BLOCKS = 1, ROW_QUERIES = 2, ROW_VECTORS = 1, COLUMN_QUERIES = 1 };
#endif

INLINE const uint8_t *image_of(const struct attend *a, int block)
{
    return a->cache + (size_t)a->blocks[a->begin / 16 + block] * a->block_bytes;
}

INLINE const uint8_t *value_image_of(const struct attend *a, int block)
{
    return a->value_cache + (size_t)a->blocks[a->begin / 16 + block] * a->value_block_bytes;
}

INLINE float *scores_of(const struct attend *a, int query)
{
    return a->scratch + (size_t)query * ATTEND_SEGMENT;
}

/* The weights that the values are to be multiplied by: with the values' scales, where there are. */
INLINE float *scaled_of(const struct attend *a, int query)
{
    size_t copy = a->value_type == KV_INT8 ? ATTEND_QUERIES * ATTEND_SEGMENT : 0;
    return scores_of(a, query) + copy;
}

INLINE float *sums_of(const struct attend *a, int query)
{
    return a->scratch + ATTEND_QUERIES * 2 * ATTEND_SEGMENT +
           (size_t)query * (size_t)a->value_count;
}

INLINE float *rounded_of(const struct attend *a, int query)
{
    return sums_of(a, ATTEND_QUERIES) + (size_t)query * (((size_t)a->key_count + 31) / 32 * 16);
}

/* Positions of the segment that the query attends to. */
INLINE int tokens_of(const struct attend *a, int query)
{
    int n = a->tokens[query] - a->begin;
    return n < 0 ? 0 : n < ATTEND_SEGMENT ? n : ATTEND_SEGMENT;
}

/* The first of them; `tokens` if there is none. */
INLINE int first_of(const struct attend *a, int query, int tokens)
{
    int n = a->from[query] - a->begin;
    return n < 0 ? 0 : n < tokens ? n : tokens;
}

/* Over the keys [from, to). */
INLINE void add_keys(const uint8_t *const *keys, const float *const *query, int from, int to,
                     struct lanes *sum, const int Q, const int B, const enum kv_type type)
{
#pragma GCC unroll 16
    for (int i = 0; i < Q * B; i++)
        sum[i] = lanes_zero();
    for (int d = from; d < to; d += 2) {
        struct lanes even[SCORE_BLOCKS], odd[SCORE_BLOCKS];
#pragma GCC unroll 2
        for (int b = 0; b < B; b++)
            load_columns(type, keys[b], d, &even[b], &odd[b]);
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++) {
            f32xn x = part_set(query[q][d]), y = part_set(query[q][d + 1]);
#pragma GCC unroll 2
            for (int b = 0; b < B; b++) {
                lanes_add_scaled(&sum[q * B + b], &even[b], x);
                lanes_add_scaled(&sum[q * B + b], &odd[b], y);
            }
        }
    }
}

INLINE void score(const struct attend *a, int first, int block, const int Q, const int B,
                  const enum kv_type type)
{
    const uint8_t *image[SCORE_BLOCKS], *keys[SCORE_BLOCKS];
    const float *query[SCORE_QUERIES];
    struct lanes sum[SCORE_QUERIES * SCORE_BLOCKS], total[SCORE_QUERIES * SCORE_BLOCKS];
    for (int b = 0; b < B; b++) {
        image[b] = image_of(a, block + b);
        keys[b] = image[b] + a->keys;
    }
    for (int q = 0; q < Q; q++)
        query[q] = a->queries[first + q];
    if (type != KV_INT8) {
        add_keys(keys, query, 0, a->key_count, total, Q, B, type);
    } else {
#pragma GCC unroll 16
        for (int i = 0; i < Q * B; i++)
            total[i] = lanes_zero();
        for (int from = 0; from < a->key_count; from += a->group) {
            add_keys(keys, query, from, from + a->group, sum, Q, B, type);
            size_t at = a->key_scales + (size_t)(from / a->group) * 64;
#pragma GCC unroll 16
            for (int i = 0; i < Q * B; i++) {
                struct lanes scale = lanes_load((const float *)(image[i % B] + at));
                lanes_add_product(&total[i], &sum[i], &scale);
            }
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < Q * B; i++)
        lanes_store(scores_of(a, first + i / B) + (block + i % B) * 16, total[i]);
}

#if defined(__AVX512BF16__)
/* Keys in pairs times the same pair of a rounded query: two products in one instruction. */
INLINE void score_pairs(const struct attend *a, int first, int block, const int Q, const int B)
{
    const uint8_t *keys[SCORE_BLOCKS];
    const int32_t *query[SCORE_QUERIES];
    __m512 sum[SCORE_QUERIES * SCORE_BLOCKS];
    for (int b = 0; b < B; b++)
        keys[b] = image_of(a, block + b) + a->keys;
    for (int q = 0; q < Q; q++)
        query[q] = (const int32_t *)rounded_of(a, first + q);
#pragma GCC unroll 16
    for (int i = 0; i < Q * B; i++)
        sum[i] = _mm512_setzero_ps();
    for (int d = 0; d < a->key_count / 2; d++) {
        __m512bh k[SCORE_BLOCKS];
#pragma GCC unroll 2
        for (int b = 0; b < B; b++)
            k[b] = (__m512bh)_mm512_loadu_si512(keys[b] + (size_t)d * 64);
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++) {
            __m512bh x = (__m512bh)_mm512_set1_epi32(query[q][d]);
#pragma GCC unroll 2
            for (int b = 0; b < B; b++)
                sum[q * B + b] = _mm512_dpbf16_ps(sum[q * B + b], k[b], x);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < Q * B; i++)
        vec_store(scores_of(a, first + i / B) + (block + i % B) * 16, (f32x16)sum[i]);
}

static void round_queries(const struct attend *a)
{
    for (int q = 0; q < a->count; q++)
        for (int d = 0; d < a->key_count; d += 16) {
            int left = a->key_count - d;
            __mmask16 mask = (__mmask16)(left >= 16 ? 0xffff : (1 << left) - 1);
            __m512 x = _mm512_maskz_loadu_ps(mask, a->queries[q] + d);
            _mm256_storeu_si256((__m256i *)(rounded_of(a, q) + d / 2),
                                (__m256i)_mm512_cvtneps_pbh(x));
        }
}
#endif

/* The same order of additions as vec_sum's. */
static float sum_of(const struct lanes *v)
{
    f32x4 x[4];
    memcpy(x, v, sizeof x);
    f32x4 q = (x[0] + x[2]) + (x[1] + x[3]);
    return (q[0] + q[2]) + (q[1] + q[3]);
}

static float largest_of(f32xn v)
{
    float most = v[0];
    for (int i = 1; i < PART; i++)
        most = v[i] > most ? v[i] : most;
    return most;
}

static void fill(float *scores, int from, int to, float value)
{
    for (int t = from; t < to; t++)
        scores[t] = value;
}

/* Exponentials of the scores in place, zero before the first and behind the last, up to `most`
 * rounded up. */
static void softmax(const struct attend *a, int query, int most, struct attend_state *out)
{
    float *scores = scores_of(a, query);
    int tokens = tokens_of(a, query), used = (tokens + 15) / 16 * 16;
    int first = first_of(a, query, tokens), begin = first / 16 * 16;
    for (int t = used; t < most; t += 16)
        lanes_store(scores + t, lanes_zero());
    for (int t = 0; t < begin; t += 16)
        lanes_store(scores + t, lanes_zero());
    *out = (struct attend_state){0};
    if (first == tokens) {
        fill(scores, begin, used, 0.0f);
        return;
    }
    fill(scores, begin, first, scores[first]);
    fill(scores, tokens, used, scores[first]);
    f32xn largest = part_load(scores + begin);
    for (int t = begin + PART; t < used; t += PART)
        largest = part_max(largest, part_load(scores + t));
    out->largest = largest_of(largest);
    for (int t = begin; t < used; t += PART)
        part_store(scores + t, part_exp(part_load(scores + t) - out->largest));
    fill(scores, begin, first, 0.0f);
    fill(scores, tokens, used, 0.0f);
    struct lanes sum = lanes_zero();
    for (int t = begin; t < used; t += 16) {
        struct lanes v = lanes_load(scores + t);
        for (int j = 0; j < PARTS; j++)
            sum.p[j] = sum.p[j] + v.p[j];
    }
    out->total = sum_of(&sum);
}

/* The weights of all queries by the scales of the values' group. Scales behind the last position
 * may be anything. */
static void scale_weights(const struct attend *a, int group, int tokens)
{
    for (int b = 0; b * 16 < tokens; b++) {
        const uint8_t *image = value_image_of(a, b);
        struct lanes scale =
            lanes_load((const float *)(image + a->value_scales + (size_t)group * 64));
        for (int q = 0; q < a->count; q++)
            lanes_store(scaled_of(a, q) + b * 16,
                        lanes_multiply(lanes_load(scores_of(a, q) + b * 16), &scale));
    }
    for (int q = 0; q < a->count; q++)
        for (int t = tokens; t % 16; t++)
            scaled_of(a, q)[t] = 0.0f;
}

INLINE void weigh_rows(const struct attend *a, int first, int at, int tokens, const int Q,
                       const int V, const enum kv_type type)
{
    const float *weights = scaled_of(a, first);
    struct lanes sum[ROW_QUERIES * ROW_VECTORS];
#pragma GCC unroll 16
    for (int i = 0; i < Q * V; i++)
        sum[i] = lanes_zero();
    for (int block = 0; block * 16 < tokens; block++) {
        const uint8_t *values = value_image_of(a, block) + a->values;
        int n = tokens - block * 16 < 16 ? tokens - block * 16 : 16;
        for (int t = 0; t < n; t++, values += a->value_stride) {
            struct lanes v[ROW_VECTORS];
#pragma GCC unroll 2
            for (int i = 0; i < V; i++)
                v[i] = load_row(type, values, at + i * 16);
#pragma GCC unroll 8
            for (int q = 0; q < Q; q++) {
                f32xn w = part_set(weights[(size_t)q * ATTEND_SEGMENT + (size_t)(block * 16 + t)]);
#pragma GCC unroll 2
                for (int i = 0; i < V; i++)
                    lanes_add_scaled(&sum[q * V + i], &v[i], w);
            }
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < Q * V; i++)
        lanes_store(sums_of(a, first + i / V) + at + i % V * 16, sum[i]);
}

/* One block's columns `at` and at + 1. What lies behind the last position may be anything. */
INLINE void add_columns_of(const struct attend *a, int first, int at, int block, struct lanes *sum,
                           const int Q, const enum kv_type type, const uint32_t *mask)
{
    const float *weights = scaled_of(a, first) + block * 16;
    struct lanes even, odd;
    load_columns(type, value_image_of(a, block) + a->values, at, &even, &odd);
    if (mask) {
        even = lanes_mask(even, mask);
        odd = lanes_mask(odd, mask);
    }
#pragma GCC unroll 8
    for (int q = 0; q < Q; q++) {
        struct lanes w = lanes_load(weights + (size_t)q * ATTEND_SEGMENT);
        lanes_add_product(&sum[q * 2], &even, &w);
        lanes_add_product(&sum[q * 2 + 1], &odd, &w);
    }
}

INLINE void weigh_columns(const struct attend *a, int first, int at, int tokens, const int Q,
                          const enum kv_type type)
{
    struct lanes sum[COLUMN_QUERIES * 2];
#pragma GCC unroll 16
    for (int i = 0; i < Q * 2; i++)
        sum[i] = lanes_zero();
    for (int block = 0; block < tokens / 16; block++)
        add_columns_of(a, first, at, block, sum, Q, type, NULL);
    if (tokens % 16) {
        uint32_t mask[16];
        for (int i = 0; i < 16; i++)
            mask[i] = i < tokens % 16 ? ~0u : 0;
        add_columns_of(a, first, at, tokens / 16, sum, Q, type, mask);
    }
#pragma GCC unroll 8
    for (int q = 0; q < Q; q += 2) {
        int other = q + 1 < Q ? q + 1 : q;
        f32x4 s = lanes_sum4(&sum[q * 2], &sum[q * 2 + 1], &sum[other * 2], &sum[other * 2 + 1]);
        float *to = sums_of(a, first + q) + at;
        to[0] = s[0];
        to[1] = s[1];
        to = sums_of(a, first + other) + at;
        to[0] = s[2];
        to[1] = s[3];
    }
}

#if defined(__AVX512BF16__)
#define PAIR_TILE(Q)                                                                               \
    static __attribute__((noinline)) void pairs_##Q(const struct attend *a, int first, int blocks) \
    {                                                                                              \
        int block = 0;                                                                             \
        for (; block + SCORE_BLOCKS <= blocks; block += SCORE_BLOCKS)                              \
            score_pairs(a, first, block, Q, SCORE_BLOCKS);                                         \
        for (; block < blocks; block++)                                                            \
            score_pairs(a, first, block, Q, 1);                                                    \
    }
PAIR_TILE(1)
PAIR_TILE(2)
PAIR_TILE(3)
PAIR_TILE(4)
PAIR_TILE(5)
PAIR_TILE(6)
PAIR_TILE(7)
PAIR_TILE(8)

/* false: not for these keys. */
static bool score_rounded(const struct attend *a, int blocks)
{
    static void (*const tiles[])(const struct attend *a, int first, int blocks) = {
        pairs_1, pairs_2, pairs_3, pairs_4, pairs_5, pairs_6, pairs_7, pairs_8};
    if (!a->rounded || a->type != KV_BF16)
        return false;
    round_queries(a);
    tiles[a->count - 1](a, 0, blocks);
    return true;
}
#else
static bool score_rounded(const struct attend *a, int blocks)
{
    return false;
}
#endif

#define ATTEND_TILES(Q, TYPE)                                                                      \
    static __attribute__((noinline)) void score_##Q##_##TYPE(const struct attend *a, int first,    \
                                                             int blocks)                           \
    {                                                                                              \
        int block = 0;                                                                             \
        for (; block + SCORE_BLOCKS <= blocks; block += SCORE_BLOCKS)                              \
            score(a, first, block, Q, SCORE_BLOCKS, KV_##TYPE);                                    \
        for (; block < blocks; block++)                                                            \
            score(a, first, block, Q, 1, KV_##TYPE);                                               \
    }                                                                                              \
    static __attribute__((noinline)) void rows_##Q##_##TYPE(const struct attend *a, int first,     \
                                                            int from, int to, int tokens)          \
    {                                                                                              \
        for (; from + ROW_VECTORS * 16 <= to; from += ROW_VECTORS * 16)                            \
            weigh_rows(a, first, from, tokens, Q, ROW_VECTORS, KV_##TYPE);                         \
        for (; from < to; from += 16)                                                              \
            weigh_rows(a, first, from, tokens, Q, 1, KV_##TYPE);                                   \
    }                                                                                              \
    static __attribute__((noinline)) void columns_##Q##_##TYPE(const struct attend *a, int first,  \
                                                               int from, int to, int tokens)       \
    {                                                                                              \
        enum { HELD = Q < COLUMN_QUERIES ? Q : COLUMN_QUERIES };                                   \
        for (int d = from; d < to; d += 2)                                                         \
            for (int q = 0; q < Q; q += HELD)                                                      \
                weigh_columns(a, first + q, d, tokens, HELD, KV_##TYPE);                           \
    }

typedef void (*score_function)(const struct attend *a, int first, int blocks);
typedef void (*weigh_function)(const struct attend *a, int first, int from, int to, int tokens);

struct attend_tile {
    int queries;
    score_function score;
    weigh_function rows, columns;
};

#define ATTEND_TILES_OF(Q) ATTEND_TILES(Q, F32) ATTEND_TILES(Q, BF16) ATTEND_TILES(Q, INT8)
#define ATTEND_ENTRY(Q, TYPE)                                                                      \
    {                                                                                              \
        Q, score_##Q##_##TYPE, rows_##Q##_##TYPE, columns_##Q##_##TYPE                             \
    }
#define ATTEND_ENTRIES(Q)                                                                          \
    {                                                                                              \
        ATTEND_ENTRY(Q, F32), ATTEND_ENTRY(Q, BF16), ATTEND_ENTRY(Q, INT8)                         \
    }

ATTEND_TILES_OF(1)
ATTEND_TILES_OF(2)
#if defined(__AVX2__)
ATTEND_TILES_OF(4)
#endif
#if defined(__AVX512F__)
ATTEND_TILES_OF(3)
ATTEND_TILES_OF(5)
ATTEND_TILES_OF(6)
ATTEND_TILES_OF(7)
ATTEND_TILES_OF(8)
/* By queries - 1, then type. */
static const struct attend_tile attend_tiles[][3] = {
    ATTEND_ENTRIES(1), ATTEND_ENTRIES(2), ATTEND_ENTRIES(3), ATTEND_ENTRIES(4),
    ATTEND_ENTRIES(5), ATTEND_ENTRIES(6), ATTEND_ENTRIES(7), ATTEND_ENTRIES(8),
};
#elif defined(__AVX2__)
static const struct attend_tile attend_tiles[][3] = {ATTEND_ENTRIES(1), ATTEND_ENTRIES(2),
                                                     ATTEND_ENTRIES(2), ATTEND_ENTRIES(4)};
#else
static const struct attend_tile attend_tiles[][3] = {ATTEND_ENTRIES(1), ATTEND_ENTRIES(2)};
#endif

static const struct attend_tile *tile_for(const struct attend *a, enum kv_type type, int first)
{
    int left = a->count - first, most = (int)(sizeof attend_tiles / sizeof *attend_tiles);
    return &attend_tiles[(left < most ? left : most) - 1][type];
}

/* The values [from, to) of all queries. */
static void weigh(const struct attend *a, int from, int to, int tokens)
{
    const struct attend_tile *tile;
    for (int q = 0; q < a->count; q += tile->queries) {
        tile = tile_for(a, a->value_type, q);
        (a->value_stride ? tile->rows : tile->columns)(a, q, from, to, tokens);
    }
}

static void attend_merge(float *out, struct attend_state *state, const float *later,
                         const struct attend_state *later_state, int n)
{
    if (later_state->total <= 0.0f)
        return;
    if (state->total <= 0.0f) {
        memcpy(out, later, (size_t)n * sizeof *out);
        *state = *later_state;
        return;
    }
    f32xn most = part_max(part_set(state->largest), part_set(later_state->largest));
    f32xn a = part_exp(state->largest - most), b = part_exp(later_state->largest - most);
    for (int i = 0; i < n; i += PART)
        part_store(out + i, part_load(out + i) * a + part_load(later + i) * b);
    state->largest = most[0];
    state->total = state->total * a[0] + later_state->total * b[0];
}

static void attend_widen(const struct attend *a, int block, float *out)
{
    const uint8_t *image = image_of(a, block), *keys = image + a->keys;
    for (int d = 0; d < a->key_count; d += 2) {
        struct lanes even = lanes_zero(), odd = even;
        load_columns(a->type, keys, d, &even, &odd);
        if (a->type == KV_INT8) {
            size_t at = a->key_scales + (size_t)(d / a->group) * 64;
            struct lanes scale = lanes_load((const float *)(image + at));
            even = lanes_multiply(even, &scale);
            odd = lanes_multiply(odd, &scale);
        }
        lanes_store(out + (size_t)d * 16, even);
        lanes_store(out + (size_t)d * 16 + 16, odd);
    }
}

static void attend_finish(float *out, const struct attend_state *state, int n)
{
    float scale = 1.0f / state->total;
    for (int i = 0; i < n; i += PART)
        part_store(out + i, part_load(out + i) * scale);
}

static void score_all(const struct attend *a, int blocks)
{
    const struct attend_tile *tile;
    for (int q = 0; q < a->count; q += tile->queries) {
        tile = tile_for(a, a->type, q);
        tile->score(a, q, blocks);
    }
}

static void attend(const struct attend *a)
{
    struct attend_state states[ATTEND_QUERIES];
    int tokens = 0;
    for (int q = 0; q < a->count; q++)
        tokens = tokens_of(a, q) > tokens ? tokens_of(a, q) : tokens;
    int blocks = (tokens + 15) / 16;
    if (!score_rounded(a, blocks))
        score_all(a, blocks);
    for (int q = 0; q < a->count; q++)
        softmax(a, q, blocks * 16, &states[q]);
    int step = a->value_type == KV_INT8 ? a->group : a->value_count;
    for (int from = 0; from < a->value_count; from += step) {
        if (a->value_type == KV_INT8)
            scale_weights(a, from / a->group, tokens);
        weigh(a, from, from + step, tokens);
    }
    for (int q = 0; q < a->count; q++)
        attend_merge(a->out[q], a->states[q], sums_of(a, q), &states[q], a->value_count);
}
