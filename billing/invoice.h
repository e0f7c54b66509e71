/*
 * Invoices of a month: lines by project, model, line item and price version; each line rounded
 * once, half up, to the currency's minor unit; tax once on the sum of the rounded lines. Usage that
 * was shipped after a month's invoice was finalised is on the next one, as late lines (which
 * batches an invoice covers is kept in invoice_coverage). A finalised invoice is frozen, parties
 * included; its number comes from a counter row locked in the same transaction, so numbers have no
 * gaps. Blocking.
 */
#ifndef BILLING_INVOICE_H
#define BILLING_INVOICE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/money.h"
#include "base/pg.h"

struct invoice_line {
    const char *project, *project_id, *model;
    const char *item; /* input_miss, input_hit, output */
    const char *price_id;
    int64_t price_pico;                    /* per token = micro-units per million tokens */
    const char *tokens;                    /* decimal text */
    money_pico amount_pico;                /* exact */
    int64_t amount_minor;                  /* rounded */
    const char *period_start, *period_end; /* of the usage; the end is the day after */
    bool late;
};

struct invoice { /* everything in one arena */
    struct arena *arena;
    const char *number; /* NULL: a preview */
    const char *state;  /* preview, finalised, paid, void */
    const char *tenant, *tenant_id;
    const char *period_start, *period_end; /* "2026-11-01"; the end is the day after */
    const char *watermark;                 /* of shipping batches */
    const char *currency;
    int decimals; /* of the currency's minor unit */
    struct invoice_line *lines;
    int line_count;
    int64_t net_minor, tax_minor, total_minor, credit_minor, due_minor;
    int64_t tax_ppm;
    bool reverse_charge;
    const char *seller, *buyer;     /* JSON objects */
    const char *issued_at, *due_at; /* days; NULL: a preview */
};

/* month: "2026-11"; NULL: the current one. What the invoice would be if it were made now. */
enum status invoice_preview(struct pg *pg, const char *tenant, const char *month,
                            struct invoice **out, struct error *err);
/* CONFLICT: the month is not over, or it has an invoice already. */
enum status invoice_finalise(struct pg *pg, const char *tenant, const char *month,
                             struct invoice **out, struct error *err);
enum status invoice_load(struct pg *pg, const char *number, struct invoice **out,
                         struct error *err);
/* state: "paid" or "void". CONFLICT: it is not in a state that allows this. Usage of a voided
 * invoice is on the tenant's next one. */
enum status invoice_set_state(struct pg *pg, const char *number, const char *state,
                              struct error *err);
void invoice_free(struct invoice *i); /* NULL is fine */

/* tenant NULL: all. The invoices come without lines; each is valid during its call alone. */
typedef void invoice_fn(const struct invoice *invoice, void *arg);
enum status invoice_list(struct pg *pg, const char *tenant, invoice_fn *fn, void *arg,
                         struct error *err);

enum status invoice_json(const struct invoice *i, struct buf *out);
/* One row a line, RFC 4180. Text that a spreadsheet would run as a formula is quoted with '. */
enum status invoice_csv(const struct invoice *i, struct buf *out);
/* "12.34" of minor units. */
void invoice_format_minor(int64_t minor, int decimals, char out[MONEY_TEXT_SIZE]);
const char *invoice_item_title(const char *item); /* "Input tokens, cache miss" */

#endif
