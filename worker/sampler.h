/*
 * From logits to a token: greedy, or by temperature and top-p. The choice for a sequence's n-th
 * token depends on its logits, its seed and n alone, so a seeded request repeats exactly, whatever
 * ran beside it. Pure: any thread, with scratch of its own.
 */
#ifndef WORKER_SAMPLER_H
#define WORKER_SAMPLER_H

#include <stdint.h>

#include "worker/backend.h"

struct sampler; /* scratch for one vocabulary size */

struct sampler *sampler_new(uint32_t vocab); /* NULL: out of memory */
void sampler_free(struct sampler *s);        /* NULL is fine */
/* how->seed counts, has_seed does not: the caller has drawn one where none was given. The first
 * of equals wins. */
int32_t sampler_pick(struct sampler *s, const float *logits, const struct sampling *how,
                     uint32_t n);
/* In [0, 1), from the seed and n. */
double sampler_uniform(uint64_t seed, uint32_t n);

#endif
