/* A fresh database of its own for each test program, made in the server that
 * TOLLGATE_TEST_DATABASE_URL names, with all migrations run. Skips when there is no server. */
#ifndef TESTS_UNIT_BILLING_DATABASE_H
#define TESTS_UNIT_BILLING_DATABASE_H

#include <unistd.h>

#include "auth/migrate.h"
#include "base/pg.h"
#include "tests/unit/check.h"

struct test_database {
    char name[64], url[512];
    struct pg *server, *pg;
};

static inline void test_sql(struct pg *pg, const char *sql)
{
    struct error err = {""};
    if (pg_script(pg, sql, &err) != OK) {
        fprintf(stderr, "%s\n  in: %s\n", err.text, sql);
        exit(1);
    }
}

/* The first column of the first row; valid until the next call. "" when there is no row. */
static inline const char *test_value(struct pg *pg, const char *sql)
{
    static char out[512];
    struct error err = {""};
    struct pg_result *r;
    if (pg_query(pg, sql, 0, NULL, &r, &err) != OK) {
        fprintf(stderr, "%s\n  in: %s\n", err.text, sql);
        exit(1);
    }
    const char *text = pg_rows(r) ? pg_text(r, 0, 0) : NULL;
    snprintf(out, sizeof out, "%s", text ? text : "");
    pg_result_free(r);
    return out;
}

static inline struct test_database test_database_make(void)
{
    struct test_database d;
    struct error err = {""};
    const char *url = getenv("TOLLGATE_TEST_DATABASE_URL");
    if (!url)
        CHECK_SKIP("TOLLGATE_TEST_DATABASE_URL is not set");
    d.server = pg_connect(url, 10000, &err);
    if (!d.server) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    snprintf(d.name, sizeof d.name, "billing_test_%d", (int)getpid());
    char sql[128];
    snprintf(sql, sizeof sql, "CREATE DATABASE %s", d.name);
    test_sql(d.server, sql);
    /* postgresql://user@/database?host=... with the database's name replaced */
    const char *slash = strstr(url, "@/"), *query = strchr(url, '?');
    CHECK_FATAL(slash && query && slash < query);
    snprintf(d.url, sizeof d.url, "%.*s%s%s", (int)(slash + 2 - url), url, d.name, query);
    d.pg = pg_connect(d.url, 10000, &err);
    CHECK_FATAL(d.pg != NULL);
    enum status st = migrate_run(d.pg, NULL, NULL, NULL, &err);
    if (st != OK)
        fprintf(stderr, "%s\n", err.text);
    CHECK_FATAL(st == OK);
    return d;
}

static inline void test_database_drop(struct test_database *d)
{
    char sql[128];
    pg_free(d->pg);
    snprintf(sql, sizeof sql, "DROP DATABASE %s WITH (FORCE)", d->name);
    test_sql(d->server, sql);
    pg_free(d->server);
}

/* A prepaid tenant {1} with the projects {2} and {12}, and a postpaid one {21} with {22}. */
static inline void test_tenants(struct pg *pg)
{
    test_sql(pg, "INSERT INTO tenants (id, name, currency, billing_mode, legal) VALUES"
                 " ('01000000-0000-0000-0000-000000000000', 'acme', 'USD', 'prepaid',"
                 "  '{\"name\": \"=Acme, Inc.\", \"country\": \"US\"}'),"
                 " ('15000000-0000-0000-0000-000000000000', 'later', 'EUR', 'postpaid', '{}');"
                 "INSERT INTO projects (id, tenant_id, name) VALUES"
                 " ('02000000-0000-0000-0000-000000000000',"
                 "  '01000000-0000-0000-0000-000000000000', 'default'),"
                 " ('0c000000-0000-0000-0000-000000000000',"
                 "  '01000000-0000-0000-0000-000000000000', 'other'),"
                 " ('16000000-0000-0000-0000-000000000000',"
                 "  '15000000-0000-0000-0000-000000000000', 'main')");
}

#endif
