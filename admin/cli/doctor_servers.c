/* The checks of PostgreSQL and Redis. */
#include <ctype.h>
#include <errno.h>

#include "admin/cli/doctor.h"
#include "auth/migrate.h"
#include "base/clock.h"

enum { PG_VERSION_LEAST = 150000, REDIS_MAJOR_LEAST = 6, CLOCK_SKEW_MS = 2000 };

static const char *one_value(struct doctor *d, const char *sql, struct pg_result **r)
{
    *r = NULL;
    if (pg_query(d->c->pg, sql, 0, NULL, r, &d->c->err) != OK || pg_rows(*r) != 1)
        return NULL;
    return pg_text(*r, 0, 0);
}

static void check_version(struct doctor *d)
{
    struct pg_result *r;
    const char *text = one_value(
        d,
        "select current_setting('server_version_num') || ' ' || current_setting('server_version')",
        &r);
    char detail[200];
    snprintf(detail, sizeof detail, "version %s",
             text && strchr(text, ' ') ? strchr(text, ' ') + 1 : "?");
    if (text && strtol(text, NULL, 10) >= PG_VERSION_LEAST)
        doctor_find(d, FINDING_OK, "PostgreSQL", detail, NULL);
    else
        doctor_find(d, FINDING_FAIL, "PostgreSQL", detail, "install PostgreSQL 15 or later");
    pg_result_free(r);
}

static void check_schema(struct doctor *d)
{
    struct error err = {0};
    enum status st = migrate_check(d->c->pg, &err);
    if (st == OK)
        doctor_find(d, FINDING_OK, "PostgreSQL schema", "all migrations have run", NULL);
    else if (st == CONFLICT)
        doctor_find(d, FINDING_FAIL, "PostgreSQL schema", err.text,
                    "install the version of Tollgate that made this schema, or a newer one");
    else
        doctor_find(d, FINDING_FAIL, "PostgreSQL schema", err.text, "run: tollgate migrate");
}

static void check_clock(struct doctor *d)
{
    struct pg_result *r;
    const char *text =
        one_value(d, "select (extract(epoch from clock_timestamp()) * 1000)::bigint", &r);
    if (text) {
        int64_t skew = strtoll(text, NULL, 10) - clock_wall_ms();
        char detail[100];
        snprintf(detail, sizeof detail, "PostgreSQL's clock differs by %lld ms from this machine's",
                 (long long)skew);
        bool good = skew < CLOCK_SKEW_MS && skew > -CLOCK_SKEW_MS;
        doctor_find(d, good ? FINDING_OK : FINDING_WARN, "clocks", detail,
                    good ? NULL : "run an NTP client (chrony, systemd-timesyncd) on both machines");
    }
    pg_result_free(r);
}

void doctor_check_postgres(struct doctor *d)
{
    if (cli_need_pg(d->c) != OK) {
        doctor_find(d, FINDING_FAIL, "PostgreSQL", d->c->err.text,
                    "start PostgreSQL, create the database, and check [common] database_url");
        return;
    }
    check_version(d);
    check_schema(d);
    check_clock(d);
}

static const struct redis_reply *ask_redis(struct doctor *d, int argc, const char *const *argv)
{
    size_t lens[4];
    for (int i = 0; i < argc; i++)
        lens[i] = strlen(argv[i]);
    return redis_sync_command(d->c->redis, argc, argv, lens, &d->c->err);
}

static bool info_field(const struct redis_reply *reply, const char *field, char *out, size_t size)
{
    const char *at = reply && reply->type == REDIS_STRING ? strstr(reply->text, field) : NULL;
    if (!at)
        return false;
    at += strlen(field);
    size_t n = strcspn(at, "\r\n");
    snprintf(out, size, "%.*s", (int)n, at);
    return true;
}

static void check_redis_version(struct doctor *d)
{
    char version[64] = "?", detail[200];
    const struct redis_reply *reply = ask_redis(d, 2, (const char *const[]){"INFO", "server"});
    if (!reply || !info_field(reply, "redis_version:", version, sizeof version)) {
        doctor_find(d, FINDING_FAIL, "Redis", reply ? "INFO is refused" : d->c->err.text,
                    "allow the user of redis_url all commands");
        return;
    }
    snprintf(detail, sizeof detail, "version %s", version);
    bool good = strtol(version, NULL, 10) >= REDIS_MAJOR_LEAST;
    doctor_find(d, good ? FINDING_OK : FINDING_FAIL, "Redis", detail,
                good ? NULL : "install Redis 6 or later");
}

/* A server that evicts keys would forget balances and holds. */
static void check_redis_memory(struct doctor *d)
{
    char policy[64] = "", limit[32] = "0";
    const struct redis_reply *reply = ask_redis(d, 2, (const char *const[]){"INFO", "memory"});
    if (!reply || !info_field(reply, "maxmemory_policy:", policy, sizeof policy))
        return;
    info_field(reply, "maxmemory:", limit, sizeof limit);
    bool good = strcmp(limit, "0") == 0 || strcmp(policy, "noeviction") == 0;
    char detail[200];
    snprintf(detail, sizeof detail, "maxmemory %s, policy %s", limit, policy);
    doctor_find(d, good ? FINDING_OK : FINDING_FAIL, "Redis memory", detail,
                good ? NULL
                     : "set maxmemory-policy noeviction: balances and holds must not be evicted");
}

void doctor_check_redis(struct doctor *d)
{
    if (cli_need_redis(d->c) != OK) {
        doctor_find(d, FINDING_FAIL, "Redis", d->c->err.text,
                    "start Redis and check [common] redis_url");
        return;
    }
    check_redis_version(d);
    check_redis_memory(d);
}
