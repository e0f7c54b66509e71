/*
 * Input rounded to bfloat16 times bfloat16 weights: one instruction adds two products, each of
 * a pair of neighbouring columns, to a float32 lane, so a lane j of a sum has the columns 2 j and
 * 2 j + 1 of every 32, in ascending order. Subnormal numbers count as zero.
 */

/* 16 columns, where a row ends in the middle of a vector: the rest is zero. */
INLINE __m512bh load_half(const uint8_t *p)
{
    return (__m512bh)_mm512_zextsi256_si512(_mm256_loadu_si256((const __m256i *)p));
}

INLINE void run_rounded(const struct tile *t, const int R)
{
    __m512 sum[6 * 4];
#pragma GCC unroll 24
    for (int i = 0; i < R * 4; i++)
        sum[i] = _mm512_setzero_ps();
    size_t whole = (size_t)t->cols / 32 * 64, k = 0;
    for (; k < whole; k += 64) {
        __m512bh w[4];
#pragma GCC unroll 4
        for (int p = 0; p < 4; p++) {
            w[p] = (__m512bh)_mm512_loadu_si512(t->w[p] + k);
            if (R <= 2)
                __builtin_prefetch(t->w[p] + k + t->ahead);
        }
#pragma GCC unroll 6
        for (int r = 0; r < R; r++) {
            __m512bh x = (__m512bh)_mm512_loadu_si512((const uint8_t *)t->x[r] + k);
#pragma GCC unroll 4
            for (int p = 0; p < 4; p++)
                sum[r * 4 + p] = _mm512_dpbf16_ps(sum[r * 4 + p], w[p], x);
        }
    }
    if (t->cols % 32)
#pragma GCC unroll 24
        for (int i = 0; i < R * 4; i++)
            sum[i] = _mm512_dpbf16_ps(sum[i], load_half(t->w[i % 4] + k),
                                      load_half((const uint8_t *)t->x[i / 4] + k));
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
        store_quad(t, r,
                   vec_sum4((f32x16)sum[r * 4], (f32x16)sum[r * 4 + 1], (f32x16)sum[r * 4 + 2],
                            (f32x16)sum[r * 4 + 3]));
}

#define ROUNDED_TILE(R)                                                                            \
    static __attribute__((noinline)) void tile_##R##_ROUNDED(const struct tile *t)                 \
    {                                                                                              \
        run_rounded(t, R);                                                                         \
    }
ROUNDED_TILE(1)
ROUNDED_TILE(2)
ROUNDED_TILE(3)
ROUNDED_TILE(4)
ROUNDED_TILE(5)
ROUNDED_TILE(6)
