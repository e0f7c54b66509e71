#include "admin/cli/common.h"

#include <pwd.h>
#include <unistd.h>

#include "admin/view.h"
#include "auth/publish.h"

enum status cli_tenant(struct cli *c, struct uuid *out)
{
    enum status st = cli_need_pg(c);
    return st == OK ? find_tenant(c->pg, cli_value(c, "tenant"), out, &c->err) : st;
}

enum status cli_tenant_if(struct cli *c, struct uuid *out, bool *given)
{
    *given = cli_value(c, "tenant") != NULL;
    return *given ? cli_tenant(c, out) : cli_need_pg(c);
}

enum status cli_project(struct cli *c, struct uuid *out)
{
    enum status st = cli_need_pg(c);
    if (st != OK)
        return st;
    return find_project(c->pg, cli_value(c, "tenant"), cli_value(c, "project"), out, &c->err);
}

enum status cli_key(struct cli *c, const char *name, struct uuid *out)
{
    struct uuid project;
    enum status st = cli_project(c, &project);
    return st == OK ? find_key(c->pg, &project, name, out, &c->err) : st;
}

const struct actor *cli_actor(void)
{
    static char name[64];
    static const struct actor actor = {.name = name, .source = "cli"};
    /* Who stands behind sudo says more than root. */
    const char *sudo = getenv("SUDO_USER");
    const struct passwd *user = sudo && *sudo ? NULL : getpwuid(getuid());
    if (user)
        snprintf(name, sizeof name, "%s", user->pw_name);
    else if (sudo && *sudo)
        snprintf(name, sizeof name, "%s", sudo);
    else
        snprintf(name, sizeof name, "uid %u", (unsigned)getuid());
    return &actor;
}

static void publish_one(const char *sha256_hex, void *arg)
{
    struct cli *c = arg;
    struct error err;
    if (c->redis && publish_key(c->pg, c->redis, sha256_hex, &err) != OK) {
        fprintf(stderr,
                "tollgate: Redis was not told (%s); gateways hear of it through "
                "tollgate-billing\n",
                err.text);
        redis_sync_free(c->redis);
        c->redis = NULL;
    }
}

void cli_publish(struct cli *c, enum limit_subject subject, const struct uuid *id)
{
    struct error err;
    if (cli_need_redis(c) != OK) {
        fprintf(stderr, "tollgate: %s; gateways hear of the change through tollgate-billing\n",
                c->err.text);
        return;
    }
    if (manage_key_hashes(c->pg, subject, id, publish_one, c, &err) != OK)
        fprintf(stderr, "tollgate: %s; gateways hear of the change through tollgate-billing\n",
                err.text);
}

enum status cli_split(struct cli *c, const char *option, const char **items, int max, int *count)
{
    static char copy[8192];
    const char *text = cli_value(c, option);
    *count = 0;
    if (!text)
        return OK;
    if (strlen(text) >= sizeof copy)
        return cli_bad_call(c, "--%s is too long", option);
    snprintf(copy, sizeof copy, "%s", text);
    for (char *at = copy, *next; at; at = next) {
        next = strchr(at, ',');
        if (next)
            *next++ = 0;
        if (!*at || *count == max)
            return cli_bad_call(c, "--%s is a list like a,b of at most %d names", option, max);
        items[(*count)++] = at;
    }
    return OK;
}

enum status cli_amount(struct cli *c, money_pico *out)
{
    if (money_parse(cli_value(c, "amount"), out) && *out > 0)
        return OK;
    return cli_bad_call(c, "--amount is a sum above zero, such as 10.00");
}

void cli_report_money(struct report *r, const char *name, money_pico value)
{
    char text[MONEY_TEXT_SIZE], full[64];
    money_format(value, text);
    report_amount(r, name, text);
    snprintf(full, sizeof full, "%s_pico", name);
    money_format_pico(value, text);
    report_text(r, full, text);
    report_hide_all(r);
}

enum status cli_report(struct cli *c, struct report **out)
{
    *out = report_new();
    return *out ? OK : error_set(&c->err, NOMEM, "out of memory");
}

enum status cli_print_view(struct cli *c, enum status st, struct report *r, bool single)
{
    if (st == OK)
        return cli_print(c, r, single);
    report_free(r);
    return st;
}
