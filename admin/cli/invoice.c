#include "billing/invoice.h"

#include <errno.h>

#include "admin/cli/common.h"
#include "admin/cli/groups.h"

enum { INVOICE_BYTES_MAX = 256 << 20 };

/* -- on the screen ----------------------------------------------------------------------------- */

static void add_minor(struct report *r, const struct invoice *i, const char *name, int64_t minor)
{
    char text[MONEY_TEXT_SIZE];
    invoice_format_minor(minor, i->decimals, text);
    report_amount(r, name, text);
}

static void add_head(struct report *r, const struct invoice *i)
{
    report_row(r);
    report_text(r, "number", i->number);
    report_text(r, "state", i->state);
    report_text(r, "tenant", i->tenant);
    report_text(r, "period_start", i->period_start);
    report_text(r, "period_end", i->period_end);
    report_text(r, "currency", i->currency);
    add_minor(r, i, "net", i->net_minor);
    add_minor(r, i, "tax", i->tax_minor);
    add_minor(r, i, "total", i->total_minor);
    add_minor(r, i, "paid_by_credit", i->credit_minor);
    add_minor(r, i, "due", i->due_minor);
    report_text(r, "issued", i->issued_at);
    report_text(r, "due_by", i->due_at);
}

static void add_line(struct report *r, const struct invoice *i, const struct invoice_line *l)
{
    char text[MONEY_TEXT_SIZE];
    report_row(r);
    report_text(r, "project", l->project);
    report_text(r, "model", l->model);
    report_text(r, "item", invoice_item_title(l->item));
    report_amount(r, "tokens", l->tokens);
    money_format((money_pico)l->price_pico * 1000000, text);
    report_amount(r, "per_million", text);
    money_format(l->amount_pico, text);
    report_amount(r, "exact", text);
    add_minor(r, i, "amount", l->amount_minor);
    report_text(r, "late", l->late ? l->period_start : NULL);
}

static enum status print_text(struct cli *c, const struct invoice *i)
{
    struct report *head, *lines;
    enum status st = cli_report(c, &head);
    if (st != OK)
        return st;
    add_head(head, i);
    st = cli_print(c, head, true);
    if (st == OK)
        st = cli_report(c, &lines);
    if (st != OK)
        return st;
    for (int n = 0; n < i->line_count; n++)
        add_line(lines, i, &i->lines[n]);
    putchar('\n');
    return cli_print(c, lines, false);
}

static enum status write_as(const struct invoice *i, bool csv, FILE *out, struct error *err)
{
    struct buf text;
    buf_init(&text, INVOICE_BYTES_MAX);
    enum status st = csv ? invoice_csv(i, &text) : invoice_json(i, &text);
    if (st != OK)
        error_set(err, st, "the invoice is too large");
    else if (fwrite(buf_head(&text), 1, buf_len(&text), out) != buf_len(&text))
        st = error_errno(err, errno, "write");
    else if (!csv)
        fputc('\n', out);
    buf_done(&text);
    return st;
}

/* Prints the invoice and frees it. */
static enum status print_invoice(struct cli *c, struct invoice *i)
{
    enum status st = c->json ? write_as(i, false, stdout, &c->err) : print_text(c, i);
    invoice_free(i);
    return st;
}

/* -- which invoice ------------------------------------------------------------------------------
 */

static enum status check_month(struct cli *c)
{
    const char *m = cli_value(c, "month");
    int year, month, used = 0;
    if (!m || (sscanf(m, "%4d-%2d%n", &year, &month, &used) == 2 && used == 7 && !m[7] &&
               year >= 2000 && month >= 1 && month <= 12))
        return OK;
    return cli_bad_call(c, "--month looks like 2026-11");
}

struct search {
    const char *month;
    char number[64];
};

static void match_month(const struct invoice *i, void *arg)
{
    struct search *s = arg;
    if (strncmp(i->period_start, s->month, 7) == 0 && strcmp(i->state, "void") != 0)
        snprintf(s->number, sizeof s->number, "%s", i->number);
}

/* NUMBER, or the invoice of --tenant and --month. */
static enum status load(struct cli *c, struct invoice **out)
{
    struct search s = {.month = cli_value(c, "month")};
    const char *number = c->argument_count ? c->arguments[0] : NULL;
    enum status st = check_month(c);
    if (st != OK)
        return st;
    if (!number && !(cli_value(c, "tenant") && s.month))
        return cli_bad_call(c, "give the invoice's number, or --tenant and --month");
    st = cli_need_pg(c);
    if (st == OK && !number) {
        st = invoice_list(c->pg, cli_value(c, "tenant"), match_month, &s, &c->err);
        if (st == OK && !*s.number)
            st = error_set(&c->err, NOT_FOUND,
                           "%s has no invoice of %s yet (tollgate invoice preview shows what it "
                           "would be)",
                           cli_value(c, "tenant"), s.month);
        number = s.number;
    }
    return st == OK ? invoice_load(c->pg, number, out, &c->err) : st;
}

static enum status made(struct cli *c, enum status (*make)(struct pg *, const char *, const char *,
                                                           struct invoice **, struct error *))
{
    struct invoice *i;
    enum status st = check_month(c);
    if (st == OK)
        st = cli_need_pg(c);
    if (st == OK)
        st = make(c->pg, cli_value(c, "tenant"), cli_value(c, "month"), &i, &c->err);
    return st == OK ? print_invoice(c, i) : st;
}

static enum status preview(struct cli *c)
{
    return made(c, invoice_preview);
}

static enum status finalise(struct cli *c)
{
    return made(c, invoice_finalise);
}

static enum status show(struct cli *c)
{
    struct invoice *i;
    enum status st = load(c, &i);
    return st == OK ? print_invoice(c, i) : st;
}

static void add_listed(const struct invoice *i, void *arg)
{
    add_head(arg, i);
}

static enum status list(struct cli *c)
{
    struct report *r;
    enum status st = cli_need_pg(c);
    if (st == OK)
        st = cli_report(c, &r);
    if (st != OK)
        return st;
    st = invoice_list(c->pg, cli_value(c, "tenant"), add_listed, r, &c->err);
    return cli_print_view(c, st, r, false);
}

static enum status export_invoice(struct cli *c)
{
    const char *format = cli_value(c, "format"), *path = cli_value(c, "output");
    struct invoice *i;
    bool csv = format && strcmp(format, "csv") == 0;
    if (format && !csv && strcmp(format, "json") != 0)
        return cli_bad_call(c, "--format is json or csv");
    enum status st = load(c, &i);
    if (st != OK)
        return st;
    FILE *out = path ? fopen(path, "we") : stdout;
    if (!out) {
        st = error_errno(&c->err, errno, "%s", path);
    } else {
        st = write_as(i, csv, out, &c->err);
        if (path && fclose(out) != 0 && st == OK)
            st = error_errno(&c->err, errno, "%s", path);
    }
    invoice_free(i);
    return st;
}

static enum status set_state(struct cli *c, const char *state)
{
    struct invoice *i;
    enum status st = cli_need_pg(c);
    if (st == OK)
        st = invoice_set_state(c->pg, c->arguments[0], state, &c->err);
    if (st == OK)
        st = invoice_load(c->pg, c->arguments[0], &i, &c->err);
    return st == OK ? print_invoice(c, i) : st;
}

static enum status mark_paid(struct cli *c)
{
    return set_state(c, "paid");
}

static enum status mark_void(struct cli *c)
{
    return set_state(c, "void");
}

#define FINALISE                                                                                   \
    .arguments = "--tenant T [--month 2026-11]",                                                   \
    .summary = "Closes a month that is over: numbers the invoice and freezes it.",                 \
    .example = "tollgate invoice finalise --tenant acme --month 2026-11",                          \
    .options = {"tenant!", "month="}, .run = finalise

static const struct cli_command commands[] = {
    {.name = "preview",
     .arguments = "--tenant T [--month 2026-11]",
     .summary = "Shows the invoice of a month as it would be now.",
     .example = "tollgate invoice preview --tenant acme",
     .options = {"tenant!", "month="},
     .run = preview},
    {.name = "finalise", FINALISE},
    {.name = "create", FINALISE},
    {.name = "list",
     .arguments = "[--tenant T]",
     .summary = "Shows the invoices.",
     .example = "tollgate invoice list --tenant acme",
     .options = {"tenant="},
     .run = list},
    {.name = "show",
     .arguments = "NUMBER | --tenant T --month 2026-11",
     .summary = "Shows one invoice with its lines.",
     .example = "tollgate invoice show TG-2026-00001",
     .options = {"tenant=", "month="},
     .most = 1,
     .run = show},
    {.name = "export",
     .arguments = "NUMBER | --tenant T --month 2026-11 [--format json|csv] [--output FILE]",
     .summary = "Writes one invoice as JSON or CSV.",
     .example = "tollgate invoice export TG-2026-00001 --format csv --output invoice.csv",
     .options = {"tenant=", "month=", "format=", "output="},
     .most = 1,
     .run = export_invoice},
    {.name = "paid",
     .arguments = "NUMBER",
     .summary = "Marks an invoice as paid.",
     .example = "tollgate invoice paid TG-2026-00001",
     .least = 1,
     .most = 1,
     .run = mark_paid},
    {.name = "void",
     .arguments = "NUMBER",
     .summary = "Voids an invoice; its usage is on the tenant's next one.",
     .example = "tollgate invoice void TG-2026-00001",
     .least = 1,
     .most = 1,
     .run = mark_void},
};

const struct cli_group cli_group_invoice = {
    .name = "invoice",
    .summary = "what tenants owe for a month",
    .commands = commands,
    .count = sizeof commands / sizeof *commands,
};
