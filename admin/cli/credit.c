#include <unistd.h>

#include "admin/cli/common.h"
#include "admin/cli/groups.h"
#include "admin/cli/parts.h"
#include "admin/cli/probe.h"
#include "admin/views.h"
#include "base/clock.h"
#include "billing/ledger.h"

enum { WAIT_MS = 3000, STEP_US = 50000, PROBE_MS = 300 };

/* Whether there is a tollgate-billing to wait for, as far as the settings tell. */
static bool billing_runs(const struct cli *c)
{
    struct address a;
    struct probe_answer answer;
    if (!c->config || parts_probe_address(c->config, "billing", &a, NULL) != OK)
        return true;
    return probe_get(&a, "/livez", PROBE_MS, &answer, NULL) == OK;
}

static enum status wait_applied(struct cli *c, int64_t transaction, bool *applied)
{
    int64_t end = clock_mono_ms() + WAIT_MS;
    enum status st = ledger_credit_applied(c->pg, transaction, applied, &c->err);
    if (cli_flag(c, "no-wait") || *applied || !billing_runs(c))
        return st;
    while (st == OK && !*applied && clock_mono_ms() < end) {
        usleep(STEP_US);
        st = ledger_credit_applied(c->pg, transaction, applied, &c->err);
    }
    return st;
}

static enum status print_balance(struct cli *c, const struct uuid *tenant, struct report *r)
{
    struct tenant_balance b;
    enum status st = ledger_balance(c->pg, tenant, &b, &c->err);
    if (st != OK) {
        report_free(r);
        return st;
    }
    report_text(r, "currency", b.currency);
    cli_report_money(r, "balance", b.available);
    cli_report_money(r, "granted", b.granted);
    cli_report_money(r, "paid", b.paid);
    cli_report_money(r, "owed", b.receivable);
    report_int(r, "open_requests", b.holds);
    cli_report_money(r, "held", b.held);
    return cli_print(c, r, true);
}

static enum status credit(struct cli *c, enum credit_kind kind)
{
    const char *reference = cli_value(c, "reference");
    money_pico amount;
    struct uuid tenant;
    int64_t transaction;
    bool applied = false;
    struct report *r;
    enum status st = cli_amount(c, &amount);
    if (st == OK)
        st = cli_tenant(c, &tenant);
    if (st == OK)
        st = ledger_credit(c->pg, &tenant, kind, amount, reference ? reference : "", &transaction,
                           &c->err);
    if (st == OK)
        st = wait_applied(c, transaction, &applied);
    if (st == OK)
        st = cli_report(c, &r);
    if (st != OK)
        return st;
    report_row(r);
    report_text(r, "tenant", cli_value(c, "tenant"));
    report_int(r, "transaction", transaction);
    cli_report_money(r, "amount", amount);
    report_bool(r, "usable", applied);
    st = print_balance(c, &tenant, r);
    if (st == OK && !applied)
        cli_say(c, "\nThe credit is in the ledger; gateways see it when tollgate-billing has "
                   "passed it on.");
    return st;
}

static enum status grant(struct cli *c)
{
    return credit(c, CREDIT_GRANTED);
}

static enum status pay(struct cli *c)
{
    return credit(c, CREDIT_PAID);
}

static enum status balance(struct cli *c)
{
    struct uuid tenant;
    struct report *r;
    enum status st = cli_tenant(c, &tenant);
    if (st == OK)
        st = cli_report(c, &r);
    if (st != OK)
        return st;
    report_row(r);
    report_text(r, "tenant", cli_value(c, "tenant"));
    return print_balance(c, &tenant, r);
}

static enum status list(struct cli *c)
{
    struct uuid tenant;
    struct report *r;
    enum status st = cli_tenant(c, &tenant);
    if (st == OK)
        st = cli_report(c, &r);
    if (st != OK)
        return st;
    return cli_print_view(c, view_credits(c->pg, &tenant, r, &c->err), r, false);
}

static void report_line(const struct ledger_line *line, void *arg)
{
    struct report *r = arg;
    char at[CLI_TIME_SIZE];
    clock_format_utc(line->at_wall_ms, at, sizeof at);
    report_row(r);
    report_text(r, "at", at);
    report_int(r, "transaction", line->transaction_id);
    report_text(r, "kind", line->kind);
    report_text(r, "account", line->account);
    cli_report_money(r, "amount", line->amount);
    report_text(r, "project", line->project && *line->project ? line->project : NULL);
    report_text(r, "reference", line->reference && *line->reference ? line->reference : NULL);
}

static enum status history(struct cli *c)
{
    struct uuid tenant;
    struct report *r;
    int64_t limit = 50;
    enum status st = cli_value_int(c, "limit", 1, 10000, &limit);
    if (st == OK)
        st = cli_tenant(c, &tenant);
    if (st == OK)
        st = cli_report(c, &r);
    if (st != OK)
        return st;
    st = ledger_history(c->pg, &tenant, (int)limit, report_line, r, &c->err);
    return cli_print_view(c, st, r, false);
}

static const struct cli_command commands[] = {
    {.name = "grant",
     .arguments = "--tenant T --amount SUM [--reference R] [--no-wait]",
     .summary = "Gives credit away; it is used before paid credit. A reference is used once.",
     .example = "tollgate credit grant --tenant acme --amount 5.00 --reference welcome",
     .options = {"tenant!", "amount!", "reference=", "no-wait"},
     .run = grant},
    {.name = "pay",
     .arguments = "--tenant T --amount SUM [--reference R] [--no-wait]",
     .summary = "Books a payment. A reference (of the bank, say) is booked once.",
     .example = "tollgate credit pay --tenant acme --amount 100.00 --reference bank-2026-118",
     .options = {"tenant!", "amount!", "reference=", "no-wait"},
     .run = pay},
    {.name = "balance",
     .arguments = "--tenant T",
     .summary = "Shows what a tenant has, owes and can spend.",
     .example = "tollgate credit balance --tenant acme",
     .options = {"tenant!"},
     .run = balance},
    {.name = "list",
     .arguments = "--tenant T",
     .summary = "Shows the credits and payments of a tenant, latest first.",
     .example = "tollgate credit list --tenant acme",
     .options = {"tenant!"},
     .run = list},
    {.name = "history",
     .arguments = "--tenant T [--limit N]",
     .summary = "Shows the ledger entries of a tenant, latest first; debits are positive.",
     .example = "tollgate credit history --tenant acme --limit 20",
     .options = {"tenant!", "limit="},
     .run = history},
};

const struct cli_group cli_group_credit = {
    .name = "credit",
    .summary = "what tenants may spend",
    .commands = commands,
    .count = sizeof commands / sizeof *commands,
};
