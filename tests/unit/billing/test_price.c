#include "billing/price.h"

#include "base/clock.h"
#include "tests/unit/billing/database.h"

static const struct uuid acme = {{1}}, nobody = {{9}};

static void check_parse(void)
{
    int64_t pico = 0;
    CHECK(price_parse_rate("0.28", &pico) && pico == 280000);
    CHECK(price_parse_rate("0.0028", &pico) && pico == 2800);
    CHECK(price_parse_rate("0", &pico) && pico == 0);
    CHECK(price_parse_rate("0.000001", &pico) && pico == 1);
    CHECK(!price_parse_rate("0.0000001", &pico));
    CHECK(!price_parse_rate("-1", &pico));
    CHECK(!price_parse_rate("1e3", &pico));
    struct price p = {1, 280000, 28000, 420000};
    struct token_counts c = {1000, 400, 50, 10};
    CHECK(price_rate(&p, &c) == 600 * 280000 + 400 * 28000 + 50 * 420000);
    c.cached = 5000; /* never a negative price */
    CHECK(price_rate(&p, &c) == 1000 * 28000 + 50 * 420000);
    struct price dear = {1, 1000000000000000, 1000000000000000, 1000000000000000};
    c = (struct token_counts){INT64_MAX / 2, 0, INT64_MAX / 2, 0};
    CHECK(price_rate(&dear, &c) == (money_pico)(INT64_MAX / 2) * 2 * 1000000000000000);
}

static struct price found(const struct pricebook *b, const struct uuid *tenant, int64_t wall_ms)
{
    struct price p = {0};
    pricebook_find(b, "tollgate-demo", tenant, "USD", wall_ms, &p);
    return p;
}

static void count(const struct price_version *p, void *arg)
{
    ++*(int *)arg;
    if (p->own)
        CHECK_STR(p->tenant_name, "acme");
}

static void check_versions(struct pg *pg)
{
    struct error err = {""};
    int64_t now = clock_wall_ms(), one = 0, two = 0, three = 0, own = 0;
    struct price_change c = {"tollgate-demo", NULL, "USD", 280000, 28000, 420000, 500, 0};
    CHECK_INT(price_set(pg, &c, &one, &err), OK);
    c.from_wall_ms = now + 100000;
    c.output_pico = 1000000;
    CHECK_INT(price_set(pg, &c, &two, &err), OK);
    CHECK_INT(price_set(pg, &c, &three, &err), CONFLICT); /* two at one time */
    c.from_wall_ms = now + 50000;
    c.output_pico = 700000;
    CHECK_INT(price_set(pg, &c, &three, &err), OK); /* between them */
    c.from_wall_ms = 0;
    c.tenant_id = &acme;
    c.output_pico = 1000;
    CHECK_INT(price_set(pg, &c, &own, &err), OK);
    int all = 0, current = 0;
    CHECK_INT(price_list(pg, NULL, false, count, &all, &err), OK);
    CHECK_INT(price_list(pg, "tollgate-demo", true, count, &current, &err), OK);
    CHECK_INT(all, 4);
    CHECK_INT(current, 2);

    struct pricebook *b;
    struct price p;
    CHECK_INT(pricebook_load(pg, &b, &err), OK);
    CHECK_INT(found(b, &nobody, now + 20000).price_id, one);
    CHECK_INT(found(b, &nobody, now + 49999).price_id, one);
    CHECK_INT(found(b, &nobody, now + 50000).price_id, three);
    CHECK_INT(found(b, &nobody, now + 99999).price_id, three);
    CHECK_INT(found(b, &nobody, now + 100000).price_id, two);
    CHECK_INT(found(b, &nobody, now + 900000000).output_pico, 1000000);
    CHECK_INT(found(b, &acme, now + 20000).price_id, own);
    CHECK_INT(found(b, &nobody, now - 60000).price_id, 0);
    CHECK_INT(pricebook_find(b, "other", &nobody, "USD", now + 1000, &p), NOT_FOUND);
    CHECK_INT(pricebook_find(b, "tollgate-demo", &nobody, "EUR", now + 1000, &p), NOT_FOUND);
    pricebook_free(b);
}

static void check_refused(struct pg *pg)
{
    struct error err = {""};
    int64_t id;
    struct price_change c = {"past", NULL, "USD", 1, 1, 1, 1000, clock_wall_ms() - 3600000};
    CHECK_INT(price_set(pg, &c, &id, &err), OK); /* the first may begin in the past */
    c.from_wall_ms += 1000;
    CHECK_INT(price_set(pg, &c, &id, &err), CONFLICT); /* but not be changed there */
    c = (struct price_change){"half", NULL, "USD", 1, 1, 1, 500, 0};
    CHECK_INT(price_set(pg, &c, &id, &err), CONFLICT); /* half a pico-unit */
    c = (struct price_change){"a b", NULL, "USD", 1, 1, 1, 1000, 0};
    CHECK_INT(price_set(pg, &c, &id, &err), INVALID);
    c = (struct price_change){"x", NULL, "usd", 1, 1, 1, 1000, 0};
    CHECK_INT(price_set(pg, &c, &id, &err), CONFLICT);
    c = (struct price_change){"x", &nobody, "USD", 1, 1, 1, 1000, 0};
    CHECK_INT(price_set(pg, &c, &id, &err), CONFLICT); /* no such tenant */
    c = (struct price_change){"x", NULL, "USD", -1, 1, 1, 1000, 0};
    CHECK_INT(price_set(pg, &c, &id, &err), INVALID);
    CHECK(pg_query(pg, "UPDATE prices SET output_pico = 0", 0, NULL, NULL, &err) == CONFLICT);
    CHECK(pg_query(pg, "DELETE FROM prices", 0, NULL, NULL, &err) == CONFLICT);
}

int main(void)
{
    check_parse();
    struct test_database d = test_database_make();
    test_tenants(d.pg);
    check_versions(d.pg);
    check_refused(d.pg);
    test_database_drop(&d);
    return check_done();
}
