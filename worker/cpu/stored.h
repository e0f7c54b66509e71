/*
 * Numbers as they are stored, of any alignment, as floats: PART of them, or sixteen. e4m3 comes
 * out 2^8 too small, since its bits fit into float16's with the exponent 8 too low; the scales
 * make up for it. Included by the kernels of each instruction set.
 */
#ifndef WORKER_CPU_STORED_H
#define WORKER_CPU_STORED_H

#include "worker/cpu/lanes.h"

#if defined(__AVX512F__)
INLINE f32xn part_int8(const uint8_t *p)
{
    return (f32xn)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
/* The compilers make six instructions of the plain form. */
INLINE f32xn part_bf16(const uint8_t *p)
{
    __m512i w = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return (f32xn)_mm512_slli_epi32(w, 16);
}
INLINE f32xn part_f16(const uint8_t *p)
{
    return (f32xn)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
INLINE f32xn part_f8(const uint8_t *p)
{
    __m256i w = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p));
    w = _mm256_and_si256(_mm256_slli_epi16(w, 7), _mm256_set1_epi16((short)0xbfff));
    return (f32xn)_mm512_cvtph_ps(w);
}
#elif defined(__AVX2__)
INLINE f32xn part_int8(const uint8_t *p)
{
    return (f32xn)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
INLINE f32xn part_bf16(const uint8_t *p)
{
    __m256i w = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return (f32xn)_mm256_slli_epi32(w, 16);
}
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
/* The bits moved to where float32 has them; the product puts the exponent right, and makes
 * subnormal numbers normal. */
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

#define SIXTEEN_OF(NAME, BYTES)                                                                    \
    INLINE f32x16 vec_from_##NAME(const uint8_t *p)                                                \
    {                                                                                              \
        f32x16 v;                                                                                  \
        f32xn part[PARTS];                                                                         \
        for (int j = 0; j < PARTS; j++)                                                            \
            part[j] = part_##NAME(p + j * PART * (BYTES));                                         \
        memcpy(&v, part, sizeof v);                                                                \
        return v;                                                                                  \
    }
SIXTEEN_OF(bf16, 2)
SIXTEEN_OF(f16, 2)
SIXTEEN_OF(f8, 1)

#endif
