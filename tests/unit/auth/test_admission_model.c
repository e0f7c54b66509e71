/*
 * The scripts against a model of them in C: random batches, settlements, duplicates and unknown
 * ids, on subjects that share projects and tenants. Verdicts, states and balances must agree to
 * the last bit; the model takes the time from the script's reply.
 */
#include <stdbool.h>

#include "auth/admission_batch.h"
#include "auth/embed.h"
#include "base/clock.h"
#include "tests/unit/own_redis.h"

enum { KEYS = 6, PROJECTS = 3, TENANTS = 2, HOLDS_MAX = 4000, ROUNDS = 400 };

struct model_subject {
    struct uuid id;
    int kind;
    struct limits limits;
    struct subject_state state;
    bool there;
};

struct model_hold {
    struct uuid id;
    int key;
    int64_t tokens, nano;
    bool limited[SUBJECTS];
    double token_ms[SUBJECTS];
};

static struct model_subject subjects[KEYS + PROJECTS + TENANTS];
static struct {
    int64_t nano;
    bool there;
} balances[TENANTS];
static struct model_hold holds[HOLDS_MAX];
static int hold_count;
static int64_t seen[8]; /* how often each verdict came */

static struct own_redis server;
static struct loop *loop;
static struct redis *redis;
static struct redis_sync *direct;
static struct admit_target target;
static struct admit_batch *batch;
static struct admit_scratch *scratch;
static int batch_key[ADMIT_BATCH_MAX];
static uint64_t seed = 0x243f6a8885a308d3;

static uint64_t dice(uint64_t sides)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % sides;
}

static struct model_subject *subject_of(int key, int kind)
{
    int project = key % PROJECTS, tenant = project % TENANTS;
    int at[SUBJECTS] = {key, KEYS + project, KEYS + PROJECTS + tenant};
    return &subjects[at[kind]];
}

static int tenant_of(int key)
{
    return key % PROJECTS % TENANTS;
}

static bool is_limited(const struct model_subject *s)
{
    return s->limits.requests_per_min || s->limits.tokens_per_min || s->limits.concurrency;
}

static double share_ms(int64_t per_min)
{
    return per_min ? 60000.0 / (double)per_min : 0;
}

static void name_of(const struct model_subject *s, char out[64])
{
    static const char *const prefix[] = {"tg:a:k:", "tg:a:p:", "tg:a:t:"};
    memcpy(out, prefix[s->kind], 7);
    uuid_format(&s->id, out + 7);
}

static const struct redis_reply *redis_do(const char *a, const char *b, const char *c)
{
    struct error err = {""};
    const struct redis_reply *r =
        redis_sync_command(direct, c ? 3 : 2, (const char *const[]){a, b, c}, NULL, &err);
    CHECK_FATAL(r);
    return r;
}

static double clamp(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

/* What the script reads at the start of a batch. */
static void model_begin(double now)
{
    for (int i = 0; i < KEYS + PROJECTS + TENANTS; i++) {
        struct model_subject *s = &subjects[i];
        if (!s->there)
            s->state = (struct subject_state){now, now, 0};
    }
}

static void model_clamp(struct model_subject *s, double now)
{
    double full = now + 60000.01;
    s->state.requests_full_ms = clamp(s->state.requests_full_ms, now, full);
    s->state.tokens_full_ms = clamp(s->state.tokens_full_ms, now, full);
}

static int model_check(const struct ask *ask, int key, double now)
{
    double full = now + 60000.01, wait = 0;
    int verdict = 0;
    for (int kind = 0; kind < SUBJECTS; kind++) {
        const struct model_subject *s = subject_of(key, kind);
        const struct limits *l = &s->limits;
        if (!is_limited(s))
            continue;
        double over[3] = {s->state.requests_full_ms + share_ms(l->requests_per_min) - full,
                          s->state.tokens_full_ms +
                              share_ms(l->tokens_per_min) * (double)ask->tokens - full,
                          s->state.running >= (double)l->concurrency ? 1 : 0};
        bool has[3] = {l->requests_per_min, l->tokens_per_min, l->concurrency};
        for (int v = 0; v < 3; v++) {
            if (has[v] && over[v] > wait) {
                wait = over[v];
                verdict = v + 1 + 16 * kind;
            }
        }
    }
    return verdict;
}

static int model_pay(const struct ask *ask, int key)
{
    int t = tenant_of(key);
    if (!ask->prepaid)
        return 0;
    if (!balances[t].there)
        return ADMIT_UNAVAILABLE;
    if (balances[t].nano < ask->hold_nano)
        return ADMIT_BALANCE + 32;
    balances[t].nano -= ask->hold_nano;
    return 0;
}

static void model_take(const struct ask *ask, int key)
{
    struct model_hold *h = &holds[hold_count++];
    *h = (struct model_hold){
        .id = ask->request_id, .key = key, .tokens = ask->tokens, .nano = ask->hold_nano};
    for (int kind = 0; kind < SUBJECTS; kind++) {
        struct model_subject *s = subject_of(key, kind);
        if (!is_limited(s))
            continue;
        s->state.requests_full_ms += share_ms(s->limits.requests_per_min);
        s->state.tokens_full_ms += share_ms(s->limits.tokens_per_min) * (double)ask->tokens;
        s->state.running++;
        s->there = true;
        h->limited[kind] = true;
        h->token_ms[kind] = share_ms(s->limits.tokens_per_min);
    }
}

static void on_admitted(enum status st, const struct redis_reply *reply, void *arg)
{
    CHECK_INT(st, OK);
    if (st != OK || reply->type != REDIS_STRING)
        fprintf(stderr, "reply: %s\n", reply && reply->text ? reply->text : "none");
    CHECK_FATAL(st == OK && reply->type == REDIS_STRING);
    double now;
    memcpy(&now, reply->text, sizeof now);
    const char *verdicts = reply->text + sizeof now;
    model_begin(now);
    struct subject_state before[KEYS + PROJECTS + TENANTS];
    bool changed[KEYS + PROJECTS + TENANTS];
    for (int i = 0; i < KEYS + PROJECTS + TENANTS; i++) {
        before[i] = subjects[i].state;
        model_clamp(&subjects[i], now);
        changed[i] = false;
    }
    for (int i = 0; i < batch->count; i++) {
        const struct ask *ask = &batch->asks[i];
        int key = batch_key[i];
        int verdict = model_check(ask, key, now);
        if (!verdict)
            verdict = model_pay(ask, key);
        if (!verdict)
            model_take(ask, key);
        for (int kind = 0; !verdict && kind < SUBJECTS; kind++)
            changed[subject_of(key, kind) - subjects] = is_limited(subject_of(key, kind));
        CHECK_INT((unsigned char)verdicts[i], verdict);
        seen[verdict % 16]++;
    }
    for (int i = 0; i < KEYS + PROJECTS + TENANTS; i++)
        if (!changed[i])
            subjects[i].state = before[i]; /* not written back */
    loop_stop(loop);
}

static void admit_some(void)
{
    batch->count = 1 + (int)dice(dice(4) ? 20 : ADMIT_BATCH_MAX);
    for (int i = 0; i < batch->count; i++) {
        int key = batch_key[i] = (int)dice(KEYS);
        struct ask *ask = &batch->asks[i];
        *ask = (struct ask){.request_id = uuid_v7(clock_wall_ms()),
                            .tokens = (int64_t)dice(dice(10) ? 300 : 20000)};
        ask->hold_nano = dice(3) ? (int64_t)dice(2000) : 0;
        if (dice(50) == 0)
            ask->hold_nano = INT64_MAX - (int64_t)dice(3);
        ask->prepaid = ask->hold_nano > 0;
        for (int kind = 0; kind < SUBJECTS; kind++) {
            ask->limits[kind] = subject_of(key, kind)->limits;
            ask->subject_id[kind] = subject_of(key, kind)->id;
        }
    }
    admit_batch_send(batch, scratch, &target, on_admitted);
    loop_run(loop);
}

/* Redis refuses a sum beyond 64 bits and leaves the balance as it is. */
static void model_add(int tenant, int64_t nano)
{
    int64_t sum;
    if (!__builtin_add_overflow(balances[tenant].nano, nano, &sum))
        balances[tenant].nano = sum;
}

static void model_return(int tenant, int64_t held, int64_t cost)
{
    const int64_t exact = 1000000000000000; /* fifteen digits go in one step */
    if (held < exact && cost < exact) {
        model_add(tenant, held - cost);
    } else {
        model_add(tenant, held);
        model_add(tenant, -cost);
    }
}

static bool model_settle(const struct settle_item *item)
{
    int at = 0;
    while (at < hold_count && !uuid_equal(&holds[at].id, &item->request_id))
        at++;
    if (at == hold_count)
        return false;
    struct model_hold h = holds[at];
    holds[at] = holds[--hold_count];
    for (int kind = 0; kind < SUBJECTS; kind++) {
        struct model_subject *s = subject_of(h.key, kind);
        if (!h.limited[kind] || !s->there)
            continue;
        s->state.tokens_full_ms -= ((double)h.tokens - (double)item->tokens) * h.token_ms[kind];
        if (s->state.running > 0)
            s->state.running--;
    }
    int t = tenant_of(h.key);
    if (h.nano && balances[t].there)
        model_return(t, h.nano, item->cost_nano);
    return true;
}

static int64_t claimed_by_script;

static void on_settled(enum status st, const struct redis_reply *reply, void *arg)
{
    CHECK_FATAL(st == OK && reply->type == REDIS_INT);
    claimed_by_script = reply->integer;
    loop_stop(loop);
}

static void settle_some(void)
{
    static struct settle_item items[SETTLE_BATCH_MAX];
    int count = 1 + (int)dice(dice(4) ? 20 : SETTLE_BATCH_MAX), claimed = 0;
    for (int i = 0; i < count; i++) {
        struct settle_item *item = &items[i];
        *item = (struct settle_item){.request_id = uuid_v7(clock_wall_ms())};
        if (hold_count && dice(10)) {
            const struct model_hold *h = &holds[dice((uint64_t)hold_count)];
            item->request_id = h->id;
            item->tokens = (int64_t)dice((uint64_t)h->tokens * 2 + 2);
            item->cost_nano = h->nano ? (int64_t)dice((uint64_t)h->nano + 1) : 0;
        } else if (i > 0 && dice(2)) {
            *item = items[i - 1];
        }
    }
    settle_batch_send(&target, items, count, on_settled, NULL);
    loop_run(loop);
    for (int i = 0; i < count; i++)
        claimed += model_settle(&items[i]);
    CHECK_INT(claimed_by_script, claimed);
}

static void set_balance(int tenant, const char *nano)
{
    char name[64] = "tg:b:";
    uuid_format(&subjects[KEYS + PROJECTS + tenant].id, name + 5);
    redis_do(nano ? "SET" : "DEL", name, nano);
    balances[tenant].there = nano;
    balances[tenant].nano = nano ? strtoll(nano, NULL, 10) : 0;
}

static void change_balance(void)
{
    static const char *const values[] = {
        "0", "5000", "100000", "1000000000000000", "-100", NULL, "9223372036854775807"};
    set_balance((int)dice(TENANTS), values[dice(sizeof values / sizeof *values)]);
}

static void change_limits(void)
{
    static const int64_t requests[] = {0, 50, 1000, 7}, tokens[] = {0, 5000, 100000, 1000000},
                         running[] = {0, 3, 20, 500};
    struct model_subject *s = &subjects[dice(KEYS + PROJECTS + TENANTS)];
    s->limits = (struct limits){requests[dice(4)], tokens[dice(4)], running[dice(4)]};
}

static void compare(void)
{
    for (int i = 0; i < KEYS + PROJECTS + TENANTS; i++) {
        struct model_subject *s = &subjects[i];
        char name[64];
        name_of(s, name);
        const struct redis_reply *r = redis_do("GET", name, NULL);
        if (s->there)
            CHECK(r->type == REDIS_STRING && r->len == 24 && !memcmp(r->text, &s->state, 24));
        else
            CHECK_INT(r->type, REDIS_NIL);
    }
    for (int t = 0; t < TENANTS; t++) {
        char name[64] = "tg:b:";
        uuid_format(&subjects[KEYS + PROJECTS + t].id, name + 5);
        const struct redis_reply *r = redis_do("GET", name, NULL);
        CHECK_INT(r->type == REDIS_STRING, balances[t].there);
        if (balances[t].there)
            CHECK_INT(strtoll(r->text, NULL, 10), balances[t].nano);
    }
    CHECK_INT(redis_do("HLEN", target.holds_key, NULL)->integer, hold_count);
}

static const char *script_text(const char *name)
{
    for (const struct embedded_file *f = embedded_scripts; f->name; f++)
        if (strcmp(f->name, name) == 0)
            return f->text;
    return "";
}

static void set_up(void)
{
    own_redis_start(&server);
    struct error err = {""};
    loop = loop_new(&err);
    struct redis_options options = {
        .url = server.url, .connect_timeout_ms = 2000, .command_timeout_ms = 20000};
    redis = redis_new(loop, &options, &err);
    direct = redis_sync_new(&options, &err);
    batch = calloc(1, sizeof *batch);
    scratch = admit_scratch_new();
    CHECK_FATAL(redis && direct && batch && scratch);
    target = (struct admit_target){.redis = redis,
                                   .admit = redis_script_new(script_text("admit.lua")),
                                   .settle = redis_script_new(script_text("settle.lua")),
                                   .holds_key = "tg:h:model",
                                   .fence_key = "tg:f:model"};
    for (int i = 0; i < KEYS + PROJECTS + TENANTS; i++) {
        subjects[i].id = uuid_v7(clock_wall_ms());
        subjects[i].kind = i < KEYS              ? SUBJECT_KEY
                           : i < KEYS + PROJECTS ? SUBJECT_PROJECT
                                                 : SUBJECT_TENANT;
    }
}

int main(void)
{
    set_up();
    for (int i = 0; i < 3 * (KEYS + PROJECTS + TENANTS); i++)
        change_limits();
    for (int round = 0; round < ROUNDS && !check_failures; round++) {
        switch (dice(8)) {
        case 0:
            change_limits();
            break;
        case 1:
            change_balance();
            break;
        case 2:
        case 3:
        case 4:
            settle_some();
            break;
        default:
            if (hold_count < HOLDS_MAX - ADMIT_BATCH_MAX)
                admit_some();
        }
        compare();
    }
    for (int v = ADMIT_OK; v <= ADMIT_UNAVAILABLE; v++)
        CHECK(seen[v] > 0);
    redis_script_free(target.admit);
    redis_script_free(target.settle);
    free(batch);
    admit_scratch_free(scratch);
    redis_free(redis);
    redis_sync_free(direct);
    loop_free(loop);
    own_redis_end(&server);
    return check_done();
}
