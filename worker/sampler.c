#include "worker/sampler.h"

#include <assert.h>
#include <math.h>

#include "worker/sampler_loops.h"

struct candidate {
    float logit;
    float weight; /* its probability, as a multiple of the likeliest one's */
    int32_t id;
};

struct sampler {
    const struct sampler_loops *loops;
    uint32_t vocab, blocks;
    float *adjusted;  /* logits after bias, mask and penalties */
    float *maxima;    /* of each block of the logits at hand */
    float *order;     /* scratch for choosing among maxima */
    uint32_t *counts; /* of each token; zero between uses */
    struct candidate *candidates;
};

static const struct sampler_loops *best_loops(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2"))
        return &sampler_loops_avx2;
#endif
    return &sampler_loops_portable;
}

struct sampler *sampler_new(uint32_t vocab)
{
    struct sampler *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->loops = best_loops();
    s->vocab = vocab;
    s->blocks = (vocab + SAMPLER_BLOCK - 1) / SAMPLER_BLOCK;
    s->adjusted = calloc(vocab, sizeof *s->adjusted);
    s->maxima = calloc(s->blocks, sizeof *s->maxima);
    s->order = calloc(s->blocks, sizeof *s->order);
    s->counts = calloc(vocab, sizeof *s->counts);
    s->candidates = calloc(vocab, sizeof *s->candidates);
    if (!s->adjusted || !s->maxima || !s->order || !s->counts || !s->candidates) {
        sampler_free(s);
        return NULL;
    }
    return s;
}

void sampler_free(struct sampler *s)
{
    if (!s)
        return;
    free(s->adjusted);
    free(s->maxima);
    free(s->order);
    free(s->counts);
    free(s->candidates);
    free(s);
}

/* SplitMix64's. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t sampler_choice_seed(uint64_t seed, uint32_t choice)
{
    return choice ? mix(mix(seed) + choice * 0xd1342543de82ef95u) : seed;
}

static struct race_key race_key(uint64_t seed, uint32_t n)
{
    uint64_t bits = mix(mix(seed) + ((uint64_t)n + 1) * 0x9e3779b97f4a7c15u);
    return (struct race_key){(uint32_t)bits, (uint32_t)(bits >> 32)};
}

/* -log(1 - u) of a u in (0, 1) of 53 bits, race_bits() being the upper ones. */
static double wait_of(struct race_key key, uint32_t token)
{
    uint64_t fine = mix(((uint64_t)key.b << 32 | key.a) ^ (token * 0x9e3779b97f4a7c15u)) >> 43;
    return -log1p(-((double)race_bits(key, token) + ((double)fine + 0.5) * 0x1p-21) * 0x1p-32);
}

double sampler_wait(uint64_t seed, uint32_t n, int32_t token)
{
    return wait_of(race_key(seed, n), (uint32_t)token);
}

/* Steps 1 to 4 of sampler.h. */

static void apply_mask(const struct sampler *s, const uint32_t *mask)
{
    for (uint32_t i = 0; i < s->vocab; i += 32) {
        uint32_t word = mask[i / 32], end = i + 32 < s->vocab ? i + 32 : s->vocab;
        if (word == UINT32_MAX)
            continue;
        for (uint32_t t = i; t < end; t++)
            if (!word || !(word >> (t - i) & 1))
                s->adjusted[t] = -INFINITY;
    }
}

static float penalised(float logit, uint32_t made, const struct sampling *how)
{
    if (how->repetition_penalty > 0)
        logit = logit > 0 ? logit / how->repetition_penalty : logit * how->repetition_penalty;
    if (made)
        logit -= (float)made * how->frequency_penalty + how->presence_penalty;
    return logit;
}

static void apply_penalties(const struct sampler *s, const struct sampler_input *in,
                            const struct sampling *how)
{
    enum { SEEN = 1u << 31 };
    bool repetition = how->repetition_penalty > 0 && how->repetition_penalty != 1;
    uint32_t first = repetition ? 0 : in->prompt, end = in->prompt + in->made;
    for (uint32_t i = first; i < end; i++) {
        assert(in->tokens[i] >= 0 && (uint32_t)in->tokens[i] < s->vocab);
        s->counts[in->tokens[i]] = (s->counts[in->tokens[i]] | SEEN) + (i >= in->prompt);
    }
    for (uint32_t i = first; i < end; i++) {
        int32_t t = in->tokens[i];
        if (s->counts[t])
            s->adjusted[t] = penalised(s->adjusted[t], s->counts[t] & ~(uint32_t)SEEN, how);
        s->counts[t] = 0;
    }
}

static bool has_penalties(const struct sampling *how)
{
    return how->frequency_penalty != 0 || how->presence_penalty != 0 ||
           (how->repetition_penalty > 0 && how->repetition_penalty != 1);
}

static const float *adjust(struct sampler *s, const struct sampler_input *in,
                           const struct sampling *how)
{
    if (!in->mask && !how->bias_count && !has_penalties(how))
        return in->logits;
    memcpy(s->adjusted, in->logits, s->vocab * sizeof *s->adjusted);
    for (int i = 0; i < how->bias_count; i++) {
        assert(how->bias[i].token >= 0 && (uint32_t)how->bias[i].token < s->vocab);
        s->adjusted[how->bias[i].token] += how->bias[i].bias;
    }
    if (in->mask)
        apply_mask(s, in->mask);
    if (has_penalties(how))
        apply_penalties(s, in, how);
    return s->adjusted;
}

/* The first of the largest; maxima are of these logits. */
static int32_t first_largest(const struct sampler *s, const float *logits, float most)
{
    uint32_t block = 0;
    while (s->maxima[block] != most)
        block++;
    uint32_t i = block * SAMPLER_BLOCK;
    while (logits[i] != most)
        i++;
    return (int32_t)i;
}

/* Choosing: candidates in order of logit, of equals the first. */

static bool before(const struct candidate *a, const struct candidate *b)
{
    return a->logit != b->logit ? a->logit > b->logit : a->id < b->id;
}

static void swap(struct candidate *a, struct candidate *b)
{
    struct candidate c = *a;
    *a = *b;
    *b = c;
}

/* Moves what stands before a middling one to the front of [low, high), that one behind it;
 * returns its place. */
static uint32_t partition(struct candidate *c, uint32_t low, uint32_t high)
{
    uint32_t middle = low + (high - low) / 2, last = high - 1;
    if (before(&c[middle], &c[low]))
        swap(&c[middle], &c[low]);
    if (before(&c[last], &c[middle]))
        swap(&c[last], &c[middle]);
    if (before(&c[middle], &c[low]))
        swap(&c[middle], &c[low]);
    swap(&c[middle], &c[last]);
    uint32_t at = low;
    for (uint32_t i = low; i < last; i++)
        if (before(&c[i], &c[last]))
            swap(&c[i], &c[at++]);
    swap(&c[at], &c[last]);
    return at;
}

/* The fewest candidates from the first on that together have so much weight (or, by_count, are so
 * many) go to the front, in no order; returns how many: at least one. */
static uint32_t choose(struct candidate *c, uint32_t count, double need, bool by_count)
{
    uint32_t low = 0, high = count;
    while (high - low > 1) {
        uint32_t at = partition(c, low, high);
        double front = by_count ? at - low : 0;
        for (uint32_t i = low; i < at && !by_count; i++)
            front += (double)c[i].weight;
        double own = by_count ? 1 : (double)c[at].weight;
        if (at > low && front >= need) {
            high = at;
        } else if (front + own >= need) {
            return at + 1;
        } else {
            need -= front + own;
            low = at + 1;
        }
    }
    return high > low ? low + 1 : high;
}

/* The k-th largest of the blocks' maxima: at least k logits are as large. -INFINITY: too few
 * blocks to say. */
static float bound_of_top(struct sampler *s, uint32_t k)
{
    if (k > s->blocks)
        return -INFINITY;
    memcpy(s->order, s->maxima, s->blocks * sizeof *s->order);
    uint32_t low = 0, high = s->blocks;
    while (high - low > 1) {
        float pivot = s->order[low + (high - low) / 2];
        uint32_t more = low, end = high;
        for (uint32_t i = low; i < end;) { /* three parts: larger, equal, smaller */
            float v = s->order[i];
            if (v > pivot) {
                s->order[i++] = s->order[more];
                s->order[more++] = v;
            } else if (v < pivot) {
                s->order[i] = s->order[--end];
                s->order[end] = v;
            } else {
                i++;
            }
        }
        if (k <= more)
            high = more;
        else if (k <= end)
            return pivot;
        else
            low = end;
    }
    return s->order[low];
}

/* All logits from the bound up; returns how many. */
static uint32_t gather(struct sampler *s, const float *logits, float bound)
{
    uint32_t count = 0;
    for (uint32_t b = 0; b < s->blocks; b++) {
        if (!(s->maxima[b] >= bound))
            continue;
        uint32_t end = (b + 1) * SAMPLER_BLOCK < s->vocab ? (b + 1) * SAMPLER_BLOCK : s->vocab;
        for (uint32_t i = b * SAMPLER_BLOCK; i < end; i++)
            if (logits[i] >= bound && logits[i] > -INFINITY)
                s->candidates[count++] = (struct candidate){.logit = logits[i], .id = (int32_t)i};
    }
    return count;
}

/* The tokens of one pick. */
struct field {
    const float *logits;
    float most;  /* the largest of them */
    float scale; /* 1 / temperature */
};

static float weight_of(const struct field *f, float logit)
{
    return expf((logit - f->most) * f->scale);
}

/* A logit whose weight is surely below w; by how much does not matter. */
static float below_weight(const struct field *f, double w)
{
    return w > 0 ? (float)((double)f->most + (log(w) - 0.001) / (double)f->scale) -
                       fabsf(f->most) * 1e-5f
                 : -INFINITY;
}

/* Steps 6 to 8; returns how many candidates stayed. */
static uint32_t narrow(struct sampler *s, const struct field *f, const struct sampling *how)
{
    bool top_k = how->top_k > 0 && how->top_k < s->vocab, top_p = how->top_p < 1;
    float bound = how->min_p > 0 ? below_weight(f, (double)how->min_p) : -INFINITY;
    double sum = 0;
    if (top_k) {
        bound = fmaxf(bound, bound_of_top(s, how->top_k));
    } else if (top_p && !(how->min_p > 0)) {
        /* What is below this weighs less than 1 - top_p, all of it together. */
        sum = s->loops->exp_sum(f->logits, s->vocab, f->most, f->scale);
        bound = below_weight(f, (1 - (double)how->top_p) * sum / s->vocab);
    }
    uint32_t count = gather(s, f->logits, bound), kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct candidate c = s->candidates[i];
        c.weight = weight_of(f, c.logit);
        if (c.weight >= how->min_p)
            s->candidates[kept++] = c;
    }
    if (top_k && kept > how->top_k)
        kept = choose(s->candidates, kept, how->top_k, true);
    if (top_p) {
        for (uint32_t i = 0; i < kept && (top_k || how->min_p > 0); i++)
            sum += (double)s->candidates[i].weight;
        kept = choose(s->candidates, kept, (double)how->top_p * sum, false);
    }
    return kept;
}

struct winner {
    int32_t id;
    double time;
};

static void challenge(struct winner *w, int32_t id, double time)
{
    if (time < w->time || (time == w->time && id < w->id))
        *w = (struct winner){id, time};
}

static int32_t draw_among(const struct sampler *s, uint32_t count, struct race_key key)
{
    struct winner w = {-1, INFINITY};
    for (uint32_t i = 0; i < count; i++) {
        const struct candidate *c = &s->candidates[i];
        /* The waiting time is never less than its upper bits: most need no logarithm. */
        double least = (double)race_bits(key, (uint32_t)c->id) * 0x1p-32;
        if (least <= (double)c->weight * w.time)
            challenge(&w, c->id, wait_of(key, (uint32_t)c->id) / (double)c->weight);
    }
    return w.id;
}

static int32_t draw_among_all(const struct sampler *s, const struct field *f, int32_t best,
                              struct race_key key)
{
    struct winner w = {best, wait_of(key, (uint32_t)best)};
    struct race r = {f->logits, s->vocab, key, f->most, f->scale * 1.44269504f, 0};
    for (uint32_t i = 0; i < s->vocab; i++) {
        r.limit = (float)log2(w.time) + 0.001f;
        i = s->loops->race_next(&r, i);
        if (i >= s->vocab)
            break;
        challenge(&w, (int32_t)i, wait_of(key, i) / (double)weight_of(f, f->logits[i]));
    }
    return w.id;
}

int32_t sampler_pick(struct sampler *s, const struct sampler_input *in, const struct sampling *how)
{
    struct field f = {.logits = adjust(s, in, how)};
    f.most = s->loops->maxima(f.logits, s->vocab, s->maxima);
    if (f.most == -INFINITY)
        return -1;
    int32_t best = first_largest(s, f.logits, f.most);
    if (!(how->temperature > 0) || how->top_k == 1 || f.most == INFINITY)
        return best;
    f.scale = how->temperature > 1e-20f ? 1 / how->temperature : 1e20f;
    struct race_key key = race_key(how->seed, in->made);
    bool all =
        !(how->top_p < 1) && !(how->min_p > 0) && (how->top_k == 0 || how->top_k >= s->vocab);
    if (all)
        return draw_among_all(s, &f, best, key);
    return draw_among(s, narrow(s, &f, how), key);
}

static int in_order(const void *a, const void *b)
{
    return before(a, b) ? -1 : 1;
}

void sampler_logprobs(struct sampler *s, const float *logits, int32_t token, int top,
                      struct token_logprobs *out)
{
    assert(token >= 0 && (uint32_t)token < s->vocab && top >= 0 && top <= SAMPLER_TOP_MAX);
    float most = s->loops->maxima(logits, s->vocab, s->maxima);
    double log_sum = (double)most + log(s->loops->exp_sum(logits, s->vocab, most, 1));
    out->logprob = (float)((double)logits[token] - log_sum);
    out->top_count = 0;
    if (!top)
        return;
    uint32_t count = gather(s, logits, bound_of_top(s, (uint32_t)top));
    if (count > (uint32_t)top)
        count = choose(s->candidates, count, top, true);
    qsort(s->candidates, count, sizeof *s->candidates, in_order);
    for (uint32_t i = 0; i < count; i++)
        out->top[out->top_count++] = (struct token_logprob){
            s->candidates[i].id, (float)((double)s->candidates[i].logit - log_sum)};
}
