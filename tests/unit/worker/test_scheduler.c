/* runs: thread */
#include "tests/unit/worker/sched.h"

enum { GREEDY_TOKENS = 64 };
#ifdef __SANITIZE_THREAD__ /* a step is twenty times as slow, and its threads do the same */
enum { REQUESTS = 8, GREEDY = 2, SEEDS = 1 };
#elif defined(__SANITIZE_ADDRESS__) /* five times */
enum { REQUESTS = 24, GREEDY = 8, SEEDS = 2 };
#else
enum { REQUESTS = 40, GREEDY = 20, SEEDS = 4 };
#endif

static struct id_list prompts[GREEDY], greedy[GREEDY];
static struct seen seen;

static void read_goldens(void)
{
    struct json *p = golden_json("tests/golden/demo/greedy_prompts.json");
    struct json *g = golden_json("tests/golden/demo/greedy.json");
    const struct json *x = json_first(p), *y = json_first(g);
    for (int i = 0; i < GREEDY; i++, x = json_next(x), y = json_next(y)) {
        golden_ids(x, &prompts[i]);
        golden_ids(y, &greedy[i]);
        CHECK_FATAL(greedy[i].count == GREEDY_TOKENS);
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

static void check_goldens(void)
{
    for (int i = 0; i < GREEDY; i++) {
        const struct seen_choice *c = &seen.of[i].choice[0];
        CHECK(memcmp(c->ids, greedy[i].ids, GREEDY_TOKENS * sizeof *c->ids) == 0);
        CHECK(c->ended && c->how == SCHED_LENGTH);
    }
}

static void test_greedy(struct model *m)
{
    struct scheduler *s =
        sched_open(m, &seen, &(struct sched_sizes){16, 64, 400, SPECULATE_OFF, 0});
    for (uint64_t i = 0; i < GREEDY; i++) {
        struct sched_request r = request(i, &prompts[i], GREEDY_TOKENS);
        sched_submit(s, &r);
    }
    sched_finish(s);
    sched_close(s);
    check_goldens();
    s = sched_open(m, &seen, &(struct sched_sizes){1, 7, 20, SPECULATE_OFF, 0});
    for (uint64_t i = 0; i < GREEDY; i++) {
        struct sched_request r = request(i, &prompts[i], GREEDY_TOKENS);
        sched_submit(s, &r);
        sched_finish(s);
    }
    sched_close(s);
    check_goldens();
}

/* Request number i, always the same one. */
static struct sched_request request_of(uint64_t i)
{
    static const struct logit_bias bias[2] = {{300, 4}, {17, -100}};
    struct sched_request r = request(i, &prompts[i % GREEDY], 1 + (uint32_t)i * 13 % 50);
    r.choices = i % 5 == 2 ? 1 + (uint32_t)i % SEEN_CHOICES : 1;
    r.sampling = (struct sampling){.temperature = i % 3 ? 0.8f : 0,
                                   .top_p = i % 2 ? 0.9f : 1,
                                   .top_k = i % 4 ? 0 : 30,
                                   .min_p = i % 7 ? 0 : 0.02f,
                                   .frequency_penalty = i % 6 ? 0 : 0.4f,
                                   .repetition_penalty = i % 8 ? 1 : 1.2f,
                                   .bias = bias,
                                   .bias_count = i % 9 ? 0 : 2,
                                   .seed = i * 77 + 5,
                                   .has_seed = true};
    return r;
}

/* What each choice makes alone, to its end. */
static void run_alone(struct model *m, struct seen *alone)
{
    struct scheduler *s = sched_open(m, alone, &(struct sched_sizes){1, 128, 20, SPECULATE_OFF, 0});
    for (uint64_t i = 0; i < REQUESTS; i++) {
        struct sched_request r = request_of(i);
        uint32_t choices = r.choices;
        uint64_t seed = r.sampling.seed;
        r.choices = 1;
        r.id = SEEN_IDS - 1;
        for (uint32_t c = 0; c < choices; c++) {
            struct seen_request *slot = &alone->of[r.id];
            memset(slot, 0, sizeof *slot);
            r.sampling.seed = sampler_choice_seed(seed, c);
            sched_submit(s, &r);
            sched_finish(s);
            alone->of[i].choice[c] = slot->choice[0];
            CHECK_INT(slot->choice[0].count, r.max_tokens);
        }
    }
    sched_close(s);
}

static void arrive(struct scheduler *s, uint64_t *state, uint64_t i)
{
    static const char *const tenants[] = {"a", "b", "c"};
    struct sched_request r = request_of(i);
    r.tenant = tenants[sched_draw(state, 3)];
    r.priority = (int)sched_draw(state, 2);
    r.deadline_ms = sched_draw(state, 4) ? 0 : 1 + sched_draw(state, 400);
    r.cache_salt = (const uint8_t *)"AB" + sched_draw(state, 2);
    r.cache_salt_len = sched_draw(state, 4) ? 1 : 0;
    seen.of[i].stop_at = sched_draw(state, 4) == 0 ? 1 + (int)sched_draw(state, 20) : 0;
    sched_submit(s, &r);
}

static bool all_ended(uint64_t i)
{
    struct sched_request r = request_of(i);
    for (uint32_t c = 0; c < r.choices; c++)
        if (!seen.of[i].choice[c].ended)
            return false;
    return true;
}

/* One random event before a step. */
static void disturb(struct scheduler *s, uint64_t *state, uint64_t *arrived)
{
    seen.now_ms += sched_draw(state, 10);
    if (*arrived < REQUESTS && sched_draw(state, 3) == 0)
        arrive(s, state, (*arrived)++);
    if (!*arrived)
        return;
    uint64_t id = sched_draw(state, (uint32_t)*arrived);
    switch (sched_draw(state, 14)) {
    case 0:
        scheduler_cancel(s, id);
        CHECK(all_ended(id));
        break;
    case 1:
        scheduler_set_paused(s, id, true);
        break;
    default:
        scheduler_set_paused(s, id, false);
        break;
    }
    scheduler_check(s);
}

static void check_against_alone(const struct seen *alone)
{
    for (uint64_t i = 0; i < REQUESTS; i++) {
        struct sched_request r = request_of(i);
        for (uint32_t c = 0; c < r.choices; c++) {
            const struct seen_choice *got = &seen.of[i].choice[c], *want = &alone->of[i].choice[c];
            CHECK(got->ended && got->count <= want->count);
            CHECK(memcmp(got->ids, want->ids, (size_t)got->count * sizeof *got->ids) == 0);
            if (got->how == SCHED_LENGTH)
                CHECK_INT(got->count, r.max_tokens);
            if (got->how == SCHED_STOPPED)
                CHECK_INT(got->count, seen.of[i].stop_at);
            if (got->how == SCHED_EXPIRED)
                CHECK_INT(got->count, 0);
        }
    }
}

/* Arrivals, cancels, stops, pauses and deadlines at random, with too little room for all: what
 * each makes is what it makes alone, and no block is lost. */
static void test_random(struct model *m)
{
    static struct seen alone;
    run_alone(m, &alone);
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sched_sizes sizes = {5 + (int)seed * 4, 24 + (int)seed, 40, SPECULATE_OFF, 0};
        struct scheduler *s = sched_open(m, &seen, &sizes);
        uint64_t state = seed, arrived = 0;
        bool over = false;
        for (int turn = 0; !over && turn < 100000; turn++) {
            disturb(s, &state, &arrived);
            scheduler_step(s);
            over = arrived == REQUESTS;
            for (uint64_t i = 0; over && i < REQUESTS; i++)
                over = all_ended(i);
        }
        CHECK(over);
        sched_close(s);
        check_against_alone(&alone);
    }
}

/* A short prompt gets its first token while a long one is still being read; those that decode
 * get one every step. */
static void test_fair_steps(struct model *m)
{
    static struct id_list longest;
    longest.count = 1500;
    for (int i = 0; i < longest.count; i++)
        longest.ids[i] = i % 1000;
    struct scheduler *s =
        sched_open(m, &seen, &(struct sched_sizes){16, 32, 200, SPECULATE_OFF, 0});
    struct sched_request a = request(0, &prompts[0], 60), b = request(1, &longest, 5),
                         c = request(2, &prompts[1], 5);
    sched_submit(s, &a);
    scheduler_step(s);
    CHECK_INT(seen.of[0].choice[0].count, 1);
    sched_submit(s, &b);
    sched_submit(s, &c);
    for (int i = 0; i < 10; i++) {
        scheduler_step(s);
        CHECK_INT(seen.of[0].choice[0].count, 2 + i);
    }
    CHECK_INT(seen.of[1].choice[0].count, 0);
    CHECK_INT(seen.of[2].choice[0].count, 5);
    scheduler_cancel(s, 1); /* in the middle of its prompt */
    CHECK(seen.of[1].choice[0].ended && seen.of[1].choice[0].how == SCHED_CANCELLED);
    scheduler_cancel(s, 0);
    sched_close(s);
}

static uint32_t run_one(struct scheduler *s, uint64_t id, const struct id_list *p, const char *salt)
{
    struct sched_request r = request(id, p, 20);
    r.cache_salt = (const uint8_t *)salt;
    r.cache_salt_len = (uint32_t)strlen(salt);
    sched_submit(s, &r);
    sched_finish(s);
    return seen.of[id].cached;
}

static bool same_tokens(uint64_t a, uint64_t b)
{
    const struct seen_choice *x = &seen.of[a].choice[0], *y = &seen.of[b].choice[0];
    return x->count == y->count && memcmp(x->ids, y->ids, (size_t)x->count * sizeof *x->ids) == 0;
}

static void make_prompt(struct id_list *p, int count)
{
    p->count = count;
    for (int i = 0; i < count; i++)
        p->ids[i] = i * 7 % 1000;
}

/* The second time, a prompt's full blocks are there already, and so is an answer's part of a
 * longer prompt; not for another salt, nor for none. What is made is the same. */
static void test_prefix(struct model *m)
{
    static struct id_list p, longer;
    make_prompt(&p, 50);
    struct scheduler *s = sched_open(m, &seen, &(struct sched_sizes){4, 32, 20, SPECULATE_OFF, 0});
    CHECK_INT(run_one(s, 0, &p, "tenant 1"), 0);
    CHECK_INT(run_one(s, 1, &p, "tenant 1"), 48);
    CHECK_INT(run_one(s, 2, &p, "tenant 2"), 0);
    CHECK_INT(run_one(s, 3, &p, ""), 0);
    p.count = 48; /* its last token must be computed */
    CHECK_INT(run_one(s, 4, &p, "tenant 1"), 32);
    p.count = 50;
    longer = p;
    memcpy(longer.ids + 50, seen.of[0].choice[0].ids, 20 * sizeof(int32_t));
    longer.count = 70;
    CHECK_INT(run_one(s, 5, &longer, "tenant 1"), 64);
    for (uint64_t i = 1; i < 4; i++)
        CHECK(same_tokens(i, 0));
    /* Other prompts need all the room: the old blocks go, and the first is computed again. */
    for (uint64_t i = 6; i < 12; i++) {
        longer.ids[0] = (int32_t)i;
        longer.count = 200;
        CHECK_INT(run_one(s, i, &longer, "tenant 1"), 0);
    }
    CHECK_INT(run_one(s, 12, &p, "tenant 1"), 0);
    CHECK(same_tokens(12, 0));
    sched_close(s);
}

/* Requests that arrive together and begin alike read the beginning once; each still reads its own
 * end. Another salt, and none, read for themselves. */
static void test_prefix_at_once(struct model *m)
{
    static struct id_list p, q;
    make_prompt(&p, 100);
    q = p;
    q.ids[70] = 999; /* four full blocks in common */
    struct scheduler *s = sched_open(m, &seen, &(struct sched_sizes){8, 64, 80, SPECULATE_OFF, 0});
    for (uint64_t i = 0; i < 7; i++) {
        struct sched_request r = request(i, i == 2 || i == 6 ? &q : &p, 20);
        r.cache_salt = (const uint8_t *)(i == 4 ? "other" : "salts");
        r.cache_salt_len = i >= 5 ? 0 : 5;
        sched_submit(s, &r);
    }
    sched_finish(s);
    CHECK_INT(seen.of[0].cached, 0);
    CHECK_INT(seen.of[1].cached, 96);
    CHECK_INT(seen.of[2].cached, 64);
    CHECK_INT(seen.of[3].cached, 96);
    CHECK_INT(seen.of[4].cached, 0);
    CHECK_INT(seen.of[5].cached, 0);
    CHECK(same_tokens(1, 0) && same_tokens(3, 0) && same_tokens(4, 0) && same_tokens(5, 0));
    CHECK(same_tokens(2, 6));
    sched_close(s);
}

static void test_refusals(struct model *m)
{
    struct scheduler *s = sched_open(m, &seen, &(struct sched_sizes){2, 8, 10, SPECULATE_OFF, 0});
    struct error err = {""};
    int32_t ids[4] = {1, 2, 3, 4}, wrong[1] = {1024};
    struct logit_bias bias = {1024, 1};
    struct sched_request r = {.prompt = ids, .prompt_count = 4, .max_tokens = 157};
    CHECK(scheduler_submit(s, &r, &err) == INVALID); /* 161 tokens into 160 places */
    r.max_tokens = 2045;
    CHECK(scheduler_submit(s, &r, &err) == INVALID);
    r.max_tokens = 0;
    CHECK(scheduler_submit(s, &r, &err) == INVALID);
    r.max_tokens = UINT32_MAX;
    CHECK(scheduler_submit(s, &r, &err) == INVALID);
    r = (struct sched_request){.prompt = wrong, .prompt_count = 1, .max_tokens = 1};
    CHECK(scheduler_submit(s, &r, &err) == INVALID);
    r.prompt = ids;
    r.choices = 3;
    CHECK(scheduler_submit(s, &r, &err) == INVALID);
    r.choices = 1;
    r.sampling.bias = &bias;
    r.sampling.bias_count = 1;
    CHECK(scheduler_submit(s, &r, &err) == INVALID);
    r.sampling.bias_count = 0;
    r.sampling.top_logprobs = 21;
    CHECK(scheduler_submit(s, &r, &err) == INVALID);
    r.sampling.top_logprobs = 0;
    for (uint64_t i = 0; i < SEEN_IDS; i++) {
        r.id = i;
        CHECK(scheduler_submit(s, &r, &err) == OK);
    }
    CHECK(scheduler_submit(s, &r, &err) == LIMITED);
    scheduler_free(s);
}

int main(void)
{
    struct model_options options = {.threads = 2, .deterministic = true};
    struct model *m = golden_model("models/demo", &options);
    read_goldens();
    test_greedy(m);
    test_random(m);
    test_fair_steps(m);
    test_prefix(m);
    test_prefix_at_once(m);
    test_refusals(m);
    model_free(m);
    return check_done();
}
