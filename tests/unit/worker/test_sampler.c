/*
 * The sampler against its definition, written down a second time: everything sorted, everything in
 * double precision. And the shares of many draws, the loops of all instruction sets, and log
 * probabilities of the demo model's golden logits.
 */
#include "worker/sampler.h"

#include "tests/unit/worker/golden.h"
#include "worker/sampler_loops.h"

enum { VOCAB = 8, DRAWS = 80000, WIDE = 500 };

static const float logits[VOCAB] = {1.0f, 3.0f, -2.0f, 3.0f, 0.0f, 2.5f, -30.0f, 1.0f};

static uint32_t draw(uint64_t *state, uint32_t below)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33) % below;
}

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
    how = (struct sampling){.temperature = 1, .top_p = 1, .top_k = 1};
    CHECK_INT(pick(s, logits, &how, 5), 1);
}

static void test_no_numbers(struct sampler *s)
{
    float bad[VOCAB] = {NAN, 1, NAN, -INFINITY, 2, NAN, 0, NAN};
    struct sampling greedy = {.top_p = 1}, warm = {.temperature = 1, .top_p = 0.99f};
    uint32_t none = 0, third = 1 << 3;
    struct sampler_input in = {.logits = bad, .mask = &none};
    CHECK_INT(pick(s, bad, &greedy, 0), 4);
    for (uint32_t n = 0; n < 50; n++) {
        int32_t id = pick(s, bad, &warm, n);
        CHECK(id == 1 || id == 4 || id == 6);
    }
    CHECK_INT(sampler_pick(s, &in, &greedy), -1);
    CHECK_INT(sampler_pick(s, &in, &warm), -1);
    in.mask = &third; /* allowed, but impossible */
    CHECK_INT(sampler_pick(s, &in, &warm), -1);
    for (int i = 0; i < VOCAB; i++)
        bad[i] = NAN;
    CHECK_INT(pick(s, bad, &greedy, 0), -1);
    CHECK_INT(pick(s, bad, &warm, 0), -1);
}

/* The shares of many draws against the exact probabilities. */
static void check_shares(struct sampler *s, const struct sampling *how, unsigned allowed)
{
    double want[VOCAB], sum = 0;
    int seen[VOCAB] = {0};
    for (int i = 0; i < VOCAB; i++) {
        want[i] = allowed >> i & 1 ? exp((double)logits[i] / (double)how->temperature) : 0;
        sum += want[i];
    }
    for (uint32_t n = 0; n < DRAWS; n++)
        seen[pick(s, logits, how, n)]++;
    for (int i = 0; i < VOCAB; i++) {
        double p = want[i] / sum, share = (double)seen[i] / DRAWS;
        CHECK(fabs(share - p) <= 5 * sqrt(p * (1 - p) / DRAWS));
    }
}

static void test_shares(struct sampler *s)
{
    static const struct {
        float temperature, top_p, min_p;
        uint32_t top_k;
        unsigned allowed;
    } cases[] = {
        {1, 1, 0, 0, 0xff},
        {0.5f, 1, 0, 0, 0xff},
        {3, 1, 0, 0, 0xff},
        /* 1 and 3 have 0.341 each, 5 has 0.207: 0.71 needs all three, 0.66 two. */
        {1, 0.71f, 0, 0, 1 << 1 | 1 << 3 | 1 << 5},
        {1, 0.66f, 0, 0, 1 << 1 | 1 << 3},
        {1, 0.3f, 0, 0, 1 << 1},
        {1, 1, 0, 3, 1 << 1 | 1 << 3 | 1 << 5},
        {2, 1, 0, 4, 1 << 0 | 1 << 1 | 1 << 3 | 1 << 5}, /* of the equals 0 and 7 the first */
        {1, 1, 0.1f, 0, 0xab},                           /* 0.1 of the likeliest: ln is -2.3 */
        {1, 1, 0.14f, 0, 1 << 1 | 1 << 3 | 1 << 5},
        {1, 0.7f, 0.5f, 3, 1 << 1 | 1 << 3}, /* of three, two have 0.767 */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sampling how = {.temperature = cases[i].temperature,
                               .top_p = cases[i].top_p,
                               .min_p = cases[i].min_p,
                               .top_k = cases[i].top_k,
                               .seed = 42};
        check_shares(s, &how, cases[i].allowed);
    }
}

static void test_seeds(struct sampler *s)
{
    struct sampling a = {.temperature = 2, .top_p = 0.95f, .seed = 7}, b = a, c = a, d = a;
    c.seed = 8;
    d.seed = sampler_choice_seed(7, 1);
    CHECK(sampler_choice_seed(7, 0) == 7 && d.seed != sampler_choice_seed(7, 2));
    int differ = 0, choices = 0;
    for (uint32_t n = 0; n < 200; n++) {
        CHECK_INT(pick(s, logits, &a, n), pick(s, logits, &b, n));
        differ += pick(s, logits, &a, n) != pick(s, logits, &c, n);
        choices += pick(s, logits, &a, n) != pick(s, logits, &d, n);
    }
    CHECK(differ > 50 && choices > 50);
    double sum = 0;
    for (uint64_t seed = 0; seed < 1000; seed++)
        for (uint32_t n = 0; n < 100; n++) {
            double wait = sampler_wait(seed, n, (int32_t)(seed % 7));
            CHECK_FATAL(wait > 0);
            sum += wait;
        }
    CHECK(fabs(sum / 100000 - 1) < 5 / sqrt(100000));
}

/* Two distributions that are near each other mostly give the same token for the same draw: at
 * least (1 - d) / (1 + d) of the time, d being what they differ by. */
static void test_coupling(struct sampler *s)
{
    float near[VOCAB];
    double p[VOCAB], q[VOCAB], sum_p = 0, sum_q = 0, apart = 0;
    for (int i = 0; i < VOCAB; i++) {
        near[i] = logits[i] + (i % 2 ? 0.3f : -0.2f) + (i == 5 ? 0.4f : 0);
        sum_p += p[i] = exp((double)logits[i]);
        sum_q += q[i] = exp((double)near[i]);
    }
    for (int i = 0; i < VOCAB; i++)
        apart += fabs(p[i] / sum_p - q[i] / sum_q) / 2;
    struct sampling how = {.temperature = 1, .top_p = 1, .seed = 3};
    int same = 0;
    for (uint32_t n = 0; n < DRAWS; n++)
        same += pick(s, logits, &how, n) == pick(s, near, &how, n);
    double least = (1 - apart) / (1 + apart);
    CHECK((double)same / DRAWS >= least - 5 * sqrt(least * (1 - least) / DRAWS));
}

/* The definition. */

struct reference {
    double logit, weight;
    int32_t id;
};

static int by_logit(const void *a, const void *b)
{
    const struct reference *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static double reference_logit(const struct sampler_input *in, const struct sampling *how, int32_t t)
{
    double l = (double)in->logits[t];
    int seen = 0, made = 0;
    for (int i = 0; i < how->bias_count; i++)
        l += how->bias[i].token == t ? (double)how->bias[i].bias : 0;
    if (in->mask && !(in->mask[t / 32] >> t % 32 & 1))
        return -INFINITY;
    for (uint32_t i = 0; i < in->prompt + in->made; i++) {
        seen += in->tokens[i] == t;
        made += in->tokens[i] == t && i >= in->prompt;
    }
    if (seen && how->repetition_penalty > 0)
        l = l > 0 ? l / (double)how->repetition_penalty : l * (double)how->repetition_penalty;
    return l - made * (double)how->frequency_penalty - (made ? (double)how->presence_penalty : 0);
}

static int reference_narrow(struct reference *r, int count, const struct sampling *how)
{
    int kept = 0;
    double sum = 0, so_far = 0;
    for (int i = 0; i < count && r[i].weight >= (double)how->min_p && r[i].weight > 0; i++)
        kept++;
    if (how->top_k && (int)how->top_k < kept)
        kept = (int)how->top_k;
    for (int i = 0; i < kept; i++)
        sum += r[i].weight;
    for (int i = 0; i < kept && how->top_p < 1; i++)
        if ((so_far += r[i].weight) >= (double)how->top_p * sum)
            return i + 1;
    return kept;
}

static int32_t reference_pick(const struct sampler_input *in, const struct sampling *how)
{
    struct reference r[WIDE];
    for (int32_t t = 0; t < WIDE; t++)
        r[t] = (struct reference){.logit = reference_logit(in, how, t), .id = t};
    qsort(r, WIDE, sizeof *r, by_logit);
    if (!(how->temperature > 0))
        return r[0].id;
    for (int i = 0; i < WIDE; i++)
        r[i].weight = exp((r[i].logit - r[0].logit) / (double)how->temperature);
    int kept = reference_narrow(r, WIDE, how);
    int32_t best = -1;
    double least = INFINITY;
    for (int i = 0; i < kept; i++) {
        double time = sampler_wait(how->seed, in->made, r[i].id) / r[i].weight;
        best = time < least ? r[i].id : best;
        least = time < least ? time : least;
    }
    return best;
}

static void random_request(uint64_t *state, struct sampling *how, struct logit_bias *bias)
{
    static const float temperatures[] = {0, 0.3f, 0.6f, 1, 1.7f};
    *how = (struct sampling){.temperature = temperatures[draw(state, 5)],
                             .top_p = draw(state, 2) ? 1 : (float)draw(state, 100) / 100,
                             .top_k = draw(state, 2) ? 0 : 1 + draw(state, 2 * WIDE),
                             .min_p = draw(state, 3) ? 0 : (float)draw(state, 100) / 300,
                             .seed = draw(state, 1000),
                             .bias = bias,
                             .bias_count = (int)draw(state, 4)};
    for (int i = 0; i < how->bias_count; i++)
        bias[i] =
            (struct logit_bias){(int32_t)draw(state, WIDE), (float)draw(state, 2000) / 100 - 10};
    if (draw(state, 2)) {
        how->frequency_penalty = (float)draw(state, 400) / 100 - 2;
        how->presence_penalty = (float)draw(state, 400) / 100 - 2;
    }
    if (draw(state, 2))
        how->repetition_penalty = 0.5f + (float)draw(state, 150) / 100;
}

static void test_definition(void)
{
    static float x[WIDE];
    static int32_t tokens[100];
    uint32_t mask[WIDE / 32 + 1];
    struct logit_bias bias[4];
    struct sampler *s = sampler_new(WIDE);
    CHECK_FATAL(s != NULL);
    uint64_t state = 11;
    for (int round = 0; round < 3000; round++) {
        struct sampling how;
        random_request(&state, &how, bias);
        for (int i = 0; i < WIDE; i++)
            x[i] = ((float)draw(&state, 20000) / 1000 - 10) * (round % 3 ? 1 : 0.2f);
        for (int i = 0; i < 100; i++)
            tokens[i] = (int32_t)draw(&state, WIDE);
        for (size_t i = 0; i < sizeof mask / sizeof *mask; i++)
            mask[i] = draw(&state, 3) ? draw(&state, UINT32_MAX) : draw(&state, 2) ? 0 : UINT32_MAX;
        mask[3] |= 1;
        uint32_t prompt = draw(&state, 60);
        struct sampler_input in = {x, draw(&state, 2) ? mask : NULL, tokens, prompt,
                                   draw(&state, 101 - prompt)};
        CHECK_INT(sampler_pick(s, &in, &how), reference_pick(&in, &how));
    }
    sampler_free(s);
}

/* Too many tokens to look at each: the shares of the likely ones, and of all others together. */
static void test_large_vocabulary(void)
{
    enum { LARGE = 129280, TIMES = 4000 };
    static float x[LARGE];
    struct sampler *s = sampler_new(LARGE);
    CHECK_FATAL(s != NULL);
    double sum = 0, seen[4] = {0}, want[4];
    for (int i = 0; i < LARGE; i++)
        x[i] = -12.0f + (float)(i % 7) / 4;
    x[5] = 0.5f;
    x[70001] = 0.2f;
    x[LARGE - 1] = -0.3f;
    for (int i = 0; i < LARGE; i++)
        sum += exp((double)x[i]);
    want[0] = exp(0.5) / sum;
    want[1] = exp(0.2) / sum;
    want[2] = exp(-0.3) / sum;
    want[3] = 1 - want[0] - want[1] - want[2];
    struct sampling how = {.temperature = 1, .top_p = 1, .seed = 9};
    for (uint32_t n = 0; n < TIMES; n++) {
        int32_t id = pick(s, x, &how, n);
        seen[id == 5 ? 0 : id == 70001 ? 1 : id == LARGE - 1 ? 2 : 3]++;
        struct sampling wide = how;
        wide.top_p = 0.9999999f;
        if (n < 200)
            CHECK_INT(pick(s, x, &wide, n), id);
    }
    for (int i = 0; i < 4; i++)
        CHECK(fabs(seen[i] / TIMES - want[i]) <= 5 * sqrt(want[i] * (1 - want[i]) / TIMES));
    sampler_free(s);
}

/* All instruction sets give the same bits, whatever the length. */
static void test_loops(void)
{
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("avx2"))
        return;
    const struct sampler_loops *a = &sampler_loops_portable, *b = &sampler_loops_avx2;
    enum { MOST = 5000 };
    static float x[MOST], one[MOST], two[MOST];
    uint64_t state = 5;
    for (uint32_t n = 1; n < MOST; n += 1 + draw(&state, 60)) {
        float most = -INFINITY;
        for (uint32_t i = 0; i < n; i++) {
            x[i] = (float)draw(&state, 1000000) / 20000 - 25;
            x[i] = draw(&state, 50) ? x[i] : draw(&state, 2) ? NAN : -INFINITY;
            most = x[i] > most ? x[i] : most;
        }
        CHECK(a->maxima(x, n, one) == most && b->maxima(x, n, two) == most);
        CHECK(memcmp(one, two, (n + SAMPLER_BLOCK - 1) / SAMPLER_BLOCK * sizeof *one) == 0);
        double sum = 0, got = a->exp_sum(x, n, most, 0.7f);
        for (uint32_t i = 0; i < n; i++)
            sum += x[i] > -INFINITY ? exp((double)(x[i] - most) * 0.7) : 0;
        CHECK(got == b->exp_sum(x, n, most, 0.7f) && fabs(got - sum) <= sum * 1e-6);
        struct race r = {x, n, {draw(&state, UINT32_MAX), draw(&state, UINT32_MAX)}, most, 1, 0};
        for (uint32_t i = 0; i < n; i++) {
            uint32_t next = a->race_next(&r, i);
            CHECK_INT(b->race_next(&r, i), next);
            i = next;
        }
    }
#endif
}

static void check_logprobs(struct sampler *s, const float *row, int vocab, int32_t token)
{
    struct token_logprobs got;
    struct reference r[1024];
    double most = -INFINITY, sum = 0;
    for (int i = 0; i < vocab; i++)
        most = fmax(most, (double)row[i]);
    for (int i = 0; i < vocab; i++)
        sum += exp((double)row[i] - most);
    for (int i = 0; i < vocab; i++)
        r[i] = (struct reference){.logit = (double)row[i] - most - log(sum), .id = i};
    double own = r[token].logit;
    qsort(r, (size_t)vocab, sizeof *r, by_logit);
    sampler_logprobs(s, row, token, 20, &got);
    CHECK(fabs((double)got.logprob - own) < 2e-6 * fmax(1, fabs(own)));
    CHECK_INT(got.top_count, 20);
    for (int i = 0; i < 20; i++) {
        CHECK_INT(got.top[i].token, r[i].id);
        CHECK(fabs((double)got.top[i].logprob - r[i].logit) < 2e-6 * fmax(1, fabs(r[i].logit)));
    }
    sampler_logprobs(s, row, token, 0, &got);
    CHECK_INT(got.top_count, 0);
}

static void test_logprobs(void)
{
    enum { DEMO_VOCAB = 1024 };
    size_t count;
    float *golden = golden_floats("tests/golden/demo/logits.f32", &count);
    struct sampler *s = sampler_new(DEMO_VOCAB);
    CHECK_FATAL(s != NULL && count % DEMO_VOCAB == 0 && count > 0);
    for (size_t i = 0; i < count / DEMO_VOCAB; i++)
        check_logprobs(s, golden + i * DEMO_VOCAB, DEMO_VOCAB, (int32_t)(i * 31 % DEMO_VOCAB));
    struct token_logprobs got;
    free(golden);
    sampler_free(s);
    s = sampler_new(VOCAB);
    CHECK_FATAL(s != NULL);
    sampler_logprobs(s, logits, 6, 20, &got); /* more than there are */
    CHECK_INT(got.top_count, VOCAB);
    CHECK_INT(got.top[VOCAB - 1].token, 6);
    CHECK(got.top[VOCAB - 1].logprob == got.logprob);
    sampler_free(s);
}

int main(void)
{
    struct sampler *s = sampler_new(VOCAB);
    CHECK_FATAL(s != NULL);
    test_greedy(s);
    test_no_numbers(s);
    test_shares(s);
    test_seeds(s);
    test_coupling(s);
    sampler_free(s);
    test_definition();
    test_large_vocabulary();
    test_loops();
    test_logprobs();
    return check_done();
}
