/*
 * Blocks where the machine multiplies bytes two by two, into 16 bits. Two products of whole bytes
 * do not fit, those of 4 bits do, with what a block has of them added: 8 x 2 x 15 x 128 < 2^15. So
 * a weight of 8 bits is taken as two of 4, the upper ones counting 16 times. The sums are those of
 * the other sets, exactly. Eight of a panel's rows are gone through for all rows of input, so that
 * the sums of a block stay in registers; the totals are fetched once a block.
 */

/* The sums of a block: eight rows of weights x R rows of input, low and high halves apart. */
INLINE void add_halves(const uint8_t *w, const uint8_t *const *x, int at, __m256i *sum, const int R,
                       const enum weight_type type)
{
    const int groups = type == WEIGHT_INT8 ? 8 : 4, apart = type == WEIGHT_INT8 ? 0 : 16;
    const __m256i mask = _mm256_set1_epi8(15);
#pragma GCC unroll 8
    for (int i = 0; i < 2 * R; i++)
        sum[i] = _mm256_setzero_si256();
        /* Unrolled, the additions would be put into an order that needs many registers. */
#pragma GCC unroll 1
    for (int g = 0; g < groups; g++) {
        __m256i both = _mm256_loadu_si256((const __m256i *)(w + g * 64));
        __m256i low = _mm256_and_si256(both, mask);
        __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            __m256i a = _mm256_set1_epi32(load_int(x[r] + at + g * 4));
            __m256i b = _mm256_set1_epi32(load_int(x[r] + at + g * 4 + apart));
            sum[2 * r] = _mm256_add_epi16(sum[2 * r], _mm256_maddubs_epi16(low, a));
            sum[2 * r + 1] = _mm256_add_epi16(sum[2 * r + 1], _mm256_maddubs_epi16(high, b));
        }
    }
}

/* Half a panel of block b, onto the totals [R][2]. */
INLINE void add_half_panel(const struct block_tile *t, int b, const int half, f32xn *total,
                           const int R, const enum weight_type type)
{
    const size_t weight_bytes = type == WEIGHT_INT8 ? 512 : 256;
    const size_t scales = (size_t)t->blocks * QUANT_BLOCK, sums = scales + (size_t)t->blocks * 4;
    const __m256i low = _mm256_set1_epi16(1);
    const __m256i high = _mm256_set1_epi16(type == WEIGHT_INT8 ? 16 : 1);
    __m256i sum[2 * BLOCK_ROWS_MOST];
    add_halves(t->w[0] + block_place(b, weight_bytes) + half * 32, t->x, b * QUANT_BLOCK, sum, R,
               type);
    f32xn scale = part_bf16(t->w[0] + scale_place(b, weight_bytes) + half * 16);
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        __m256i start = _mm256_set1_epi32(load_int(t->x[r] + sums + b * 4));
        start = _mm256_slli_epi32(start, type == WEIGHT_INT8 ? 7 : 3);
        __m256i all = _mm256_add_epi32(_mm256_madd_epi16(sum[2 * r], low),
                                       _mm256_madd_epi16(sum[2 * r + 1], high));
        f32xn product = (f32xn)_mm256_cvtepi32_ps(_mm256_add_epi32(start, all));
        f32xn both = scale * part_set(load_float(t->x[r] + scales + b * 4));
        total[r * 2 + half] = total[r * 2 + half] + product * both;
    }
}

INLINE void run_block_tile(const struct block_tile *t, const int R, const int P,
                           const enum weight_type type)
{
    /* One row reads one panel from front to back, which memory does by itself. */
    const int lines = R == 1 ? 0 : type == WEIGHT_INT8 ? 9 : 5;
    const uint8_t *ahead = t->ahead;
    f32xn total[2 * BLOCK_ROWS_MOST];
    (void)P;
#pragma GCC unroll 8
    for (int i = 0; i < 2 * R; i++)
        total[i] = part_set(0.0f);
    for (int b = 0; b < t->blocks; b++) {
#pragma GCC unroll 9
        for (int i = 0; i < lines; i++)
            __builtin_prefetch(ahead + i * 64, 0, 2);
        ahead += lines * 64;
        add_half_panel(t, b, 0, total, R, type);
        add_half_panel(t, b, 1, total, R, type);
    }
    for (int r = 0; r < R; r++) {
        f32x16 v;
        memcpy(&v, total + 2 * r, sizeof v);
        store_lanes(t->out[0] + (size_t)r * t->out_stride, v, t->outputs[0]);
    }
}
