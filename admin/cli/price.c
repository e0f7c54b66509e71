#include "billing/price.h"

#include "admin/cli/common.h"
#include "admin/cli/groups.h"
#include "base/clock.h"

/* Pico-units per token as units of the currency per million tokens. */
static void report_rate(struct report *r, const char *name, int64_t pico)
{
    char text[MONEY_TEXT_SIZE];
    money_format((money_pico)pico * 1000000, text);
    report_amount(r, name, text);
}

static void report_price(const struct price_version *p, void *arg)
{
    struct report *r = arg;
    char from[CLI_TIME_SIZE], until[CLI_TIME_SIZE];
    clock_format_utc(p->from_wall_ms, from, sizeof from);
    clock_format_utc(p->until_wall_ms, until, sizeof until);
    report_row(r);
    report_int(r, "id", p->id);
    report_text(r, "model", p->model);
    report_text(r, "tenant", p->own ? p->tenant_name : NULL);
    report_text(r, "currency", p->currency);
    report_rate(r, "input", p->input_miss_pico);
    report_rate(r, "cached", p->input_hit_pico);
    report_rate(r, "output", p->output_pico);
    report_int(r, "batch_permille", p->batch_permille);
    report_hide(r);
    report_text(r, "from", from);
    report_text(r, "until", p->until_wall_ms ? until : NULL);
}

static enum status print_prices(struct cli *c, const char *model, bool current)
{
    struct report *r;
    enum status st = cli_report(c, &r);
    if (st != OK)
        return st;
    return cli_print_view(c, price_list(c->pg, model, current, report_price, r, &c->err), r, false);
}

static enum status rate(struct cli *c, const char *option, int64_t *pico)
{
    if (price_parse_rate(cli_value(c, option), pico))
        return OK;
    return cli_bad_call(c,
                        "--%s is a price per million tokens with at most 6 decimals, such as "
                        "0.27",
                        option);
}

static enum status set(struct cli *c)
{
    struct price_change p = {.model = cli_value(c, "model"),
                             .currency = cli_value(c, "currency"),
                             .batch_permille = 1000};
    struct uuid tenant;
    bool own;
    int64_t batch = 1000, id;
    enum status st = rate(c, "input", &p.input_miss_pico);
    if (st == OK)
        st = rate(c, "cached", &p.input_hit_pico);
    if (st == OK)
        st = rate(c, "output", &p.output_pico);
    if (st == OK)
        st = cli_value_int(c, "batch-permille", 0, 1000, &batch);
    if (st == OK && cli_value(c, "from"))
        st = cli_value_wall_ms(c, "from", 1, &p.from_wall_ms);
    if (st == OK)
        st = cli_tenant_if(c, &tenant, &own);
    if (st != OK)
        return st;
    p.batch_permille = (int)batch;
    p.tenant_id = own ? &tenant : NULL;
    st = price_set(c->pg, &p, &id, &c->err);
    return st == OK ? print_prices(c, p.model, false) : st;
}

static enum status list(struct cli *c)
{
    enum status st = cli_need_pg(c);
    return st == OK ? print_prices(c, cli_value(c, "model"), cli_flag(c, "current")) : st;
}

static const struct cli_command commands[] = {
    {.name = "set",
     .arguments = "--model M --currency USD --input P --cached P --output P [--from TIME] "
                  "[--tenant T] [--batch-permille N]",
     .summary = "Sets a price per million tokens, from now or --from on; for one tenant, or for\n"
                "all that have none of their own. Usage keeps the price it was admitted at.",
     .example = "tollgate price set --model tollgate-demo --currency USD --input 0.27 "
                "--cached 0.07 --output 1.10\n"
                "tollgate price set --model tollgate-demo --currency USD --input 0.20 "
                "--cached 0.05 --output 0.90 --tenant acme --from 2027-01-01",
     .options = {"model!", "currency!", "input!", "cached!", "output!",
                 "from=", "tenant=", "batch-permille="},
     .run = set},
    {.name = "list",
     .arguments = "[--model M] [--current]",
     .summary = "Shows the prices per million tokens, past and planned ones too.",
     .example = "tollgate price list --model tollgate-demo",
     .options = {"model=", "current"},
     .run = list},
};

const struct cli_group cli_group_price = {
    .name = "price",
    .summary = "what tokens cost",
    .commands = commands,
    .count = sizeof commands / sizeof *commands,
};
