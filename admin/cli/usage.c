#include "billing/usage.h"

#include "admin/cli/common.h"
#include "admin/cli/groups.h"
#include "admin/views.h"

static void report_rate(struct report *r, const char *name, int64_t pico)
{
    char text[MONEY_TEXT_SIZE];
    money_format((money_pico)pico * 1000000, text);
    report_amount(r, name, text);
}

static enum status show(struct cli *c)
{
    struct usage_event e;
    struct report *r;
    enum status st = cli_need_pg(c);
    if (st == OK)
        st = usage_find(c->pg, c->arguments[0], &e, &c->err);
    if (st == OK)
        st = cli_report(c, &r);
    if (st != OK)
        return st;
    report_row(r);
    report_text(r, "request_id", e.id);
    report_text(r, "outcome", e.outcome);
    report_text(r, "tenant", e.tenant);
    report_text(r, "project", e.project);
    report_text(r, "key", e.key);
    report_text(r, "model", e.model);
    report_int(r, "prompt_tokens", e.prompt_tokens);
    report_int(r, "cached_tokens", e.cached_tokens);
    report_int(r, "completion_tokens", e.completion_tokens);
    report_int(r, "reasoning_tokens", e.reasoning_tokens);
    cli_report_money(r, "cost", e.cost_pico);
    report_text(r, "currency", e.currency);
    report_rate(r, "input_per_million", e.input_miss_pico);
    report_rate(r, "cached_per_million", e.input_hit_pico);
    report_rate(r, "output_per_million", e.output_pico);
    report_text(r, "admitted", e.admitted_at);
    report_text(r, "settled", e.settled_at);
    return cli_print(c, r, true);
}

struct sums {
    struct report *report;
    const char *by;
};

static void report_sum(const struct usage_sum *sum, void *arg)
{
    const struct sums *s = arg;
    struct report *r = s->report;
    report_row(r);
    report_text(r, s->by, sum->bucket);
    report_int(r, "requests", sum->requests);
    report_int(r, "prompt_tokens", sum->prompt_tokens);
    report_int(r, "cached_tokens", sum->cached_tokens);
    report_int(r, "completion_tokens", sum->completion_tokens);
    report_int(r, "reasoning_tokens", sum->reasoning_tokens);
    cli_report_money(r, "cost", sum->cost_pico);
    report_text(r, "currency", sum->currency);
}

static enum status list(struct cli *c)
{
    static const char *const groups[] = {"day", "project", "model", "key"};
    const char *by = cli_value(c, "by");
    struct usage_query q = {
        .tenant = cli_value(c, "tenant"), .from = cli_value(c, "from"), .to = cli_value(c, "to")};
    struct sums s = {.by = by ? by : "day"};
    int group = -1;
    for (int i = 0; i < 4; i++)
        if (strcmp(s.by, groups[i]) == 0)
            group = i;
    if (group < 0)
        return cli_bad_call(c, "--by is day, project, model or key");
    q.by = (enum usage_group)group;
    enum status st = cli_need_pg(c);
    if (st == OK)
        st = cli_report(c, &s.report);
    if (st != OK)
        return st;
    return cli_print_view(c, usage_sums(c->pg, &q, report_sum, &s, &c->err), s.report, false);
}

static enum status events(struct cli *c)
{
    struct uuid tenant;
    struct report *r;
    int64_t limit = 50;
    struct usage_filter f = {.tenant = &tenant, .model = cli_value(c, "model")};
    enum status st = cli_value_int(c, "limit", 1, 100000, &limit);
    if (st == OK)
        st = cli_tenant(c, &tenant);
    if (st == OK)
        st = cli_report(c, &r);
    if (st != OK)
        return st;
    f.limit = (int)limit;
    return cli_print_view(c, view_usage_events(c->pg, &f, r, &c->err), r, false);
}

static const struct cli_command commands[] = {
    {.name = "show",
     .arguments = "REQUEST_ID",
     .summary = "Shows the usage and cost of one request; the id is its x-request-id.",
     .example = "tollgate usage show 019aa1b2-0000-7000-8000-000000000000",
     .least = 1,
     .most = 1,
     .run = show},
    {.name = "list",
     .arguments = "--tenant T [--from DAY] [--to DAY] [--by day|project|model|key]",
     .summary = "Shows sums of a tenant's usage. Days are UTC; --to is the day after the last.",
     .example = "tollgate usage list --tenant acme --from 2026-11-01 --to 2026-12-01 --by model",
     .options = {"tenant!", "from=", "to=", "by="},
     .run = list},
    {.name = "events",
     .arguments = "--tenant T [--model M] [--limit N]",
     .summary = "Shows a tenant's requests, latest first.",
     .example = "tollgate usage events --tenant acme --limit 20",
     .options = {"tenant!", "model=", "limit="},
     .run = events},
};

const struct cli_group cli_group_usage = {
    .name = "usage",
    .summary = "what was used, and its cost",
    .commands = commands,
    .count = sizeof commands / sizeof *commands,
};
