/*
 * From logits to a token. In this order:
 *
 *   1. logit bias is added;
 *   2. the mask: tokens that are not allowed are out;
 *   3. the repetition penalty, over prompt and made tokens: a positive logit is divided by it, a
 *      negative one multiplied (as Hugging Face defines it);
 *   4. frequency (times how often the token was made) and presence (once) are subtracted, over
 *      made tokens (as OpenAI defines them);
 *   5. temperature 0: the largest wins, the first of equals. Else the logits are divided by it;
 *   6. min_p: tokens less likely than min_p times the likeliest are out;
 *   7. top_k: all but the k likeliest are out (of equals the first stay);
 *   8. top_p: of what is left, the fewest likeliest that together have that share stay;
 *   9. one is drawn by its probability among those that stayed.
 *
 * The draw: every token has a waiting time, exponential with a mean of 1, made from the seed, the
 * number of the draw and the token's id alone; the token with the smallest time / probability
 * wins, which picks each with exactly its probability. So a seeded request repeats whatever ran
 * beside it, and two models that agree on the likely tokens mostly agree on the draw (which is
 * what speculation lives on). Pure: any thread, with scratch of its own.
 */
#ifndef WORKER_SAMPLER_H
#define WORKER_SAMPLER_H

#include <stdint.h>

#include "worker/backend.h"

enum { SAMPLER_TOP_MAX = 20 };

struct token_logprob {
    int32_t token;
    float logprob; /* natural logarithm */
};

/* Of the model itself: log-softmax of its logits, before bias, mask, penalties and temperature. */
struct token_logprobs {
    float logprob; /* of the token that was picked */
    int top_count;
    struct token_logprob top[SAMPLER_TOP_MAX]; /* likeliest first */
};

struct sampler_input {
    const float *logits;   /* [vocabulary]; left as they are */
    const uint32_t *mask;  /* bit t % 32 of word t / 32: token t is allowed; NULL: all are */
    const int32_t *tokens; /* the prompt, then what was made */
    uint32_t prompt, made;
};

struct sampler; /* scratch for one vocabulary size */

struct sampler *sampler_new(uint32_t vocab); /* NULL: out of memory */
void sampler_free(struct sampler *s);        /* NULL is fine */
/* how->seed counts, has_seed does not: the caller has drawn one where none was given. The draw's
 * number is in->made. -1: no token is left (the mask allows none, or no logit is a number). */
int32_t sampler_pick(struct sampler *s, const struct sampler_input *in, const struct sampling *how);
/* The token's, and those of the `top` likeliest (at most SAMPLER_TOP_MAX). */
void sampler_logprobs(struct sampler *s, const float *logits, int32_t token, int top,
                      struct token_logprobs *out);
/* The seed of one of several answers to a request; that of choice 0 is the request's own. */
uint64_t sampler_choice_seed(uint64_t seed, uint32_t choice);
/* The waiting time of a token in draw n; for tests. */
double sampler_wait(uint64_t seed, uint32_t n, int32_t token);

#endif
