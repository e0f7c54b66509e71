#include "worker/perplexity.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

enum { ROWS = 64 };

struct run {
    struct model *m;
    struct kv *kv;
    int32_t *blocks;
    float *logits; /* [ROWS][vocabulary] */
    uint32_t window;
    uint64_t tokens;
    double sum;
};

/* Minus the logarithm of the softmax at an index. NAN: a logit is not finite. */
static double surprise(const float *logits, uint32_t n, int32_t at)
{
    double most = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < n; i++)
        most = fmax(most, (double)logits[i]);
    for (uint32_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - most);
    return log(sum) + most - (double)logits[at];
}

/* count tokens from the first on, the ids at and behind `from` (at least 1) are predicted. */
static bool read_window(struct run *r, const int32_t *ids, uint32_t count, uint32_t from)
{
    uint32_t vocab = model_vocab_size(r->m);
    struct batch_row rows[ROWS];
    for (uint32_t begin = 0; begin + 1 < count; begin += ROWS) {
        uint32_t n = count - 1 - begin < ROWS ? count - 1 - begin : ROWS;
        for (uint32_t i = 0; i < n; i++)
            rows[i] = (struct batch_row){.token = ids[begin + i],
                                         .position = (int32_t)(begin + i),
                                         .blocks = r->blocks,
                                         .wants_logits = begin + i + 1 >= from};
        model_forward(r->m, r->kv, rows, (int)n, r->logits);
        const float *logits = r->logits;
        for (uint32_t i = 0; i < n; i++) {
            if (!rows[i].wants_logits)
                continue;
            r->sum += surprise(logits, vocab, ids[begin + i + 1]);
            r->tokens++;
            logits += vocab;
        }
        if (!isfinite(r->sum))
            return false;
    }
    return true;
}

static bool read_document(struct run *r, const struct prompt *p)
{
    uint32_t done = 1; /* predicted so far, or first of all */
    for (uint32_t start = 0; done < p->count; start += r->window - r->window / 2) {
        uint32_t end = p->count - start < r->window ? p->count : start + r->window;
        if (!read_window(r, p->ids + start, end - start, done - start))
            return false;
        done = end;
    }
    return true;
}

static enum status open_run(struct run *r, struct error *err)
{
    struct kv_shape shape;
    model_kv_shape(r->m, &shape);
    int blocks = kv_blocks_for(r->window);
    r->logits = calloc((size_t)ROWS * model_vocab_size(r->m), sizeof *r->logits);
    r->blocks = calloc((size_t)blocks, sizeof *r->blocks);
    if (!r->logits || !r->blocks)
        return error_set(err, NOMEM, "out of memory");
    enum status st = model_reserve(r->m, ROWS, err);
    if (st == OK)
        st = kv_new(&shape, blocks, &r->kv, err);
    if (st != OK)
        return st;
    bool taken = kv_take(r->kv, blocks, r->blocks);
    assert(taken);
    return OK;
}

enum status perplexity_measure(struct model *m, const struct prompts *documents, uint32_t window,
                               struct perplexity *out, struct error *err)
{
    assert(window >= 2 && window <= model_context_tokens(m));
    struct run r = {.m = m, .window = window};
    enum status st = open_run(&r, err);
    for (uint32_t i = 0; st == OK && i < documents->count; i++)
        if (!read_document(&r, &documents->items[i]))
            st = error_set(err, INVALID, "document %u: the model's logits are not finite", i);
    if (st == OK && r.tokens == 0)
        st = error_set(err, INVALID, "no document has two tokens: there is nothing to predict");
    kv_free(r.kv);
    free(r.blocks);
    free(r.logits);
    if (st != OK)
        return st;
    double mean = r.sum / (double)r.tokens;
    *out = (struct perplexity){r.tokens, mean, exp(mean)};
    return OK;
}
