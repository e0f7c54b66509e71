/*
 * Runs of a model without a server or a tokenizer, for checks and measurements: token ids in a
 * file, logits or greedy continuations out.
 */
#ifndef WORKER_OFFLINE_H
#define WORKER_OFFLINE_H

#include <stdio.h>

#include "base/error.h"
#include "worker/kv.h"

struct offline_options {
    const char *model_dir;
    const char *prompts_file; /* a JSON array of arrays of token ids */
    int threads;              /* 0: the number of processors */
    const char *kernels;      /* as model_options */
    enum kv_type kv_type;
};

/* Writes float32 logits, little-endian: [tokens, vocabulary] of each prompt in turn. */
enum status offline_logits(const struct offline_options *o, const char *out_file,
                           struct error *err);
/* Prints a JSON array with each prompt's `tokens` most likely next ids; the prompts run as one
 * batch through the scheduler. End tokens do not end it. */
enum status offline_greedy(const struct offline_options *o, int tokens, FILE *out,
                           struct error *err);

#endif
