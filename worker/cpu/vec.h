/*
 * Sixteen floats at a time, whatever the machine's vectors are: the compiler makes one 512-bit,
 * two 256-bit or four 128-bit operations of each. The files that include this are compiled once
 * per instruction set (worker/CMakeLists.txt), from the same source, so that all sets compute in
 * the same order.
 */
#ifndef WORKER_CPU_VEC_H
#define WORKER_CPU_VEC_H

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#pragma GCC diagnostic ignored "-Wpsabi"

#define INLINE static inline __attribute__((always_inline))

typedef float f32x16 __attribute__((vector_size(64)));
typedef float f32x8 __attribute__((vector_size(32)));
typedef float f32x4 __attribute__((vector_size(16)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));
typedef int32_t i32x16 __attribute__((vector_size(64)));

INLINE f32x16 vec_load(const float *p)
{
    f32x16 v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void vec_store(float *p, f32x16 v)
{
    memcpy(p, &v, sizeof v);
}

INLINE f32x16 vec_set(float x)
{
    return (f32x16){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
}

INLINE f32x16 vec_max(f32x16 a, f32x16 b)
{
    i32x16 less = a < b;
    return (f32x16)(((i32x16)b & less) | ((i32x16)a & ~less));
}

INLINE f32x8 vec_fold8(f32x16 v)
{
    return __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
           __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
}

INLINE f32x4 vec_fold4(f32x16 v)
{
    f32x8 h = vec_fold8(v);
    return __builtin_shufflevector(h, h, 0, 1, 2, 3) + __builtin_shufflevector(h, h, 4, 5, 6, 7);
}

INLINE float vec_sum(f32x16 v)
{
    f32x4 q = vec_fold4(v);
    return (q[0] + q[2]) + (q[1] + q[3]);
}

INLINE float vec_largest(f32x16 v)
{
    float most = v[0];
    for (int i = 1; i < 16; i++)
        most = v[i] > most ? v[i] : most;
    return most;
}

/* The sums of four vectors at once, each in the same order of additions. */
INLINE f32x4 vec_sum4(f32x16 a, f32x16 b, f32x16 c, f32x16 d)
{
    f32x16 ab =
        __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29) +
        __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
    f32x16 cd =
        __builtin_shufflevector(c, d, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29) +
        __builtin_shufflevector(c, d, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
    f32x16 lo =
        __builtin_shufflevector(ab, cd, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
    f32x16 hi =
        __builtin_shufflevector(ab, cd, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    return vec_fold4(lo + hi);
}

/* e^x to about 2 units in the last place: 2^n times a polynomial of the rest. Below -87 the
 * result is about 1e-38, above 88 about 1e38. */
INLINE f32x16 vec_exp(f32x16 x)
{
    const float round =
        12582912.0f; /* 1.5 x 2^23: adding it leaves a whole number in the low bits */
    x = vec_max(x, vec_set(-87.0f));
    x = -vec_max(-x, vec_set(-88.0f));
    f32x16 biased = x * 1.44269504f + round;
    f32x16 n = biased - round;
    f32x16 r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    f32x16 p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    u32x16 exponent = ((u32x16)biased + 127u) << 23;
    return p * (f32x16)exponent;
}

/* Two columns of sixteen rows of packed weights. */
INLINE void vec_load_bf16(const uint8_t *p, f32x16 *even, f32x16 *odd)
{
    u32x16 v;
    memcpy(&v, p, sizeof v);
    *even = (f32x16)(v << 16);
    *odd = (f32x16)(v & 0xffff0000u);
}

#if defined(__AVX512BW__)
INLINE void vec_load_f16(const uint8_t *p, f32x16 *a, f32x16 *b)
{
    *a = (f32x16)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
    *b = (f32x16)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p + 32)));
}
/* e4m3 bits fit into float16's with the exponent 8 too low: the scales make up for it. */
INLINE void vec_load_f8(const uint8_t *p, f32x16 *a, f32x16 *b)
{
    __m512i w = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p));
    w = _mm512_and_si512(_mm512_slli_epi16(w, 7), _mm512_set1_epi16((short)0xbfff));
    *a = (f32x16)_mm512_cvtph_ps(_mm512_castsi512_si256(w));
    *b = (f32x16)_mm512_cvtph_ps(_mm512_extracti64x4_epi64(w, 1));
}
#elif defined(__AVX2__) && defined(__F16C__)
INLINE f32x16 vec_from_f16(__m256i h)
{
    f32x16 v;
    __m256 lo = _mm256_cvtph_ps(_mm256_castsi256_si128(h));
    __m256 hi = _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1));
    memcpy(&v, &lo, 32);
    memcpy((char *)&v + 32, &hi, 32);
    return v;
}
INLINE void vec_load_f16(const uint8_t *p, f32x16 *a, f32x16 *b)
{
    *a = vec_from_f16(_mm256_loadu_si256((const __m256i *)p));
    *b = vec_from_f16(_mm256_loadu_si256((const __m256i *)(p + 32)));
}
INLINE f32x16 vec_from_f8(const uint8_t *p)
{
    __m256i w = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p));
    w = _mm256_and_si256(_mm256_slli_epi16(w, 7), _mm256_set1_epi16((short)0xbfff));
    return vec_from_f16(w);
}
INLINE void vec_load_f8(const uint8_t *p, f32x16 *a, f32x16 *b)
{
    *a = vec_from_f8(p);
    *b = vec_from_f8(p + 16);
}
#else
/* The bits moved to where float32 has them; the product puts the exponent right, and makes
 * subnormal numbers normal. */
INLINE f32x16 vec_from_small(u32x16 sign, u32x16 rest, float scale)
{
    return (f32x16)(sign | rest) * scale;
}
INLINE void vec_load_f16(const uint8_t *p, f32x16 *a, f32x16 *b)
{
    for (int half = 0; half < 2; half++) {
        u32x16 bits;
        for (int i = 0; i < 16; i++) {
            uint16_t h;
            memcpy(&h, p + half * 32 + i * 2, 2);
            bits[i] = h;
        }
        *(half ? b : a) = vec_from_small((bits & 0x8000u) << 16, (bits & 0x7fffu) << 13, 0x1p112f);
    }
}
INLINE void vec_load_f8(const uint8_t *p, f32x16 *a, f32x16 *b)
{
    for (int half = 0; half < 2; half++) {
        u32x16 bits;
        for (int i = 0; i < 16; i++)
            bits[i] = p[half * 16 + i];
        *(half ? b : a) = vec_from_small((bits & 0x80u) << 24, (bits & 0x7fu) << 20, 0x1p112f);
    }
}
#endif

#endif
