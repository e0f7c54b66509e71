#include "billing/reconcile.h"

#include <limits.h>
#include <unistd.h>

#include "admin/cli/common.h"
#include "admin/cli/groups.h"
#include "base/config_peek.h"

struct answer {
    struct cli *c;
    struct report *checks, *differences;
};

static void on_check(const struct reconcile_check *check, void *arg)
{
    const struct answer *a = arg;
    report_row(a->checks);
    report_text(a->checks, "check", check->name);
    report_int(a->checks, "compared", check->compared);
    report_int(a->checks, "differences", check->differences);
}

static void on_difference(const char *check, const char *what, void *arg)
{
    const struct answer *a = arg;
    report_row(a->differences);
    report_text(a->differences, "check", check);
    report_text(a->differences, "what", what);
}

static enum status print_json(struct answer *a, bool agree)
{
    struct buf out;
    buf_init(&out, 64 << 20);
    enum status st = buf_addf(&out, "{\"agree\": %s, \"checks\": ", agree ? "true" : "false");
    if (st == OK)
        st = report_write_json(a->checks, false, &out);
    if (st == OK)
        st = buf_adds(&out, ", \"differences\": ");
    if (st == OK)
        st = report_write_json(a->differences, false, &out);
    if (st == OK)
        st = buf_adds(&out, "}\n");
    if (st == OK)
        fputs(buf_cstr(&out), stdout);
    else
        error_set(&a->c->err, st, "the answer is too large");
    buf_done(&out);
    return st;
}

static enum status print_answer(struct answer *a, bool agree)
{
    if (a->c->json)
        return print_json(a, agree);
    report_print_table(a->checks, stdout);
    if (agree) {
        puts("\nEverything agrees.");
        return OK;
    }
    putchar('\n');
    report_print_table(a->differences, stdout);
    return OK;
}

static enum status compare(struct answer *a, const struct reconcile_options *options)
{
    struct cli *c = a->c;
    struct reconcile_report report = {
        .on_check = on_check, .on_difference = on_difference, .arg = a};
    struct error why;
    pg_set_timeout(c->pg, 0); /* all of the usage there is */
    enum status st = reconcile_run(c->pg, options, &report, &why);
    if (st != OK && st != CONFLICT)
        return error_set(&c->err, st, "%s", why.text);
    enum status printed = print_answer(a, st == OK);
    if (printed != OK)
        return printed;
    return st == OK ? OK : error_set(&c->err, CONFLICT, "the books do not agree");
}

/* The one in [billing] journal_dirs, else that of this machine's gateway, if it is there. */
static bool find_journal(const struct cli *c, char *out, size_t size)
{
    if (!c->config || config_peek(c->config, "billing", "journal_dirs", out, size, NULL) != OK ||
        !*out)
        snprintf(out, size, "%s/gateway/journal", c->settings.state_dir);
    if (strchr(out, ','))
        fprintf(stderr, "tollgate: several journals: name one with --journal to compare it\n");
    return !strchr(out, ',') && access(out, R_OK) == 0;
}

static enum status run(struct cli *c)
{
    char journal[PATH_MAX];
    struct reconcile_options options = {.journal_dir = cli_value(c, "journal"),
                                        .worker_file = cli_value(c, "worker-usage")};
    if (!options.journal_dir && find_journal(c, journal, sizeof journal))
        options.journal_dir = journal;
    struct answer a = {.c = c};
    enum status st = cli_need_pg(c);
    if (st == OK)
        st = cli_report(c, &a.checks);
    if (st == OK)
        st = cli_report(c, &a.differences);
    if (st == OK)
        st = compare(&a, &options);
    report_free(a.checks);
    report_free(a.differences);
    return st;
}

static const struct cli_command commands[] = {{
    .arguments = "[--journal DIR] [--worker-usage FILE]",
    .summary = "Proves that journal, usage events, prices, ledger and invoices agree, and names\n"
               "each difference. The journal is STATE/gateway/journal when it is there; FILE is\n"
               "what `tollgate-worker --usage-table` printed. Exit code 1: there are differences.",
    .example = "tollgate --config tollgate.conf reconcile\n"
               "tollgate --config tollgate.conf reconcile --json",
    .options = {"journal=", "worker-usage="},
    .run = run,
}};

const struct cli_group cli_reconcile = {
    .name = "reconcile",
    .summary = "prove that the books agree",
    .commands = commands,
    .count = 1,
};
