/*
 * What picking a token costs for a vocabulary of 129,280, in microseconds: the least of several
 * runs, on one thread. Three tokens stand out of normal noise, so that temperature 0.6 is like
 * what a sure model gives and temperature 2 is nearly flat.
 *
 *   cmake --build build --target bench-sampler && build/bench/bench-sampler
 */
#include <math.h>
#include <stdio.h>

#include "base/clock.h"
#include "worker/sampler.h"

enum { VOCAB = 129280, WORDS = VOCAB / 32, TOKENS = 2000, PROMPT = 1500, PICKS = 50, RUNS = 7 };

static float logits[VOCAB];
static uint32_t mask[WORDS];
static int32_t tokens[TOKENS];

static double uniform(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return ((double)(*state >> 33) + 0.5) * 0x1p-31;
}

static void fill(void)
{
    uint64_t state = 1;
    for (int i = 0; i < VOCAB; i++) {
        double r = sqrt(-2 * log(uniform(&state)));
        logits[i] = (float)(3 * r * cos(6.283185307 * uniform(&state)));
    }
    logits[777] += 18;
    logits[888] += 17;
    logits[999] += 16;
    for (int i = 0; i < WORDS; i++)
        mask[i] = i % 7 ? 0 : 0x0f0f0f0f;
    for (int i = 0; i < TOKENS; i++)
        tokens[i] = i * 37 % VOCAB;
}

static double time_pick(struct sampler *s, const struct sampling *how, const uint32_t *allowed)
{
    double best = 1e9;
    for (int run = 0; run < RUNS; run++) {
        int64_t start = clock_mono_us(), made = 0;
        for (uint32_t i = 0; i < PICKS; i++) {
            struct sampler_input in = {logits, allowed, tokens, PROMPT, 300 + i};
            made += sampler_pick(s, &in, how);
        }
        double us = (double)(clock_mono_us() - start) / PICKS;
        best = us < best && made >= 0 ? us : best;
    }
    return best;
}

static double time_logprobs(struct sampler *s)
{
    double best = 1e9;
    struct token_logprobs out;
    for (int run = 0; run < RUNS; run++) {
        int64_t start = clock_mono_us();
        for (int i = 0; i < PICKS; i++)
            sampler_logprobs(s, logits, 777, SAMPLER_TOP_MAX, &out);
        double us = (double)(clock_mono_us() - start) / PICKS;
        best = us < best ? us : best;
    }
    return best;
}

int main(void)
{
    static const struct {
        const char *name;
        struct sampling how;
        bool masked;
    } cases[] = {
        {"greedy", {.top_p = 1}, false},
        {"greedy, mask", {.top_p = 1}, true},
        {"temperature 1", {.temperature = 1, .top_p = 1}, false},
        {"temperature 1, mask", {.temperature = 1, .top_p = 1}, true},
        {"temperature 0.6, top_p 0.95", {.temperature = 0.6f, .top_p = 0.95f}, false},
        {"the same, three penalties",
         {.temperature = 0.6f,
          .top_p = 0.95f,
          .frequency_penalty = 0.5f,
          .presence_penalty = 0.5f,
          .repetition_penalty = 1.1f},
         false},
        {"temperature 2, top_p 0.95", {.temperature = 2, .top_p = 0.95f}, false},
        {"top_k 40", {.temperature = 1, .top_p = 1, .top_k = 40}, false},
        {"top_k 40, top_p 0.9, min_p 0.05",
         {.temperature = 1, .top_p = 0.9f, .top_k = 40, .min_p = 0.05f},
         false},
    };
    struct sampler *s = sampler_new(VOCAB);
    if (!s)
        return 1;
    fill();
    printf("| pick | us |\n|---|---|\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        printf("| %s | %.0f |\n", cases[i].name,
               time_pick(s, &cases[i].how, cases[i].masked ? mask : NULL));
    printf("| 20 log probabilities | %.0f |\n", time_logprobs(s));
    sampler_free(s);
    return 0;
}
