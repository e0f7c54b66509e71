/*
 * Requests that are held until their plan is there, and choices that are not ready in a step:
 * what they make is the same, only later, and nobody else waits for them.
 */
#include "tests/unit/worker/sched.h"

enum { REQUESTS = 16, PROMPTS = 20 };

static struct id_list prompts[PROMPTS];
static struct seen plain, seen;
static uint64_t luck;
static int refused; /* asks that were answered with "not yet" */
static bool never;

static void read_prompts(void)
{
    struct json *p = golden_json("tests/golden/demo/greedy_prompts.json");
    const struct json *x = json_first(p);
    for (int i = 0; i < PROMPTS; i++, x = json_next(x))
        golden_ids(x, &prompts[i]);
    json_free(p);
}

static struct sched_request request(uint64_t i)
{
    const struct id_list *p = &prompts[i % PROMPTS];
    return (struct sched_request){.id = i,
                                  .prompt = p->ids,
                                  .prompt_count = (uint32_t)p->count,
                                  .max_tokens = 1 + (uint32_t)i * 7 % 40,
                                  .choices = i % 4 == 1 ? 3 : 1,
                                  .sampling = {.temperature = i % 3 ? 0.9f : 0,
                                               .top_p = 1,
                                               .seed = 5 * i + 1,
                                               .has_seed = true},
                                  .tenant = i % 2 ? "a" : "b",
                                  .cache_salt = (const uint8_t *)"s",
                                  .cache_salt_len = i % 3 ? 1 : 0};
}

/* Ready now and then, as when a mask takes a few steps; once it is, it stays so. */
struct readiness {
    int count;
    bool ready;
};
static struct readiness states[SEEN_IDS][SEEN_CHOICES];

static bool maybe_ready(void *arg, uint64_t id, uint32_t choice)
{
    const struct seen_choice *c = &((struct seen *)arg)->of[id].choice[choice];
    struct readiness *r = &states[id][choice];
    CHECK(!c->ended);
    if (r->count != c->count + 1)
        *r = (struct readiness){c->count + 1, false};
    if (!r->ready)
        r->ready = (!never || id % 2) && sched_draw(&luck, 3) == 0;
    refused += !r->ready;
    return r->ready;
}

/* Tokens of every other parity, by how many were made. */
static const uint32_t *mask_of(void *arg, uint64_t id, uint32_t choice)
{
    static uint32_t mask[64];
    const struct seen_choice *c = &((struct seen *)arg)->of[id].choice[choice];
    const struct readiness *r = &states[id][choice];
    CHECK(!r->count || (r->count == c->count + 1 && r->ready));
    for (int i = 0; i < 64; i++)
        mask[i] = (c->count + (int)id) % 2 ? 0x55555555 : 0xaaaaaaaa;
    return mask;
}

static struct scheduler *open_with(struct model *m, struct seen *into,
                                   const struct sched_sizes *sizes, bool ready)
{
    memset(states, 0, sizeof states);
    struct sched_events e = {.token = seen_token,
                             .ended = seen_end,
                             .mask = mask_of,
                             .ready = ready ? maybe_ready : NULL,
                             .arg = into};
    return sched_open_with(m, sizes, &e);
}

static void run_all(struct model *m, struct seen *into, const struct sched_sizes *sizes, bool ready)
{
    struct scheduler *s = open_with(m, into, sizes, ready);
    uint64_t dice = luck + 3;
    for (uint64_t i = 0; i < REQUESTS; i++) {
        struct sched_request r = request(i);
        r.held = ready && i % 5 == 2;
        sched_submit(s, &r);
    }
    for (int idle = 0, turn = 0; idle < 300 && into->ends < REQUESTS + 8; turn++) {
        uint64_t id = sched_draw(&dice, REQUESTS);
        scheduler_set_paused(s, id, true);
        idle = scheduler_step(s) ? 0 : idle + 1;
        scheduler_set_paused(s, id, false);
        if (turn > 5)
            scheduler_release(s, id); /* what is not held does not mind */
        scheduler_check(s);
    }
    CHECK_INT(into->ends, REQUESTS + 8);
    sched_close(s);
}

static void test_same_tokens(struct model *m)
{
    run_all(m, &plain, &(struct sched_sizes){16, 64, 400, SPECULATE_OFF, 0}, false);
    for (int round = 0; round < 4; round++) {
        enum sched_speculation speculate = round % 2 ? SPECULATE_ON : SPECULATE_OFF;
        luck = (uint64_t)round + 1;
        refused = 0;
        run_all(m, &seen, &(struct sched_sizes){6 + round, 16 + round, 120, speculate, 2}, true);
        CHECK(refused > 50);
        for (int i = 0; i < REQUESTS; i++)
            for (int c = 0; c < SEEN_CHOICES; c++) {
                const struct seen_choice *a = &plain.of[i].choice[c], *b = &seen.of[i].choice[c];
                CHECK(a->count == b->count && a->how == b->how);
                CHECK(memcmp(a->ids, b->ids, (size_t)a->count * sizeof *a->ids) == 0);
            }
    }
}

/* Those that never get ready keep nobody else waiting, and can be cancelled. */
static void test_never(struct model *m)
{
    struct scheduler *s =
        open_with(m, &seen, &(struct sched_sizes){16, 64, 400, SPECULATE_OFF, 0}, true);
    never = true;
    for (uint64_t i = 0; i < 8; i++) {
        struct sched_request r = request(i);
        sched_submit(s, &r);
    }
    for (int i = 0; i < 400; i++)
        scheduler_step(s);
    CHECK(!scheduler_step(s)); /* all that are left wait: nothing is computed in vain */
    for (int i = 0; i < 8; i++)
        CHECK(seen.of[i].choice[0].ended == (i % 2 == 1));
    for (uint64_t i = 0; i < 8; i += 2) {
        CHECK_INT(seen.of[i].choice[0].count, 0);
        scheduler_cancel(s, i);
        CHECK(seen.of[i].choice[0].how == SCHED_CANCELLED);
    }
    never = false;
    sched_close(s);
}

/* A held request lets the others by, expires, is cancelled, and begins once it is released. */
static void test_held(struct model *m)
{
    struct scheduler *s = sched_open(m, &seen, &(struct sched_sizes){1, 64, 60, SPECULATE_OFF, 0});
    for (uint64_t i = 0; i < 4; i++) {
        struct sched_request r = request(i);
        r.choices = 1;
        r.held = i < 3;
        r.priority = r.held ? 9 : 0;
        r.deadline_ms = i == 1 ? 50 : 0;
        sched_submit(s, &r);
    }
    sched_finish(s);
    CHECK(seen.of[3].choice[0].how == SCHED_LENGTH && seen.of[3].choice[0].ended);
    CHECK_INT(seen.ends, 1);
    struct backend_load load;
    scheduler_load(s, &load);
    CHECK_INT(load.waiting, 3);
    seen.now_ms = 60;
    CHECK(!scheduler_step(s));
    CHECK(seen.of[1].choice[0].ended && seen.of[1].choice[0].how == SCHED_EXPIRED);
    scheduler_cancel(s, 0);
    CHECK(seen.of[0].choice[0].ended && seen.of[0].choice[0].how == SCHED_CANCELLED);
    scheduler_release(s, 0);
    scheduler_release(s, 2);
    sched_finish(s);
    CHECK(seen.of[2].choice[0].ended && seen.of[2].choice[0].how == SCHED_LENGTH);
    sched_close(s);
}

int main(void)
{
    struct model_options options = {.threads = 1, .mtp = true, .deterministic = true};
    struct model *m = golden_model("models/demo", &options);
    read_prompts();
    test_same_tokens(m);
    test_never(m);
    test_held(m);
    model_free(m);
    return check_done();
}
