/*
 * What the machine can do at the most, measured: how fast all threads together read memory, and
 * how many multiply-adds they do in each arithmetic that the kernels use. A model's speed is
 * stated as a share of these. One thread at a time.
 */
#ifndef WORKER_CPU_LIMITS_H
#define WORKER_CPU_LIMITS_H

#include <stddef.h>

#include "base/error.h"

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

/* Threads, and the memory that they read over and over: so many bytes, in large pages where the
 * system gives them. What fits into a cache is read from there. */
struct limits_meter;
enum status limits_meter_new(int threads, size_t bytes, struct limits_meter **out,
                             struct error *err);
void limits_meter_free(struct limits_meter *m); /* NULL is fine */
/* The best of a few short runs: takes about a tenth of a second. What the machine's neighbours do
 * changes the rates from one second to the next, so measure next to what is to be compared. */
void limits_measure(const struct limits_meter *m, struct limits *out);
/* The higher of each rate, into the first. */
void limits_best(struct limits *l, const struct limits *other);

#endif
