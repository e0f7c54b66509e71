/*
 * What speculation with the model's own guessing layer is worth: greedy and sampled continuations
 * of the demo model's golden prompts, with and without, in the same run.
 *
 *   cmake --build build --target bench-speculation
 *   build/bench/bench-speculation [MODEL_DIR [THREADS]]      from the project's root
 *
 * The prompts are token ids of the demo model's tokenizer. For each number of sequences at once:
 * tokens a second without, with, the ratio, and how many of the guesses were right.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "worker/model/model.h"
#include "worker/scheduler.h"

#define PROMPTS "tests/golden/demo/greedy_prompts.json"

enum { PROMPTS_MAX = 32, IDS_MAX = 512, TOKENS = 48, RUNS = 3 };

static struct {
    int32_t ids[IDS_MAX];
    uint32_t count;
} prompts[PROMPTS_MAX];
static int prompt_count;

static void fail(const struct error *err)
{
    fprintf(stderr, "%s\n", err->text);
    exit(1);
}

static void read_prompts(void)
{
    struct json *root = NULL;
    struct error err;
    if (json_parse_file(PROMPTS, 1 << 20, &root, &err) != OK)
        fail(&err);
    for (const struct json *p = json_first(root); p && prompt_count < PROMPTS_MAX;
         p = json_next(p), prompt_count++)
        for (const struct json *v = json_first(p); v; v = json_next(v)) {
            int64_t id = 0;
            if (prompts[prompt_count].count < IDS_MAX && json_int(v, 0, INT32_MAX, &id))
                prompts[prompt_count].ids[prompts[prompt_count].count++] = (int32_t)id;
        }
    json_free(root);
}

static bool count_token(void *arg, const struct sched_token *token)
{
    ++*(int64_t *)arg;
    return false;
}

static void ignore_end(void *arg, uint64_t id, uint32_t choice, enum sched_end end)
{
}

struct measured {
    double tokens_per_s;
    struct backend_load load;
};

/* All prompts, `batch` at a time; the prompts' own time is part of it. */
static struct measured measure(struct model *m, int batch, float temperature, int drafts)
{
    struct measured out = {0};
    for (int run = 0; run < RUNS; run++) {
        int64_t made = 0;
        struct kv_shape shape;
        struct scheduler *s = NULL;
        struct error err;
        model_kv_shape(m, &shape);
        struct sched_options o = {.sequences_max = batch,
                                  .step_tokens = 256,
                                  .kv_bytes = (int64_t)kv_block_bytes(&shape) * 40 * batch,
                                  .queue_max = PROMPTS_MAX,
                                  .speculate = drafts ? SPECULATE_ON : SPECULATE_OFF,
                                  .drafts = drafts};
        struct sched_events e = {.token = count_token, .ended = ignore_end, .arg = &made};
        if (scheduler_new(m, &o, &e, &s, &err) != OK)
            fail(&err);
        int64_t start = clock_mono_us();
        for (int i = 0; i < prompt_count; i++) {
            struct sched_request r = {
                .id = (uint64_t)i,
                .prompt = prompts[i].ids,
                .prompt_count = prompts[i].count,
                .max_tokens = TOKENS,
                .sampling = {
                    .temperature = temperature, .top_p = 1, .seed = (uint64_t)i, .has_seed = true}};
            if (scheduler_submit(s, &r, &err) != OK)
                fail(&err);
        }
        while (scheduler_step(s))
            ;
        double rate = (double)made * 1e6 / (double)(clock_mono_us() - start);
        if (rate > out.tokens_per_s)
            out.tokens_per_s = rate;
        scheduler_load(s, &out.load);
        scheduler_free(s);
    }
    return out;
}

int main(int argc, char **argv)
{
    struct model_options options = {.threads = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0,
                                    .mtp = true};
    struct model *m = NULL;
    struct error err;
    if (model_load(argc > 1 ? argv[1] : "models/demo", &options, &m, &err) != OK)
        fail(&err);
    read_prompts();
    printf("| sequences | temperature | guesses a step | without | with | ratio | right |\n");
    printf("|---|---|---|---|---|---|---|\n");
    static const struct {
        int batch, drafts;
        float temperature;
    } cases[] = {{1, 1, 0}, {1, 2, 0}, {1, 3, 0}, {1, 1, 0.6f},
                 {1, 1, 1}, {2, 1, 0}, {4, 1, 0}, {16, 1, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int batch = cases[i].batch;
        struct measured off = measure(m, batch, cases[i].temperature, 0);
        struct measured on = measure(m, batch, cases[i].temperature, cases[i].drafts);
        printf("| %d | %.1f | %d | %.0f | %.0f | %.2f | %.0f %% |\n", batch,
               (double)cases[i].temperature, cases[i].drafts, off.tokens_per_s, on.tokens_per_s,
               on.tokens_per_s / off.tokens_per_s,
               100 * (double)on.load.accepted / (double)on.load.drafted);
    }
    model_free(m);
    return 0;
}
