/*
 * Attention of one token over its cached rows, for up to four heads at a time: scores by dot
 * products of 4 tokens x the heads, softmax over all of them, then the weighted sum of the
 * values. The scores of all positions are kept, so nothing is rescaled on the way, and each head's
 * result depends on its own query and the cache alone.
 */
#include "worker/cpu/kernels.h"
#include "worker/cpu/vec.h"

enum { FETCH_AHEAD = 12 }; /* positions */

INLINE const float *cache_row(const struct attend *a, int position)
{
    return a->cache + (size_t)a->blocks[position / 16] * a->block_stride +
           (size_t)(position % 16) * a->row_stride;
}

/* Four positions of one block; those past the end are memory of the same block. */
INLINE void score4(const struct attend *a, int position, const int Q)
{
    const float *row = cache_row(a, position);
    f32x16 sum[4 * 4];
#pragma GCC unroll 16
    for (int i = 0; i < 4 * Q; i++)
        sum[i] = vec_set(0.0f);
    for (int d = 0; d < a->key_floats; d += 16) {
        f32x16 key[4];
#pragma GCC unroll 4
        for (int t = 0; t < 4; t++)
            key[t] = vec_load(row + (size_t)t * a->row_stride + d);
#pragma GCC unroll 4
        for (int q = 0; q < Q; q++) {
            f32x16 query = vec_load(a->queries + (size_t)q * a->query_stride + d);
#pragma GCC unroll 4
            for (int t = 0; t < 4; t++)
                sum[q * 4 + t] = sum[q * 4 + t] + query * key[t];
        }
    }
#pragma GCC unroll 4
    for (int q = 0; q < Q; q++) {
        f32x4 s = vec_sum4(sum[q * 4], sum[q * 4 + 1], sum[q * 4 + 2], sum[q * 4 + 3]);
        memcpy(a->scores + (size_t)q * a->score_stride + position, &s, sizeof s);
    }
}

/* Exponentials of the scores in place, zero behind the last; returns 1 / their sum. */
static float softmax(float *scores, int tokens)
{
    int padded = (tokens + 15) / 16 * 16;
    for (int t = tokens; t < padded; t++)
        scores[t] = scores[0];
    f32x16 most = vec_load(scores);
    for (int t = 16; t < padded; t += 16)
        most = vec_max(most, vec_load(scores + t));
    float largest = vec_largest(most);
    for (int t = 0; t < padded; t += 16)
        vec_store(scores + t, vec_exp(vec_load(scores + t) - largest));
    for (int t = tokens; t < padded; t++)
        scores[t] = 0.0f;
    f32x16 sum = vec_set(0.0f);
    for (int t = 0; t < padded; t += 16)
        sum = sum + vec_load(scores + t);
    return 1.0f / vec_sum(sum);
}

/* V vectors of the values, from `at` on, of Q heads. */
INLINE void weigh(const struct attend *a, int at, const float *scale, const int Q, const int V)
{
    f32x16 sum[16];
#pragma GCC unroll 16
    for (int i = 0; i < Q * V; i++)
        sum[i] = vec_set(0.0f);
    for (int block = 0; block * 16 < a->tokens; block++) {
        const float *row = cache_row(a, block * 16) + a->value_offset + at;
        int n = a->tokens - block * 16 < 16 ? a->tokens - block * 16 : 16;
        for (int t = 0; t < n; t++, row += a->row_stride) {
#pragma GCC unroll 4
            for (int v = 0; v < V; v++) {
                f32x16 value = vec_load(row + v * 16);
#pragma GCC unroll 4
                for (int q = 0; q < Q; q++)
                    sum[q * V + v] =
                        sum[q * V + v] +
                        value * a->scores[(size_t)q * a->score_stride + (size_t)(block * 16 + t)];
            }
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < Q * V; i++)
        vec_store(a->out + (size_t)(i / V) * a->out_stride + at + i % V * 16,
                  sum[i] * scale[i / V]);
}

/* The cache of many sequences does not stay in the near caches: the rows that come soon are asked
 * for early. Four of them lie together. */
INLINE void fetch4(const struct attend *a, int position)
{
    const char *row = (const char *)cache_row(a, position);
    for (size_t i = 0; i < 4 * a->row_stride * sizeof(float); i += 64)
        __builtin_prefetch(row + i);
}

INLINE void attend_heads(const struct attend *a, const int Q)
{
    for (int t = 0; t < a->tokens; t += 4) {
        if (t + FETCH_AHEAD < a->tokens)
            fetch4(a, t + FETCH_AHEAD);
        score4(a, t, Q);
    }
    float scale[4];
    for (int q = 0; q < Q; q++)
        scale[q] = softmax(a->scores + (size_t)q * a->score_stride, a->tokens);
    int at = 0;
    for (; at + 64 <= a->value_floats; at += 64)
        weigh(a, at, scale, Q, 4);
    for (; at < a->value_floats; at += 16)
        weigh(a, at, scale, Q, 1);
}

static void attend(const struct attend *a)
{
    if (a->query_count == 4)
        attend_heads(a, 4);
    else if (a->query_count == 2)
        attend_heads(a, 2);
    else
        attend_heads(a, 1);
}
