#include "billing/reconcile.h"

#include <errno.h>

#include "base/buf.h"
#include "base/id.h"
#include "base/json.h"
#include "billing/journal_segment.h"

enum { COPY_CHUNK_BYTES = 1 << 20, DIFFERENCES_SHOWN = 100, LINE_MAX_BYTES = 4096 };

struct run {
    struct pg *pg;
    const struct reconcile_report *report;
    struct error *err;
    int64_t differences;
};

struct check {
    const char *name;
    const char *count_sql; /* how many things are compared */
    const char *sql;       /* a row, one text, for each difference */
};

/* The journal may hold a request twice; what matters is that the event is one of its records. */
static const struct check journal_check = {
    "journal = usage events", "SELECT count(DISTINCT id) FROM reconcile_journal",
    "SELECT 'request ' || j.id || ': the journal has ' || j.outcome || ', ' || j.prompt || ' + '"
    " || j.completion || ' tokens, cost ' || j.cost || '; ' || CASE WHEN u.id IS NULL THEN"
    " 'there is no usage event (yet)' ELSE 'the event has ' || u.outcome || ', ' ||"
    " u.prompt_tokens || ' + ' || u.completion_tokens || ' tokens, cost ' || u.cost_pico END"
    " FROM reconcile_journal j LEFT JOIN usage_events u ON u.id = j.id"
    " AND u.day = tg_uuid_day(j.id) WHERE NOT EXISTS (SELECT FROM reconcile_journal k"
    " WHERE k.id = j.id AND k.outcome = u.outcome AND k.prompt = u.prompt_tokens"
    " AND k.cached = u.cached_tokens AND k.completion = u.completion_tokens"
    " AND k.reasoning = u.reasoning_tokens AND k.cost = u.cost_pico) ORDER BY j.id"};

/* A request tried twice has two rows; the event is of the last attempt. */
static const struct check worker_check = {
    "workers = usage events", "SELECT count(DISTINCT id) FROM reconcile_worker",
    "SELECT 'request ' || w.id || ': the worker counted ' || w.prompt || ' + ' || w.completion"
    " || ' tokens; ' || CASE WHEN u.id IS NULL THEN 'there is no usage event (yet)' ELSE"
    " 'the event has ' || u.prompt_tokens || ' + ' || u.completion_tokens END"
    " FROM (SELECT DISTINCT ON (id) * FROM reconcile_worker ORDER BY id, attempt DESC) w"
    " LEFT JOIN usage_events u ON u.id = w.id AND u.day = tg_uuid_day(w.id)"
    " WHERE u.id IS NULL OR (w.prompt, w.cached, w.completion, w.reasoning) IS DISTINCT FROM"
    " (u.prompt_tokens, u.cached_tokens, u.completion_tokens, u.reasoning_tokens) ORDER BY w.id"};

static const struct check stored_checks[] = {
    {"usage events = prices", "SELECT count(*) FROM usage_events",
     "SELECT 'request ' || u.id || ': cost ' || u.cost_pico || ', by its price ' ||"
     " coalesce(v.cost::text, 'unknown') FROM usage_events u LEFT JOIN prices r"
     " ON r.id = u.price_id CROSS JOIN LATERAL (SELECT CASE WHEN u.outcome = 'failed' THEN 0 ELSE"
     " (u.prompt_tokens - u.cached_tokens)::numeric * r.input_miss_pico +"
     " u.cached_tokens::numeric * r.input_hit_pico +"
     " u.completion_tokens::numeric * r.output_pico END AS cost) v"
     " WHERE u.cost_pico IS DISTINCT FROM v.cost ORDER BY u.id"},
    {"usage events = ledger", "SELECT count(*) FROM ledger_transactions WHERE kind = 'usage'",
     "SELECT CASE WHEN t.id IS NULL THEN 'usage of ' || coalesce(s.cost, 0) || ' is in no ledger"
     " transaction (' || coalesce(s.some, 'none') || ', ...)' ELSE 'ledger transaction ' || t.id ||"
     " ': revenue ' || coalesce(e.revenue, 0) || ', its usage events cost ' || coalesce(s.cost, 0)"
     " END FROM (SELECT ledger_transaction_id AS id, sum(cost_pico) AS cost, min(id::text) AS some"
     "  FROM usage_events WHERE cost_pico > 0 GROUP BY 1) s"
     " FULL JOIN (SELECT id FROM ledger_transactions WHERE kind = 'usage') t ON t.id = s.id"
     " LEFT JOIN (SELECT e.transaction_id AS id, -sum(e.amount_pico) AS revenue FROM"
     "  ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id WHERE a.kind = 'revenue'"
     "  GROUP BY 1) e ON e.id = t.id"
     " WHERE t.id IS NULL OR coalesce(e.revenue, 0) <> coalesce(s.cost, 0) ORDER BY t.id"},
    {"ledger transactions balance", "SELECT count(*) FROM ledger_transactions",
     "SELECT 'ledger transaction ' || transaction_id || ' sums to ' || sum(amount_pico)"
     " FROM ledger_entries GROUP BY transaction_id HAVING sum(amount_pico) <> 0"
     " ORDER BY transaction_id"},
    {"ledger accounts = entries", "SELECT count(*) FROM ledger_accounts",
     "SELECT 'ledger account ' || a.id || ' (' || a.kind || '): balance ' || a.balance_pico ||"
     " ', its entries sum to ' || coalesce(sum(e.amount_pico), 0) FROM ledger_accounts a"
     " LEFT JOIN ledger_entries e ON e.account_id = a.id GROUP BY a.id"
     " HAVING a.balance_pico <> coalesce(sum(e.amount_pico), 0) ORDER BY a.id"},
    {"usage events = invoice lines", "SELECT count(*) FROM invoices WHERE state <> 'void'",
     "WITH used AS (SELECT c.invoice_id AS invoice, sum(u.cost_pico) AS cost"
     "  FROM invoice_coverage c JOIN invoices i ON i.id = c.invoice_id"
     "  JOIN usage_events u ON u.tenant_id = i.tenant_id AND c.batches @> u.batch_id"
     "  AND date_trunc('month', u.day)::date = c.month WHERE i.state <> 'void' GROUP BY 1),"
     " lines AS (SELECT invoice_id AS invoice, sum(amount_pico) AS amount FROM invoice_lines l"
     "  JOIN invoices i ON i.id = l.invoice_id WHERE i.state <> 'void' GROUP BY 1)"
     "SELECT 'invoice ' || n.number || ': its lines sum to ' || coalesce(l.amount, 0) ||"
     " ', its usage events cost ' || coalesce(u.cost, 0) FROM invoices n"
     " LEFT JOIN lines l ON l.invoice = n.id LEFT JOIN used u ON u.invoice = n.id"
     " WHERE n.state <> 'void' AND coalesce(l.amount, 0) <> coalesce(u.cost, 0) ORDER BY n.id"},
    {"no conflicting records", "SELECT count(*) FROM usage_events",
     "SELECT 'request ' || request_id || ': a journal record differs from the stored event in its '"
     " || reason || ': ' || journal FROM usage_conflicts ORDER BY id"},
};

static enum status run_check(struct run *run, const struct check *c)
{
    struct pg_result *count = NULL, *rows = NULL;
    enum status st = pg_query(run->pg, c->count_sql, 0, NULL, &count, run->err);
    if (st == OK)
        st = pg_query(run->pg, c->sql, 0, NULL, &rows, run->err);
    if (st == OK) {
        struct reconcile_check result = {
            .name = c->name, .compared = pg_int(count, 0, 0), .differences = pg_rows(rows)};
        for (int row = 0; row < pg_rows(rows) && row < DIFFERENCES_SHOWN; row++)
            run->report->on_difference(c->name, pg_text(rows, row, 0), run->report->arg);
        run->report->on_check(&result, run->report->arg);
        run->differences += result.differences;
    } else {
        error_prefix(run->err, "%s", c->name);
    }
    pg_result_free(count);
    pg_result_free(rows);
    return st;
}

/* Sends the rows gathered when there are enough, or at the end. */
static enum status send_rows(struct run *run, struct buf *rows, bool all)
{
    if (buf_len(rows) == 0 || (!all && buf_len(rows) < COPY_CHUNK_BYTES))
        return OK;
    enum status st = pg_copy_data(run->pg, (const char *)buf_head(rows), buf_len(rows), run->err);
    buf_clear(rows);
    return st;
}

static enum status add_settle(struct run *run, struct buf *rows, const struct meter_settle *s)
{
    static const char *const outcomes[] = {"none", "finished", "cancelled", "failed"};
    char id[UUID_TEXT_SIZE], cost[MONEY_TEXT_SIZE];
    uuid_format(&s->context.request_id, id);
    money_format_pico(s->cost_pico, cost);
    enum status st =
        buf_addf(rows, "%s\t%lld\t%lld\t%lld\t%lld\t%s\t%s\n", id, (long long)s->counts.prompt,
                 (long long)s->counts.cached, (long long)s->counts.completion,
                 (long long)s->counts.reasoning, outcomes[s->outcome], cost);
    return st == OK ? send_rows(run, rows, false) : st;
}

/* A torn tail is what a writer that was killed leaves; it holds nothing that was promised. */
static enum status read_segment(struct run *run, const char *dir, struct segment_name name,
                                struct buf *rows)
{
    struct segment_reader *reader;
    enum status st = segment_open(dir, name, &reader, run->err);
    if (st != OK)
        return st == NOT_FOUND ? OK : st; /* shipped and deleted just now */
    struct record_view view;
    enum segment_verdict verdict;
    while (st == OK && (verdict = segment_next(reader, &view, run->err)) == SEGMENT_RECORD) {
        struct meter_settle settle;
        if (view.type != RECORD_SETTLE)
            continue;
        st = record_unpack_settle(&view, &settle);
        if (st == OK)
            st = add_settle(run, rows, &settle);
        else
            error_set(run->err, CORRUPT, "%s: a record makes no sense", segment_file(reader));
    }
    if (st == OK && verdict == SEGMENT_CORRUPT)
        st = CORRUPT;
    if (st == OK && verdict == SEGMENT_FAILED)
        st = IO_FAILED;
    segment_close(reader);
    return st;
}

static enum status load_journal(struct run *run, const char *dir)
{
    struct segment_list list;
    enum status st = segment_list(dir, &list, run->err);
    if (st != OK)
        return st;
    struct buf rows;
    buf_init(&rows, 2 * COPY_CHUNK_BYTES);
    st = pg_script(run->pg,
                   "CREATE TEMPORARY TABLE reconcile_journal (id uuid, prompt bigint,"
                   " cached bigint, completion bigint, reasoning bigint, outcome text,"
                   " cost numeric)",
                   run->err);
    if (st == OK)
        st = pg_copy_begin(run->pg, "COPY reconcile_journal FROM STDIN", run->err);
    for (size_t i = 0; st == OK && i < list.count; i++)
        st = read_segment(run, dir, list.items[i], &rows);
    if (st == OK)
        st = send_rows(run, &rows, true);
    if (st == OK)
        st = pg_copy_end(run->pg, run->err);
    buf_done(&rows);
    segment_list_done(&list);
    return st;
}

static bool get_count(const struct json *counts, const char *name, int64_t *out)
{
    return json_int(json_get(counts, name), 0, UINT32_MAX, out);
}

/* One line of `tollgate-worker --usage-table`. A request that still runs is left out. */
static enum status add_worker_line(struct run *run, struct buf *rows, const char *line, int number)
{
    struct json *v;
    enum status st = json_parse(line, strlen(line), NULL, &v, run->err);
    if (st != OK) {
        error_prefix(run->err, "line %d", number);
        return st;
    }
    const char *id = json_string(json_get(v, "request_id"));
    const char *state = json_string(json_get(v, "state"));
    const struct json *counts = json_get(v, "counts");
    int64_t attempt, prompt, cached, completion, reasoning;
    struct uuid parsed;
    if (!id || !uuid_parse(id, strlen(id), &parsed) || !state ||
        !json_int(json_get(v, "attempt"), 0, UINT32_MAX, &attempt) ||
        !get_count(counts, "prompt", &prompt) || !get_count(counts, "cached", &cached) ||
        !get_count(counts, "completion", &completion) ||
        !get_count(counts, "reasoning", &reasoning))
        st = error_set(run->err, INVALID, "line %d is not one of a usage table", number);
    else if (strcmp(state, "running") != 0)
        st = buf_addf(rows, "%s\t%lld\t%lld\t%lld\t%lld\t%lld\n", id, (long long)attempt,
                      (long long)prompt, (long long)cached, (long long)completion,
                      (long long)reasoning);
    json_free(v);
    return st == OK ? send_rows(run, rows, false) : st;
}

static enum status copy_worker_lines(struct run *run, FILE *f)
{
    char line[LINE_MAX_BYTES];
    struct buf rows;
    buf_init(&rows, 2 * COPY_CHUNK_BYTES);
    enum status st = OK;
    for (int number = 1; st == OK && fgets(line, sizeof line, f); number++) {
        line[strcspn(line, "\n")] = 0;
        if (line[0])
            st = add_worker_line(run, &rows, line, number);
    }
    if (st == OK)
        st = send_rows(run, &rows, true);
    buf_done(&rows);
    return st;
}

static enum status load_worker(struct run *run, const char *path)
{
    FILE *f = fopen(path, "r");
    if (!f)
        return error_errno(run->err, errno, "cannot open %s", path);
    enum status st = pg_script(run->pg,
                               "CREATE TEMPORARY TABLE reconcile_worker (id uuid, attempt bigint,"
                               " prompt bigint, cached bigint, completion bigint,"
                               " reasoning bigint)",
                               run->err);
    if (st == OK)
        st = pg_copy_begin(run->pg, "COPY reconcile_worker FROM STDIN", run->err);
    if (st == OK) {
        st = copy_worker_lines(run, f);
        if (st == OK)
            st = pg_copy_end(run->pg, run->err);
        else
            error_prefix(run->err, "%s", path);
    }
    fclose(f);
    return st;
}

static enum status run_all(struct run *run, const struct reconcile_options *options)
{
    enum status st = OK;
    if (options->journal_dir) {
        st = load_journal(run, options->journal_dir);
        if (st == OK)
            st = run_check(run, &journal_check);
    }
    if (st == OK && options->worker_file) {
        st = load_worker(run, options->worker_file);
        if (st == OK)
            st = run_check(run, &worker_check);
    }
    for (size_t i = 0; st == OK && i < sizeof stored_checks / sizeof *stored_checks; i++)
        st = run_check(run, &stored_checks[i]);
    return st;
}

enum status reconcile_run(struct pg *pg, const struct reconcile_options *options,
                          const struct reconcile_report *report, struct error *err)
{
    struct run run = {.pg = pg, .report = report, .err = err};
    enum status st = pg_query(pg, "BEGIN ISOLATION LEVEL REPEATABLE READ", 0, NULL, NULL, err);
    if (st == OK)
        st = run_all(&run, options);
    pg_rollback(pg); /* the temporary tables go with it */
    if (st == OK && run.differences)
        st = error_set(err, CONFLICT, "%lld differences", (long long)run.differences);
    return st;
}
