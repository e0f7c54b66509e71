#include "worker/sampler.h"

#include <assert.h>
#include <math.h>

struct candidate {
    float weight;
    int32_t id;
};

struct sampler {
    uint32_t vocab;
    float *weights;
    struct candidate *candidates;
};

struct sampler *sampler_new(uint32_t vocab)
{
    struct sampler *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->vocab = vocab;
    s->weights = calloc(vocab, sizeof *s->weights);
    s->candidates = calloc(vocab, sizeof *s->candidates);
    if (!s->weights || !s->candidates) {
        sampler_free(s);
        return NULL;
    }
    return s;
}

void sampler_free(struct sampler *s)
{
    if (!s)
        return;
    free(s->weights);
    free(s->candidates);
    free(s);
}

/* SplitMix64: the n-th output of the stream that the seed begins. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

double sampler_uniform(uint64_t seed, uint32_t n)
{
    uint64_t bits = mix(mix(seed) + ((uint64_t)n + 1) * 0x9e3779b97f4a7c15u);
    return (double)(bits >> 11) * 0x1p-53;
}

static int32_t largest(const float *logits, uint32_t vocab)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best])
            best = i;
    return (int32_t)best;
}

/* Unnormalised probabilities, the largest 1; returns their sum. */
static double weigh(struct sampler *s, const float *logits, float temperature, float most)
{
    double sum = 0;
    for (uint32_t i = 0; i < s->vocab; i++) {
        s->weights[i] = expf((logits[i] - most) / temperature);
        sum += s->weights[i];
    }
    return sum;
}

static int by_weight(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->weight != y->weight)
        return x->weight > y->weight ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

/* The fewest most likely tokens that make up top_p, sorted; returns how many, and their sum. */
static uint32_t nucleus(struct sampler *s, double sum, double top_p, double *kept)
{
    /* Tokens below this together weigh less than 1 - top_p, so none of them is in it. */
    double floor = (1 - top_p) * sum / s->vocab;
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->vocab; i++)
        if (s->weights[i] >= floor)
            s->candidates[count++] = (struct candidate){s->weights[i], (int32_t)i};
    qsort(s->candidates, count, sizeof *s->candidates, by_weight);
    double total = 0;
    for (uint32_t i = 0; i < count; i++) {
        total += s->candidates[i].weight;
        if (total >= top_p * sum) {
            *kept = total;
            return i + 1;
        }
    }
    *kept = total;
    return count;
}

int32_t sampler_pick(struct sampler *s, const float *logits, const struct sampling *how, uint32_t n)
{
    int32_t best = largest(logits, s->vocab);
    if (!(how->temperature > 0))
        return best;
    double sum = weigh(s, logits, how->temperature, logits[best]);
    double point = sampler_uniform(how->seed, n), kept;
    if (how->top_p < 1) {
        uint32_t count = nucleus(s, sum, how->top_p, &kept);
        point *= kept;
        for (uint32_t i = 0; i < count; i++) {
            point -= s->candidates[i].weight;
            if (point < 0)
                return s->candidates[i].id;
        }
        return s->candidates[0].id;
    }
    point *= sum;
    for (uint32_t i = 0; i < s->vocab; i++) {
        point -= s->weights[i];
        if (point < 0)
            return (int32_t)i;
    }
    return best;
}
