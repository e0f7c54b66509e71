/*
 * Sixteen floats in the machine's own vectors. Vectors wider than the machine's would be kept in
 * memory by the compiler. The order of additions is that of vec.h. Included by the kernels of each
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

INLINE f32xn part_set(float x)
{
#if defined(__AVX512F__)
    return (f32xn)_mm512_set1_ps(x);
#elif defined(__AVX2__)
    return (f32xn)_mm256_set1_ps(x);
#else
    return (f32xn){x, x, x, x};
#endif
}

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

/* a where the two cannot be compared. */
INLINE f32xn part_max(f32xn a, f32xn b)
{
    i32xn less = a < b;
    return (f32xn)(((i32xn)b & less) | ((i32xn)a & ~less));
}

/* e^x to about 2 units in the last place: 2^n times a polynomial of the rest. Below -87 the
 * result is about 1e-38, above 88 about 1e38. */
INLINE f32xn part_exp(f32xn x)
{
    const float round =
        12582912.0f; /* 1.5 x 2^23: adding it leaves a whole number in the low bits */
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
