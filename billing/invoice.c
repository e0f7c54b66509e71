#include "billing/invoice.h"

#include <time.h>

#include "base/id.h"

enum { INVOICE_ARENA_MAX = 64 << 20 };

/* $1 tenant id, $2 first day, $3 the day after the last, $4 watermark, $5 minor unit in pico. */
static const char lines_sql[] =
    "WITH covered AS (SELECT u.* FROM usage_events u"
    " JOIN tg_invoice_coverage($1::uuid, $3::date, $4::bigint) c"
    "  ON c.month = date_trunc('month', u.day)::date AND c.batches @> u.batch_id"
    " WHERE u.tenant_id = $1::uuid AND u.day < $3::date AND u.outcome <> 'failed'),"
    " sums AS (SELECT project_id, model, price_id, date_trunc('month', day)::date AS month,"
    "  sum(prompt_tokens - cached_tokens) AS miss, sum(cached_tokens) AS hit,"
    "  sum(completion_tokens) AS output FROM covered GROUP BY 1, 2, 3, 4)"
    "SELECT p.name, s.project_id, s.model, v.item, s.price_id, v.price, v.tokens,"
    " v.tokens * v.price, floor((v.tokens * v.price + div($5::numeric, 2)) / $5::numeric),"
    " s.month, (s.month + interval '1 month')::date, s.month < $2::date"
    " FROM sums s JOIN projects p ON p.id = s.project_id JOIN prices r ON r.id = s.price_id"
    " CROSS JOIN LATERAL (VALUES (1, 'input_miss', s.miss, r.input_miss_pico),"
    "  (2, 'input_hit', s.hit, r.input_hit_pico), (3, 'output', s.output, r.output_pico))"
    "  v(place, item, tokens, price)"
    " WHERE v.tokens > 0 ORDER BY 12, s.month, p.name, s.model, s.price_id, v.place";

/* What credit has paid of the covered usage, and what it has not. The transactions of the
 * ledger are of one batch and month, so an invoice covers each wholly or not at all. */
static const char credit_sql[] =
    "WITH covered AS (SELECT t.id FROM ledger_transactions t"
    " JOIN tg_invoice_coverage($1::uuid, $2::date, $3::bigint) c"
    "  ON c.month = t.period AND c.batches @> t.batch_id"
    " WHERE t.tenant_id = $1::uuid AND t.kind = 'usage')"
    "SELECT coalesce(sum(e.amount_pico) FILTER (WHERE a.kind IN ('granted', 'paid')), 0),"
    " coalesce(sum(e.amount_pico) FILTER (WHERE a.kind = 'receivable'), 0)"
    " FROM covered c JOIN ledger_entries e ON e.transaction_id = c.id"
    " JOIN ledger_accounts a ON a.id = e.account_id";

static int currency_decimals(const char *currency)
{
    /* ISO 4217: the currencies whose minor unit is not a hundredth. */
    static const char none[] = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF "
                               "XPF";
    static const char three[] = "BHD IQD JOD KWD LYD OMR TND";
    if (strstr(none, currency))
        return 0;
    return strstr(three, currency) ? 3 : 2;
}

/* An empty invoice with its arena. */
static struct invoice *new_invoice(struct error *err)
{
    struct arena *arena = arena_new(INVOICE_ARENA_MAX);
    struct invoice *i = arena ? arena_zalloc(arena, sizeof *i) : NULL;
    if (!i) {
        arena_free(arena);
        error_set(err, NOMEM, "out of memory for an invoice");
        return NULL;
    }
    i->arena = arena;
    return i;
}

void invoice_free(struct invoice *i)
{
    if (i)
        arena_free(i->arena);
}

/* A copy of a cell; NULL for SQL NULL, and when memory is out (then *failed is set). */
static const char *cell(struct invoice *i, const struct pg_result *r, int row, int column,
                        bool *failed)
{
    const char *text = pg_text(r, row, column);
    const char *copy = text ? arena_strdup(i->arena, text) : NULL;
    if (text && !copy)
        *failed = true;
    return copy;
}

/* Columns as lines_sql has them. */
static enum status read_lines(struct invoice *i, const struct pg_result *r, struct error *err)
{
    bool failed = false;
    i->line_count = pg_rows(r);
    i->lines = arena_zalloc(i->arena, (size_t)i->line_count * sizeof *i->lines + 1);
    if (!i->lines)
        return error_set(err, LIMITED, "an invoice of %d lines is too large", i->line_count);
    for (int row = 0; row < i->line_count; row++) {
        struct invoice_line *l = &i->lines[row];
        l->project = cell(i, r, row, 0, &failed);
        l->project_id = cell(i, r, row, 1, &failed);
        l->model = cell(i, r, row, 2, &failed);
        l->item = cell(i, r, row, 3, &failed);
        l->price_id = cell(i, r, row, 4, &failed);
        l->price_pico = pg_int(r, row, 5);
        l->tokens = cell(i, r, row, 6, &failed);
        if (!money_parse_pico(pg_text(r, row, 7), &l->amount_pico))
            return error_set(err, CORRUPT, "an invoice line's amount is not a number");
        l->amount_minor = pg_int(r, row, 8);
        l->period_start = cell(i, r, row, 9, &failed);
        l->period_end = cell(i, r, row, 10, &failed);
        l->late = pg_bool(r, row, 11);
        i->net_minor += l->amount_minor;
    }
    return failed ? error_set(err, NOMEM, "out of memory for an invoice") : OK;
}

static enum status check_month(const char *month, char first_day[32], struct error *err)
{
    int year = 0, number = 0;
    char end = 0;
    if (!month) {
        time_t now = time(NULL);
        struct tm utc;
        gmtime_r(&now, &utc);
        strftime(first_day, 32, "%Y-%m-01", &utc);
        return OK;
    }
    if (strlen(month) != 7 || sscanf(month, "%4d-%2d%c", &year, &number, &end) != 2 ||
        year < 2000 || year > 9999 || number < 1 || number > 12)
        return error_set(err, INVALID, "'%.20s' is not a month such as 2026-11", month);
    snprintf(first_day, 32, "%04d-%02d-01", year, number);
    return OK;
}

/* Tenant, period, watermark, tax, parties. */
static enum status read_head(struct pg *pg, struct invoice *i, const char *tenant,
                             const char *month, struct error *err)
{
    char first_day[32];
    enum status st = check_month(month, first_day, err);
    if (st != OK)
        return st;
    const char *const params[] = {tenant, first_day};
    struct pg_result *r = NULL;
    st =
        pg_query(pg,
                 "SELECT t.id, t.name, t.currency, $2::date, ($2::date + interval '1 month')::date,"
                 " (SELECT coalesce(max(id), 0) FROM shipping_batches),"
                 " coalesce(x.tax_ppm, 0), coalesce(x.reverse_charge, false), s.seller,"
                 " jsonb_build_object('name', t.name) || t.legal"
                 " FROM tenants t CROSS JOIN invoice_settings s"
                 " LEFT JOIN tenant_taxes x ON x.tenant_id = t.id"
                 " WHERE t.name = $1 OR t.id::text = $1",
                 2, params, &r, err);
    if (st != OK)
        return st;
    bool failed = false;
    if (pg_rows(r) == 0) {
        st = error_set(err, NOT_FOUND, "no tenant '%s'", tenant);
    } else {
        i->tenant_id = cell(i, r, 0, 0, &failed);
        i->tenant = cell(i, r, 0, 1, &failed);
        i->currency = cell(i, r, 0, 2, &failed);
        i->period_start = cell(i, r, 0, 3, &failed);
        i->period_end = cell(i, r, 0, 4, &failed);
        i->watermark = cell(i, r, 0, 5, &failed);
        i->tax_ppm = pg_int(r, 0, 6);
        i->reverse_charge = pg_bool(r, 0, 7);
        i->seller = cell(i, r, 0, 8, &failed);
        i->buyer = cell(i, r, 0, 9, &failed);
        i->state = "preview";
        st = failed ? error_set(err, NOMEM, "out of memory for an invoice") : OK;
    }
    pg_result_free(r);
    if (st == OK)
        i->decimals = currency_decimals(i->currency);
    return st;
}

static enum status read_credit(struct pg *pg, struct invoice *i, money_pico unit_pico,
                               struct error *err)
{
    const char *const params[] = {i->tenant_id, i->period_end, i->watermark};
    struct pg_result *r = NULL;
    enum status st = pg_query(pg, credit_sql, 3, params, &r, err);
    if (st != OK)
        return st;
    money_pico credit, owed;
    if (!money_parse_pico(pg_text(r, 0, 0), &credit) || !money_parse_pico(pg_text(r, 0, 1), &owed))
        st = error_set(err, CORRUPT, "the ledger holds an amount that is not a number");
    pg_result_free(r);
    if (st != OK)
        return st;
    /* What is fully paid leaves no cent over, whatever the rounding of the lines. */
    int64_t paid_minor = (int64_t)(credit / unit_pico);
    i->credit_minor = owed == 0 || paid_minor > i->net_minor ? i->net_minor : paid_minor;
    return OK;
}

static enum status fill(struct pg *pg, struct invoice *i, struct error *err)
{
    money_pico unit_pico = 1000000000000;
    for (int d = 0; d < i->decimals; d++)
        unit_pico /= 10;
    char unit[MONEY_TEXT_SIZE];
    money_format_pico(unit_pico, unit);
    const char *const params[] = {i->tenant_id, i->period_start, i->period_end, i->watermark, unit};
    struct pg_result *r = NULL;
    enum status st = pg_query(pg, lines_sql, 5, params, &r, err);
    if (st == OK)
        st = read_lines(i, r, err);
    pg_result_free(r);
    if (st == OK)
        st = read_credit(pg, i, unit_pico, err);
    if (st != OK)
        return st;
    i->tax_minor = (int64_t)(((money_pico)i->net_minor * i->tax_ppm + 500000) / 1000000);
    i->total_minor = i->net_minor + i->tax_minor;
    i->due_minor = i->total_minor - i->credit_minor;
    return OK;
}

enum status invoice_preview(struct pg *pg, const char *tenant, const char *month,
                            struct invoice **out, struct error *err)
{
    struct invoice *i = new_invoice(err);
    if (!i)
        return NOMEM;
    /* One snapshot for head, lines and credit. */
    enum status st =
        pg_query(pg, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", 0, NULL, NULL, err);
    if (st == OK)
        st = read_head(pg, i, tenant, month, err);
    if (st == OK)
        st = fill(pg, i, err);
    pg_rollback(pg);
    if (st == OK)
        *out = i;
    else
        invoice_free(i);
    return st;
}

static enum status check_finalisable(struct pg *pg, const struct invoice *i, struct error *err)
{
    const char *const params[] = {i->tenant_id, i->period_start, i->period_end};
    struct pg_result *r = NULL;
    enum status st =
        pg_query(pg,
                 "SELECT $3::date > (now() AT TIME ZONE 'UTC')::date, (SELECT number FROM invoices"
                 " WHERE tenant_id = $1::uuid AND period_start = $2::date AND state <> 'void')",
                 3, params, &r, err);
    if (st != OK)
        return st;
    if (pg_bool(r, 0, 0))
        st =
            error_set(err, CONFLICT, "the month is not over: it ends with %s (UTC)", i->period_end);
    else if (pg_text(r, 0, 1))
        st = error_set(err, CONFLICT, "the month has an invoice already: %s", pg_text(r, 0, 1));
    pg_result_free(r);
    return st;
}

/* Takes the next number of the series and year: the counter row stays locked until commit. */
static enum status insert_head(struct pg *pg, const struct invoice *i, char id[24], char number[48],
                               struct error *err)
{
    char decimals[16], net[24], ppm[24], tax[24], total[24], credit[24], due[24];
    snprintf(decimals, sizeof decimals, "%d", i->decimals);
    snprintf(net, sizeof net, "%lld", (long long)i->net_minor);
    snprintf(ppm, sizeof ppm, "%lld", (long long)i->tax_ppm);
    snprintf(tax, sizeof tax, "%lld", (long long)i->tax_minor);
    snprintf(total, sizeof total, "%lld", (long long)i->total_minor);
    snprintf(credit, sizeof credit, "%lld", (long long)i->credit_minor);
    snprintf(due, sizeof due, "%lld", (long long)i->due_minor);
    const char *const params[] = {i->tenant_id,
                                  i->period_start,
                                  i->period_end,
                                  i->watermark,
                                  i->currency,
                                  decimals,
                                  net,
                                  ppm,
                                  i->reverse_charge ? "true" : "false",
                                  tax,
                                  total,
                                  credit,
                                  due,
                                  i->seller,
                                  i->buyer};
    struct pg_result *r = NULL;
    enum status st = pg_query(
        pg,
        "WITH s AS (SELECT series || '-' || to_char(now() AT TIME ZONE 'UTC', 'YYYY') AS series,"
        "  payment_days FROM invoice_settings),"
        " n AS (INSERT INTO invoice_counters AS c (series, last) SELECT series, 1 FROM s"
        "  ON CONFLICT (series) DO UPDATE SET last = c.last + 1 RETURNING series, last)"
        " INSERT INTO invoices (tenant_id, number, period_start, period_end, watermark_batch,"
        "  currency, decimals, net_minor, tax_ppm, reverse_charge, tax_minor, total_minor,"
        "  credit_minor, due_minor, seller, buyer, due_at)"
        " SELECT $1::uuid, n.series || '-' || lpad(n.last::text, 6, '0'), $2::date, $3::date,"
        "  $4::bigint, $5, $6::int, $7::bigint, $8::int, $9::boolean, $10::bigint, $11::bigint,"
        "  $12::bigint, $13::bigint, $14::jsonb, $15::jsonb,"
        "  now() + s.payment_days * interval '1 day' FROM n CROSS JOIN s RETURNING id, number",
        15, params, &r, err);
    if (st == OK) {
        snprintf(id, 24, "%s", pg_text(r, 0, 0));
        snprintf(number, 48, "%s", pg_text(r, 0, 1));
    }
    pg_result_free(r);
    return st;
}

static enum status insert_line(struct pg *pg, const char *invoice_id, int position,
                               const struct invoice_line *l, struct error *err)
{
    char place[16], price[24], pico[MONEY_TEXT_SIZE], minor[24];
    snprintf(place, sizeof place, "%d", position);
    snprintf(price, sizeof price, "%lld", (long long)l->price_pico);
    money_format_pico(l->amount_pico, pico);
    snprintf(minor, sizeof minor, "%lld", (long long)l->amount_minor);
    const char *const params[] = {invoice_id,    place,
                                  l->project_id, l->project,
                                  l->model,      l->item,
                                  l->price_id,   price,
                                  l->tokens,     pico,
                                  minor,         l->period_start,
                                  l->period_end, l->late ? "true" : "false"};
    return pg_query(pg,
                    "INSERT INTO invoice_lines (invoice_id, position, project_id, project_name,"
                    " model, item, price_id, price_pico, tokens, amount_pico, amount_minor,"
                    " period_start, period_end, late) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9,"
                    " $10, $11, $12, $13, $14)",
                    14, params, NULL, err);
}

static enum status insert_coverage(struct pg *pg, const struct invoice *i, const char *invoice_id,
                                   struct error *err)
{
    const char *const params[] = {invoice_id, i->tenant_id, i->period_end, i->watermark};
    return pg_query(pg,
                    "INSERT INTO invoice_coverage SELECT $1::bigint, month, batches"
                    " FROM tg_invoice_coverage($2::uuid, $3::date, $4::bigint)",
                    4, params, NULL, err);
}

static enum status finalise(struct pg *pg, const char *tenant, const char *month, char number[48],
                            struct error *err)
{
    struct invoice *i = new_invoice(err);
    if (!i)
        return NOMEM;
    char id[24];
    /* Two at once: the second waits here, and then finds the first one's invoice. */
    enum status st =
        pg_query(pg, "SELECT pg_advisory_xact_lock(hashtext('tg_invoice'))", 0, NULL, NULL, err);
    if (st == OK)
        st = read_head(pg, i, tenant, month, err);
    if (st == OK)
        st = check_finalisable(pg, i, err);
    if (st == OK)
        st = fill(pg, i, err);
    if (st == OK)
        st = insert_head(pg, i, id, number, err);
    if (st == OK)
        st = insert_coverage(pg, i, id, err);
    for (int l = 0; st == OK && l < i->line_count; l++)
        st = insert_line(pg, id, l + 1, &i->lines[l], err);
    invoice_free(i);
    return st;
}

enum status invoice_finalise(struct pg *pg, const char *tenant, const char *month,
                             struct invoice **out, struct error *err)
{
    char number[48];
    enum status st = pg_begin(pg, err);
    if (st != OK)
        return st;
    st = finalise(pg, tenant, month, number, err);
    if (st == OK)
        st = pg_commit(pg, err);
    if (st != OK) {
        pg_rollback(pg);
        return st;
    }
    return invoice_load(pg, number, out, err);
}

/* Columns of an invoice's own row, in the order read_stored takes them. */
#define STORED_COLUMNS                                                                             \
    "i.number, i.state, t.name, i.tenant_id, i.period_start, i.period_end, i.watermark_batch,"     \
    " i.currency, i.decimals, i.net_minor, i.tax_minor, i.total_minor, i.credit_minor,"            \
    " i.due_minor, i.tax_ppm, i.reverse_charge, i.seller, i.buyer,"                                \
    " (i.issued_at AT TIME ZONE 'UTC')::date, (i.due_at AT TIME ZONE 'UTC')::date, i.id"

static enum status read_stored(struct invoice *i, const struct pg_result *r, int row,
                               struct error *err)
{
    bool failed = false;
    i->number = cell(i, r, row, 0, &failed);
    i->state = cell(i, r, row, 1, &failed);
    i->tenant = cell(i, r, row, 2, &failed);
    i->tenant_id = cell(i, r, row, 3, &failed);
    i->period_start = cell(i, r, row, 4, &failed);
    i->period_end = cell(i, r, row, 5, &failed);
    i->watermark = cell(i, r, row, 6, &failed);
    i->currency = cell(i, r, row, 7, &failed);
    i->decimals = (int)pg_int(r, row, 8);
    i->net_minor = pg_int(r, row, 9);
    i->tax_minor = pg_int(r, row, 10);
    i->total_minor = pg_int(r, row, 11);
    i->credit_minor = pg_int(r, row, 12);
    i->due_minor = pg_int(r, row, 13);
    i->tax_ppm = pg_int(r, row, 14);
    i->reverse_charge = pg_bool(r, row, 15);
    i->seller = cell(i, r, row, 16, &failed);
    i->buyer = cell(i, r, row, 17, &failed);
    i->issued_at = cell(i, r, row, 18, &failed);
    i->due_at = cell(i, r, row, 19, &failed);
    return failed ? error_set(err, NOMEM, "out of memory for an invoice") : OK;
}

static enum status load_lines(struct pg *pg, struct invoice *i, const char *id, struct error *err)
{
    const char *const params[] = {id};
    struct pg_result *r = NULL;
    int64_t net_minor = i->net_minor;
    enum status st =
        pg_query(pg,
                 "SELECT project_name, project_id, model, item, price_id, price_pico, tokens,"
                 " amount_pico, amount_minor, period_start, period_end, late FROM invoice_lines"
                 " WHERE invoice_id = $1 ORDER BY position",
                 1, params, &r, err);
    i->net_minor = 0;
    if (st == OK)
        st = read_lines(i, r, err);
    pg_result_free(r);
    if (st == OK && i->net_minor != net_minor)
        st = error_set(err, CORRUPT, "the lines of invoice %s do not add up to its net", i->number);
    return st;
}

enum status invoice_load(struct pg *pg, const char *number, struct invoice **out, struct error *err)
{
    struct invoice *i = new_invoice(err);
    if (!i)
        return NOMEM;
    const char *const params[] = {number};
    struct pg_result *r = NULL;
    enum status st = pg_query(pg,
                              "SELECT " STORED_COLUMNS " FROM invoices i JOIN tenants t"
                              " ON t.id = i.tenant_id WHERE i.number = $1",
                              1, params, &r, err);
    if (st == OK && pg_rows(r) == 0)
        st = error_set(err, NOT_FOUND, "no invoice '%s'", number);
    if (st == OK)
        st = read_stored(i, r, 0, err);
    if (st == OK)
        st = load_lines(pg, i, pg_text(r, 0, 20), err);
    pg_result_free(r);
    if (st == OK)
        *out = i;
    else
        invoice_free(i);
    return st;
}

enum status invoice_set_state(struct pg *pg, const char *number, const char *state,
                              struct error *err)
{
    const char *const params[] = {number, state};
    struct pg_result *r = NULL;
    enum status st = pg_query(pg,
                              "UPDATE invoices SET state = $2,"
                              " paid_at = CASE $2 WHEN 'paid' THEN now() ELSE paid_at END,"
                              " voided_at = CASE $2 WHEN 'void' THEN now() ELSE voided_at END"
                              " WHERE number = $1 RETURNING number",
                              2, params, &r, err);
    if (st == OK && pg_rows(r) == 0)
        st = error_set(err, NOT_FOUND, "no invoice '%s'", number);
    pg_result_free(r);
    return st;
}

enum status invoice_list(struct pg *pg, const char *tenant, invoice_fn *fn, void *arg,
                         struct error *err)
{
    const char *const params[] = {tenant};
    struct pg_result *r = NULL;
    enum status st = pg_query(pg,
                              "SELECT " STORED_COLUMNS " FROM invoices i JOIN tenants t"
                              " ON t.id = i.tenant_id WHERE $1::text IS NULL OR t.name = $1"
                              " OR t.id::text = $1 ORDER BY i.id",
                              1, params, &r, err);
    for (int row = 0; st == OK && row < pg_rows(r); row++) {
        struct invoice *i = new_invoice(err);
        st = i ? read_stored(i, r, row, err) : NOMEM;
        if (st == OK)
            fn(i, arg);
        invoice_free(i);
    }
    pg_result_free(r);
    return st;
}
