/* Invoices and reconciliation on a real database: the sum of the lines is what was served. */
#include <unistd.h>

#include "auth/migrate.h"
#include "base/pg.h"
#include "billing/invoice.h"
#include "billing/reconcile.h"
#include "billing/usage.h"
#include "tests/unit/check.h"

static struct error err;
static struct pg *pg;

static void run(const char *sql)
{
    if (pg_script(pg, sql, &err) != OK) {
        fprintf(stderr, "%s\n", err.text);
        CHECK_FATAL(!"the SQL of this test runs");
    }
}

/* A tenant whose events of two past months and of this one are in three batches. */
static void seed(void)
{
    run("CREATE FUNCTION test_uuid(at timestamptz, n int) RETURNS uuid LANGUAGE sql AS $$ SELECT"
        " (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' ||"
        " lpad(to_hex(n), 3, '0') || '8000' || lpad(to_hex(n), 12, '0'))::uuid $$");
    run("INSERT INTO tenants (id, name, currency, billing_mode, legal) VALUES"
        " ('11111111-1111-7111-8111-111111111111', 'acme', 'USD', 'prepaid',"
        "  '{\"name\": \"Acme, Inc.\"}');"
        "INSERT INTO projects (id, tenant_id, name) VALUES"
        " ('22222222-2222-7222-8222-222222222222', '11111111-1111-7111-8111-111111111111', 'web');"
        "INSERT INTO prices (model, currency, input_miss_pico, input_hit_pico, output_pico, valid)"
        " VALUES ('m', 'USD', 270000, 70000, 1100000, tstzrange('2020-01-01', NULL))");
}

/* count events of one batch at a time, each of 100 prompt (40 cached) and 7 completion tokens. */
static void ship(const char *at, int first, int count)
{
    char text[24], number[24], last[24];
    snprintf(number, sizeof number, "%d", first);
    snprintf(last, sizeof last, "%d", first + count - 1);
    snprintf(text, sizeof text, "%s", at);
    const char *const params[] = {text, number, last};
    CHECK_FATAL(pg_query(pg, "SELECT tg_usage_partition($1::date)", 1, params, NULL, &err) == OK);
    CHECK_FATAL(pg_begin(pg, &err) == OK);
    CHECK_FATAL(pg_query(pg,
                         "INSERT INTO shipping_batches (source, shard, admits, settles) VALUES"
                         " ('33333333-3333-7333-8333-333333333333', 0, 0, 0)",
                         0, NULL, NULL, &err) == OK);
    enum status st = pg_query(
        pg,
        "WITH b AS (SELECT max(id) AS id FROM shipping_batches),"
        " t AS (SELECT tg_post_usage(b.id, '11111111-1111-7111-8111-111111111111',"
        "  '22222222-2222-7222-8222-222222222222', 'USD', date_trunc('month', $1::date)::date,"
        "  ($3::int - $2::int + 1) * (60 * 270000 + 40 * 70000 + 7 * 1100000)::numeric) AS id FROM "
        "b)"
        "INSERT INTO usage_events SELECT test_uuid($1::timestamptz, n), $1::date,"
        " '11111111-1111-7111-8111-111111111111', '22222222-2222-7222-8222-222222222222',"
        " '44444444-4444-7444-8444-444444444444', 'm', (SELECT min(id) FROM prices), 'USD',"
        " 'finished', 1, 100, 40, 7, 3, 60 * 270000 + 40 * 70000 + 7 * 1100000, $1::timestamptz,"
        " $1::timestamptz, b.id, t.id FROM b, t, generate_series($2::int, $3::int) n",
        3, params, NULL, &err);
    if (st != OK)
        fprintf(stderr, "%s\n", err.text);
    CHECK_FATAL(st == OK);
    CHECK_FATAL(pg_commit(pg, &err) == OK);
}

static void on_check(const struct reconcile_check *check, void *arg)
{
    int *compared = arg;
    *compared += check->compared > 0;
}

static void on_difference(const char *check, const char *what, void *arg)
{
    printf("%s: %s\n", check, what);
}

static enum status reconcile(void)
{
    int compared = 0;
    struct reconcile_report report = {on_check, on_difference, &compared};
    struct reconcile_options options = {0};
    enum status st = reconcile_run(pg, &options, &report, &err);
    CHECK(compared >= 4);
    return st;
}

static void check_lines(const struct invoice *i, int64_t events)
{
    CHECK_INT(i->line_count, 3);
    CHECK_STR(i->lines[0].item, "input_miss");
    CHECK_STR(i->lines[2].item, "output");
    money_pico sum = 0;
    int64_t net = 0;
    for (int l = 0; l < i->line_count; l++) {
        sum += i->lines[l].amount_pico;
        net += i->lines[l].amount_minor;
        CHECK_INT(i->lines[l].amount_minor, money_round_minor(i->lines[l].amount_pico, 2));
    }
    CHECK(sum == (money_pico)events * (60 * 270000 + 40 * 70000 + 7 * 1100000));
    CHECK_INT(i->net_minor, net);
    CHECK_INT(i->total_minor, i->net_minor + i->tax_minor);
}

static void months(void)
{
    struct invoice *i = NULL;
    ship("2026-01-10", 1, 2000);
    ship("2026-02-03", 2, 1000);
    CHECK_INT(invoice_preview(pg, "acme", "2026-01", &i, &err), OK);
    check_lines(i, 2000);
    CHECK(!i->number);
    invoice_free(i);

    CHECK_INT(invoice_finalise(pg, "acme", "2026-01", &i, &err), OK);
    check_lines(i, 2000);
    CHECK(i->number && strlen(i->number) > 6);
    CHECK(strstr(i->buyer, "Acme, Inc.") != NULL);
    char number[64];
    snprintf(number, sizeof number, "%s", i->number);
    struct buf text;
    buf_init(&text, 1 << 20);
    CHECK_INT(invoice_json(i, &text), OK);
    CHECK(strstr(buf_cstr(&text), "\"base_quantity\": \"1000000\"") != NULL);
    buf_clear(&text);
    CHECK_INT(invoice_csv(i, &text), OK);
    CHECK(strstr(buf_cstr(&text), "\"Input tokens, cache hit\"") != NULL);
    buf_done(&text);
    invoice_free(i);
    CHECK_INT(invoice_finalise(pg, "acme", "2026-01", &i, &err), CONFLICT);
    CHECK(strstr(err.text, number) != NULL);
    CHECK_INT(reconcile(), OK);

    /* January's stragglers come on February's invoice, as late lines. */
    ship("2026-01-20", 3, 500);
    CHECK_INT(invoice_finalise(pg, "acme", "2026-02", &i, &err), OK);
    CHECK_INT(i->line_count, 6);
    CHECK(!i->lines[0].late && i->lines[3].late);
    CHECK_STR(i->lines[3].period_start, "2026-01-01");
    invoice_free(i);
    CHECK_INT(reconcile(), OK);

    /* Frozen: only its state may move, and what was void comes again. */
    CHECK_INT(pg_script(pg, "UPDATE invoices SET net_minor = 0, total_minor = tax_minor", &err),
              CONFLICT);
    CHECK_INT(invoice_set_state(pg, number, "void", &err), OK);
    CHECK_INT(invoice_set_state(pg, number, "paid", &err), CONFLICT);
    CHECK_INT(reconcile(), OK);
    CHECK_INT(invoice_finalise(pg, "acme", "2026-01", &i, &err), OK);
    check_lines(i, 2000);
    CHECK(strcmp(i->number, number) != 0);
    invoice_free(i);
    CHECK_INT(invoice_finalise(pg, "acme", "2026-03", &i, &err), OK);
    CHECK_INT(i->line_count, 0); /* nothing is billed twice */
    invoice_free(i);
    CHECK_INT(reconcile(), OK);
}

static void refusals(void)
{
    struct invoice *i = NULL;
    CHECK_INT(invoice_preview(pg, "nobody", "2026-01", &i, &err), NOT_FOUND);
    CHECK_INT(invoice_preview(pg, "acme", "2026-13", &i, &err), INVALID);
    CHECK_INT(invoice_preview(pg, "acme", "last", &i, &err), INVALID);
    CHECK_INT(invoice_finalise(pg, "acme", NULL, &i, &err), CONFLICT);
    CHECK(strstr(err.text, "not over") != NULL);
    struct usage_event event;
    CHECK_INT(usage_find(pg, "x", &event, &err), INVALID);
    CHECK_INT(usage_find(pg, "0199aaaa-0000-7000-8000-000000000000", &event, &err), NOT_FOUND);
}

static int64_t summed;

static void add_sum(const struct usage_sum *sum, void *arg)
{
    summed += sum->requests;
}

static void sums(void)
{
    struct usage_query query = {.tenant = "acme", .by = USAGE_BY_DAY};
    CHECK_INT(usage_sums(pg, &query, add_sum, NULL, &err), OK);
    CHECK_INT(summed, 3500);
    query.from = "2026-02-01";
    query.by = USAGE_BY_PROJECT;
    summed = 0;
    CHECK_INT(usage_sums(pg, &query, add_sum, NULL, &err), OK);
    CHECK_INT(summed, 1000);
    query.from = "yesterday-ish";
    CHECK_INT(usage_sums(pg, &query, add_sum, NULL, &err), INVALID);
}

/* Each kind of difference is found and named. */
static void differences(void)
{
    run("ALTER TABLE usage_events DISABLE TRIGGER USER");
    run("UPDATE usage_events SET completion_tokens = 8 WHERE id = (SELECT min(id::text)::uuid FROM"
        " usage_events)");
    CHECK_INT(reconcile(), CONFLICT);
    run("UPDATE usage_events SET completion_tokens = 7 WHERE completion_tokens = 8");
    CHECK_INT(reconcile(), OK);
    run("ALTER TABLE ledger_accounts DISABLE TRIGGER USER");
    run("UPDATE ledger_accounts SET balance_pico = balance_pico + 1 WHERE kind = 'revenue'");
    CHECK_INT(reconcile(), CONFLICT);
    run("UPDATE ledger_accounts SET balance_pico = balance_pico - 1 WHERE kind = 'revenue'");
    CHECK_INT(reconcile(), OK);
}

int main(void)
{
    const char *url = getenv("TOLLGATE_TEST_DATABASE_URL");
    if (!url)
        CHECK_SKIP("TOLLGATE_TEST_DATABASE_URL is not set");
    pg = pg_connect(url, 5000, &err);
    CHECK_FATAL(pg);
    char name[64], sql[128], own[1024];
    snprintf(name, sizeof name, "invoice_%d", (int)getpid());
    snprintf(sql, sizeof sql, "CREATE DATABASE %s", name);
    run(sql);
    pg_free(pg);
    /* The same server, another database: the last path element of the URL. */
    const char *end = strchr(url, '?') ? strchr(url, '?') : url + strlen(url);
    const char *slash = end;
    while (slash > url && slash[-1] != '/')
        slash--;
    snprintf(own, sizeof own, "%.*s%s%s", (int)(slash - url), url, name, end);
    pg = pg_connect(own, 5000, &err);
    CHECK_FATAL(pg);
    CHECK_FATAL(migrate_run(pg, NULL, NULL, NULL, &err) == OK);
    seed();
    refusals();
    months();
    sums();
    differences();
    pg_free(pg);
    return check_done();
}
