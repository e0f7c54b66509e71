/*
 * Sixteen floats in the machine's own vectors. Vectors wider than the machine's would be kept in
 * memory by the compiler. The order of operations is that of vec.h. Included by the kernels of each
 * instruction set.
 */
#ifndef WORKER_CPU_LANES_H
#define WORKER_CPU_LANES_H

#include "worker/cpu/vec.h"

#if defined(__AVX512F__)
enum { PART = 16 };
#elif defined(__AVX2__)
enum { PART = 8 };
#else
enum { PART = 4 };
#endif
enum { PARTS = 16 / PART };
typedef float f32xn __attribute__((vector_size(PART * 4)));
typedef uint32_t u32xn __attribute__((vector_size(PART * 4)));
typedef int32_t i32xn __attribute__((vector_size(PART * 4)));

struct lanes {
    f32xn p[PARTS];
};

#if defined(__AVX512F__)
INLINE f32xn part_set(float x)
{
    return (f32xn)_mm512_set1_ps(x);
}
INLINE f32xn part_int8(const uint8_t *p)
{
    return (f32xn)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
INLINE f32xn part_bf16(const uint8_t *p)
{
    __m512i w = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return (f32xn)_mm512_slli_epi32(w, 16);
}
#elif defined(__AVX2__)
INLINE f32xn part_set(float x)
{
    return (f32xn)_mm256_set1_ps(x);
}
INLINE f32xn part_int8(const uint8_t *p)
{
    return (f32xn)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
INLINE f32xn part_bf16(const uint8_t *p)
{
    __m256i w = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return (f32xn)_mm256_slli_epi32(w, 16);
}
#else
INLINE f32xn part_set(float x)
{
    return (f32xn){x, x, x, x};
}
#if defined(__SSE2__)
INLINE f32xn part_int8(const uint8_t *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    __m128i x = _mm_cvtsi32_si128(four);
    x = _mm_unpacklo_epi8(x, x);
    return (f32xn)_mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(x, x), 24));
}
INLINE f32xn part_bf16(const uint8_t *p)
{
    __m128i x = _mm_loadl_epi64((const __m128i *)p);
    return (f32xn)_mm_unpacklo_epi16(_mm_setzero_si128(), x);
}
#else
INLINE f32xn part_int8(const uint8_t *p)
{
    return (f32xn){(float)(int8_t)p[0], (float)(int8_t)p[1], (float)(int8_t)p[2],
                   (float)(int8_t)p[3]};
}
INLINE f32xn part_bf16(const uint8_t *p)
{
    uint16_t h[4];
    memcpy(h, p, sizeof h);
    u32xn w = {h[0], h[1], h[2], h[3]};
    return (f32xn)(w << 16);
}
#endif
#endif

/* Stored weights; e4m3 comes out 2^8 too small, as in vec.h. */
#if defined(__AVX512BW__)
INLINE f32xn part_f16(const uint8_t *p)
{
    return (f32xn)vec_from_f16(p);
}
INLINE f32xn part_f8(const uint8_t *p)
{
    return (f32xn)vec_from_f8(p);
}
#elif defined(__AVX2__)
INLINE f32xn part_f16(const uint8_t *p)
{
    return (f32xn)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
INLINE f32xn part_f8(const uint8_t *p)
{
    __m128i w = _mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)p));
    w = _mm_and_si128(_mm_slli_epi16(w, 7), _mm_set1_epi16((short)0xbfff));
    return (f32xn)_mm256_cvtph_ps(w);
}
#else
INLINE f32xn part_f16(const uint8_t *p)
{
    uint16_t h[4];
    memcpy(h, p, sizeof h);
    u32xn bits = {h[0], h[1], h[2], h[3]};
    return (f32xn)((bits & 0x8000u) << 16 | (bits & 0x7fffu) << 13) * 0x1p112f;
}
INLINE f32xn part_f8(const uint8_t *p)
{
    u32xn bits = {p[0], p[1], p[2], p[3]};
    return (f32xn)((bits & 0x80u) << 24 | (bits & 0x7fu) << 20) * 0x1p112f;
}
#endif

INLINE f32xn part_load(const float *p)
{
    f32xn v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void part_store(float *p, f32xn v)
{
    memcpy(p, &v, sizeof v);
}

INLINE f32xn part_max(f32xn a, f32xn b)
{
    i32xn less = a < b;
    return (f32xn)(((i32xn)b & less) | ((i32xn)a & ~less));
}

/* As vec_exp. */
INLINE f32xn part_exp(f32xn x)
{
    const float round = 12582912.0f;
    x = part_max(x, part_set(-87.0f));
    x = -part_max(-x, part_set(-88.0f));
    f32xn biased = x * 1.44269504f + round;
    f32xn n = biased - round;
    f32xn r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    f32xn p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    u32xn exponent = ((u32xn)biased + 127u) << 23;
    return p * (f32xn)exponent;
}

INLINE struct lanes lanes_zero(void)
{
    struct lanes v;
    for (int j = 0; j < PARTS; j++)
        v.p[j] = part_set(0.0f);
    return v;
}

INLINE struct lanes lanes_load(const float *p)
{
    struct lanes v;
#pragma GCC unroll 4
    for (int j = 0; j < PARTS; j++)
        v.p[j] = part_load(p + j * PART);
    return v;
}

INLINE void lanes_store(float *p, struct lanes v)
{
#pragma GCC unroll 4
    for (int j = 0; j < PARTS; j++)
        part_store(p + j * PART, v.p[j]);
}

/* sum += a x b */
INLINE void lanes_add_product(struct lanes *sum, const struct lanes *a, const struct lanes *b)
{
#pragma GCC unroll 4
    for (int j = 0; j < PARTS; j++)
        sum->p[j] = sum->p[j] + a->p[j] * b->p[j];
}

/* sum += a x b, the same b in all lanes */
INLINE void lanes_add_scaled(struct lanes *sum, const struct lanes *a, f32xn b)
{
#pragma GCC unroll 4
    for (int j = 0; j < PARTS; j++)
        sum->p[j] = sum->p[j] + a->p[j] * b;
}

INLINE struct lanes lanes_multiply(struct lanes a, const struct lanes *b)
{
#pragma GCC unroll 4
    for (int j = 0; j < PARTS; j++)
        a.p[j] = a.p[j] * b->p[j];
    return a;
}

INLINE struct lanes lanes_mask(struct lanes a, const uint32_t *mask)
{
#pragma GCC unroll 4
    for (int j = 0; j < PARTS; j++) {
        u32xn m;
        memcpy(&m, mask + j * PART, sizeof m);
        a.p[j] = (f32xn)((u32xn)a.p[j] & m);
    }
    return a;
}

/* As vec_sum4. */
INLINE f32x4 lanes_sum4(const struct lanes *a, const struct lanes *b, const struct lanes *c,
                        const struct lanes *d)
{
#if defined(__AVX512F__)
    return vec_sum4(a->p[0], b->p[0], c->p[0], d->p[0]);
#else
    f32x4 x[4][4], sum[4];
    memcpy(x[0], a, sizeof x[0]);
    memcpy(x[1], b, sizeof x[1]);
    memcpy(x[2], c, sizeof x[2]);
    memcpy(x[3], d, sizeof x[3]);
#pragma GCC unroll 4
    for (int g = 0; g < 4; g++) {
        f32x4 ab = __builtin_shufflevector(x[0][g], x[1][g], 0, 4, 1, 5) +
                   __builtin_shufflevector(x[0][g], x[1][g], 2, 6, 3, 7);
        f32x4 cd = __builtin_shufflevector(x[2][g], x[3][g], 0, 4, 1, 5) +
                   __builtin_shufflevector(x[2][g], x[3][g], 2, 6, 3, 7);
        sum[g] = __builtin_shufflevector(ab, cd, 0, 1, 4, 5) +
                 __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    }
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
#endif
}

#endif
