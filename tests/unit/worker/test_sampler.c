#include "worker/sampler.h"

#include <math.h>
#include <stdbool.h>

#include "tests/unit/check.h"

enum { VOCAB = 8, DRAWS = 80000 };

static const float logits[VOCAB] = {1.0f, 3.0f, -2.0f, 3.0f, 0.0f, 2.5f, -30.0f, 1.0f};

static int32_t pick(struct sampler *s, const float *from, const struct sampling *how, uint32_t n)
{
    struct sampler_input in = {.logits = from, .made = n};
    return sampler_pick(s, &in, how);
}

static void test_greedy(struct sampler *s)
{
    struct sampling how = {.temperature = 0, .top_p = 1};
    CHECK_INT(pick(s, logits, &how, 0), 1); /* the first of equals */
    how.temperature = 1e-30f;
    for (uint32_t n = 0; n < 100; n++) {
        int32_t id = pick(s, logits, &how, n);
        CHECK(id == 1 || id == 3);
    }
    how = (struct sampling){.temperature = 1, .top_p = 0};
    for (uint32_t n = 0; n < 100; n++)
        CHECK_INT(pick(s, logits, &how, n), 1);
}

/* The shares of many draws against the exact probabilities. */
static void check_shares(struct sampler *s, float temperature, float top_p, unsigned allowed)
{
    double want[VOCAB], sum = 0;
    int seen[VOCAB] = {0};
    for (int i = 0; i < VOCAB; i++) {
        want[i] = allowed >> i & 1 ? exp((double)logits[i] / (double)temperature) : 0;
        sum += want[i];
    }
    struct sampling how = {.temperature = temperature, .top_p = top_p, .seed = 42};
    for (uint32_t n = 0; n < DRAWS; n++)
        seen[pick(s, logits, &how, n)]++;
    for (int i = 0; i < VOCAB; i++) {
        double p = want[i] / sum, share = (double)seen[i] / DRAWS;
        CHECK(fabs(share - p) <= 5 * sqrt(p * (1 - p) / DRAWS));
    }
}

static void test_shares(struct sampler *s)
{
    check_shares(s, 1.0f, 1.0f, 0xff);
    check_shares(s, 0.5f, 1.0f, 0xff);
    check_shares(s, 3.0f, 1.0f, 0xff);
    /* 1 and 3 have 0.341 each, 5 has 0.207: 0.71 needs all three, 0.66 two. */
    check_shares(s, 1.0f, 0.71f, 1 << 1 | 1 << 3 | 1 << 5);
    check_shares(s, 1.0f, 0.66f, 1 << 1 | 1 << 3);
    check_shares(s, 1.0f, 0.3f, 1 << 1);
}

static void test_seeds(struct sampler *s)
{
    struct sampling a = {.temperature = 2, .top_p = 0.95f, .seed = 7}, b = a, c = a;
    c.seed = 8;
    int differ = 0;
    for (uint32_t n = 0; n < 200; n++) {
        CHECK_INT(pick(s, logits, &a, n), pick(s, logits, &b, n));
        differ += pick(s, logits, &a, n) != pick(s, logits, &c, n);
    }
    CHECK(differ > 50);
    double sum = 0;
    for (uint64_t seed = 0; seed < 1000; seed++)
        for (uint32_t n = 0; n < 100; n++) {
            double wait = sampler_wait(seed, n, (int32_t)(seed % 7));
            CHECK_FATAL(wait > 0);
            sum += wait;
        }
    CHECK(fabs(sum / 100000 - 1) < 5 / sqrt(100000));
}

int main(void)
{
    struct sampler *s = sampler_new(VOCAB);
    CHECK_FATAL(s != NULL);
    test_greedy(s);
    test_shares(s);
    test_seeds(s);
    sampler_free(s);
    return check_done();
}
