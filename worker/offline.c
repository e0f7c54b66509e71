#include "worker/offline.h"

#include <assert.h>
#include <errno.h>

#include "worker/model/model.h"
#include "worker/prompts.h"
#include "worker/scheduler.h"

enum { CHUNK_ROWS = 128, BATCH_SEQUENCES = 16 };

enum status offline_load(const struct offline_options *o, struct model **out, struct error *err)
{
    struct model_options options = {.threads = o->threads,
                                    .kernels = o->kernels,
                                    .kv_type = o->kv_type,
                                    .weights = o->weights,
                                    .large_pages = o->large_pages,
                                    .rounded = o->rounded};
    return model_load(o->model_dir, &options, out, err);
}

static enum status load(const struct offline_options *o, struct model **model,
                        struct prompts *prompts, struct error *err)
{
    struct model *m = NULL;
    enum status st = offline_load(o, &m, err);
    if (st != OK)
        return st;
    struct prompts_limits limits = {model_vocab_size(m), model_context_tokens(m)};
    st = prompts_read(o->prompts_file, &limits, prompts, err);
    if (st == OK)
        *model = m;
    else
        model_free(m);
    return st;
}

static enum status write_floats(FILE *f, const float *values, size_t count, struct error *err)
{
    /* The machines we run on are little-endian, as the file is. */
    if (fwrite(values, sizeof *values, count, f) != count)
        return error_errno(err, errno, "writing logits");
    return OK;
}

/* One prompt through the model in chunks; its logits go to the file. */
static enum status run_prompt(struct model *m, struct kv *kv, const int32_t *blocks,
                              const struct prompt *p, float *logits, FILE *f, struct error *err)
{
    struct batch_row rows[CHUNK_ROWS];
    for (uint32_t done = 0; done < p->count;) {
        int n = 0;
        for (; n < CHUNK_ROWS && done < p->count; n++, done++)
            rows[n] = (struct batch_row){.token = p->ids[done],
                                         .position = (int32_t)done,
                                         .blocks = blocks,
                                         .wants_logits = true};
        model_forward(m, kv, rows, n, logits);
        enum status st = write_floats(f, logits, (size_t)n * model_vocab_size(m), err);
        if (st != OK)
            return st;
    }
    return OK;
}

static enum status run_prompts(struct model *m, const struct prompts *p, FILE *f, struct error *err)
{
    struct kv_shape shape;
    struct kv *kv = NULL;
    model_kv_shape(m, &shape);
    int count = kv_blocks_for(model_context_tokens(m));
    float *logits = calloc((size_t)CHUNK_ROWS * model_vocab_size(m), sizeof *logits);
    int32_t *blocks = calloc((size_t)count, sizeof *blocks);
    enum status st = model_reserve(m, CHUNK_ROWS, err);
    if (st == OK && (!logits || !blocks))
        st = error_set(err, NOMEM, "out of memory");
    if (st == OK)
        st = kv_new(&shape, count, &kv, err);
    if (st == OK) {
        bool taken = kv_take(kv, count, blocks);
        assert(taken);
    }
    for (uint32_t i = 0; st == OK && i < p->count; i++)
        st = run_prompt(m, kv, blocks, &p->items[i], logits, f, err);
    kv_free(kv);
    free(blocks);
    free(logits);
    return st;
}

enum status offline_logits(const struct offline_options *o, const char *out_file, struct error *err)
{
    struct model *m = NULL;
    struct prompts prompts = {0};
    enum status st = load(o, &m, &prompts, err);
    if (st != OK)
        return st;
    FILE *f = fopen(out_file, "wbe");
    st = f ? run_prompts(m, &prompts, f, err) : error_errno(err, errno, "%s", out_file);
    if (f && fclose(f) != 0 && st == OK)
        st = error_errno(err, errno, "%s", out_file);
    prompts_free(&prompts);
    model_free(m);
    return st;
}

/* The outputs of the prompts, by id. */
struct collected {
    int32_t *ids; /* [prompts][tokens] */
    int *made;
    int tokens;
};

static bool collect(void *arg, const struct sched_token *t)
{
    struct collected *c = arg;
    c->ids[t->id * (uint64_t)c->tokens + (uint64_t)c->made[t->id]++] = t->token;
    return false;
}

static void ignore_end(void *arg, uint64_t id, uint32_t choice, enum sched_end end)
{
}

static enum status run_greedy(struct model *m, const struct prompts *p, struct collected *c,
                              struct error *err)
{
    struct kv_shape shape;
    model_kv_shape(m, &shape);
    int64_t blocks = kv_blocks_for(model_context_tokens(m)) * (int64_t)BATCH_SEQUENCES;
    struct sched_options options = {.sequences_max = BATCH_SEQUENCES,
                                    .step_tokens = CHUNK_ROWS,
                                    .kv_bytes = blocks * (int64_t)kv_block_bytes(&shape),
                                    .queue_max = (int)p->count};
    struct sched_events events = {.token = collect, .ended = ignore_end, .arg = c};
    struct scheduler *s = NULL;
    enum status st = scheduler_new(m, &options, &events, &s, err);
    for (uint32_t i = 0; st == OK && i < p->count; i++) {
        struct sched_request r = {.id = i,
                                  .prompt = p->items[i].ids,
                                  .prompt_count = p->items[i].count,
                                  .max_tokens = (uint32_t)c->tokens};
        st = scheduler_submit(s, &r, err);
    }
    while (st == OK && scheduler_step(s))
        ;
    scheduler_free(s);
    return st;
}

static void print_ids(const struct collected *c, uint32_t prompts, FILE *out)
{
    fputc('[', out);
    for (uint32_t i = 0; i < prompts; i++) {
        fputs(i ? ",\n [" : "[", out);
        for (int j = 0; j < c->made[i]; j++)
            fprintf(out, "%s%d", j ? ", " : "", (int)c->ids[i * (uint32_t)c->tokens + (uint32_t)j]);
        fputc(']', out);
    }
    fputs("]\n", out);
}

enum status offline_greedy(const struct offline_options *o, int tokens, FILE *out,
                           struct error *err)
{
    struct model *m = NULL;
    struct prompts prompts = {0};
    if (tokens < 1)
        return error_set(err, INVALID, "at least one token must be asked for");
    enum status st = load(o, &m, &prompts, err);
    if (st != OK)
        return st;
    struct collected c = {.tokens = tokens};
    c.ids = calloc((size_t)prompts.count * (size_t)tokens, sizeof *c.ids);
    c.made = calloc(prompts.count, sizeof *c.made);
    st =
        c.ids && c.made ? run_greedy(m, &prompts, &c, err) : error_set(err, NOMEM, "out of memory");
    if (st == OK) {
        print_ids(&c, prompts.count, out);
        if (fflush(out) != 0)
            st = error_errno(err, errno, "writing the continuations");
    }
    free(c.ids);
    free(c.made);
    prompts_free(&prompts);
    model_free(m);
    return st;
}
