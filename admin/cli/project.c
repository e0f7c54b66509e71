#include "admin/cli/common.h"
#include "admin/cli/groups.h"
#include "admin/views.h"

static enum status show(struct cli *c, const struct uuid *id)
{
    struct report *r;
    enum status st = cli_report(c, &r);
    return st == OK ? cli_print_view(c, view_projects(c->pg, NULL, id, r, &c->err), r, true) : st;
}

static enum status create(struct cli *c)
{
    struct uuid tenant, id;
    enum status st = cli_tenant(c, &tenant);
    if (st == OK)
        st = project_create(c->pg, cli_actor(), &tenant, c->arguments[0], &id, &c->err);
    return st == OK ? show(c, &id) : st;
}

static enum status list(struct cli *c)
{
    struct uuid tenant;
    bool given;
    struct report *r;
    enum status st = cli_tenant_if(c, &tenant, &given);
    if (st == OK)
        st = cli_report(c, &r);
    if (st != OK)
        return st;
    st = view_projects(c->pg, given ? &tenant : NULL, NULL, r, &c->err);
    return cli_print_view(c, st, r, false);
}

static enum status find_named(struct cli *c, struct uuid *id)
{
    enum status st = cli_need_pg(c);
    if (st != OK)
        return st;
    return find_project(c->pg, cli_value(c, "tenant"), c->arguments[0], id, &c->err);
}

static enum status show_named(struct cli *c)
{
    struct uuid id;
    enum status st = find_named(c, &id);
    return st == OK ? show(c, &id) : st;
}

static enum status set_status(struct cli *c, const char *status)
{
    struct uuid id;
    enum status st = find_named(c, &id);
    if (st == OK)
        st = project_set_status(c->pg, cli_actor(), &id, status, &c->err);
    if (st != OK)
        return st;
    cli_publish(c, SUBJECT_PROJECT, &id);
    return show(c, &id);
}

static enum status update(struct cli *c)
{
    struct uuid id;
    int64_t priority = 0;
    enum status st = cli_value_int(c, "priority", -KEY_PRIORITY_MAX, KEY_PRIORITY_MAX, &priority);
    if (st == OK)
        st = find_named(c, &id);
    if (st == OK)
        st = project_set_priority(c->pg, cli_actor(), &id, (int)priority, &c->err);
    if (st != OK)
        return st;
    cli_publish(c, SUBJECT_PROJECT, &id);
    return show(c, &id);
}

static enum status suspend(struct cli *c)
{
    return set_status(c, "suspended");
}

static enum status resume(struct cli *c)
{
    return set_status(c, "active");
}

static const struct cli_command commands[] = {
    {.name = "create",
     .arguments = "NAME --tenant T",
     .summary = "Makes a project: keys and usage of a tenant are kept by project.",
     .example = "tollgate project create main --tenant acme",
     .options = {"tenant!"},
     .least = 1,
     .most = 1,
     .run = create},
    {.name = "list",
     .arguments = "[--tenant T]",
     .summary = "Shows the projects, of one tenant or of all.",
     .example = "tollgate project list --tenant acme",
     .options = {"tenant="},
     .run = list},
    {.name = "show",
     .arguments = "NAME --tenant T",
     .summary = "Shows one project.",
     .example = "tollgate project show main --tenant acme",
     .options = {"tenant!"},
     .least = 1,
     .most = 1,
     .run = show_named},
    {.name = "update",
     .arguments = "NAME --tenant T --priority N",
     .summary =
         "Sets a project's priority, -100 to 100. Of the requests that wait for a place at a\n"
         "model, those of the highest begin first; what runs is not disturbed. 0 is normal.",
     .example = "tollgate project update main --tenant acme --priority 10",
     .options = {"tenant!", "priority!"},
     .least = 1,
     .most = 1,
     .run = update},
    {.name = "suspend",
     .arguments = "NAME --tenant T",
     .summary = "Refuses all keys of a project within a second.",
     .example = "tollgate project suspend main --tenant acme",
     .options = {"tenant!"},
     .least = 1,
     .most = 1,
     .run = suspend},
    {.name = "resume",
     .arguments = "NAME --tenant T",
     .summary = "Ends a suspension.",
     .example = "tollgate project resume main --tenant acme",
     .options = {"tenant!"},
     .least = 1,
     .most = 1,
     .run = resume},
};

const struct cli_group cli_group_project = {
    .name = "project",
    .summary = "what a tenant's keys and usage are kept by",
    .commands = commands,
    .count = sizeof commands / sizeof *commands,
};
