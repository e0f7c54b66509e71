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
typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef uint16_t u16x16 __attribute__((vector_size(32)));
typedef uint8_t u8x16 __attribute__((vector_size(16)));

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

/* a where the two cannot be compared. */
INLINE f32x16 vec_max(f32x16 a, f32x16 b)
{
#if defined(__AVX512F__)
    return (f32x16)_mm512_max_ps((__m512)b, (__m512)a);
#else
    i32x16 less = a < b;
    return (f32x16)(((i32x16)b & less) | ((i32x16)a & ~less));
#endif
}

/* The lowest byte of each: the compiler would take them one by one. */
INLINE u8x16 vec_low_bytes(u32x16 v)
{
#if defined(__AVX512F__)
    return (u8x16)_mm512_cvtepi32_epi8((__m512i)v);
#elif defined(__AVX2__)
    __m256i part[2];
    memcpy(part, &v, sizeof part);
    __m256i low = _mm256_set1_epi32(255);
    __m256i words =
        _mm256_packus_epi32(_mm256_and_si256(part[0], low), _mm256_and_si256(part[1], low));
    words = _mm256_permute4x64_epi64(words, 0xd8);
    return (u8x16)_mm_packus_epi16(_mm256_castsi256_si128(words),
                                   _mm256_extracti128_si256(words, 1));
#else
    return __builtin_convertvector(v, u8x16);
#endif
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
    v = vec_max(
        v, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
    v = vec_max(
        v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
    float a = v[0] > v[1] ? v[0] : v[1], b = v[2] > v[3] ? v[2] : v[3];
    return a > b ? a : b;
}

/* Lanes 0 and 1, or 2 and 3, of each quarter of a and b in turn. */
INLINE f32x16 vec_pair_low(f32x16 a, f32x16 b)
{
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
}

INLINE f32x16 vec_pair_high(f32x16 a, f32x16 b)
{
    return __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15,
                                   31);
}

/* The first, or the second, half of each quarter of a and b. */
INLINE f32x16 vec_half_low(f32x16 a, f32x16 b)
{
    return __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
}

INLINE f32x16 vec_half_high(f32x16 a, f32x16 b)
{
    return __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30,
                                   31);
}

/* The sums of four vectors at once, each in the same order of additions. */
INLINE f32x4 vec_sum4(f32x16 a, f32x16 b, f32x16 c, f32x16 d)
{
    f32x16 ab = vec_pair_low(a, b) + vec_pair_high(a, b);
    f32x16 cd = vec_pair_low(c, d) + vec_pair_high(c, d);
    return vec_fold4(vec_half_low(ab, cd) + vec_half_high(ab, cd));
}

/* The largest of each of four vectors. */
INLINE f32x4 vec_largest4(f32x16 a, f32x16 b, f32x16 c, f32x16 d)
{
    f32x16 ab = vec_max(vec_pair_low(a, b), vec_pair_high(a, b));
    f32x16 cd = vec_max(vec_pair_low(c, d), vec_pair_high(c, d));
    f32x16 v = vec_max(vec_half_low(ab, cd), vec_half_high(ab, cd));
    v = vec_max(
        v, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
    v = vec_max(
        v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
    return __builtin_shufflevector(v, v, 0, 1, 2, 3);
}

#endif
