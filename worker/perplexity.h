/*
 * How well a model predicts text. Each token of a document but its first is predicted from those
 * before it, exactly once. A document longer than the window is read in windows that overlap by
 * half: a token is predicted with at least half a window in front of it. The result depends on
 * the model, its weight and cache types and the ids, on nothing else.
 */
#ifndef WORKER_PERPLEXITY_H
#define WORKER_PERPLEXITY_H

#include "worker/model/model.h"
#include "worker/prompts.h"

struct perplexity {
    uint64_t tokens; /* predicted */
    double mean;     /* of minus the natural logarithm of their probability */
    double value;    /* exp(mean) */
};

enum { PERPLEXITY_WINDOW = 2048 }; /* or the model's context, if that is less */

/* One thread, as for model_forward. window: at least 2, at most the context. INVALID: no token to
 * predict, or a logit that is not finite. */
enum status perplexity_measure(struct model *m, const struct prompts *documents, uint32_t window,
                               struct perplexity *out, struct error *err);

#endif
