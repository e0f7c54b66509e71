#include "admin/cli/common.h"
#include "admin/cli/groups.h"
#include "admin/views.h"

static enum status add_rows(struct cli *c, const struct uuid *id, struct report **out)
{
    struct key_filter f = {.key = id, .revoked_too = true};
    struct report *r;
    enum status st = cli_report(c, &r);
    if (st == OK)
        st = view_keys(c->pg, &f, r, &c->err);
    if (st == OK)
        *out = r;
    else
        report_free(r);
    return st;
}

static enum status show(struct cli *c, const struct uuid *id)
{
    struct report *r = NULL;
    enum status st = add_rows(c, id, &r);
    return st == OK ? cli_print(c, r, true) : st;
}

/* NAME, or --name. */
static enum status key_name(struct cli *c, const char **out)
{
    const char *option = cli_value(c, "name");
    if ((c->argument_count == 1) == (option != NULL))
        return cli_bad_call(c, "the key's name is missing, or given twice");
    *out = option ? option : c->arguments[0];
    return OK;
}

static enum status create(struct cli *c)
{
    const char *models[KEY_MODELS_MAX];
    char expires[CLI_TIME_SIZE];
    struct key_new k = {.models = models};
    struct uuid id;
    struct secret secret;
    struct report *r = NULL;
    enum status st = key_name(c, &k.name);
    if (st == OK)
        st = cli_split(c, "models", models, KEY_MODELS_MAX, &k.model_count);
    if (st == OK)
        st = cli_value_time(c, "expires", 1, expires);
    if (st == OK)
        st = cli_project(c, &k.project);
    if (st != OK)
        return st;
    k.expires_at = cli_value(c, "expires") ? expires : NULL;
    st = key_create(c->pg, cli_actor(), &k, &id, &secret, &c->err);
    if (st != OK)
        return st;
    cli_publish(c, SUBJECT_KEY, &id);
    st = add_rows(c, &id, &r);
    if (st == OK) {
        report_text(r, "key", secret.text);
        st = cli_print(c, r, true);
        cli_say(c, "\nThe key is shown this once and kept nowhere: store it now.");
    }
    secret_wipe(&secret);
    return st;
}

static enum status list(struct cli *c)
{
    struct uuid tenant, project;
    bool given;
    struct report *r;
    struct key_filter f = {.revoked_too = cli_flag(c, "all")};
    if (cli_value(c, "project") && !cli_value(c, "tenant"))
        return cli_bad_call(c, "--project goes with --tenant");
    enum status st = cli_tenant_if(c, &tenant, &given);
    if (st == OK && cli_value(c, "project")) {
        st = cli_project(c, &project);
        f.project = &project;
    }
    if (st == OK)
        st = cli_report(c, &r);
    if (st != OK)
        return st;
    f.tenant = given ? &tenant : NULL;
    return cli_print_view(c, view_keys(c->pg, &f, r, &c->err), r, false);
}

static enum status show_named(struct cli *c)
{
    struct uuid id;
    enum status st = cli_key(c, c->arguments[0], &id);
    return st == OK ? show(c, &id) : st;
}

static enum status update(struct cli *c)
{
    const char *models[KEY_MODELS_MAX], *expires_option = cli_value(c, "expires");
    char expires[CLI_TIME_SIZE];
    struct key_change change = {.model_count = -1};
    struct uuid id;
    bool never = expires_option && strcmp(expires_option, "never") == 0;
    bool all = cli_value(c, "models") && strcmp(cli_value(c, "models"), "all") == 0;
    enum status st = OK;
    if (!expires_option && !cli_value(c, "models"))
        return cli_bad_call(c, "nothing to change: give --models or --expires");
    if (expires_option && !never)
        st = cli_value_time(c, "expires", 1, expires);
    if (st == OK && cli_value(c, "models")) {
        change.models = models;
        st = cli_split(c, "models", models, KEY_MODELS_MAX, &change.model_count);
        change.model_count = all ? 0 : change.model_count;
    }
    if (st == OK)
        st = cli_key(c, c->arguments[0], &id);
    if (st != OK)
        return st;
    change.expires_at = never ? "" : expires_option ? expires : NULL;
    st = key_update(c->pg, cli_actor(), &id, &change, &c->err);
    if (st != OK)
        return st;
    cli_publish(c, SUBJECT_KEY, &id);
    return show(c, &id);
}

static enum status revoke(struct cli *c)
{
    struct uuid id;
    enum status st = cli_key(c, c->arguments[0], &id);
    if (st == OK)
        st = key_revoke(c->pg, cli_actor(), &id, &c->err);
    if (st != OK)
        return st;
    cli_publish(c, SUBJECT_KEY, &id);
    return show(c, &id);
}

static const struct cli_command commands[] = {
    {.name = "create",
     .arguments = "NAME --tenant T --project P [--models A,B] [--expires TIME]",
     .summary = "Makes an API key and shows it, this once.",
     .example = "tollgate key create laptop --tenant acme --project main\n"
                "tollgate key create trial --tenant acme --project main --models tollgate-demo "
                "--expires 30d\n"
                "tollgate key create ci --tenant acme --project main --json | jq -r .key",
     .options = {"tenant!", "project!", "name=", "models=", "expires="},
     .most = 1,
     .run = create},
    {.name = "list",
     .arguments = "[--tenant T [--project P]] [--all]",
     .summary = "Shows keys by their first characters; --all: revoked ones too.",
     .example = "tollgate key list --tenant acme",
     .options = {"tenant=", "project=", "all"},
     .run = list},
    {.name = "show",
     .arguments = "NAME --tenant T --project P",
     .summary = "Shows one key.",
     .example = "tollgate key show laptop --tenant acme --project main",
     .options = {"tenant!", "project!"},
     .least = 1,
     .most = 1,
     .run = show_named},
    {.name = "update",
     .arguments = "NAME --tenant T --project P [--models A,B|all] [--expires TIME|never]",
     .summary = "Changes what a key may call, or until when.",
     .example = "tollgate key update trial --tenant acme --project main --expires never",
     .options = {"tenant!", "project!", "models=", "expires="},
     .least = 1,
     .most = 1,
     .run = update},
    {.name = "revoke",
     .arguments = "NAME --tenant T --project P",
     .summary = "Refuses a key within a second, for ever. NAME: its name, id or first characters.",
     .example = "tollgate key revoke laptop --tenant acme --project main",
     .options = {"tenant!", "project!"},
     .least = 1,
     .most = 1,
     .run = revoke},
};

const struct cli_group cli_group_key = {
    .name = "key",
    .summary = "API keys",
    .commands = commands,
    .count = sizeof commands / sizeof *commands,
};
