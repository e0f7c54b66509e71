#include "auth/admission.h"

#include <stdbool.h>

#include "base/clock.h"
#include "tests/unit/own_redis.h"

static struct own_redis server;
static struct loop *loop;
static struct redis *redis;
static struct redis_sync *direct; /* to look and to meddle */
static struct admission *admission;
static struct uuid gateway_id;
static int waiting; /* callbacks still to come before the loop stops */
static bool running;

struct outcome {
    int calls;
    struct admit_result result;
};

static void on_admit(const struct admit_result *result, void *arg)
{
    struct outcome *o = arg;
    o->calls++;
    o->result = *result;
    if (--waiting == 0 && running)
        loop_stop(loop);
}

static void give_up(void *arg)
{
    fprintf(stderr, "timed out waiting\n");
    exit(1);
}

static void run_until(int callbacks)
{
    struct loop_timer *t = loop_timer_new(loop, give_up, NULL);
    loop_timer_start(t, 20 * 1000);
    waiting = callbacks;
    running = true;
    loop_run(loop);
    running = false;
    loop_timer_free(t);
}

static void stop(void *arg)
{
    loop_stop(loop);
}

static void run_ms(int64_t ms)
{
    struct loop_timer *t = loop_timer_new(loop, stop, NULL);
    loop_timer_start(t, ms);
    loop_run(loop);
    loop_timer_free(t);
}

static void settle_all(void)
{
    for (int i = 0; i < 500 && admission_pending(admission); i++)
        run_ms(20);
    CHECK_INT(admission_pending(admission), 0);
}

static const struct redis_reply *redis_do(const char *a, const char *b, const char *c)
{
    struct error err = {""};
    const struct redis_reply *r = redis_sync_command(direct,
                                                     c   ? 3
                                                     : b ? 2
                                                         : 1,
                                                     (const char *const[]){a, b, c}, NULL, &err);
    if (!r)
        fprintf(stderr, "%s\n", err.text);
    CHECK_FATAL(r);
    return r;
}

static struct key_record new_key(void)
{
    struct key_record k = {0};
    k.key_id = uuid_v7(clock_wall_ms());
    k.project_id = uuid_v7(clock_wall_ms());
    k.tenant_id = uuid_v7(clock_wall_ms());
    return k;
}

static struct uuid ask(const struct key_record *key, int64_t tokens, int64_t nano,
                       struct outcome *o)
{
    struct admit_request r = {
        .request_id = uuid_v7(clock_wall_ms()), .key = key, .tokens = tokens, .hold_nano = nano};
    o->calls = 0;
    admission_ask(admission, &r, on_admit, o);
    return r.request_id;
}

static struct uuid ask_now(const struct key_record *key, int64_t tokens, int64_t nano,
                           struct outcome *o)
{
    waiting = 1;
    struct uuid id = ask(key, tokens, nano, o);
    if (!o->calls)
        run_until(1);
    CHECK_INT(o->calls, 1);
    return id;
}

static void settle(const struct uuid *id, int64_t tokens, int64_t cost)
{
    admission_settle(admission, &(struct settle_request){
                                    .request_id = *id, .tokens = tokens, .cost_nano = cost});
}

static void balance_name(const struct key_record *k, char out[64])
{
    memcpy(out, "tg:b:", 5);
    uuid_format(&k->tenant_id, out + 5);
}

static void set_balance(const struct key_record *k, const char *nano)
{
    char name[64];
    balance_name(k, name);
    redis_do("SET", name, nano);
}

static const char *get_balance(const struct key_record *k)
{
    char name[64];
    balance_name(k, name);
    const struct redis_reply *r = redis_do("GET", name, NULL);
    return r->type == REDIS_STRING ? r->text : "none";
}

static int64_t hold_count(void)
{
    char name[64] = "tg:h:";
    uuid_format(&gateway_id, name + 5);
    return redis_do("HLEN", name, NULL)->integer;
}

static void test_unlimited(void)
{
    struct key_record k = new_key();
    struct outcome o;
    ask_now(&k, 1000, 0, &o);
    CHECK_INT(o.result.verdict, ADMIT_OK);
    CHECK(!o.result.held);
    CHECK_INT(o.result.requests_limit, 0);
}

static void test_requests(void)
{
    struct key_record k = new_key();
    k.limits[SUBJECT_KEY].requests_per_min = 7; /* 60,000 / 7 is no whole number */
    k.limits[SUBJECT_TENANT].requests_per_min = 100;
    struct outcome o;
    for (int i = 0; i < 7; i++) {
        struct uuid id = ask_now(&k, 10, 0, &o);
        CHECK_INT(o.result.verdict, ADMIT_OK);
        CHECK(o.result.held);
        CHECK_INT(o.result.requests_limit, 7);
        CHECK_INT(o.result.requests_remaining, 6 - i);
        settle(&id, 10, 0);
    }
    ask_now(&k, 10, 0, &o);
    CHECK_INT(o.result.verdict, ADMIT_RATE_REQUESTS);
    CHECK_INT(o.result.subject, SUBJECT_KEY);
    CHECK(o.result.retry_ms > 0 && o.result.retry_ms <= 60000 / 7 + 1);
    CHECK(!o.result.held);
    settle_all();
    CHECK_INT(hold_count(), 0);
}

static void test_tokens(void)
{
    struct key_record k = new_key();
    k.limits[SUBJECT_PROJECT].tokens_per_min = 1000;
    struct outcome o;
    ask_now(&k, 1001, 0, &o); /* never fits */
    CHECK_INT(o.result.verdict, ADMIT_RATE_TOKENS);
    CHECK_INT(o.result.subject, SUBJECT_PROJECT);
    struct uuid id = ask_now(&k, 900, 0, &o);
    CHECK_INT(o.result.verdict, ADMIT_OK);
    CHECK_INT(o.result.tokens_limit, 1000);
    CHECK(o.result.tokens_remaining >= 100 && o.result.tokens_remaining <= 110);
    ask_now(&k, 900, 0, &o);
    CHECK_INT(o.result.verdict, ADMIT_RATE_TOKENS);
    settle(&id, 50, 0); /* 850 come back */
    settle_all();
    id = ask_now(&k, 900, 0, &o);
    CHECK_INT(o.result.verdict, ADMIT_OK);
    settle(&id, 900, 0);
    settle_all();
}

static void test_concurrency(void)
{
    struct key_record k = new_key();
    k.limits[SUBJECT_KEY].concurrency = 2;
    k.limits[SUBJECT_PROJECT].requests_per_min = 5;
    struct outcome o;
    struct uuid a = ask_now(&k, 1, 0, &o), b = ask_now(&k, 1, 0, &o);
    for (int i = 0; i < 10; i++) {
        ask_now(&k, 1, 0, &o);
        CHECK_INT(o.result.verdict, ADMIT_CONCURRENCY);
        CHECK_INT(o.result.subject, SUBJECT_KEY);
    }
    settle(&a, 1, 0);
    settle(&a, 1, 0); /* the second changes nothing */
    settle_all();
    settle(&a, 1, 0);
    settle_all();
    a = ask_now(&k, 1, 0, &o);
    CHECK_INT(o.result.verdict, ADMIT_OK); /* the refusals took nothing from the project */
    CHECK_INT(o.result.requests_remaining, 2);
    ask_now(&k, 1, 0, &o);
    CHECK_INT(o.result.verdict, ADMIT_CONCURRENCY);
    settle(&a, 1, 0);
    settle(&b, 1, 0);
    settle_all();
}

/* 1,000 at once on a balance for exactly one. */
static void test_balance_for_one(void)
{
    enum { MANY = 1000 };
    static struct outcome outcomes[MANY];
    static struct uuid ids[MANY];
    struct key_record k = new_key();
    k.limits[SUBJECT_TENANT].concurrency = 5000;
    set_balance(&k, "123456789");
    for (int i = 0; i < MANY; i++)
        ids[i] = ask(&k, 100, 123456789, &outcomes[i]);
    run_until(MANY);
    int passed = 0, refused = 0;
    for (int i = 0; i < MANY; i++) {
        CHECK_INT(outcomes[i].calls, 1);
        passed += outcomes[i].result.verdict == ADMIT_OK;
        refused += outcomes[i].result.verdict == ADMIT_BALANCE;
    }
    CHECK_INT(passed, 1);
    CHECK_INT(refused, MANY - 1);
    CHECK_STR(get_balance(&k), "0");
    CHECK_INT(outcomes[0].result.verdict, ADMIT_OK); /* in order of arrival */
    settle(&ids[0], 100, 123456789);
    settle_all();
    CHECK_STR(get_balance(&k), "0");
    CHECK_INT(hold_count(), 0);
}

static void test_balance_exact(void)
{
    struct key_record k = new_key();
    struct outcome o;
    ask_now(&k, 1, 5, &o);
    CHECK_INT(o.result.verdict, ADMIT_UNAVAILABLE); /* not rebuilt yet */
    set_balance(&k, "9223372036854775807");
    struct uuid id = ask_now(&k, 1, 9007199254740993, &o); /* 2^53 + 1 */
    CHECK_INT(o.result.verdict, ADMIT_OK);
    CHECK_STR(get_balance(&k), "9214364837600034814");
    settle(&id, 1, 9007199254740992);
    settle_all();
    CHECK_STR(get_balance(&k), "9214364837600034815");
    set_balance(&k, "-5");
    ask_now(&k, 1, INT64_MAX, &o);
    CHECK_INT(o.result.verdict, ADMIT_BALANCE);
    CHECK_STR(get_balance(&k), "-5");
    set_balance(&k, "100");
    id = ask_now(&k, 1, 60, &o);
    settle(&id, 1, 25);
    settle_all();
    CHECK_STR(get_balance(&k), "75");
    id = ask_now(&k, 1, 75, &o);
    settle(&id, 1, 90); /* more than was held: the balance says so */
    settle_all();
    CHECK_STR(get_balance(&k), "-15");
}

/* The balance is being rebuilt while a request runs: its cost is kept for the rebuild. */
static void test_debit(void)
{
    struct key_record k = new_key();
    struct outcome o;
    set_balance(&k, "100");
    struct uuid id = ask_now(&k, 1, 60, &o);
    char name[64], debits[64];
    balance_name(&k, name);
    redis_do("DEL", name, NULL);
    settle(&id, 1, 25);
    settle_all();
    CHECK_STR(get_balance(&k), "none");
    snprintf(debits, sizeof debits, "tg:d:%s", name + 5);
    CHECK_INT(redis_do("HLEN", debits, NULL)->integer, 1);
}

/* A refusal by one limit reserves nothing for any other. */
static void test_atomic(void)
{
    struct key_record k = new_key();
    for (int s = 0; s < SUBJECTS; s++)
        k.limits[s] = (struct limits){1000, 100000, 1000};
    k.limits[SUBJECT_TENANT].tokens_per_min = 50;
    set_balance(&k, "1000");
    struct outcome o;
    ask_now(&k, 100, 10, &o);
    CHECK_INT(o.result.verdict, ADMIT_RATE_TOKENS);
    CHECK_INT(o.result.subject, SUBJECT_TENANT);
    CHECK_INT(o.result.requests_remaining, 1000);
    CHECK_STR(get_balance(&k), "1000");
    ask_now(&k, 10, 1001, &o);
    CHECK_INT(o.result.verdict, ADMIT_BALANCE);
    CHECK_INT(o.result.requests_remaining, 1000);
    CHECK_STR(get_balance(&k), "1000");
    CHECK_INT(hold_count(), 0);
}

static void test_script_flush(void)
{
    struct key_record k = new_key();
    k.limits[SUBJECT_KEY].concurrency = 1;
    struct outcome o;
    for (int i = 0; i < 3; i++) {
        redis_do("SCRIPT", "FLUSH", NULL);
        struct uuid id = ask_now(&k, 1, 0, &o);
        CHECK_INT(o.result.verdict, ADMIT_OK);
        CHECK(!o.result.local);
        redis_do("SCRIPT", "FLUSH", NULL);
        settle(&id, 1, 0);
        settle_all();
    }
}

static void await_redis(void)
{
    for (int i = 0; i < 200 && redis_state(redis) != REDIS_CONNECTED; i++)
        run_ms(20);
    CHECK_INT(redis_state(redis), REDIS_CONNECTED);
}

static void test_flush(void)
{
    struct key_record k = new_key();
    k.limits[SUBJECT_KEY].concurrency = 1;
    struct outcome o;
    struct uuid id = ask_now(&k, 1, 0, &o);
    redis_do("FLUSHALL", NULL, NULL);
    struct uuid id2 = ask_now(&k, 1, 0, &o);
    CHECK_INT(o.result.verdict, ADMIT_OK);
    settle(&id, 1, 0); /* its hold is gone: it must not take away the other's place */
    settle_all();
    ask_now(&k, 1, 0, &o);
    CHECK_INT(o.result.verdict, ADMIT_CONCURRENCY);
    settle(&id2, 1, 0);
    settle_all();
}

static void test_killed(void)
{
    struct key_record k = new_key();
    k.limits[SUBJECT_KEY] = (struct limits){400, 0, 8};
    struct outcome o;
    own_redis_kill(&server);
    run_ms(50);
    struct uuid ids[3];
    for (int i = 0; i < 2; i++) { /* a quarter of 8 */
        ids[i] = ask_now(&k, 1, 0, &o);
        CHECK_INT(o.result.verdict, ADMIT_OK);
        CHECK(o.result.local && o.result.held);
    }
    ask_now(&k, 1, 0, &o);
    CHECK_INT(o.result.verdict, ADMIT_CONCURRENCY);
    settle(&ids[0], 1, 0);
    ids[2] = ask_now(&k, 1, 0, &o);
    CHECK_INT(o.result.verdict, ADMIT_OK);
    ask_now(&k, 1, 5, &o);
    CHECK_INT(o.result.verdict, ADMIT_UNAVAILABLE);
    settle(&ids[1], 1, 0);
    settle(&ids[2], 1, 0);
    CHECK_INT(admission_pending(admission), 0);
    own_redis_launch(&server);
    await_redis();
    struct uuid id = ask_now(&k, 1, 0, &o);
    CHECK(o.result.verdict == ADMIT_OK && !o.result.local);
    settle(&id, 1, 0);
    settle_all();
}

/* Redis is stopped with a request in its socket: it answers too late, and the hold that it made
 * or makes after all must not remain. */
static void test_stopped(void)
{
    struct key_record k = new_key();
    k.limits[SUBJECT_KEY].concurrency = 4;
    struct outcome o;
    struct uuid first = ask_now(&k, 1, 0, &o);
    kill(server.pid, SIGSTOP);
    int64_t before_ms = clock_mono_ms();
    struct uuid id = ask_now(&k, 1, 0, &o);
    CHECK(o.result.verdict == ADMIT_OK && o.result.local);
    settle(&first, 1, 0); /* waits for Redis */
    CHECK(admission_pending(admission) >= 1);
    for (int i = 0; i < 20; i++)
        ask_now(&k, 1, 5, &o);
    CHECK_INT(o.result.verdict, ADMIT_UNAVAILABLE);
    CHECK(clock_mono_ms() - before_ms < 10 * 1000);
    run_ms(500);
    kill(server.pid, SIGCONT);
    await_redis();
    settle(&id, 1, 0);
    settle_all();
    run_ms(100);
    CHECK_INT(hold_count(), 0);
    struct uuid ids[4];
    for (int i = 0; i < 4; i++) {
        ids[i] = ask_now(&k, 1, 0, &o);
        CHECK_INT(o.result.verdict, ADMIT_OK);
        CHECK(!o.result.local);
    }
    for (int i = 0; i < 4; i++)
        settle(&ids[i], 1, 0);
    settle_all();
    CHECK_INT(hold_count(), 0);
}

static void test_free_with_calls_under_way(void)
{
    struct key_record k = new_key();
    k.limits[SUBJECT_KEY].concurrency = 1;
    struct outcome o, o2;
    ask(&k, 1, 0, &o);
    run_ms(0);
    struct uuid id = ask(&k, 1, 0, &o2);
    settle(&id, 0, 0);
    waiting = 2;
    admission_free(admission);
    CHECK_INT(o2.calls, 1);
    CHECK_INT(o2.result.verdict, ADMIT_UNAVAILABLE);
}

int main(void)
{
    own_redis_start(&server);
    struct error err = {""};
    loop = loop_new(&err);
    struct redis_options options = {
        .url = server.url, .connect_timeout_ms = 300, .command_timeout_ms = 300};
    redis = redis_new(loop, &options, &err);
    options.command_timeout_ms = 5000;
    direct = redis_sync_new(&options, &err);
    gateway_id = uuid_v7(clock_wall_ms());
    CHECK_FATAL(loop && redis && direct);
    admission = admission_new(loop, redis, &gateway_id, &err);
    CHECK_FATAL(admission);
    test_unlimited();
    test_requests();
    test_tokens();
    test_concurrency();
    test_balance_for_one();
    test_balance_exact();
    test_debit();
    test_atomic();
    test_script_flush();
    test_flush();
    test_killed();
    test_stopped();
    test_free_with_calls_under_way();
    redis_free(redis);
    redis_sync_free(direct);
    loop_free(loop);
    own_redis_end(&server);
    return check_done();
}
