/* Balances in a real Redis, moved by real admissions, against a real ledger. */
#include "billing/balances.h"

#include "auth/admission.h"
#include "base/clock.h"
#include "billing/ledger.h"
#include "billing/shipper.h"
#include "tests/unit/billing/database.h"
#include "tests/unit/billing/samples.h"
#include "tests/unit/own_redis.h"

enum { RATE = 1000000 }; /* pico a token, whatever it is */

static const struct uuid acme = {{1}}, gateway = {{0xaa}}, stranger = {{0xbb}}, leader = {{0xcc}};
static struct own_redis server;
static struct test_database d;
static struct redis_sync *direct;
static struct balances *balances;
static struct shipper *shipper;
static struct journal *journal;
static char dir[64];
static int64_t price_id;
static struct error err;

static struct loop *loop;
static struct redis *redis;
static struct admission *admission, *stranger_admission;
static struct admit_result last;

static const char *balance(void)
{
    static char out[64];
    const char *argv[] = {"GET", "tg:b:01000000-0000-0000-0000-000000000000"};
    const struct redis_reply *r = redis_sync_command(direct, 2, argv, NULL, &err);
    snprintf(out, sizeof out, "%s", r && r->type == REDIS_STRING ? r->text : "none");
    return out;
}

static void flush_redis(void)
{
    CHECK(redis_sync_command(direct, 1, (const char *const[]){"FLUSHALL"}, NULL, &err) != NULL);
}

static void drop_balance(void)
{
    const char *argv[] = {"DEL", "tg:b:01000000-0000-0000-0000-000000000000"};
    CHECK(redis_sync_command(direct, 2, argv, NULL, &err) != NULL);
}

/* As the daemon does it: ship, keep the balances, ship again when asked to. */
static int round_once(void)
{
    bool again = true;
    int rounds = 0;
    while (again && rounds < 5) {
        CHECK_INT(shipper_run(shipper, d.pg, &err), OK);
        enum status st = balances_round(balances, d.pg, true, &again, &err);
        if (st != OK)
            fprintf(stderr, "%s\n", err.text);
        CHECK_INT(st, OK);
        rounds++;
    }
    CHECK(!again);
    return rounds;
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

static void on_admit(const struct admit_result *result, void *arg)
{
    last = *result;
    loop_stop(loop);
}

static enum admit_verdict admit(struct admission *a, const struct meter_context *c)
{
    struct key_record key = {.key_id = c->key_id,
                             .project_id = c->project_id,
                             .tenant_id = c->tenant_id,
                             .prepaid = true,
                             .currency = "USD"};
    key.limits[SUBJECT_KEY].concurrency = 100;
    struct admit_request request = {c->request_id, &key, c->hold_tokens, c->hold_nano};
    admission_ask(a, &request, on_admit, NULL);
    loop_run(loop);
    return last.verdict;
}

static struct meter_context request(int64_t wall_ms, int64_t hold_tokens)
{
    struct meter_context c = sample_context(wall_ms);
    for (int i = 0; i < 6; i++) /* uuid_v7 alone would never go back in time */
        c.request_id.bytes[i] = (uint8_t)(wall_ms >> (40 - 8 * i));
    c.price = (struct price){price_id, RATE, RATE, RATE};
    c.hold_tokens = hold_tokens;
    c.hold_nano = money_nano_up((money_pico)hold_tokens * RATE);
    return c;
}

static struct meter_settle settle_of(const struct meter_context *c, int64_t tokens)
{
    struct meter_settle s = sample_settle(c);
    s.counts = (struct token_counts){tokens, 0, 0, 0};
    s.cost_pico = price_rate(&c->price, &s.counts);
    return s;
}

static void settle_in_redis(struct admission *a, const struct meter_settle *s)
{
    const struct meter_context *c = &s->context;
    struct settle_request r = {c->request_id, c->key_id,        c->project_id,
                               c->tenant_id,  s->counts.prompt, money_nano_up(s->cost_pico)};
    admission_settle(a, &r);
    while (admission_pending(a))
        run_ms(5);
}

static void journal_all(const struct meter_context *c, const struct meter_settle *s)
{
    if (c)
        journal_admit(journal, c);
    if (s)
        journal_settle(journal, s);
    CHECK_INT(journal_flush(journal), OK);
}

static void begin(void)
{
    own_redis_start(&server);
    d = test_database_make();
    test_tenants(d.pg);
    price_id = strtoll(test_value(d.pg, "INSERT INTO prices (model, currency, input_miss_pico,"
                                        " input_hit_pico, output_pico, valid) VALUES"
                                        " ('tollgate-demo', 'USD', 1000000, 1000000, 1000000,"
                                        " tstzrange('2020-01-01', NULL)) RETURNING id"),
                       NULL, 10);
    struct redis_options options = {
        .url = server.url, .connect_timeout_ms = 5000, .command_timeout_ms = 5000};
    direct = redis_sync_new(&options, &err);
    balances = balances_new(direct, &leader, &err);
    sample_folder(dir);
    const char *dirs[] = {dir};
    struct shipper_options so = {dirs, 1, 1000};
    shipper = shipper_new(&so, &err);
    struct journal_options jo = {.dir = dir, .segment_bytes = 1 << 20, .gateway_id = &gateway};
    CHECK_FATAL(direct && balances && shipper);
    CHECK_FATAL(journal_open(&jo, &journal, &err) == OK);
    loop = loop_new(&err);
    redis = redis_new(loop, &options, &err);
    admission = admission_new(loop, redis, &gateway, &err);
    stranger_admission = admission_new(loop, redis, &stranger, &err);
    CHECK_FATAL(loop && redis && admission && stranger_admission);
    while (redis_state(redis) != REDIS_CONNECTED)
        run_ms(5);
}

static void end(void)
{
    admission_free(admission);
    admission_free(stranger_admission);
    redis_free(redis);
    loop_free(loop);
    journal_close(journal);
    shipper_free(shipper);
    balances_free(balances);
    redis_sync_free(direct);
    sample_folder_remove(dir);
    test_database_drop(&d);
    own_redis_end(&server);
}

/* A new tenant gets a balance; a credit is passed on once, whoever dies in between. */
static void check_credits(void)
{
    int64_t id;
    bool applied = false;
    CHECK_INT(round_once(), 2); /* found missing, then set */
    CHECK_STR(balance(), "0");
    CHECK_INT(ledger_credit(d.pg, &acme, CREDIT_GRANTED, 5000000000000, "", &id, &err), OK);
    CHECK_INT(round_once(), 1);
    CHECK_STR(balance(), "5000000000");
    CHECK_INT(ledger_credit_applied(d.pg, id, &applied, &err), OK);
    CHECK(applied);
    /* The commit that marks it was lost. */
    test_sql(d.pg, "UPDATE balance_ops SET applied_at = NULL");
    round_once();
    CHECK_STR(balance(), "5000000000");
    CHECK_INT(ledger_credit(d.pg, &acme, CREDIT_PAID, 1000000000000, "", &id, &err), OK);
    round_once();
    CHECK_STR(balance(), "6000000000");
    /* Set from the ledger with a credit in it that was never passed on by itself. */
    CHECK_INT(ledger_credit(d.pg, &acme, CREDIT_PAID, 1000000000000, "", &id, &err), OK);
    drop_balance();
    round_once();
    CHECK_STR(balance(), "7000000000");
    test_sql(d.pg, "UPDATE balance_ops SET applied_at = NULL");
    round_once();
    CHECK_STR(balance(), "7000000000");
    /* A postpaid tenant has no balance in Redis to wait for. */
    struct uuid later = {{21}};
    CHECK_INT(ledger_credit(d.pg, &later, CREDIT_PAID, 1000000, "", &id, &err), OK);
    round_once();
    CHECK_INT(ledger_credit_applied(d.pg, id, &applied, &err), OK);
    CHECK(applied);
}

/* Redis loses everything under requests in every state; afterwards the balance is exact. */
static void check_flush(void)
{
    struct meter_context a = request(clock_wall_ms(), 1000), b = request(clock_wall_ms(), 1000),
                         c = request(clock_wall_ms(), 1000);
    CHECK_INT(admit(admission, &a), ADMIT_OK);
    CHECK_INT(admit(admission, &b), ADMIT_OK);
    CHECK_INT(admit(admission, &c), ADMIT_OK);
    CHECK_STR(balance(), "6997000000");
    struct meter_settle sa = settle_of(&a, 10), sb = settle_of(&b, 20), sc = settle_of(&c, 30);
    journal_all(&a, NULL);
    journal_all(&b, NULL);
    journal_all(&c, NULL);
    settle_in_redis(admission, &sa); /* settled in both */
    journal_all(NULL, &sa);
    CHECK_STR(balance(), "6997990000");
    flush_redis();
    struct meter_context refused = request(clock_wall_ms(), 1000);
    CHECK_INT(admit(admission, &refused), ADMIT_UNAVAILABLE);
    settle_in_redis(admission, &sb); /* its hold is gone: nothing happens there */
    journal_all(NULL, &sb);
    round_once();
    CHECK_STR(balance(), "6998970000"); /* a and b by the ledger, c held again */
    settle_in_redis(admission, &sc);
    CHECK_STR(balance(), "6999940000");
    journal_all(NULL, &sc);
    settle_in_redis(admission, &sc);
    round_once();
    CHECK_STR(balance(), "6999940000");
    CHECK_STR(test_value(d.pg, "SELECT floor(available_pico / 1000) FROM tenant_balances WHERE"
                               " tenant_id = '01000000-0000-0000-0000-000000000000'"),
              "6999940000");
}

/* Only the balance is lost; holds live on and are settled while it is missing. */
static void check_missing(void)
{
    struct meter_context a = request(clock_wall_ms(), 1000), b = request(clock_wall_ms(), 1000),
                         c = request(clock_wall_ms(), 1000);
    CHECK_INT(admit(admission, &a), ADMIT_OK);
    CHECK_INT(admit(admission, &b), ADMIT_OK);
    CHECK_INT(admit(admission, &c), ADMIT_OK);
    journal_all(&a, NULL);
    journal_all(&b, NULL); /* c is not in the journal yet */
    drop_balance();
    struct meter_settle sa = settle_of(&a, 10), sb = settle_of(&b, 20), sc = settle_of(&c, 30);
    settle_in_redis(admission, &sa);
    journal_all(NULL, &sa);
    settle_in_redis(admission, &sb); /* in Redis before it is in the journal */
    round_once();
    CHECK_STR(balance(), "6998910000"); /* a, b paid; c held */
    journal_all(NULL, &sb);
    journal_all(&c, &sc);
    settle_in_redis(admission, &sc);
    round_once();
    CHECK_STR(balance(), "6999880000");
}

static void sweep_now(void)
{
    balances_free(balances); /* a new one sweeps at once */
    balances = balances_new(direct, &leader, &err);
    CHECK_INT(shipper_run(shipper, d.pg, &err), OK);
    bool again;
    CHECK_INT(balances_round(balances, d.pg, true, &again, &err), OK);
}

/* Holds that nobody settles are settled or given back. */
static void check_sweep(void)
{
    int64_t now = clock_wall_ms();
    struct meter_context old = request(now - 3600000, 1000), young = request(now, 1000),
                         running = request(now - 3600000, 1000), lost = request(now, 1000),
                         other = request(now - 3600000, 1000);
    CHECK_INT(admit(admission, &old), ADMIT_OK);
    CHECK_INT(admit(admission, &young), ADMIT_OK);
    CHECK_INT(admit(admission, &running), ADMIT_OK);
    CHECK_INT(admit(admission, &lost), ADMIT_OK);
    CHECK_INT(admit(stranger_admission, &other), ADMIT_OK);
    CHECK_STR(balance(), "6994880000");
    journal_all(&running, NULL);
    struct meter_settle s = settle_of(&lost, 10);
    journal_all(&lost, &s); /* its settlement never reached Redis */
    sweep_now();
    CHECK_INT(balances_status(balances)->settled_total, 1);
    CHECK_INT(balances_status(balances)->released_total, 1);
    /* old is given back, lost is paid; young, running and another's journal are left alone */
    CHECK_STR(balance(), "6996870000");
    struct meter_settle sr = settle_of(&running, 0), so = settle_of(&other, 0);
    journal_all(NULL, &sr);
    settle_in_redis(admission, &sr);
    settle_in_redis(stranger_admission, &so);
    settle_in_redis(admission, &(struct meter_settle){.context = young});
    CHECK_STR(balance(), "6999870000");
}

/* Redis has started anew with what an old snapshot held. */
static void check_restart(void)
{
    own_redis_kill(&server);
    own_redis_launch(&server);
    const char *argv[] = {"SET", "tg:b:01000000-0000-0000-0000-000000000000", "99"};
    CHECK(redis_sync_command(direct, 3, argv, NULL, &err) != NULL);
    round_once();
    CHECK_STR(balance(), "6999870000");
    /* A leader that was deposed does not set balances any more. */
    struct uuid next = {{0xdd}};
    struct balances *newer = balances_new(direct, &next, &err);
    bool again;
    CHECK_INT(balances_round(newer, d.pg, true, &again, &err), OK);
    CHECK_STR(balance(), "6999870000");
    balances_free(newer);
}

int main(void)
{
    begin();
    check_credits();
    check_flush();
    check_missing();
    check_sweep();
    check_restart();
    end();
    return check_done();
}
