#include "auth/migrate.h"

#include <assert.h>

#include "auth/embed.h"
#include "base/crypto.h"

/* Any constant will do; all programs of the project use this one for migrations. */
#define LOCK_ID "7426013001"

static void hash_text(const struct embedded_file *file, char out[2 * SHA256_BYTES + 1])
{
    uint8_t hash[SHA256_BYTES];
    crypto_sha256(file->text, file->len, hash);
    for (int i = 0; i < SHA256_BYTES; i++)
        snprintf(out + 2 * i, 3, "%02x", hash[i]);
}

static int count_known(void)
{
    int n = 0;
    while (embedded_migrations[n].name)
        n++;
    return n;
}

static enum status has_table(struct pg *pg, bool *out, struct error *err)
{
    struct pg_result *r = NULL;
    enum status st =
        pg_query(pg, "SELECT to_regclass('schema_migrations') IS NOT NULL", 0, NULL, &r, err);
    if (st != OK)
        return st;
    *out = pg_bool(r, 0, 0);
    pg_result_free(r);
    return OK;
}

static enum status check_row(const struct pg_result *r, int row, struct error *err)
{
    const struct embedded_file *file = &embedded_migrations[row];
    const char *name = pg_text(r, row, 0), *hash = pg_text(r, row, 1);
    if (row >= count_known())
        return error_set(err, CONFLICT,
                         "the database has migration %s, which this program does not know; use "
                         "the newer program",
                         name);
    char ours[2 * SHA256_BYTES + 1];
    hash_text(file, ours);
    if (strcmp(name, file->name) != 0)
        return error_set(err, CONFLICT, "the database has migration %s where this program has %s",
                         name, file->name);
    if (strcmp(hash, ours) != 0)
        return error_set(err, CONFLICT,
                         "migration %s has changed since it ran in this database; migrations are "
                         "never edited, add a new one",
                         name);
    return OK;
}

/* How many of ours have run; CONFLICT if what has run is not a prefix of ours. */
static enum status count_applied(struct pg *pg, int *out, struct error *err)
{
    bool there = false;
    enum status st = has_table(pg, &there, err);
    if (st != OK)
        return st;
    if (!there) {
        *out = 0;
        return OK;
    }
    struct pg_result *r = NULL;
    st = pg_query(pg, "SELECT name, sha256 FROM schema_migrations ORDER BY name COLLATE \"C\"", 0,
                  NULL, &r, err);
    if (st != OK)
        return st;
    int n = pg_rows(r);
    for (int i = 0; i < n && st == OK; i++)
        st = check_row(r, i, err);
    pg_result_free(r);
    if (st == OK)
        *out = n;
    return st;
}

static enum status apply(struct pg *pg, const struct embedded_file *file, struct error *err)
{
    char hash[2 * SHA256_BYTES + 1];
    hash_text(file, hash);
    enum status st = pg_begin(pg, err);
    if (st == OK)
        st = pg_script(pg, file->text, err);
    if (st == OK)
        st = pg_query(pg, "INSERT INTO schema_migrations (name, sha256) VALUES ($1, $2)", 2,
                      (const char *const[]){file->name, hash}, NULL, err);
    if (st == OK)
        st = pg_commit(pg, err);
    if (st != OK) {
        pg_rollback(pg);
        error_prefix(err, "migration %s", file->name);
    }
    return st;
}

static enum status run_locked(struct pg *pg, migrate_fn *fn, void *arg, int *applied,
                              struct error *err)
{
    enum status st = pg_script(pg,
                               "CREATE TABLE IF NOT EXISTS schema_migrations ("
                               "name text PRIMARY KEY, sha256 text NOT NULL,"
                               "applied_at timestamptz NOT NULL DEFAULT now())",
                               err);
    int done = 0;
    if (st == OK)
        st = count_applied(pg, &done, err);
    int ran = 0;
    for (int n = count_known(); st == OK && done < n; done++) {
        st = apply(pg, &embedded_migrations[done], err);
        if (st != OK)
            break;
        ran++;
        if (fn)
            fn(embedded_migrations[done].name, arg);
    }
    if (st == OK && applied)
        *applied = ran;
    return st;
}

enum status migrate_run(struct pg *pg, migrate_fn *fn, void *arg, int *applied, struct error *err)
{
    pg_set_timeout(pg, 0); /* another migration may hold the lock, and ours may take long */
    enum status st = pg_query(pg, "SELECT pg_advisory_lock(" LOCK_ID ")", 0, NULL, NULL, err);
    if (st != OK)
        return st;
    st = run_locked(pg, fn, arg, applied, err);
    if (pg_ok(pg))
        pg_query(pg, "SELECT pg_advisory_unlock(" LOCK_ID ")", 0, NULL, NULL, NULL);
    return st;
}

enum status migrate_check(struct pg *pg, struct error *err)
{
    int applied = 0;
    enum status st = count_applied(pg, &applied, err);
    if (st != OK)
        return st;
    int missing = count_known() - applied;
    if (missing > 0)
        return error_set(err, UNAVAILABLE, "%d migration%s missing; run `tollgate migrate`",
                         missing, missing == 1 ? " is" : "s are");
    return OK;
}
