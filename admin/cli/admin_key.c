#include "admin/cli/common.h"
#include "admin/cli/groups.h"
#include "admin/views.h"

static enum status create(struct cli *c)
{
    const char *role = cli_value(c, "role");
    struct uuid id;
    struct secret secret;
    struct report *r;
    char text[UUID_TEXT_SIZE];
    enum status st = cli_need_pg(c);
    if (st == OK)
        st = cli_report(c, &r);
    if (st != OK)
        return st;
    role = role ? role : "owner";
    st = admin_key_create(c->pg, cli_actor(), c->arguments[0], role, &id, &secret, &c->err);
    if (st != OK) {
        report_free(r);
        return st;
    }
    uuid_format(&id, text);
    report_row(r);
    report_text(r, "name", c->arguments[0]);
    report_text(r, "role", role);
    report_text(r, "id", text);
    report_text(r, "key", secret.text);
    st = cli_print(c, r, true);
    cli_say(c, "\nThe key is shown this once and kept nowhere: store it now.");
    secret_wipe(&secret);
    return st;
}

static enum status list(struct cli *c)
{
    struct report *r;
    enum status st = cli_need_pg(c);
    if (st == OK)
        st = cli_report(c, &r);
    if (st != OK)
        return st;
    return cli_print_view(c, view_admin_keys(c->pg, cli_flag(c, "all"), r, &c->err), r, false);
}

static enum status revoke(struct cli *c)
{
    enum status st = cli_need_pg(c);
    if (st == OK)
        st = admin_key_revoke(c->pg, cli_actor(), c->arguments[0], &c->err);
    if (st == OK && c->json)
        printf("{\"revoked\": true}\n");
    else if (st == OK)
        cli_say(c, "revoked");
    return st;
}

static const struct cli_command commands[] = {
    {.name = "create",
     .arguments = "NAME [--role owner|admin|finance|developer|auditor]",
     .summary = "Makes a key for the admin listener and shows it, this once.",
     .example = "tollgate admin-key create ops",
     .options = {"role="},
     .least = 1,
     .most = 1,
     .run = create},
    {.name = "list",
     .arguments = "[--all]",
     .summary = "Shows the administrators' keys; --all: revoked ones too.",
     .example = "tollgate admin-key list",
     .options = {"all"},
     .run = list},
    {.name = "revoke",
     .arguments = "NAME",
     .summary = "Refuses an administrator's key from now on.",
     .example = "tollgate admin-key revoke ops",
     .least = 1,
     .most = 1,
     .run = revoke},
};

const struct cli_group cli_group_admin_key = {
    .name = "admin-key",
    .summary = "keys of administrators",
    .commands = commands,
    .count = sizeof commands / sizeof *commands,
};
