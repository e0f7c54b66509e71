#include "auth/migrate.h"

#include "admin/cli/groups.h"

static void say_applied(const char *name, void *arg)
{
    cli_say(arg, "applied %s", name);
}

static enum status run(struct cli *c)
{
    int applied = 0;
    enum status st = cli_need_pg(c);
    if (st != OK)
        return st;
    pg_set_timeout(c->pg, 0); /* a large table may take its time */
    st = migrate_run(c->pg, say_applied, c, &applied, &c->err);
    if (st != OK)
        return st;
    if (c->json)
        printf("{\"applied\": %d}\n", applied);
    else if (applied == 0)
        cli_say(c, "the database is up to date");
    return OK;
}

static const struct cli_command commands[] = {{
    .arguments = "",
    .summary = "Brings the database to the schema of this program. Safe to run again, and by\n"
               "several at once.",
    .example = "tollgate --config tollgate.conf migrate",
    .run = run,
}};

const struct cli_group cli_migrate = {
    .name = "migrate",
    .summary = "bring the database to this program's schema",
    .commands = commands,
    .count = 1,
};
