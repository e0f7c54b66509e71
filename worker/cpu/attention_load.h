/*
 * Cached values of any type as lanes. Included by the kernels of each instruction set.
 */
#ifndef WORKER_CPU_ATTENTION_LOAD_H
#define WORKER_CPU_ATTENTION_LOAD_H

#include "worker/cpu/stored.h"
#include "worker/kv.h"

/* Two neighbouring keys of sixteen positions. */
INLINE void load_columns(const enum kv_type type, const uint8_t *keys, int d, struct lanes *a,
                         struct lanes *b)
{
    const float *floats = (const float *)keys + (size_t)d * 16;
#pragma GCC unroll 4
    for (int j = 0; j < PARTS; j++) {
        u32xn pairs;
        switch (type) {
        case KV_F32:
            a->p[j] = part_load(floats + j * PART);
            b->p[j] = part_load(floats + 16 + j * PART);
            break;
        case KV_BF16:
            memcpy(&pairs, keys + (size_t)d * 32 + j * PART * 4, sizeof pairs);
            a->p[j] = (f32xn)(pairs << 16);
            b->p[j] = (f32xn)(pairs & 0xffff0000u);
            break;
        case KV_INT8:
            a->p[j] = part_int8(keys + (size_t)d * 16 + j * PART);
            b->p[j] = part_int8(keys + (size_t)d * 16 + 16 + j * PART);
            break;
        }
    }
}

/* Sixteen neighbouring values of one position. */
INLINE struct lanes load_row(const enum kv_type type, const uint8_t *values, int d)
{
    struct lanes v;
#pragma GCC unroll 4
    for (int j = 0; j < PARTS; j++) {
        int at = d + j * PART;
        v.p[j] = type == KV_F32    ? part_load((const float *)values + at)
                 : type == KV_BF16 ? part_bf16(values + (size_t)at * 2)
                                   : part_int8(values + at);
    }
    return v;
}

#endif
