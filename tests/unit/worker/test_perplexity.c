#include "worker/perplexity.h"

#include "tests/unit/worker/golden.h"

#define DEMO "models/demo"
#define GOLDEN "tests/golden/demo/"

static double surprise(const float *logits, size_t n, int32_t at)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - (double)logits[at]);
    return log(sum);
}

static struct prompts read_golden(void)
{
    struct prompts p = {0};
    struct error err = {""};
    struct prompts_limits limits = {1024, 2048};
    CHECK_FATAL(prompts_read(GOLDEN "prompts.json", &limits, &p, &err) == OK);
    return p;
}

/* Against the logits that the reference implementation computed. */
static void test_golden(struct model *m, const struct prompts *p)
{
    size_t count, vocab = model_vocab_size(m), row = 0;
    float *logits = golden_floats(GOLDEN "logits.f32", &count);
    double sum = 0;
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        for (uint32_t j = 1; j < p->items[i].count; j++, tokens++)
            sum += surprise(logits + (row + j - 1) * vocab, vocab, p->items[i].ids[j]);
        row += p->items[i].count;
    }
    CHECK_INT(row * vocab, count);
    free(logits);
    struct perplexity got;
    struct error err = {""};
    CHECK_FATAL(perplexity_measure(m, p, PERPLEXITY_WINDOW, &got, &err) == OK);
    CHECK_INT(got.tokens, tokens);
    CHECK(fabs(got.mean - sum / (double)tokens) < 1e-5);
    CHECK(fabs(got.value - exp(got.mean)) < 1e-12 * got.value);
}

/* A long document in windows: each token from the window that is to predict it. */
static void test_windows(struct model *m)
{
    enum { TOKENS = 150, WINDOW = 40, STEP = WINDOW - WINDOW / 2 };
    int32_t ids[TOKENS];
    for (int i = 0; i < TOKENS; i++)
        ids[i] = 3 + i * 37 % 900;
    double sum = 0;
    int predicted = 1, vocab = (int)model_vocab_size(m);
    for (int start = 0; predicted < TOKENS; start += STEP) {
        struct id_list window = {.count = TOKENS - start < WINDOW ? TOKENS - start : WINDOW};
        memcpy(window.ids, ids + start, (size_t)window.count * sizeof *ids);
        float *logits = golden_run(m, &window, 7);
        for (int i = predicted - start; i < window.count; i++)
            sum += surprise(logits + (i - 1) * vocab, (size_t)vocab, window.ids[i]);
        predicted = start + window.count;
        free(logits);
    }
    struct prompt document = {ids, TOKENS};
    struct prompts all = {&document, 1};
    struct perplexity got;
    struct error err = {""};
    CHECK_FATAL(perplexity_measure(m, &all, WINDOW, &got, &err) == OK);
    CHECK_INT(got.tokens, TOKENS - 1);
    /* Read in other pieces, so sums are made in another order. */
    CHECK(fabs(got.mean - sum / (TOKENS - 1)) < 1e-5 * got.mean);
}

static void test_refused(struct model *m)
{
    int32_t id = 5;
    struct prompt document = {&id, 1};
    struct prompts all = {&document, 1};
    struct perplexity got = {.tokens = 77};
    struct error err = {""};
    CHECK_INT(perplexity_measure(m, &all, 64, &got, &err), INVALID);
    CHECK(strstr(err.text, "nothing to predict") != NULL);
    CHECK_INT(got.tokens, 77);
}

int main(void)
{
    struct model_options one = {.threads = 1, .deterministic = true};
    struct model_options two = {.threads = 2, .deterministic = true};
    struct model *m = golden_model(DEMO, &one), *n = golden_model(DEMO, &two);
    struct prompts p = read_golden();
    test_golden(m, &p);
    test_windows(m);
    test_refused(m);
    struct perplexity a, b;
    struct error err = {""};
    CHECK_FATAL(perplexity_measure(m, &p, 2048, &a, &err) == OK);
    CHECK_FATAL(perplexity_measure(n, &p, 2048, &b, &err) == OK);
    CHECK(memcmp(&a.mean, &b.mean, sizeof a.mean) == 0); /* whatever the threads */
    prompts_free(&p);
    model_free(m);
    model_free(n);
    return check_done();
}
