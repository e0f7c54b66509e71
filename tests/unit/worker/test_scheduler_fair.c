/*
 * Who begins when: fairness between tenants, priorities, deadlines, bounded overtaking. Prompts
 * are short enough to be read in one step, so a request's first token tells when it began.
 */
#include "tests/unit/worker/sched.h"

enum { PROMPT = 4 };

static struct seen seen;
static const int32_t prompt[PROMPT] = {5, 6, 7, 8};

static struct sched_request request(uint64_t id, const char *tenant, uint32_t tokens)
{
    return (struct sched_request){.id = id,
                                  .prompt = prompt,
                                  .prompt_count = PROMPT,
                                  .max_tokens = tokens,
                                  .sampling = {.top_p = 1},
                                  .tenant = tenant};
}

static int place_of(uint64_t id)
{
    for (int i = 0; i < seen.begun_count; i++)
        if (seen.begun[i] == id)
            return i;
    return -1;
}

/* A hundred requests of one tenant do not hold up another's: it has the next free place. */
static void test_crowd(struct model *m)
{
    struct scheduler *s = sched_open(m, &seen, &(struct sched_sizes){4, 32, 100, SPECULATE_OFF, 0});
    for (uint64_t i = 0; i < 100; i++) {
        struct sched_request r = request(i, "crowd", 3 + (uint32_t)i % 5);
        sched_submit(s, &r);
    }
    scheduler_step(s);
    CHECK_INT(seen.begun_count, 4);
    struct sched_request one = request(100, "one", 5), other = request(101, "other", 5);
    sched_submit(s, &one);
    sched_submit(s, &other);
    sched_finish(s);
    CHECK_INT(place_of(100), 4);
    CHECK_INT(place_of(101), 5);
    for (uint64_t i = 0; i + 1 < 100; i++)
        CHECK(place_of(i) < place_of(i + 1)); /* a tenant's own: first come, first served */
    sched_close(s);
}

/* Of two tenants with enough to do, both have about as many tokens in flight. */
static void test_weighted(struct model *m)
{
    struct scheduler *s =
        sched_open(m, &seen, &(struct sched_sizes){12, 64, 200, SPECULATE_OFF, 0});
    for (uint64_t i = 0; i < 100; i++) {
        struct sched_request r = i % 2 ? request(i, "long", 76) : request(i, "short", 6);
        sched_submit(s, &r);
    }
    int most = 0;
    for (int step = 0; step < 25; step++) {
        scheduler_step(s);
        int running = 0;
        for (uint64_t i = 1; i < 100; i += 2)
            running += seen.of[i].begun && !seen.of[i].choice[0].ended;
        most = running > most ? running : most;
    }
    /* 80 tokens against 10: eleven short ones would be 110, so never three long ones. */
    CHECK_INT(most, 2);
    for (uint64_t i = 0; i < 100; i++)
        scheduler_cancel(s, i);
    sched_close(s);
}

/* What the test knows of a request. */
struct known {
    int tenant, priority;
    int64_t tokens;
    bool here;
};

static int64_t in_flight(const struct known *k, int tenant)
{
    int64_t sum = 0;
    for (int i = 0; i < SEEN_IDS; i++)
        if (k[i].here && k[i].tenant == tenant && seen.of[i].begun && !seen.of[i].choice[0].ended)
            sum += k[i].tokens;
    return sum;
}

static bool first_of(const struct known *k, const int64_t *flying, int a, int b)
{
    if (k[a].priority != k[b].priority)
        return k[a].priority > k[b].priority;
    if (flying[k[a].tenant] != flying[k[b].tenant])
        return flying[k[a].tenant] < flying[k[b].tenant];
    return a < b;
}

/* The ids that must begin in the next step, in order. */
static int foretell(const struct known *k, int places, int *out)
{
    enum { TENANTS = 6 };
    int64_t flying[TENANTS];
    bool begun[SEEN_IDS];
    int count = 0;
    for (int t = 0; t < TENANTS; t++)
        flying[t] = in_flight(k, t);
    for (int i = 0; i < SEEN_IDS; i++)
        begun[i] = seen.of[i].begun || seen.of[i].choice[0].ended || !k[i].here;
    for (;;) {
        int best = -1;
        for (int i = 0; i < SEEN_IDS; i++)
            if (!begun[i] && (best < 0 || first_of(k, flying, i, best)))
                best = i;
        if (best < 0 || count == places)
            return count;
        begun[best] = true;
        flying[k[best].tenant] += k[best].tokens;
        out[count++] = best;
    }
}

/* At random: what begins is always the one of the highest priority, of the tenant with the least
 * in flight, that came first. */
static void test_order(struct model *m)
{
    static const char *const names[] = {"a", "b", "c", "d", "e", NULL};
    enum { PLACES = 5 };
    for (uint64_t seed = 1; seed <= 3; seed++) {
        static struct known k[SEEN_IDS];
        memset(k, 0, sizeof k);
        struct scheduler *s =
            sched_open(m, &seen, &(struct sched_sizes){PLACES, 64, 300, SPECULATE_OFF, 0});
        uint64_t state = seed;
        int arrived = 0;
        while (seen.ends < SEEN_IDS) {
            for (int n = (int)sched_draw(&state, 4); n > 0 && arrived < SEEN_IDS; n--, arrived++) {
                k[arrived] = (struct known){(int)sched_draw(&state, 6),
                                            (int)sched_draw(&state, 3) - 1, 0, true};
                uint32_t tokens = 1 + sched_draw(&state, 12);
                k[arrived].tokens = PROMPT + tokens;
                struct sched_request r =
                    request((uint64_t)arrived, names[k[arrived].tenant], tokens);
                r.priority = k[arrived].priority;
                sched_submit(s, &r);
            }
            if (arrived && sched_draw(&state, 20) == 0)
                scheduler_cancel(s, sched_draw(&state, (uint32_t)arrived));
            struct backend_load load;
            scheduler_load(s, &load);
            int want[PLACES], before = seen.begun_count;
            int count = foretell(k, PLACES - (int)load.running, want);
            scheduler_step(s);
            CHECK_INT(seen.begun_count - before, count);
            for (int i = 0; i < count; i++)
                CHECK_INT(seen.begun[before + i], want[i]);
        }
        sched_close(s);
    }
}

/* A request that needs nearly the whole cache is passed by small ones, but not for ever; one of a
 * higher priority passes it even then. */
static void test_overtaking(struct model *m)
{
    struct scheduler *s = sched_open(m, &seen, &(struct sched_sizes){8, 64, 20, SPECULATE_OFF, 0});
    uint64_t next = 1;
    for (; next <= 8; next++) {
        struct sched_request r = request(next, "small", 40);
        sched_submit(s, &r);
    }
    scheduler_step(s);
    static int32_t long_prompt[200];
    struct sched_request large = request(0, "large", 75);
    large.prompt = long_prompt;
    large.prompt_count = 200; /* 18 of 20 blocks */
    sched_submit(s, &large);
    int high = -1;
    for (int step = 0; step < 3000 && !seen.of[0].begun; step++) {
        if (next < 200) { /* the queue is never empty */
            struct sched_request r = request(next, step % 2 ? "small" : "smaller", 10);
            if (high < 0 && seen.begun_count >= 6 + SCHED_OVERTAKEN_MAX) {
                r.priority = 1;
                high = (int)next;
            }
            sched_submit(s, &r);
            next++;
        }
        scheduler_step(s);
    }
    CHECK(seen.of[0].begun);
    int place = place_of(0);
    /* Six had begun before it came; the one of higher priority is on top, and what had begun
     * before its turn came. */
    CHECK(place >= 6 + SCHED_OVERTAKEN_MAX && place <= 6 + SCHED_OVERTAKEN_MAX + 3);
    CHECK(high > 0 && place_of((uint64_t)high) >= 0 && place_of((uint64_t)high) < place);
    sched_finish(s);
    sched_close(s);
}

static void test_deadlines(struct model *m)
{
    struct scheduler *s = sched_open(m, &seen, &(struct sched_sizes){1, 8, 20, SPECULATE_OFF, 0});
    seen.now_ms = 1000;
    CHECK_INT(scheduler_due_us(s), 0);
    for (uint64_t i = 0; i < 5; i++) {
        struct sched_request r = request(i, "t", 20);
        r.deadline_ms = i == 4 ? 0 : 100 + (int64_t)i;
        sched_submit(s, &r);
    }
    CHECK_INT(scheduler_due_us(s), 1100000);
    scheduler_step(s);
    CHECK_INT(scheduler_due_us(s), 1101000); /* of those that wait */
    seen.now_ms = 1101;
    scheduler_step(s); /* 0 has begun: its deadline is past without consequence */
    CHECK(seen.of[0].choice[0].count == 2 && !seen.of[0].choice[0].ended);
    CHECK(seen.of[1].choice[0].ended && seen.of[1].choice[0].how == SCHED_EXPIRED);
    CHECK(!seen.of[2].choice[0].ended && !seen.of[3].choice[0].ended);
    CHECK_INT(scheduler_due_us(s), 1102000);
    scheduler_cancel(s, 3);
    /* What runs is paused: a step does nothing but end those that are late. */
    scheduler_set_paused(s, 0, true);
    CHECK(!scheduler_step(s));
    CHECK_INT(scheduler_due_us(s), 1102000);
    seen.now_ms = 1102;
    CHECK(!scheduler_step(s));
    CHECK(seen.of[2].choice[0].how == SCHED_EXPIRED);
    CHECK_INT(scheduler_due_us(s), 0);
    scheduler_set_paused(s, 0, false);
    seen.now_ms = 5000;
    sched_finish(s);
    CHECK(seen.of[0].choice[0].how == SCHED_LENGTH && seen.of[0].choice[0].count == 20);
    CHECK(seen.of[3].choice[0].how == SCHED_CANCELLED);
    CHECK(seen.of[1].choice[0].count + seen.of[2].choice[0].count == 0);
    CHECK(seen.of[4].choice[0].how == SCHED_LENGTH);
    sched_close(s);
}

/* A tenant's prompt is read in its share of the budget, however many another's are. */
static void test_prompt_shares(struct model *m)
{
    static int32_t ids[400];
    struct scheduler *s =
        sched_open(m, &seen, &(struct sched_sizes){16, 32, 400, SPECULATE_OFF, 0});
    struct sched_request r = request(0, "crowd", 2);
    r.prompt = ids;
    r.prompt_count = 400;
    for (; r.id < 8; r.id++)
        sched_submit(s, &r);
    scheduler_step(s);
    r.tenant = "one";
    r.prompt_count = 64; /* at 16 a step: 4 steps; one ninth of 32 would take 21 */
    sched_submit(s, &r);
    for (int i = 0; i < 4; i++)
        scheduler_step(s);
    CHECK(seen.of[8].begun);
    CHECK_INT(seen.begun_count, 1);
    sched_finish(s);
    sched_close(s);
}

int main(void)
{
    struct model_options options = {.threads = 1, .deterministic = true};
    struct model *m = golden_model("models/demo", &options);
    test_crowd(m);
    test_weighted(m);
    test_order(m);
    test_overtaking(m);
    test_deadlines(m);
    test_prompt_shares(m);
    model_free(m);
    return check_done();
}
