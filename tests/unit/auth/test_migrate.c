#include "auth/migrate.h"

#include "auth/embed.h"
#include "tests/unit/auth/fresh_db.h"
#include "tests/unit/check.h"

static int names;

static void on_name(const char *name, void *arg)
{
    CHECK(strncmp(name, "000", 3) == 0);
    names++;
}

static void check_refused(struct pg *pg, const char *sql, const char *word)
{
    struct error err = {""};
    CHECK_INT(pg_script(pg, sql, &err), OK);
    CHECK_INT(migrate_check(pg, &err), CONFLICT);
    CHECK(strstr(err.text, word));
    CHECK_INT(migrate_run(pg, NULL, NULL, NULL, &err), CONFLICT);
}

int main(void)
{
    struct pg *pg = fresh_db("migrate");
    struct error err = {""};
    int count = 0;
    while (embedded_migrations[count].name)
        count++;
    CHECK_INT(migrate_check(pg, &err), UNAVAILABLE);
    int applied = -1;
    CHECK_INT(migrate_run(pg, on_name, NULL, &applied, &err), OK);
    CHECK_INT(applied, count);
    CHECK_INT(names, count);
    CHECK_INT(migrate_check(pg, &err), OK);
    CHECK_INT(migrate_run(pg, on_name, NULL, &applied, &err), OK);
    CHECK_INT(applied, 0);
    check_refused(pg, "INSERT INTO schema_migrations VALUES ('9999_new.sql', 'x')", "newer");
    check_refused(pg,
                  "DELETE FROM schema_migrations WHERE name = '9999_new.sql';"
                  "UPDATE schema_migrations SET sha256 = 'x' WHERE name LIKE '0001%'",
                  "changed");
    pg_free(pg);
    return check_done();
}
