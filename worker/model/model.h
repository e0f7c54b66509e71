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
#include "worker/cpu/limits.h"
#include "worker/kv.h"
#include "worker/model/safetensors.h"

struct model;

enum model_weights {
    MODEL_AS_STORED, /* read from the files' mappings, which workers of one machine share */
    MODEL_INT8,      /* quantised at load, a scale per 32 */
    MODEL_INT4,
};

extern const char *const model_weights_names[]; /* none, int8, int4; ends with NULL */
extern const char *const model_inputs_names[];  /* exact, bf16: of the option `rounded` */

struct model_options {
    int threads;         /* 0: the number of processors */
    const char *kernels; /* "avx512", "avx2", "portable"; NULL: the best that this machine has */
    /* A row's result does not depend on what else is in the batch, nor on how its prompt was cut
     * into batches. Otherwise it may, in the last bits: long chunks of a prompt are computed in
     * other ways than short ones. */
    bool deterministic;
    enum kv_type kv_type; /* of the caches that model_kv_shape describes */
    enum model_weights weights;
    bool large_pages; /* weights as stored are copied into memory of the model's own */
    bool rounded;     /* inputs may be rounded to the precision of bfloat16 weights, for speed */
    bool mtp;         /* load the layer for multi-token prediction, if the model has one */
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
uint32_t model_hidden_size(const struct model *m);
const char *model_kernels(const struct model *m);
int model_threads(const struct model *m);
struct model_info {
    const char *architecture;            /* as config.json names it; static */
    int layers, hidden, heads, kv_heads; /* kv_heads 0: latent attention */
    int experts, chosen, shared;         /* 0: none */
    bool tied_embeddings, mtp;
    /* Of the tensors in use, without FP8 scales. Active: what one token is multiplied with, the
     * head included, the embedding not (one row of it is read). */
    int64_t parameters, active_parameters;
    /* Of the files, by type of what is stored there; scales count as their own type. */
    int64_t bytes_of[DTYPE_OTHER];
    int64_t kv_bytes_per_token;
    int64_t scratch_bytes; /* of model_reserve so far */
};
void model_describe(const struct model *m, struct model_info *out);
/* A step, for measurements. */
struct model_step {
    int rows;
    int sequences; /* that they belong to */
    int context;   /* positions that a row attends to, on average */
    int logits;    /* rows that want them */
};
/* What a step costs at the least. The experts are taken to be chosen at random. */
struct model_work {
    double bytes;                           /* of weights and cache, each read once */
    double multiply_adds[ARITHMETIC_KINDS]; /* by what the kernels compute them in */
};
void model_work(const struct model *m, const struct model_step *step, struct model_work *out);
/* What a cache for this model must look like; blocks is the caller's. */
void model_kv_shape(const struct model *m, struct kv_shape *out);

struct batch_row {
    int32_t token;
    int32_t position;      /* 0 for the first token of a sequence */
    const int32_t *blocks; /* the sequence's block table, covering position */
    bool wants_logits;
    float *hidden_out; /* NULL, or where the final hidden state goes: model_hidden_size floats */
    const float *hidden_in; /* of model_mtp_forward alone: see there */
};

/* Scratch for batches of up to that many rows. */
enum status model_reserve(struct model *m, int rows, struct error *err);

/* Appends the rows to their sequences' caches and writes logits [rows that want them][vocabulary]
 * in row order. Rows of one sequence must be in order of position, and every earlier position of
 * a sequence must be in its cache or earlier in this batch. With
 * options.deterministic, a row's result does not depend on what else is in the batch. */
void model_forward(struct model *m, struct kv *kv, const struct batch_row *rows, int count,
                   float *logits);

/* Loaded, that is: options.mtp was set and the folder has the layer. The cache has one layer more
 * then. */
bool model_has_mtp(const struct model *m);

/*
 * Guesses the token after the next. A row is a position j whose token model_forward has seen:
 *   token      the token at j + 1: from the prompt, or just sampled
 *   position   j
 *   blocks     the sequence's table, the same as for model_forward
 *   hidden_in  what model_forward wrote to hidden_out for position j
 * The row's logits predict the token at j + 2; its hidden_out, with that guess as the token and
 * j + 1 as the position, may be the hidden_in of a further guess.
 *
 * The layer attends to what it wrote to its own layer of the cache, so every position from 0 on
 * must have passed through it, in order: run it for all rows of a prompt's chunk (without
 * logits), when their next tokens are known. A position that is decided anew (a rejected guess) is
 * simply written again. A block shared by prefix ends with a position whose next token may be
 * another sequence's: that, like any position left out, can only make a guess worse. Guesses are
 * checked by model_forward: rows for the next token and the guess, one batch; the logits of the
 * first row say whether the guess is right, those of the second are the token after it.
 */
void model_mtp_forward(struct model *m, struct kv *kv, const struct batch_row *rows, int count,
                       float *logits);

#endif
