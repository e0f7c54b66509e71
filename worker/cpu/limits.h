/*
 * What the machine can do at the most, measured: how fast all threads together read memory, and
 * how many multiply-adds they do in each arithmetic that the kernels use. A model's speed is
 * stated as a share of these. One thread at a time; the pool must not be in a run.
 */
#ifndef WORKER_CPU_LIMITS_H
#define WORKER_CPU_LIMITS_H

#include <stddef.h>

#include "base/error.h"
#include "worker/cpu/pool.h"

enum arithmetic {
    ARITHMETIC_F32,  /* fused multiply-add */
    ARITHMETIC_BF16, /* pairs into float32; as F32 where the processor has no such instruction */
    ARITHMETIC_INT8, /* fours into int32; the same in several steps where it has none */
    ARITHMETIC_KINDS,
};

struct limits {
    double bytes_per_s;
    double multiply_adds_per_s[ARITHMETIC_KINDS];
};

/* The best of several short runs. bytes: how much is read over and over; what fits into a cache
 * is read from there. Takes about a second. */
enum status limits_measure(struct pool *pool, size_t bytes, struct limits *out, struct error *err);

#endif
