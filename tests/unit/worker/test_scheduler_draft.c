/*
 * Speculation changes how many tokens a step makes, never which: greedy and sampled, with
 * penalties, masks, several choices, stops, pauses and cancels, in batches and alone.
 */
#include "tests/unit/worker/sched.h"

enum { GREEDY_TOKENS = 64 };
#ifdef __SANITIZE_ADDRESS__ /* a step is five times as slow */
enum { REQUESTS = 12, GREEDY = 20, MANY = 80 };
#else
enum { REQUESTS = 24, GREEDY = 20, MANY = 200 };
#endif

static struct id_list prompts[GREEDY], greedy[GREEDY];
static struct seen plain, seen;

static void read_goldens(void)
{
    struct json *p = golden_json("tests/golden/demo/greedy_prompts.json");
    struct json *g = golden_json("tests/golden/demo/greedy.json");
    const struct json *x = json_first(p), *y = json_first(g);
    for (int i = 0; i < GREEDY; i++, x = json_next(x), y = json_next(y)) {
        golden_ids(x, &prompts[i]);
        golden_ids(y, &greedy[i]);
    }
    json_free(p);
    json_free(g);
}

static struct sched_request request(uint64_t id, const struct id_list *p, uint32_t tokens)
{
    return (struct sched_request){.id = id,
                                  .prompt = p->ids,
                                  .prompt_count = (uint32_t)p->count,
                                  .max_tokens = tokens,
                                  .sampling = {.top_p = 1}};
}

/* Every greedy continuation is the golden one, in fewer steps. */
static void check_greedy(struct model *m, const struct sched_sizes *sizes)
{
    struct scheduler *s = sched_open(m, &seen, sizes);
    int steps = 0;
    for (uint64_t i = 0; i < GREEDY; i++) {
        struct sched_request r = request(i, &prompts[i], GREEDY_TOKENS);
        sched_submit(s, &r);
    }
    while (scheduler_step(s))
        steps++;
    for (int i = 0; i < GREEDY; i++) {
        const struct seen_choice *c = &seen.of[i].choice[0];
        CHECK(memcmp(c->ids, greedy[i].ids, GREEDY_TOKENS * sizeof *c->ids) == 0);
        CHECK(c->how == SCHED_LENGTH && c->count == GREEDY_TOKENS);
    }
    struct backend_load load;
    scheduler_load(s, &load);
    CHECK(load.drafted > 0 && load.accepted <= load.drafted);
    CHECK(load.accepted * 3 > load.drafted);
    if (sizes->sequences == 1)
        CHECK(steps + (int)load.accepted <= GREEDY * (GREEDY_TOKENS + 10));
    sched_close(s);
}

static struct sched_request request_of(uint64_t i)
{
    static const struct logit_bias bias[2] = {{300, 4}, {17, -100}};
    struct sched_request r = request(i, &prompts[i % GREEDY], 1 + (uint32_t)i * 13 % 60);
    r.choices = i % 4 == 2 ? 3 : 1;
    r.sampling = (struct sampling){.temperature = i % 5 ? 0.3f * (float)(i % 5) : 0,
                                   .top_p = i % 2 ? 0.9f : 1,
                                   .top_k = i % 4 ? 0 : 30,
                                   .min_p = i % 7 ? 0 : 0.02f,
                                   .frequency_penalty = i % 6 ? 0 : 0.4f,
                                   .repetition_penalty = i % 8 ? 1 : 1.2f,
                                   .bias = bias,
                                   .bias_count = i % 9 ? 0 : 2,
                                   .seed = i * 77 + 5,
                                   .has_seed = true};
    r.cache_salt = (const uint8_t *)"s";
    r.cache_salt_len = i % 3 ? 0 : 1;
    return r;
}

/* Pauses at random; every third request stops itself. */
static void run_all(struct model *m, struct seen *into, const struct sched_sizes *sizes,
                    uint64_t seed)
{
    struct scheduler *s = sched_open(m, into, sizes);
    for (uint64_t i = 0; i < REQUESTS; i++) {
        struct sched_request r = request_of(i);
        into->of[i].stop_at = i % 3 ? 0 : 1 + (int)i;
        sched_submit(s, &r);
    }
    bool worked = true;
    for (int turn = 0; worked; turn++) {
        uint64_t id = sched_draw(&seed, REQUESTS);
        scheduler_set_paused(s, id, true);
        worked = scheduler_step(s);
        scheduler_set_paused(s, id, false);
        worked |= scheduler_step(s);
        if (turn == 20)
            scheduler_cancel(s, 5);
        scheduler_check(s);
    }
    sched_close(s);
}

static void test_same_tokens(struct model *m)
{
    run_all(m, &plain, &(struct sched_sizes){8, 64, 300, SPECULATE_OFF, 0}, 1);
    for (uint64_t seed = 2; seed < 5; seed++) {
        struct sched_sizes sizes = {4 + (int)seed, 20 + (int)seed, 40 + (int)seed * 20,
                                    SPECULATE_ON, (int)seed - 1};
        run_all(m, &seen, &sizes, seed);
        for (uint64_t i = 0; i < REQUESTS; i++)
            for (uint32_t c = 0; c < request_of(i).choices; c++) {
                const struct seen_choice *a = &plain.of[i].choice[c], *b = &seen.of[i].choice[c];
                int n = a->count < b->count ? a->count : b->count;
                CHECK(i == 5 || (a->count == b->count && a->how == b->how));
                CHECK(memcmp(a->ids, b->ids, (size_t)n * sizeof *a->ids) == 0);
            }
    }
}

/* The shares of many draws of the first three tokens, with and without: the same requests would
 * give the same tokens, so these have other seeds, and only the distribution can agree. */
static void test_distribution(struct model *m)
{
    enum { VOCAB = 1024, PLACES = 4 };
    static int count[2][PLACES][VOCAB];
    static const struct sched_sizes sizes[2] = {{16, 64, 200, SPECULATE_OFF, 0},
                                                {16, 64, 200, SPECULATE_ON, 1}};
    for (int k = 0; k < 2; k++)
        for (uint64_t round = 0; round < 4; round++) {
            struct scheduler *s = sched_open(m, &seen, &sizes[k]);
            for (uint64_t i = 0; i < MANY; i++) {
                struct sched_request r = request(i, &prompts[3], PLACES);
                r.sampling = (struct sampling){.temperature = 1.5f,
                                               .top_p = 1,
                                               .seed = ((uint64_t)k * 4 + round) * MANY + i,
                                               .has_seed = true};
                r.cache_salt = (const uint8_t *)"s";
                r.cache_salt_len = 1;
                sched_submit(s, &r);
            }
            sched_finish(s);
            for (int i = 0; i < MANY; i++)
                for (int p = 0; p < PLACES; p++)
                    count[k][p][seen.of[i].choice[0].ids[p]]++;
            sched_close(s);
        }
    for (int p = 0; p < PLACES; p++)
        for (int v = 0; v < VOCAB; v++) {
            double a = count[0][p][v], b = count[1][p][v];
            CHECK(fabs(a - b) <= 5 * sqrt(a + b + 1));
        }
}

/* What a mask allows depends on what was made, also when several tokens are made in one step. */
static const uint32_t *alternate(void *arg, uint64_t id, uint32_t choice)
{
    static uint32_t mask[32];
    const struct seen_choice *c = &((struct seen *)arg)->of[id].choice[choice];
    if (id % 2)
        return NULL;
    for (int i = 0; i < 32; i++)
        mask[i] = c->count % 3 ? 0x55555555u << (c->count % 3 - 1) : UINT32_MAX;
    return mask;
}

static void run_masked(struct model *m, struct seen *into, enum sched_speculation speculate)
{
    const struct sched_sizes sizes = {8, 32, 100, speculate, 0};
    struct sched_events e = {
        .token = seen_token, .ended = seen_end, .mask = alternate, .arg = into};
    struct scheduler *s = sched_open_with(m, &sizes, &e);
    for (uint64_t i = 0; i < 8; i++) {
        struct sched_request r = request(i, &prompts[i], 30);
        r.sampling.temperature = i % 4 < 2 ? 0 : 0.8f;
        r.sampling.seed = i;
        r.sampling.has_seed = true;
        sched_submit(s, &r);
    }
    sched_finish(s);
    sched_close(s);
}

static void test_masks(struct model *m)
{
    run_masked(m, &plain, SPECULATE_OFF);
    run_masked(m, &seen, SPECULATE_ON);
    for (int i = 0; i < 8; i++) {
        const struct seen_choice *a = &plain.of[i].choice[0], *b = &seen.of[i].choice[0];
        CHECK(a->count == 30 && b->count == 30 && memcmp(a->ids, b->ids, sizeof a->ids) == 0);
        for (int t = 0; t < 30 && i % 2 == 0; t++)
            CHECK(t % 3 == 0 || b->ids[t] % 2 == t % 3 - 1);
    }
}

/* A model without the layer: AUTO does without, ON is refused. */
static void test_without(void)
{
    struct model *m = golden_model("models/demo", NULL);
    struct scheduler *s = sched_open(m, &seen, &(struct sched_sizes){2, 8, 20, SPECULATE_AUTO, 2});
    struct sched_request r = request(0, &prompts[0], 10);
    sched_submit(s, &r);
    sched_finish(s);
    CHECK(memcmp(seen.of[0].choice[0].ids, greedy[0].ids, 10 * sizeof(int32_t)) == 0);
    sched_close(s);
    struct sched_options o = {.sequences_max = 2,
                              .step_tokens = 8,
                              .kv_bytes = 1 << 20,
                              .queue_max = 1,
                              .speculate = SPECULATE_ON,
                              1};
    struct sched_events e = {.token = seen_token, .ended = seen_end, .arg = &seen};
    struct error err = {""};
    CHECK(scheduler_new(m, &o, &e, &s, &err) == INVALID);
    model_free(m);
}

int main(void)
{
    struct model_options options = {.threads = 1, .mtp = true, .deterministic = true};
    struct model *m = golden_model("models/demo", &options);
    read_goldens();
    check_greedy(m, &(struct sched_sizes){1, 7, 20, SPECULATE_ON, 1});
    check_greedy(m, &(struct sched_sizes){16, 64, 400, SPECULATE_ON, 4});
    check_greedy(m, &(struct sched_sizes){3, 64, 400, SPECULATE_AUTO, 2});
    test_same_tokens(m);
    test_distribution(m);
    test_masks(m);
    model_free(m);
    test_without();
    return check_done();
}
