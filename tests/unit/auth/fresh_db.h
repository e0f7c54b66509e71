/* An empty database of its own for one test program, on the test server. */
#ifndef TESTS_UNIT_AUTH_FRESH_DB_H
#define TESTS_UNIT_AUTH_FRESH_DB_H

#include "auth/migrate.h"
#include "base/pg.h"
#include "tests/unit/check.h"

static char fresh_db_url[512];

/* Exits 77 when no test server is named. */
static inline struct pg *fresh_db(const char *name)
{
    const char *url = getenv("TOLLGATE_TEST_DATABASE_URL");
    if (!url)
        CHECK_SKIP("TOLLGATE_TEST_DATABASE_URL is not set");
    struct error err;
    struct pg *pg = pg_connect(url, 5000, &err);
    if (!pg)
        fprintf(stderr, "%s\n", err.text);
    CHECK_FATAL(pg);
    char sql[256];
    snprintf(sql, sizeof sql, "DROP DATABASE IF EXISTS unit_%s WITH (FORCE)", name);
    CHECK_FATAL(pg_script(pg, sql, &err) == OK);
    snprintf(sql, sizeof sql, "CREATE DATABASE unit_%s", name);
    CHECK_FATAL(pg_script(pg, sql, &err) == OK);
    pg_free(pg);
    /* postgresql://user@/NAME?host=...: the name is between the last '/' before '?' and '?'. */
    const char *end = strchr(url, '?');
    if (!end)
        end = url + strlen(url);
    const char *start = end;
    while (start > url && start[-1] != '/')
        start--;
    snprintf(fresh_db_url, sizeof fresh_db_url, "%.*sunit_%s%s", (int)(start - url), url, name,
             end);
    pg = pg_connect(fresh_db_url, 5000, &err);
    if (!pg)
        fprintf(stderr, "%s\n", err.text);
    CHECK_FATAL(pg);
    return pg;
}

/* The same, migrated. */
static inline struct pg *fresh_schema(const char *name)
{
    struct pg *pg = fresh_db(name);
    struct error err;
    enum status st = migrate_run(pg, NULL, NULL, NULL, &err);
    if (st != OK)
        fprintf(stderr, "%s\n", err.text);
    CHECK_FATAL(st == OK);
    return pg;
}

#endif
