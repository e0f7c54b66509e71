/*
 * Runs of a model without a server, for checks and measurements.
 */
#ifndef WORKER_OFFLINE_H
#define WORKER_OFFLINE_H

#include <stdio.h>

#include "worker/model/model.h"

struct offline_options {
    const char *model_dir;
    const char *prompts_file; /* a JSON array of arrays of token ids; perplexity: see prompts.h */
    int threads;              /* 0: the number of processors */
    const char *kernels;      /* as model_options */
    enum kv_type kv_type;
    int64_t kv_bytes; /* of a server's cache, for the check */
    const char *only; /* of bench_cases; NULL: all */
    enum model_weights weights;
    bool large_pages, rounded; /* as model_options */
};

enum status offline_load(const struct offline_options *o, struct model **out, struct error *err);

/* Writes float32 logits, little-endian: [tokens, vocabulary] of each prompt in turn. */
enum status offline_logits(const struct offline_options *o, const char *out_file,
                           struct error *err);
/* Prints a JSON array with each prompt's `tokens` most likely next ids; the prompts run as one
 * batch through the scheduler. End tokens do not end it. */
enum status offline_greedy(const struct offline_options *o, int tokens, FILE *out,
                           struct error *err);
/* Loads the model, which verifies every tensor, and prints what it is, what it needs and how fast
 * it can be at the most. */
enum status offline_check(const struct offline_options *o, FILE *out, struct error *err);
/* Prints how fast it is, as a share of what the machine can do, and the memory in use. */
enum status offline_bench(const struct offline_options *o, FILE *out, struct error *err);
/* Prints how well the model predicts the texts of a file. */
enum status offline_perplexity(const struct offline_options *o, FILE *out, struct error *err);

#endif
