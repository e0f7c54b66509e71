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

/* P rows of weights, from the given one on. */
INLINE const uint8_t *add_pairs(const struct tile *t, int row, __m512 *sum, const uint8_t *ahead,
                                const int R, const int P, const int lines)
{
#pragma GCC unroll 24
    for (int i = 0; i < R * P; i++)
        sum[i] = _mm512_setzero_ps();
    size_t whole = (size_t)t->cols / 32 * 64, k = 0;
    for (; k < whole; k += 64) {
        __m512bh w[4];
#pragma GCC unroll 4
        for (int p = 0; p < P; p++)
            w[p] = (__m512bh)_mm512_loadu_si512(t->w[row + p] + k);
        ahead = fetch(ahead, lines);
#pragma GCC unroll 6
        for (int r = 0; r < R; r++) {
            __m512bh x = (__m512bh)_mm512_loadu_si512((const uint8_t *)t->x[r] + k);
#pragma GCC unroll 4
            for (int p = 0; p < P; p++)
                sum[r * P + p] = _mm512_dpbf16_ps(sum[r * P + p], w[p], x);
        }
    }
    if (t->cols % 32)
#pragma GCC unroll 24
        for (int i = 0; i < R * P; i++)
            sum[i] = _mm512_dpbf16_ps(sum[i], load_half(t->w[row + i % P] + k),
                                      load_half((const uint8_t *)t->x[i / P] + k));
    return ahead;
}

INLINE void run_rounded(const struct tile *t, const int R, const int P, const bool shared)
{
    const int lines = P == 1 ? 0 : shared ? 1 : 4;
    __m512 sum[6 * 4];
    if (P == 1)
#pragma GCC unroll 4
        for (int row = 0; row < 4; row++)
            add_pairs(t, row, sum + row, t->ahead, 1, 1, lines);
    else
        add_pairs(t, 0, sum, t->ahead, R, 4, lines);
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
        store_quad(t, r,
                   vec_sum4((f32x16)sum[r * 4], (f32x16)sum[r * 4 + 1], (f32x16)sum[r * 4 + 2],
                            (f32x16)sum[r * 4 + 3]));
}

#define ROUNDED_TILE(R)                                                                            \
    static __attribute__((noinline)) void tile_##R##_ROUNDED(const struct tile *t)                 \
    {                                                                                              \
        run_rounded(t, R, 4, false);                                                               \
    }                                                                                              \
    static __attribute__((noinline)) void tile_##R##_ROUNDED_many(const struct tile *t)            \
    {                                                                                              \
        run_rounded(t, R, 4, true);                                                                \
    }
static __attribute__((noinline)) void tile_0_ROUNDED(const struct tile *t)
{
    run_rounded(t, 1, 1, false);
}
ROUNDED_TILE(1)
ROUNDED_TILE(2)
ROUNDED_TILE(3)
ROUNDED_TILE(4)
ROUNDED_TILE(5)
ROUNDED_TILE(6)
