#include "admin/cli/common.h"
#include "admin/cli/groups.h"
#include "admin/views.h"

#define LIMIT_MOST 1000000000000
enum { CONCURRENCY_MOST = 1000000000 };

/* The subject is the key, else the project, else the tenant. */
static enum status subject_of(struct cli *c, enum limit_subject *subject, struct uuid *id)
{
    const char *key = cli_value(c, "key"), *project = cli_value(c, "project");
    if (key && !project)
        return cli_bad_call(c, "--key goes with --project");
    *subject = key ? SUBJECT_KEY : project ? SUBJECT_PROJECT : SUBJECT_TENANT;
    if (key)
        return cli_key(c, key, id);
    return project ? cli_project(c, id) : cli_tenant(c, id);
}

static enum status print_limits(struct cli *c)
{
    struct uuid tenant;
    bool given;
    struct report *r;
    enum status st = cli_tenant_if(c, &tenant, &given);
    if (st == OK)
        st = cli_report(c, &r);
    if (st != OK)
        return st;
    return cli_print_view(c, view_limits(c->pg, given ? &tenant : NULL, r, &c->err), r, false);
}

static enum status apply(struct cli *c, const struct limits *limits)
{
    enum limit_subject subject = SUBJECT_TENANT;
    struct uuid id;
    enum status st = subject_of(c, &subject, &id);
    if (st == OK)
        st = limit_set(c->pg, cli_actor(), subject, &id, limits, &c->err);
    if (st != OK)
        return st;
    cli_publish(c, subject, &id);
    return print_limits(c);
}

static enum status set(struct cli *c)
{
    struct limits limits = {-1, -1, -1};
    enum status st = cli_value_int(c, "requests-per-min", 0, LIMIT_MOST, &limits.requests_per_min);
    if (st == OK)
        st = cli_value_int(c, "tokens-per-min", 0, LIMIT_MOST, &limits.tokens_per_min);
    if (st == OK)
        st = cli_value_int(c, "concurrency", 0, CONCURRENCY_MOST, &limits.concurrency);
    if (st != OK)
        return st;
    if (limits.requests_per_min < 0 && limits.tokens_per_min < 0 && limits.concurrency < 0)
        return cli_bad_call(c, "no limit is given");
    return apply(c, &limits);
}

static enum status clear(struct cli *c)
{
    return apply(c, &(struct limits){0, 0, 0});
}

static const struct cli_command commands[] = {
    {.name = "set",
     .arguments = "--tenant T [--project P [--key K]] [--requests-per-min N] "
                  "[--tokens-per-min N] [--concurrency N]",
     .summary = "Sets limits of a tenant, a project or a key; 0: no limit. A request must pass\n"
                "all three.",
     .example = "tollgate limit set --tenant acme --tokens-per-min 100000\n"
                "tollgate limit set --tenant acme --project main --key laptop "
                "--requests-per-min 60 --concurrency 4",
     .options = {"tenant!",
                 "project=", "key=", "requests-per-min=", "tokens-per-min=", "concurrency="},
     .run = set},
    {.name = "list",
     .arguments = "[--tenant T]",
     .summary = "Shows the limits that are set.",
     .example = "tollgate limit list --tenant acme",
     .options = {"tenant="},
     .run = print_limits},
    {.name = "clear",
     .arguments = "--tenant T [--project P [--key K]]",
     .summary = "Takes all limits of a tenant, a project or a key away.",
     .example = "tollgate limit clear --tenant acme --project main",
     .options = {"tenant!", "project=", "key="},
     .run = clear},
};

const struct cli_group cli_group_limit = {
    .name = "limit",
    .summary = "requests and tokens a minute, requests at once",
    .commands = commands,
    .count = sizeof commands / sizeof *commands,
};
