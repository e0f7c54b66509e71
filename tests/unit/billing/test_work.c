/* The two threads of tollgate-billing on real servers. */
#include "billing/work.h"

#include "base/clock.h"
#include "base/log.h"
#include "billing/ledger.h"
#include "billing/relay.h"
#include "tests/unit/billing/database.h"
#include "tests/unit/billing/samples.h"
#include "tests/unit/own_redis.h"

#define KEY_HASH "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"

static struct own_redis server;
static struct test_database d;
static struct redis_sync *direct;
static struct error err;

static const char *redis_get(const char *name)
{
    static char out[512];
    const char *argv[] = {"GET", name};
    const struct redis_reply *r = redis_sync_command(direct, 2, argv, NULL, &err);
    snprintf(out, sizeof out, "%s", r && r->type == REDIS_STRING ? r->text : "");
    return out;
}

/* Waits for a value to begin with what is wanted. */
static bool comes(const char *(*get)(const char *), const char *what, const char *want)
{
    for (int i = 0; i < 2000; i++) {
        if (strncmp(get(what), want, strlen(want)) == 0)
            return true;
        usleep(10 * 1000);
    }
    fprintf(stderr, "%s is %s\n", what, get(what));
    return false;
}

static const char *sql_value(const char *sql)
{
    return test_value(d.pg, sql);
}

static bool becomes(struct work *w, enum work_state state)
{
    struct work_status s;
    for (int i = 0; i < 2000; i++) {
        work_read(w, &s);
        if (s.state == state)
            return true;
        usleep(10 * 1000);
    }
    return false;
}

static bool becomes_ready(struct work *w, bool want)
{
    for (int i = 0; i < 2000; i++) {
        struct buf why;
        buf_init(&why, 1024);
        bool ready = work_ready(&why, w);
        buf_done(&why);
        if (ready == want)
            return true;
        usleep(10 * 1000);
    }
    return false;
}

static void cut_connections(void)
{
    char sql[256];
    snprintf(sql, sizeof sql,
             "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '%s'", d.name);
    test_sql(d.server, sql);
    pg_free(d.pg); /* ours was one of them */
    d.pg = pg_connect(d.url, 10000, &err);
    CHECK_FATAL(d.pg != NULL);
}

static void journal_one(const char *dir, struct journal **j, int64_t price_id)
{
    struct journal_options o = {.dir = dir, .segment_bytes = 1 << 20};
    if (!*j)
        CHECK_FATAL(journal_open(&o, j, &err) == OK);
    struct meter_context c = sample_context(clock_wall_ms());
    c.price = (struct price){price_id, 1000000, 1000000, 1000000};
    struct meter_settle s = sample_settle(&c);
    journal_admit(*j, &c);
    journal_settle(*j, &s);
    CHECK_INT(journal_flush(*j), OK);
}

static int64_t make_price(void)
{
    return strtoll(sql_value("INSERT INTO prices (model, currency, input_miss_pico,"
                             " input_hit_pico, output_pico, valid) VALUES ('tollgate-demo', 'USD',"
                             " 1000000, 1000000, 1000000, tstzrange('2020-01-01', NULL))"
                             " RETURNING id"),
                   NULL, 10);
}

static void check_work(struct billing_settings *s, struct metrics *metrics)
{
    static const struct uuid acme = {{1}};
    char dir[128], path[SEGMENT_PATH_MAX];
    struct journal *j = NULL;
    int64_t id, price_id = make_price();
    snprintf(dir, sizeof dir, "%s/gateway/journal", s->state_dir);
    struct work *one = work_start(s, metrics, &err);
    CHECK_FATAL(one && becomes(one, WORK_LEADING));
    struct work *two = work_start(s, metrics, &err);
    CHECK_FATAL(two && becomes(two, WORK_STANDBY));
    CHECK(becomes_ready(one, true) && becomes_ready(two, true));
    CHECK_INT(ledger_credit(d.pg, &acme, CREDIT_PAID, 5000000000000, "", &id, &err), OK);
    CHECK(comes(redis_get, "tg:b:01000000-0000-0000-0000-000000000000", "5000000000"));
    journal_one(dir, &j, price_id);
    CHECK(comes(sql_value, "SELECT count(*) FROM usage_events", "1"));
    /* Without its connection it leads no more; one of the two takes over. */
    cut_connections();
    journal_one(dir, &j, price_id);
    CHECK(comes(sql_value, "SELECT count(*) FROM usage_events", "2"));
    own_redis_kill(&server);
    own_redis_launch(&server);
    CHECK(comes(redis_get, "tg:b:01000000-0000-0000-0000-000000000000", "4999690000"));
    /* A damaged journal: not ready, and it says so; stopped cleanly, nothing is left behind. */
    journal_one(dir, &j, price_id);
    work_stop(one);
    work_stop(two);
    CHECK_STR(sql_value("SELECT count(*) FROM usage_events"), "3");
    journal_one(dir, &j, price_id);
    sample_segment(dir, false, path);
    CHECK_FATAL(truncate(path, 2000) == 0); /* zeros, and then a record behind them */
    int fd = open(path, O_WRONLY | O_APPEND);
    CHECK_FATAL(write(fd, "rubbish behind the end of a record", 34) == 34);
    close(fd);
    one = work_start(s, metrics, &err);
    CHECK_FATAL(one && becomes(one, WORK_LEADING) && becomes_ready(one, false));
    CHECK(comes(sql_value, "SELECT count(*) FROM usage_events", "4"));
    work_stop(one);
    journal_close(j);
}

static void check_relay(struct billing_settings *s, struct metrics *metrics)
{
    test_sql(d.pg, "INSERT INTO api_keys (id, project_id, name, sha256, prefix) VALUES"
                   " ('03000000-0000-0000-0000-000000000000',"
                   " '02000000-0000-0000-0000-000000000000', 'k', sha256('x'), 'sk-tg-abcdef')");
    struct relay *r = relay_start(s, metrics, &err);
    CHECK_FATAL(r != NULL);
    /* A change while nobody listens, or before: seen by the copy that is out of date. */
    static const char key[] = "tg:k:" KEY_HASH;
    const char *argv[] = {"SET", key, "1:{}"};
    CHECK(redis_sync_command(direct, 3, argv, NULL, &err) != NULL);
    cut_connections();
    CHECK(comes(redis_get, "tg:k:" KEY_HASH, "3:"));
    test_sql(d.pg, "UPDATE api_keys SET revoked_at = now()");
    CHECK(comes(redis_get, "tg:k:" KEY_HASH, "4:"));
    CHECK(strstr(redis_get("tg:k:" KEY_HASH), "\"revoked\": true"));
    relay_stop(r);
}

int main(void)
{
    log_init("test", LOG_LEVEL_ERROR);
    own_redis_start(&server);
    d = test_database_make();
    test_tenants(d.pg);
    struct redis_options options = {
        .url = server.url, .connect_timeout_ms = 5000, .command_timeout_ms = 5000};
    direct = redis_sync_new(&options, &err);
    CHECK_FATAL(direct != NULL);
    char state[64], none[] = "";
    sample_folder(state);
    struct billing_settings s = {.database_url = d.url,
                                 .redis_url = server.url,
                                 .redis_password = none,
                                 .state_dir = state,
                                 .ship_interval_ms = 20,
                                 .keep_segments = 16,
                                 .query_timeout_ms = 10000,
                                 .late_ready_ms = 10000};
    struct metrics *metrics = metrics_new();
    check_work(&s, metrics);
    check_relay(&s, metrics);
    metrics_free(metrics);
    redis_sync_free(direct);
    test_database_drop(&d);
    own_redis_end(&server);
    char dir[128];
    snprintf(dir, sizeof dir, "%s/gateway/journal", state);
    sample_folder_remove(dir);
    snprintf(dir, sizeof dir, "%s/gateway", state);
    rmdir(dir);
    rmdir(state);
    return check_done();
}
