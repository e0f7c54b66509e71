/*
 * The loops of the sampler that walk over the whole vocabulary, once per instruction set; all
 * give the same results to the bit. Private to worker/sampler.c and its tests.
 */
#ifndef WORKER_SAMPLER_LOOPS_H
#define WORKER_SAMPLER_LOOPS_H

#include <stdint.h>

enum { SAMPLER_BLOCK = 64 };

/* The seed and number of a draw, mixed. */
struct race_key {
    uint32_t a, b;
};

/* The upper 32 bits of a token's share of (0, 1): a permutation of 32 bits (the constants are
 * Wellons' lowbias32), so the tokens of one draw never share them. */
static inline uint32_t race_bits(struct race_key key, uint32_t token)
{
    uint32_t h = token + key.a;
    h = (h ^ (h >> 16)) * 0x7feb352du + key.b;
    h = (h ^ (h >> 15)) * 0x846ca68bu;
    return h ^ (h >> 16);
}

/* Logits above `most` never occur. A token may win when
 * log2(race_bits / 2^32) <= (logit - most) * scale + limit. */
struct race {
    const float *logits;
    uint32_t count;
    struct race_key key;
    float most, scale, limit;
};

struct sampler_loops {
    const char *name;
    /* The largest of each SAMPLER_BLOCK, and of all; NaNs are passed over, and -INFINITY is the
     * largest of nothing. */
    float (*maxima)(const float *x, uint32_t n, float *maxima);
    /* The sum of exp((x - most) * scale). */
    double (*exp_sum)(const float *x, uint32_t n, float most, float scale);
    /* The first token from `from` on that may win (some that cannot are named too), or count. */
    uint32_t (*race_next)(const struct race *r, uint32_t from);
};

extern const struct sampler_loops sampler_loops_portable;
#if defined(__x86_64__)
extern const struct sampler_loops sampler_loops_avx2; /* for machines that have it */
#endif

#endif
