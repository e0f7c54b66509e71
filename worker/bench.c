#include "worker/bench.h"

#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "worker/scheduler.h"

const struct bench_case bench_cases[BENCH_CASES] = {
    {"prefill", "prefill, 512 tokens", 1, 512, 0},
    {"decode", "decode, 1 sequence", 1, 64, 32},
    {"batch", "decode, 16 sequences", 16, 64, 16},
};

enum { STEP_TOKENS = 512, RUNS_MAX = 7 };
static const double RUNS_SECONDS = 4;
static const double READ_MOST = 512e6; /* of the memory that is read to measure it */

/* Returns the rows of a step of the case. */
static int step_work(const struct model *m, const struct bench_case *c, struct model_work *out)
{
    int rows = c->made ? c->sequences : c->sequences * c->prompt;
    rows = rows < STEP_TOKENS ? rows : STEP_TOKENS;
    struct model_step step = {.rows = rows,
                              .sequences = c->sequences,
                              .context = c->made ? c->prompt + c->made / 2 : c->prompt / 2,
                              .logits = c->sequences};
    model_work(m, &step, out);
    return rows;
}

static enum status meter_new(const struct model *m, struct limits_meter **out, struct error *err)
{
    /* So many rows that they choose every expert. */
    struct model_step step = {.rows = 1 << 20, .sequences = 1 << 20, .logits = 1};
    struct model_work work;
    model_work(m, &step, &work);
    double bytes = work.bytes < READ_MOST ? work.bytes : READ_MOST;
    return limits_meter_new(model_threads(m), (size_t)bytes, out, err);
}

enum status bench_machine(const struct model *m, struct limits *out, struct error *err)
{
    struct limits_meter *meter = NULL;
    enum status st = meter_new(m, &meter, err);
    if (st == OK)
        limits_measure(meter, out);
    limits_meter_free(meter);
    return st;
}

void bench_limit(const struct model *m, const struct bench_case *c, const struct limits *machine,
                 struct bench_limit *out)
{
    struct model_work work;
    int rows = step_work(m, c, &work);
    double read = work.bytes / machine->bytes_per_s, multiply = 0;
    for (int i = 0; i < ARITHMETIC_KINDS; i++)
        multiply += work.multiply_adds[i] / machine->multiply_adds_per_s[i];
    *out = (struct bench_limit){rows / (read > multiply ? read : multiply), read > multiply};
}

static bool count_token(void *arg, const struct sched_token *t)
{
    ++*(int64_t *)arg;
    return false;
}

static void ignore_end(void *arg, uint64_t id, uint32_t choice, enum sched_end end)
{
}

static enum status submit(struct scheduler *s, const struct model *m, const struct bench_case *c,
                          uint64_t id, struct error *err)
{
    int32_t *ids = calloc((size_t)c->prompt, sizeof *ids);
    if (!ids)
        return error_set(err, NOMEM, "out of memory");
    for (int i = 0; i < c->prompt; i++)
        ids[i] = (int32_t)((id * 7919 + (uint64_t)i * 104729 + 13) % model_vocab_size(m));
    struct sched_request r = {.id = id,
                              .prompt = ids,
                              .prompt_count = (uint32_t)c->prompt,
                              .max_tokens = (uint32_t)c->made + 1};
    enum status st = scheduler_submit(s, &r, err);
    free(ids);
    return st;
}

/* Seconds per token: of all the prompts', or of those made behind the first of each. */
static double run_steps(struct scheduler *s, const struct bench_case *c, const int64_t *made)
{
    int64_t start = clock_mono_us(), tokens = (int64_t)c->sequences * c->prompt;
    if (c->made) {
        while (*made < c->sequences && scheduler_step(s))
            ;
        start = clock_mono_us();
        tokens = (int64_t)c->sequences * (c->made + 1) - *made;
    }
    while (scheduler_step(s))
        ;
    return ((double)(clock_mono_us() - start) + 0.5) / 1e6 / (double)tokens;
}

static enum status time_once(struct model *m, const struct bench_case *c, double *per_token,
                             struct error *err)
{
    struct kv_shape shape;
    model_kv_shape(m, &shape);
    int64_t made = 0, blocks = (int64_t)c->sequences * kv_blocks_for(c->prompt + c->made + 1);
    /* For decode all prompts go in one step, so that all sequences begin together. */
    int step_tokens = c->made ? c->sequences * c->prompt : STEP_TOKENS;
    struct sched_options o = {.sequences_max = c->sequences,
                              .step_tokens = step_tokens,
                              .kv_bytes = (blocks + 1) * (int64_t)kv_block_bytes(&shape),
                              .queue_max = c->sequences};
    struct sched_events events = {.token = count_token, .ended = ignore_end, .arg = &made};
    struct scheduler *s = NULL;
    enum status st = scheduler_new(m, &o, &events, &s, err);
    for (int i = 0; st == OK && i < c->sequences; i++)
        st = submit(s, m, c, (uint64_t)i, err);
    if (st == OK)
        *per_token = run_steps(s, c, &made);
    scheduler_free(s);
    return st;
}

static double share(const struct bench_run *r)
{
    return r->tokens_per_s / r->limit.tokens_per_s;
}

static int compare(const void *a, const void *b)
{
    double x = share(a), y = share(b);
    return (x > y) - (x < y);
}

/* before: the machine's measurement just before the run; afterwards the one behind it. */
static enum status run_once(struct model *m, const struct bench_case *c,
                            const struct limits_meter *meter, struct limits *before,
                            struct bench_run *out, struct error *err)
{
    double per_token;
    enum status st = time_once(m, c, &per_token, err);
    if (st != OK)
        return st;
    out->tokens_per_s = 1 / per_token;
    out->machine = *before;
    limits_measure(meter, before);
    limits_best(&out->machine, before);
    bench_limit(m, c, &out->machine, &out->limit);
    return OK;
}

enum status bench_time(struct model *m, const struct bench_case *c, struct bench_run *out,
                       struct error *err)
{
    struct bench_run run[RUNS_MAX];
    int runs = 0;
    struct limits machine;
    struct limits_meter *meter = NULL;
    enum status st = meter_new(m, &meter, err);
    if (st == OK)
        limits_measure(meter, &machine);
    int64_t start = clock_mono_us();
    while (st == OK && runs < RUNS_MAX &&
           (runs == 0 || (double)(clock_mono_us() - start) / 1e6 < RUNS_SECONDS))
        st = run_once(m, c, meter, &machine, &run[runs++], err);
    limits_meter_free(meter);
    if (st != OK)
        return st;
    /* The first run may have brought pages and caches in. */
    struct bench_run *counted = run + (runs > 1);
    runs -= runs > 1;
    qsort(counted, (size_t)runs, sizeof *counted, compare);
    *out = counted[(runs - 1) / 2];
    return OK;
}
