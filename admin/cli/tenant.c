#include "admin/cli/common.h"
#include "admin/cli/groups.h"
#include "admin/views.h"
#include "base/json.h"

static enum status show(struct cli *c, const struct uuid *id)
{
    struct report *r;
    enum status st = cli_report(c, &r);
    return st == OK ? cli_print_view(c, view_tenants(c->pg, id, r, &c->err), r, true) : st;
}

static enum status check_billing(struct cli *c, bool *prepaid)
{
    const char *mode = cli_value(c, "billing");
    *prepaid = !mode || strcmp(mode, "prepaid") == 0;
    if (*prepaid || strcmp(mode, "postpaid") == 0)
        return OK;
    return cli_bad_call(c, "--billing is prepaid or postpaid");
}

/* What invoices say of the buyer, a JSON object. */
static enum status check_legal(struct cli *c)
{
    const char *text = cli_value(c, "legal");
    struct json *root = NULL;
    struct error why;
    if (!text)
        return OK;
    enum status st = json_parse(text, strlen(text), NULL, &root, &why);
    if (st == OK && !json_is_object(root))
        st = error_set(&why, INVALID, "not an object");
    json_free(root);
    return st == OK ? OK : cli_bad_call(c, "--legal: %s", why.text);
}

static enum status create(struct cli *c)
{
    struct tenant_new t = {.name = c->arguments[0],
                           .currency = cli_value(c, "currency"),
                           .legal = cli_value(c, "legal")};
    struct uuid id;
    enum status st = check_billing(c, &t.prepaid);
    if (st == OK)
        st = check_legal(c);
    if (st == OK)
        st = cli_need_pg(c);
    if (st == OK)
        st = tenant_create(c->pg, cli_actor(), &t, &id, &c->err);
    return st == OK ? show(c, &id) : st;
}

static enum status list(struct cli *c)
{
    struct report *r;
    enum status st = cli_need_pg(c);
    if (st == OK)
        st = cli_report(c, &r);
    return st == OK ? cli_print_view(c, view_tenants(c->pg, NULL, r, &c->err), r, false) : st;
}

static enum status find_named(struct cli *c, struct uuid *id)
{
    enum status st = cli_need_pg(c);
    return st == OK ? find_tenant(c->pg, c->arguments[0], id, &c->err) : st;
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
        st = tenant_set_status(c->pg, cli_actor(), &id, status, &c->err);
    if (st != OK)
        return st;
    cli_publish(c, SUBJECT_TENANT, &id);
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

static enum status update(struct cli *c)
{
    struct uuid id;
    enum status st = check_legal(c);
    if (st == OK)
        st = find_named(c, &id);
    if (st == OK)
        st = tenant_set_legal(c->pg, cli_actor(), &id, cli_value(c, "legal"), &c->err);
    return st == OK ? show(c, &id) : st;
}

static const struct cli_command commands[] = {
    {.name = "create",
     .arguments = "NAME --currency USD [--billing prepaid|postpaid] [--legal JSON]",
     .summary = "Makes a tenant: who pays. --legal is what invoices say of the buyer.",
     .example = "tollgate tenant create acme --currency USD --billing prepaid\n"
                "tollgate tenant create globex --currency EUR --billing postpaid "
                "--legal '{\"name\": \"Globex GmbH\", \"country\": \"DE\"}'",
     .options = {"currency!", "billing=", "legal="},
     .least = 1,
     .most = 1,
     .run = create},
    {.name = "list",
     .arguments = "",
     .summary = "Shows all tenants.",
     .example = "tollgate tenant list --json",
     .run = list},
    {.name = "show",
     .arguments = "NAME",
     .summary = "Shows one tenant.",
     .example = "tollgate tenant show acme",
     .least = 1,
     .most = 1,
     .run = show_named},
    {.name = "update",
     .arguments = "NAME --legal JSON",
     .summary = "Changes what invoices say of the buyer, from the next invoice on.",
     .example = "tollgate tenant update acme --legal '{\"name\": \"Acme Inc.\"}'",
     .options = {"legal!"},
     .least = 1,
     .most = 1,
     .run = update},
    {.name = "suspend",
     .arguments = "NAME",
     .summary = "Refuses all keys of a tenant within a second.",
     .example = "tollgate tenant suspend acme",
     .least = 1,
     .most = 1,
     .run = suspend},
    {.name = "resume",
     .arguments = "NAME",
     .summary = "Ends a suspension.",
     .example = "tollgate tenant resume acme",
     .least = 1,
     .most = 1,
     .run = resume},
};

const struct cli_group cli_group_tenant = {
    .name = "tenant",
    .summary = "who pays",
    .commands = commands,
    .count = sizeof commands / sizeof *commands,
};
