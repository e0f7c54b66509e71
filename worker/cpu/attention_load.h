/* Sixteen cached values of any type as floats. Included by the kernels of each instruction set. */
#ifndef WORKER_CPU_ATTENTION_LOAD_H
#define WORKER_CPU_ATTENTION_LOAD_H

#include "worker/cpu/vec.h"
#include "worker/kv.h"

#if defined(__AVX512F__)
INLINE f32x16 load_int8(const uint8_t *p)
{
    return (f32x16)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
INLINE f32x16 load_bf16(const uint8_t *p)
{
    __m512i w = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return (f32x16)_mm512_slli_epi32(w, 16);
}
#elif defined(__AVX2__)
INLINE f32x16 join8(__m256 lo, __m256 hi)
{
    f32x16 v;
    memcpy(&v, &lo, 32);
    memcpy((char *)&v + 32, &hi, 32);
    return v;
}
INLINE f32x16 load_int8(const uint8_t *p)
{
    __m256i lo = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p));
    __m256i hi = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8)));
    return join8(_mm256_cvtepi32_ps(lo), _mm256_cvtepi32_ps(hi));
}
INLINE f32x16 load_bf16(const uint8_t *p)
{
    __m256i lo = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    __m256i hi = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p + 16)));
    return join8(_mm256_castsi256_ps(_mm256_slli_epi32(lo, 16)),
                 _mm256_castsi256_ps(_mm256_slli_epi32(hi, 16)));
}
#else
INLINE f32x16 load_int8(const uint8_t *p)
{
    f32x16 v;
    for (int i = 0; i < 16; i++)
        v[i] = (float)(int8_t)p[i];
    return v;
}
INLINE f32x16 load_bf16(const uint8_t *p)
{
    u32x16 v;
    for (int i = 0; i < 16; i++) {
        uint16_t h;
        memcpy(&h, p + i * 2, 2);
        v[i] = (uint32_t)h << 16;
    }
    return (f32x16)v;
}
#endif

/* Two neighbouring keys of sixteen positions. */
INLINE void load_columns(const enum kv_type type, const uint8_t *keys, int d, f32x16 *a, f32x16 *b)
{
    switch (type) {
    case KV_F32:
        *a = vec_load((const float *)keys + (size_t)d * 16);
        *b = vec_load((const float *)keys + (size_t)d * 16 + 16);
        break;
    case KV_BF16:
        vec_load_bf16(keys + (size_t)d * 32, a, b);
        break;
    case KV_INT8:
        *a = load_int8(keys + (size_t)d * 16);
        *b = load_int8(keys + (size_t)d * 16 + 16);
        break;
    }
}

/* Sixteen neighbouring values of one position. */
INLINE f32x16 load_row(const enum kv_type type, const uint8_t *values, int d)
{
    switch (type) {
    case KV_F32:
        return vec_load((const float *)values + d);
    case KV_BF16:
        return load_bf16(values + (size_t)d * 2);
    case KV_INT8:
        return load_int8(values + d);
    }
    return vec_set(0.0f);
}

#endif
