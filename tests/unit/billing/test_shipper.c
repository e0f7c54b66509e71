#include "billing/shipper.h"

#include <signal.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "billing/ledger.h"
#include "tests/unit/billing/database.h"
#include "tests/unit/billing/samples.h"

static const struct uuid acme = {{1}}, gateway = {{0xaa}};
enum { RATE_MISS = 280000, RATE_HIT = 28000, RATE_OUT = 420000 };

static int64_t price_of(struct pg *pg, const char *currency)
{
    char sql[256];
    snprintf(sql, sizeof sql,
             "INSERT INTO prices (model, currency, input_miss_pico, input_hit_pico, output_pico,"
             " valid) VALUES ('tollgate-demo', '%s', %d, %d, %d, tstzrange('2020-01-01', NULL))"
             " RETURNING id",
             currency, RATE_MISS, RATE_HIT, RATE_OUT);
    return strtoll(test_value(pg, sql), NULL, 10);
}

struct bench {
    struct test_database d;
    char dir[64];
    int64_t usd, eur;
    struct shipper *shipper;
};

static struct shipper *make_shipper(const char *dir, int keep)
{
    struct error err;
    struct shipper_options o = {.dirs = &dir, .dir_count = 1, .keep_segments = keep};
    struct shipper *s = shipper_new(&o, &err);
    CHECK_FATAL(s != NULL);
    return s;
}

static struct bench begin(void)
{
    struct bench b = {.d = test_database_make()};
    test_tenants(b.d.pg);
    b.usd = price_of(b.d.pg, "USD");
    b.eur = price_of(b.d.pg, "EUR");
    sample_folder(b.dir);
    b.shipper = make_shipper(b.dir, 1000);
    return b;
}

static void end(struct bench *b)
{
    shipper_free(b->shipper);
    sample_folder_remove(b->dir);
    test_database_drop(&b->d);
}

static int64_t segment_bytes = 8192;

static struct journal *open_journal(const char *dir, int shard)
{
    struct journal *j;
    struct error err = {""};
    struct journal_options o = {
        .dir = dir, .shard = shard, .segment_bytes = segment_bytes, .gateway_id = &gateway};
    if (journal_open(&o, &j, &err) != OK) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    return j;
}

/* A request of one of three projects, with random counts and outcome. */
static struct meter_settle random_settle(const struct bench *b, int64_t wall_ms)
{
    struct meter_context c = sample_context(wall_ms);
    int which = rand() % 3;
    c.project_id = (struct uuid){{which == 0 ? 2 : which == 1 ? 12 : 22}};
    c.price = (struct price){b->usd, RATE_MISS, RATE_HIT, RATE_OUT};
    if (which == 2) {
        c.tenant_id = (struct uuid){{21}};
        c.price.price_id = b->eur;
        snprintf(c.currency, sizeof c.currency, "EUR");
        c.prepaid = false;
    }
    struct meter_settle s = sample_settle(&c);
    s.counts = (struct token_counts){rand() % 5000, 0, rand() % 900, 0};
    s.counts.cached = rand() % (s.counts.prompt + 1);
    s.outcome = (enum meter_outcome)(METER_FINISHED + rand() % 3);
    s.cost_pico = s.outcome == METER_FAILED ? 0 : price_rate(&c.price, &s.counts);
    return s;
}

static void ship(struct bench *b)
{
    struct error err = {""};
    enum status st = shipper_run(b->shipper, b->d.pg, &err);
    CHECK_STR(err.text, "");
    CHECK_INT(st, OK);
    CHECK_INT(shipper_status(b->shipper)->stopped, 0);
    if (shipper_status(b->shipper)->stopped)
        fprintf(stderr, "%s\n", shipper_status(b->shipper)->why.text);
    CHECK_INT(shipper_status(b->shipper)->behind_bytes, 0);
}

static void check_total(struct bench *b, const char *sql, money_pico want)
{
    char text[MONEY_TEXT_SIZE];
    money_format_pico(want, text);
    CHECK_STR(test_value(b->d.pg, sql), text);
}

/* Events, ledger and journal say the same; every transaction sums to zero. */
static void check_books(struct bench *b, int64_t events, money_pico cost)
{
    char count[24];
    snprintf(count, sizeof count, "%lld", (long long)events);
    CHECK_STR(test_value(b->d.pg, "SELECT count(*) FROM usage_events"), count);
    check_total(b, "SELECT coalesce(sum(cost_pico), 0) FROM usage_events", cost);
    check_total(b,
                "SELECT coalesce(-sum(e.amount_pico), 0) FROM ledger_entries e JOIN"
                " ledger_accounts a ON a.id = e.account_id WHERE a.kind = 'revenue'",
                cost);
    CHECK_STR(test_value(b->d.pg, "SELECT count(*) FROM (SELECT FROM ledger_entries GROUP BY"
                                  " transaction_id HAVING sum(amount_pico) <> 0) x"),
              "0");
    CHECK_STR(test_value(b->d.pg,
                         "SELECT count(*) FROM ledger_accounts a WHERE balance_pico <> (SELECT"
                         " coalesce(sum(amount_pico), 0) FROM ledger_entries WHERE account_id ="
                         " a.id)"),
              "0");
    CHECK_STR(test_value(b->d.pg, "SELECT count(*) FROM (SELECT 1 FROM usage_events GROUP BY"
                                  " ledger_transaction_id HAVING ledger_transaction_id IS NOT NULL"
                                  " AND sum(cost_pico) <> (SELECT -sum(amount_pico) FROM"
                                  " ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id"
                                  " AND a.kind = 'revenue' WHERE e.transaction_id ="
                                  " ledger_transaction_id)) x"),
              "0");
}

static money_pico append(struct bench *b, struct journal *j, int pairs, int64_t wall_ms)
{
    money_pico cost = 0;
    for (int i = 0; i < pairs; i++) {
        struct meter_settle s = random_settle(b, wall_ms + i);
        CHECK(journal_admit(j, &s.context) > 0);
        CHECK(journal_settle(j, &s) > 0);
        cost += s.cost_pico;
        if (i % 3 == 0)
            CHECK_INT(journal_flush(j), OK);
    }
    CHECK_INT(journal_flush(j), OK);
    return cost;
}

static void check_ships(void)
{
    struct bench b = begin();
    struct error err = {""};
    int64_t id;
    CHECK_INT(ledger_credit(b.d.pg, &acme, CREDIT_PAID, 1000000000000, "wire-1", &id, &err), OK);
    CHECK_INT(ledger_credit(b.d.pg, &acme, CREDIT_PAID, 1000000000000, "wire-1", &id, &err),
              CONFLICT);
    CHECK_INT(ledger_credit(b.d.pg, &acme, CREDIT_GRANTED, 5000000, "", &id, &err), OK);
    ship(&b); /* nothing there yet */
    struct journal *j0 = open_journal(b.dir, 0), *j1 = open_journal(b.dir, 1);
    ship(&b);
    int64_t now = clock_wall_ms();
    /* Two months, so that the ledger has a transaction for each. */
    money_pico cost = append(&b, j0, 200, now) + append(&b, j1, 100, now - 40LL * 86400000);
    ship(&b);
    check_books(&b, 300, cost);
    ship(&b);
    cost += append(&b, j1, 50, now);
    ship(&b);
    check_books(&b, 350, cost);
    CHECK_STR(test_value(b.d.pg, "SELECT count(*) FROM open_holds"), "0");
    CHECK_STR(test_value(b.d.pg, "SELECT count(*) FROM usage_conflicts"), "0");

    struct tenant_balance t;
    CHECK_INT(ledger_balance(b.d.pg, &acme, &t, &err), OK);
    CHECK(t.granted == 0 && t.receivable == 0 && t.paid > 0);
    CHECK(t.available == t.paid);
    /* A second shipper, with nothing in memory, finds nothing left to do. */
    struct shipper *again = make_shipper(b.dir, 1000);
    CHECK_INT(shipper_run(again, b.d.pg, &err), OK);
    CHECK_INT(shipper_status(again)->total.settles, 0);
    shipper_free(again);
    /* And one that has lost the cursor stores nothing twice. */
    test_sql(b.d.pg, "DELETE FROM journal_cursors");
    again = make_shipper(b.dir, 1000);
    CHECK_INT(shipper_run(again, b.d.pg, &err), OK);
    CHECK_INT(shipper_status(again)->total.settles, 350);
    CHECK_INT(shipper_status(again)->total.events, 0);
    CHECK_INT(shipper_status(again)->total.conflicts, 0);
    shipper_free(again);
    check_books(&b, 350, cost);
    CHECK_STR(test_value(b.d.pg, "SELECT count(*) FROM open_holds"), "0");
    journal_close(j0);
    journal_close(j1);
    end(&b);
}

/* More than fits into one batch, ADMITs that stay open among it. */
static void check_many(void)
{
    struct bench b = begin();
    segment_bytes = 64 << 20;
    struct journal *j = open_journal(b.dir, 0);
    segment_bytes = 8192;
    for (int i = 0; i < SHIP_BATCH_MAX + 10; i++) {
        struct meter_context c = sample_context(clock_wall_ms());
        CHECK(journal_admit(j, &c) > 0);
    }
    money_pico cost = append(&b, j, SHIP_BATCH_MAX + 100, clock_wall_ms());
    ship(&b);
    check_books(&b, SHIP_BATCH_MAX + 100, cost);
    CHECK_INT(strtoll(test_value(b.d.pg, "SELECT count(*) FROM open_holds"), NULL, 10),
              SHIP_BATCH_MAX + 10);
    journal_close(j);
    end(&b);
}

/* Usage takes granted credit first, then paid, then it is owed. */
static void check_order_of_credit(void)
{
    struct bench b = begin();
    struct error err = {""};
    struct tenant_balance t;
    int64_t id;
    CHECK_INT(ledger_credit(b.d.pg, &acme, CREDIT_GRANTED, 100 * RATE_OUT, "", &id, &err), OK);
    CHECK_INT(ledger_credit(b.d.pg, &acme, CREDIT_PAID, 100 * RATE_OUT, "", &id, &err), OK);
    bool applied = true;
    CHECK_INT(ledger_credit_applied(b.d.pg, id, &applied, &err), OK);
    CHECK(!applied);
    struct journal *j = open_journal(b.dir, 0);
    const int used[] = {60, 60, 120, 5};
    const int granted[] = {40, 0, 0, 0}, paid[] = {100, 80, 0, 0}, owed[] = {0, 0, 40, 45};
    for (int i = 0; i < 4; i++) {
        struct meter_context c = sample_context(clock_wall_ms());
        c.price = (struct price){b.usd, RATE_MISS, RATE_HIT, RATE_OUT};
        struct meter_settle s = sample_settle(&c);
        s.counts = (struct token_counts){0, 0, used[i], 0};
        s.cost_pico = price_rate(&c.price, &s.counts);
        journal_settle(j, &s);
        journal_flush(j);
        ship(&b);
        CHECK_INT(ledger_balance(b.d.pg, &acme, &t, &err), OK);
        CHECK(t.granted == granted[i] * RATE_OUT && t.paid == paid[i] * RATE_OUT);
        CHECK(t.receivable == owed[i] * RATE_OUT);
    }
    CHECK_INT(ledger_credit(b.d.pg, &acme, CREDIT_PAID, 0, "", &id, &err), INVALID);
    struct uuid nobody = {{99}};
    CHECK_INT(ledger_credit(b.d.pg, &nobody, CREDIT_PAID, 5, "", &id, &err), NOT_FOUND);
    /* The ledger refuses to be edited or to be left unbalanced. */
    CHECK_INT(pg_query(b.d.pg, "UPDATE ledger_entries SET amount_pico = 1", 0, NULL, NULL, &err),
              CONFLICT);
    CHECK_INT(pg_query(b.d.pg, "DELETE FROM ledger_transactions", 0, NULL, NULL, &err), CONFLICT);
    CHECK_INT(pg_query(b.d.pg, "DELETE FROM usage_events", 0, NULL, NULL, &err), CONFLICT);
    CHECK_INT(pg_query(b.d.pg,
                       "INSERT INTO ledger_entries (transaction_id, account_id, amount_pico)"
                       " SELECT transaction_id, account_id, 1 FROM ledger_entries LIMIT 1",
                       0, NULL, NULL, &err),
              CONFLICT);
    CHECK(strstr(err.text, "ledger_balanced"));
    journal_close(j);
    end(&b);
}

static void check_holds_and_conflicts(void)
{
    struct bench b = begin();
    struct journal *j = open_journal(b.dir, 0), *other = open_journal(b.dir, 1);
    struct meter_settle s = random_settle(&b, clock_wall_ms());
    s.outcome = METER_FINISHED;
    s.cost_pico = price_rate(&s.context.price, &s.counts);
    journal_admit(j, &s.context);
    journal_flush(j);
    ship(&b);
    CHECK_STR(test_value(b.d.pg, "SELECT count(*) FROM open_holds"), "1");
    journal_settle(other, &s);
    journal_flush(other);
    ship(&b);
    CHECK_STR(test_value(b.d.pg, "SELECT count(*) FROM open_holds"), "0");
    check_books(&b, 1, s.cost_pico);
    /* The same again is silence; another story is kept aside; a wrong sum is named. */
    journal_settle(j, &s);
    journal_flush(j);
    ship(&b);
    CHECK_STR(test_value(b.d.pg, "SELECT count(*) FROM usage_conflicts"), "0");
    struct meter_settle lie = s;
    lie.counts.completion += 5;
    journal_settle(j, &lie);
    journal_settle(j, &lie);
    struct meter_settle sum = random_settle(&b, clock_wall_ms());
    sum.outcome = METER_FINISHED;
    sum.cost_pico = price_rate(&sum.context.price, &sum.counts) + 1;
    journal_settle(j, &sum);
    struct meter_settle wild = random_settle(&b, clock_wall_ms());
    wild.outcome = METER_CANCELLED;
    wild.counts.cached = wild.counts.prompt + 100; /* more hits than prompt */
    wild.cost_pico = price_rate(&wild.context.price, &wild.counts);
    journal_settle(j, &wild);
    journal_flush(j);
    ship(&b);
    CHECK_STR(test_value(b.d.pg, "SELECT string_agg(reason, ',' ORDER BY id) FROM usage_conflicts"),
              "content,cost");
    check_books(&b, 3, s.cost_pico + sum.cost_pico - 1 + wild.cost_pico);
    journal_close(j);
    journal_close(other);
    end(&b);
}

static void check_stranger(void)
{
    struct bench b = begin();
    struct error err = {""};
    struct journal *j = open_journal(b.dir, 0), *other = open_journal(b.dir, 1);
    money_pico cost = append(&b, j, 5, clock_wall_ms());
    struct meter_settle s = random_settle(&b, clock_wall_ms());
    s.context.price.price_id = 4711;
    journal_settle(other, &s);
    journal_flush(other);
    CHECK_INT(shipper_run(b.shipper, b.d.pg, &err), OK);
    CHECK_INT(shipper_status(b.shipper)->stopped, 1);
    CHECK(strstr(shipper_status(b.shipper)->why.text, "price 4711"));
    CHECK(shipper_status(b.shipper)->behind_bytes > 0);
    check_books(&b, 5, cost);
    journal_close(j);
    journal_close(other);
    end(&b);
}

static void flip(const char *path, off_t offset)
{
    int fd = open(path, O_RDWR);
    uint8_t byte;
    CHECK_FATAL(pread(fd, &byte, 1, offset) == 1);
    byte ^= 4;
    CHECK_FATAL(pwrite(fd, &byte, 1, offset) == 1);
    close(fd);
}

/* A damaged record stops its shard, with the place named; mended, it goes on. */
static void check_corrupt(void)
{
    struct bench b = begin();
    struct error err = {""};
    char path[SEGMENT_PATH_MAX];
    struct journal *j = open_journal(b.dir, 0);
    money_pico cost = append(&b, j, 10, clock_wall_ms());
    sample_segment(b.dir, true, path);
    flip(path, 1000);
    CHECK_INT(shipper_run(b.shipper, b.d.pg, &err), OK);
    CHECK_INT(shipper_status(b.shipper)->stopped, 1);
    CHECK(strstr(shipper_status(b.shipper)->why.text, path));
    CHECK(strtoll(test_value(b.d.pg, "SELECT count(*) FROM usage_events"), NULL, 10) < 4);
    CHECK_INT(shipper_run(b.shipper, b.d.pg, &err), OK);
    CHECK_INT(shipper_status(b.shipper)->stopped, 1);
    flip(path, 1000);
    ship(&b);
    check_books(&b, 10, cost);
    journal_close(j);
    end(&b);
}

static void check_deletes(void)
{
    struct bench b = begin();
    shipper_free(b.shipper);
    b.shipper = make_shipper(b.dir, 2);
    struct journal *j = open_journal(b.dir, 0);
    struct segment_list list;
    struct meter_settle held = random_settle(&b, clock_wall_ms());
    held.outcome = METER_FAILED;
    held.cost_pico = 0;
    journal_admit(j, &held.context);
    money_pico cost = append(&b, j, 200, clock_wall_ms());
    ship(&b);
    ship(&b);
    CHECK_INT(segment_list(b.dir, &list, NULL), OK);
    CHECK(list.count > 5); /* the ADMIT in the first one is still open */
    segment_list_done(&list);
    journal_settle(j, &held);
    journal_flush(j);
    ship(&b);
    ship(&b);
    CHECK_INT(segment_list(b.dir, &list, NULL), OK);
    CHECK_INT(list.count, 3); /* two shipped ones are kept, and the one being written */
    segment_list_done(&list);
    cost += append(&b, j, 1, clock_wall_ms());
    ship(&b);
    check_books(&b, 202, cost);
    /* The folder is lost and begun again: new segments are not taken for old ones. */
    journal_close(j);
    sample_folder_remove(b.dir);
    j = open_journal(b.dir, 0);
    cost += append(&b, j, 3, clock_wall_ms());
    ship(&b);
    check_books(&b, 205, cost);
    journal_close(j);
    end(&b);
}

/* The server may not have noticed yet that the leader before was killed. */
static enum status lead(struct pg *pg)
{
    struct error err;
    enum status st;
    while ((st = shipper_lead(pg, &err)) == LIMITED)
        usleep(1000);
    return st;
}

static void ship_until_killed(const char *url, const char *dir)
{
    struct error err;
    struct shipper *s = make_shipper(dir, 1000);
    struct pg *pg = pg_connect(url, 10000, &err);
    while (pg && lead(pg) == OK && shipper_run(s, pg, &err) != UNAVAILABLE)
        ;
    _exit(5); /* the connection was cut */
}

/* Killed at random while shipping what is being written, with connections cut as well. */
static void check_kill(void)
{
    struct bench b = begin();
    struct journal *j = open_journal(b.dir, 0);
    money_pico cost = 0;
    int events = 0;
    for (int round = 0; round < 20; round++) {
        pid_t child = fork();
        if (child == 0)
            ship_until_killed(b.d.url, b.dir);
        for (int i = 0; i < 10; i++) {
            cost += append(&b, j, 30, clock_wall_ms());
            events += 30;
            usleep((useconds_t)(rand() % 6000));
            if (i == 5 && round % 4 == 0)
                test_sql(b.d.pg, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
                                 " datname = current_database() AND pid <> pg_backend_pid()");
        }
        usleep((useconds_t)(rand() % 50000));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    /* The last child's transaction may still be coming to its end. */
    CHECK_INT(lead(b.d.pg), OK);
    ship(&b);
    check_books(&b, events, cost);
    CHECK_STR(test_value(b.d.pg, "SELECT count(*) FROM usage_conflicts"), "0");
    CHECK_STR(test_value(b.d.pg, "SELECT count(*) FROM open_holds"), "0");
    journal_close(j);
    end(&b);
}

/* One round of shipping, for strace to kill; exits 0 when it comes to its end. */
static int ship_once(const char *url, const char *dir)
{
    struct error err;
    struct pg *pg = pg_connect(url, 10000, &err);
    struct shipper *s = make_shipper(dir, 1000);
    if (!pg)
        return 4;
    if (lead(pg) != OK || shipper_run(s, pg, &err) != OK)
        return 5;
    int result = shipper_status(s)->stopped ? 6 : 0;
    shipper_free(s);
    pg_free(pg);
    return result;
}

static int run_traced(const char *self, const char *url, const char *dir, const char *inject)
{
    pid_t child = fork();
    if (child == 0) {
        setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* it does not work under ptrace */
        execlp("strace", "strace", "-qq", "-o", "/dev/null", "-e", "trace=sendto", "-e", inject,
               self, url, dir, (char *)NULL);
        _exit(127);
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Killed at the first, second, ... message that it would send to PostgreSQL, up to the last: the
 * books are whole after each, and nothing is lost or doubled in the end. */
static void check_kill_each_step(const char *self)
{
    struct bench b = begin();
    struct journal *j = open_journal(b.dir, 0);
    money_pico cost = 0;
    int events = 0, step = 0, result;
    if (run_traced("true", b.d.url, b.dir, "inject=getpid:delay_enter=0") != 0) {
        printf("strace does not work here: killing at each step is left out\n");
        step = -1;
    }
    do {
        char inject[64];
        snprintf(inject, sizeof inject, "inject=sendto:signal=SIGKILL:when=%d", ++step);
        struct meter_settle held = random_settle(&b, clock_wall_ms());
        journal_admit(j, &held.context);
        cost += append(&b, j, 5, clock_wall_ms());
        events += 5;
        result = step > 0 ? run_traced(self, b.d.url, b.dir, inject) : 0;
        CHECK(result == 0 || result == -1);
        CHECK_STR(test_value(b.d.pg, "SELECT coalesce((SELECT sum(cost_pico) FROM usage_events), 0)"
                                     " + (SELECT coalesce(sum(balance_pico), 0) FROM"
                                     " ledger_accounts WHERE kind = 'revenue')"),
                  "0");
        journal_settle(j, &held);
        cost += held.cost_pico;
        events++;
    } while (result == -1 && step < 200);
    CHECK(step == 0 || step > 15);
    journal_flush(j);
    ship(&b);
    check_books(&b, events, cost);
    CHECK_STR(test_value(b.d.pg, "SELECT count(*) FROM open_holds"), "0");
    journal_close(j);
    end(&b);
}

int main(int argc, char **argv)
{
    if (argc == 3)
        return ship_once(argv[1], argv[2]);
    check_ships();
    check_many();
    check_order_of_credit();
    check_holds_and_conflicts();
    check_stranger();
    check_corrupt();
    check_deletes();
    check_kill();
    check_kill_each_step(argv[0]);
    return check_done();
}
