/*
 * A language model in memory, ready to run on the processor: token ids and positions in, logits
 * out. Loading checks everything (configuration, every tensor's presence, type and shape), so
 * that a forward pass cannot fail. A model is immutable but for its scratch memory: one thread
 * at a time may call model_forward; the model's own thread pool does the work.
 */
#ifndef WORKER_MODEL_MODEL_H
#define WORKER_MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "worker/kv.h"

struct model;

struct model_options {
    int threads;         /* 0: the number of processors */
    const char *kernels; /* "avx512", "avx2", "portable"; NULL: the best that this machine has */
    bool narrow;         /* FP8 weights stay 8 bits wide, even where 16 would be faster */
    /* For tests: told the experts chosen for a row of the batch in a layer. Threads > 1 call it
     * at the same time. */
    void (*routed)(void *arg, int layer, int row, const int *experts, const float *weights,
                   int count);
    void *routed_arg;
};

/* dir: a Hugging Face folder. The error is one line that names the file and what in it is wrong.
 * options NULL: the defaults. */
enum status model_load(const char *dir, const struct model_options *options, struct model **out,
                       struct error *err);
void model_free(struct model *m); /* NULL is fine */

uint32_t model_context_tokens(const struct model *m);
uint32_t model_vocab_size(const struct model *m);
const char *model_kernels(const struct model *m);
int model_threads(const struct model *m);
/* What a step of that many rows costs at the least, each row attending to `context` tokens: for
 * measurements. The experts are taken to be chosen at random. */
struct model_work {
    double bytes_per_step; /* of weights and cache */
    double multiply_adds_per_row;
};
void model_work(const struct model *m, int rows, int context, struct model_work *out);
/* What a cache for this model must look like; blocks is the caller's. */
void model_kv_shape(const struct model *m, struct kv_shape *out);

struct batch_row {
    int32_t token;
    int32_t position;      /* 0 for the first token of a sequence */
    const int32_t *blocks; /* the sequence's block table, covering position */
    bool wants_logits;
};

/* Scratch for batches of up to that many rows. */
enum status model_reserve(struct model *m, int rows, struct error *err);

/* Appends the rows to their sequences' caches and writes logits [rows that want them][vocabulary]
 * in row order. Rows of one sequence must be in order of position, and every earlier position of
 * a sequence must be in its cache or earlier in this batch. A row's result does not depend on
 * what else is in the batch. */
void model_forward(struct model *m, struct kv *kv, const struct batch_row *rows, int count,
                   float *logits);

#endif
