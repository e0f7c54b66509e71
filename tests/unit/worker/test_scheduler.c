/* runs: thread */
#include "tests/unit/worker/golden.h"
#include "worker/scheduler.h"

enum { SEQUENCES = 40, TOKENS_MAX = 80, GREEDY = 20, GREEDY_TOKENS = 64 };

/* What a listener has seen of the sequences, by id. */
struct seen {
    struct {
        int32_t ids[TOKENS_MAX];
        uint32_t cached;
        int count, stop_at; /* 0: does not stop */
        bool ended;
        enum sched_end how;
    } of[SEQUENCES];
    int ends;
};

static bool on_token(void *arg, const struct sched_token *t)
{
    struct seen *s = arg;
    uint64_t id = t->id;
    CHECK_FATAL(id < SEQUENCES && s->of[id].count < TOKENS_MAX && !s->of[id].ended);
    s->of[id].ids[s->of[id].count++] = t->token;
    s->of[id].cached = t->cached;
    return s->of[id].count == s->of[id].stop_at;
}

static void on_end(void *arg, uint64_t id, uint32_t choice, enum sched_end how)
{
    struct seen *s = arg;
    CHECK_FATAL(id < SEQUENCES && !s->of[id].ended);
    s->of[id].ended = true;
    s->of[id].how = how;
    s->ends++;
}

static struct scheduler *open_scheduler(struct model *m, struct seen *seen, int sequences,
                                        int step_tokens, int blocks)
{
    struct kv_shape shape;
    model_kv_shape(m, &shape);
    struct sched_options o = {.sequences_max = sequences,
                              .step_tokens = step_tokens,
                              .kv_bytes = (int64_t)kv_block_bytes(&shape) * blocks,
                              .queue_max = SEQUENCES};
    struct sched_events e = {.token = on_token, .ended = on_end, .arg = seen};
    struct scheduler *s = NULL;
    struct error err = {""};
    CHECK_FATAL(scheduler_new(m, &o, &e, &s, &err) == OK);
    return s;
}

/* Of the requests that follow; length 0: they share nothing. */
static const uint8_t *salt;
static uint32_t salt_len;

static void submit(struct scheduler *s, uint64_t id, const struct id_list *p, int tokens,
                   const struct sampling *how)
{
    struct error err = {""};
    struct sched_request r = {.id = id,
                              .prompt = p->ids,
                              .prompt_count = (uint32_t)p->count,
                              .max_tokens = (uint32_t)tokens,
                              .sampling = *how,
                              .cache_salt = salt,
                              .cache_salt_len = salt_len};
    enum status st = scheduler_submit(s, &r, &err);
    if (st != OK)
        fprintf(stderr, "%s\n", err.text);
    CHECK_FATAL(st == OK);
}

static struct id_list prompts[GREEDY], greedy[GREEDY];

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

static void test_greedy(struct model *m)
{
    static struct seen together, alone;
    struct sampling how = {.temperature = 0, .top_p = 1};
    memset(&together, 0, sizeof together);
    memset(&alone, 0, sizeof alone);
    struct scheduler *s = open_scheduler(m, &together, 16, 64, 400);
    for (int i = 0; i < GREEDY; i++)
        submit(s, (uint64_t)i, &prompts[i], GREEDY_TOKENS, &how);
    while (scheduler_step(s))
        ;
    scheduler_free(s);
    s = open_scheduler(m, &alone, 1, 7, 20);
    for (int i = 0; i < GREEDY; i++) {
        submit(s, (uint64_t)i, &prompts[i], GREEDY_TOKENS, &how);
        while (scheduler_step(s))
            ;
    }
    scheduler_free(s);
    size_t bytes = GREEDY_TOKENS * sizeof(int32_t);
    for (int i = 0; i < GREEDY; i++) {
        CHECK(memcmp(together.of[i].ids, greedy[i].ids, bytes) == 0);
        CHECK(memcmp(alone.of[i].ids, greedy[i].ids, bytes) == 0);
        CHECK(together.of[i].ended && together.of[i].how == SCHED_LENGTH);
    }
}

static uint32_t draw(uint64_t *state, uint32_t below)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33) % below;
}

static struct sampling sampling_of(int i)
{
    return (struct sampling){.temperature = i % 3 ? 0.8f : 0,
                             .top_p = i % 2 ? 0.9f : 1,
                             .seed = (uint64_t)i * 77 + 5,
                             .has_seed = true};
}

static int tokens_of(int i)
{
    return 1 + i * 13 % TOKENS_MAX;
}

/* What each makes alone, to its end. */
static void run_alone(struct model *m, struct seen *seen)
{
    struct scheduler *s = open_scheduler(m, seen, 1, 128, 20);
    for (int i = 0; i < SEQUENCES; i++) {
        struct sampling how = sampling_of(i);
        submit(s, (uint64_t)i, &prompts[i % GREEDY], tokens_of(i), &how);
        while (scheduler_step(s))
            ;
    }
    scheduler_free(s);
}

/* One random event before a step. */
static void disturb(struct scheduler *s, uint64_t *state, int *arrived, struct seen *seen)
{
    if (*arrived < SEQUENCES && draw(state, 3) == 0) {
        salt = (const uint8_t *)"AB" + draw(state, 2);
        salt_len = draw(state, 4) ? 1 : 0;
        struct sampling how = sampling_of(*arrived);
        seen->of[*arrived].stop_at = draw(state, 4) == 0 ? 1 + (int)draw(state, 20) : 0;
        submit(s, (uint64_t)*arrived, &prompts[*arrived % GREEDY], tokens_of(*arrived), &how);
        ++*arrived;
    }
    if (!*arrived)
        return;
    uint32_t id = draw(state, (uint32_t)*arrived);
    switch (draw(state, 12)) {
    case 0:
        scheduler_cancel(s, id);
        CHECK(seen->of[id].ended);
        break;
    case 1:
        scheduler_set_paused(s, id, true);
        break;
    default:
        scheduler_set_paused(s, id, false);
        break;
    }
}

static void check_against_alone(const struct seen *seen, const struct seen *alone)
{
    for (int i = 0; i < SEQUENCES; i++) {
        int n = seen->of[i].count;
        CHECK(seen->of[i].ended && n <= alone->of[i].count);
        CHECK(memcmp(seen->of[i].ids, alone->of[i].ids, (size_t)n * sizeof(int32_t)) == 0);
        if (seen->of[i].how == SCHED_LENGTH)
            CHECK_INT(n, tokens_of(i));
        if (seen->of[i].how == SCHED_STOPPED)
            CHECK_INT(n, seen->of[i].stop_at);
    }
}

/* Arrivals, cancels, stops and pauses at random, with too little room for all: what each makes is
 * what it makes alone, and no block is lost (the scheduler asserts it every step). */
static void test_random(struct model *m)
{
    static struct seen alone, seen;
    memset(&alone, 0, sizeof alone);
    run_alone(m, &alone);
    for (uint64_t seed = 1; seed <= 4; seed++) {
        memset(&seen, 0, sizeof seen);
        uint64_t state = seed;
        int arrived = 0;
        struct scheduler *s = open_scheduler(m, &seen, 5 + (int)seed * 4, 24 + (int)seed, 40);
        for (int turn = 0; seen.ends < SEQUENCES && turn < 100000; turn++) {
            disturb(s, &state, &arrived, &seen);
            scheduler_step(s);
        }
        struct backend_load load;
        scheduler_load(s, &load);
        CHECK_INT(load.running + load.waiting, 0);
        CHECK_INT(load.outstanding_tokens, 0);
        CHECK_INT(seen.ends, SEQUENCES);
        salt_len = 0;
        scheduler_free(s);
        check_against_alone(&seen, &alone);
    }
}

/* A short prompt gets its first token while a long one is still being read; those that decode
 * get one every step. */
static void test_fair_steps(struct model *m)
{
    static struct seen seen;
    static struct id_list longest;
    memset(&seen, 0, sizeof seen);
    longest.count = 1500;
    for (int i = 0; i < longest.count; i++)
        longest.ids[i] = i % 1000;
    struct sampling how = {.top_p = 1};
    struct scheduler *s = open_scheduler(m, &seen, 16, 32, 200);
    submit(s, 0, &prompts[0], 60, &how);
    scheduler_step(s);
    CHECK_INT(seen.of[0].count, 1);
    submit(s, 1, &longest, 5, &how);
    submit(s, 2, &prompts[1], 5, &how);
    for (int i = 0; i < 10; i++) {
        scheduler_step(s);
        CHECK_INT(seen.of[0].count, 2 + i);
    }
    CHECK_INT(seen.of[1].count, 0);
    CHECK_INT(seen.of[2].count, 5);
    scheduler_cancel(s, 1); /* in the middle of its prompt */
    CHECK(seen.of[1].ended && seen.of[1].how == SCHED_CANCELLED);
    scheduler_free(s);
}

static uint32_t run_one(struct scheduler *s, struct seen *seen, uint64_t id,
                        const struct id_list *p, const char *with)
{
    struct sampling how = {.top_p = 1};
    salt = (const uint8_t *)with;
    salt_len = (uint32_t)strlen(with);
    submit(s, id, p, 20, &how);
    salt_len = 0;
    while (scheduler_step(s))
        ;
    return seen->of[id].cached;
}

/* The second time, a prompt's full blocks are there already, and so is an answer's part of a
 * longer prompt; not for another salt, nor for none. What is made is the same. */
static void test_prefix(struct model *m)
{
    static struct seen seen;
    static struct id_list p, longer;
    memset(&seen, 0, sizeof seen);
    p.count = 50;
    for (int i = 0; i < p.count; i++)
        p.ids[i] = i * 7 % 1000;
    struct scheduler *s = open_scheduler(m, &seen, 4, 32, 20);
    CHECK_INT(run_one(s, &seen, 0, &p, "tenant 1"), 0);
    CHECK_INT(run_one(s, &seen, 1, &p, "tenant 1"), 48);
    CHECK_INT(run_one(s, &seen, 2, &p, "tenant 2"), 0);
    CHECK_INT(run_one(s, &seen, 3, &p, ""), 0);
    p.count = 48; /* its last token must be computed */
    CHECK_INT(run_one(s, &seen, 4, &p, "tenant 1"), 32);
    p.count = 50;
    longer = p;
    memcpy(longer.ids + 50, seen.of[0].ids, 20 * sizeof(int32_t));
    longer.count = 70;
    CHECK_INT(run_one(s, &seen, 5, &longer, "tenant 1"), 64);
    for (int i = 1; i < 4; i++)
        CHECK(memcmp(seen.of[i].ids, seen.of[0].ids, 20 * sizeof(int32_t)) == 0);
    /* Other prompts need all the room: the old blocks go, and the first is computed again. */
    for (int i = 6; i < 12; i++) {
        longer.ids[0] = i;
        longer.count = 200;
        CHECK_INT(run_one(s, &seen, (uint64_t)i, &longer, "tenant 1"), 0);
    }
    CHECK_INT(run_one(s, &seen, 12, &p, "tenant 1"), 0);
    CHECK(memcmp(seen.of[12].ids, seen.of[0].ids, 20 * sizeof(int32_t)) == 0);
    scheduler_free(s);
}

static void test_refusals(struct model *m)
{
    static struct seen seen;
    memset(&seen, 0, sizeof seen);
    struct scheduler *s = open_scheduler(m, &seen, 2, 8, 10);
    struct error err = {""};
    int32_t ids[4] = {1, 2, 3, 4}, wrong[1] = {1024};
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
    for (int i = 0; i < SEQUENCES; i++) {
        r.id = (uint64_t)i;
        CHECK(scheduler_submit(s, &r, &err) == OK);
    }
    CHECK(scheduler_submit(s, &r, &err) == LIMITED);
    scheduler_free(s);
}

int main(void)
{
    struct model_options options = {.threads = 2};
    struct model *m = golden_model("models/demo", &options);
    read_goldens();
    test_greedy(m);
    test_random(m);
    test_fair_steps(m);
    test_prefix(m);
    test_refusals(m);
    model_free(m);
    return check_done();
}
