/*
 * A whole model with weights of 8 and 4 bits, and with inputs rounded to bfloat16: near to the
 * reference's logits, and the same bits whatever the batch, the threads or the instruction set.
 */
#include <unistd.h>

#include "tests/unit/worker/golden.h"
#include "worker/cpu/kernels.h"

#define DEMO "models/demo"

static struct id_list prompt;

static float *run(const char *dir, const struct model_options *options, int chunk)
{
    struct model *m = golden_model(dir, options);
    float *logits = golden_run(m, &prompt, chunk);
    model_free(m);
    return logits;
}

static void check_batches(const char *dir, const struct model_options *how, size_t bytes,
                          const float *want)
{
    static const int chunks[] = {1, 5, 64};
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        struct model_options options = *how;
        options.threads = 1 + (int)i;
        float *got = run(dir, &options, chunks[i]);
        CHECK(memcmp(got, want, bytes) == 0);
        free(got);
    }
}

/* Those that multiply and add in one rounding. */
static void check_sets(const char *dir, const struct model_options *how, size_t bytes,
                       const float *want)
{
    static const char *const sets[] = {"avx512-bf16", "avx512-vnni", "avx512", "avx2"};
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        struct model_options options = *how;
        options.kernels = sets[i];
        struct model *m = NULL;
        struct error err;
        if (!kernels_find(sets[i]))
            continue; /* not of this machine */
        CHECK_FATAL(model_load(dir, &options, &m, &err) == OK);
        float *got = golden_run(m, &prompt, 64);
        CHECK(memcmp(got, want, bytes) == 0);
        free(got);
        model_free(m);
    }
}

static void check(const char *dir, const struct model_options *how, double least, double most)
{
    struct model_options exact = {.threads = 2, .deterministic = true};
    struct model *m = golden_model(dir, &exact);
    size_t n = (size_t)prompt.count * model_vocab_size(m);
    float *want = golden_run(m, &prompt, 64), *got = run(dir, how, 64);
    model_free(m);
    double difference = golden_difference(got, want, n);
    if (difference < least || difference > most)
        fprintf(stderr, "%s: off by %g\n", dir, difference);
    CHECK(difference >= least && difference <= most);
    check_batches(dir, how, n * sizeof *got, got);
    if (how->weights != MODEL_AS_STORED && kernels_find("avx2"))
        check_sets(dir, how, n * sizeof *got, got);
    free(want);
    free(got);
}

/* Published in bfloat16, and of a family with a bias and shared key heads. */
static void test_shared(const char *shared)
{
    char dir[3000];
    struct model_options how = {.threads = 2, .rounded = true, .deterministic = true};
    snprintf(dir, sizeof dir, "%s/fixtures/models/qwen2", shared);
    if (access(dir, R_OK) != 0)
        return;
    /* Exactly the same where this machine has no products of bfloat16. */
    check(dir, &how, 0, 0.02);
    how = (struct model_options){.threads = 2, .weights = MODEL_INT8, .deterministic = true};
    check(dir, &how, 1e-4, 0.05);
}

int main(void)
{
    const char *shared = getenv("TOLLGATE_SHARED");
    struct json *root = golden_json("tests/golden/demo/prompts.json");
    const struct json *fourth = json_first(root);
    for (int i = 0; i < 3; i++)
        fourth = json_next(fourth);
    golden_ids(fourth, &prompt);
    json_free(root);
    struct model_options how = {.threads = 2, .weights = MODEL_INT8, .deterministic = true};
    check(DEMO, &how, 1e-4, 0.05);
    how.weights = MODEL_INT4;
    check(DEMO, &how, 1e-3, 0.5);
    for (int i = 0; i < prompt.count; i++)
        prompt.ids[i] %= 384; /* of its vocabulary */
    test_shared(shared ? shared : "../shared");
    return check_done();
}
