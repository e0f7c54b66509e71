#include "billing/ship_batch.h"

#include <inttypes.h>

#include "base/clock.h"

/* One transaction per batch, on temporary tables that empty themselves at its end. */
static const char tables_sql[] =
    "CREATE TEMP TABLE IF NOT EXISTS incoming (n int, id uuid, day date, tenant_id uuid,"
    " project_id uuid, key_id uuid, model text, price_id bigint, currency text, outcome text,"
    " attempt int, prompt_tokens bigint, cached_tokens bigint, completion_tokens bigint,"
    " reasoning_tokens bigint, cost_pico numeric, admitted_ms bigint, settled_ms bigint,"
    " rated numeric) ON COMMIT DELETE ROWS;"
    "CREATE TEMP TABLE IF NOT EXISTS incoming_admits (request_id uuid, day date, seq bigint,"
    " tenant_id uuid, project_id uuid, key_id uuid, prepaid boolean, hold_nano bigint,"
    " hold_tokens bigint, admitted_ms bigint) ON COMMIT DELETE ROWS;"
    "CREATE TEMP TABLE IF NOT EXISTS incoming_postings (project_id uuid, currency text,"
    " period date, tx bigint) ON COMMIT DELETE ROWS";

static const char copy_settles_sql[] =
    "COPY incoming (n, id, day, tenant_id, project_id, key_id, model, price_id, currency, outcome,"
    " attempt, prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, cost_pico,"
    " admitted_ms, settled_ms) FROM STDIN";
static const char copy_admits_sql[] = "COPY incoming_admits FROM STDIN";

#define CONTENT(t)                                                                                 \
    "(" t ".tenant_id, " t ".project_id, " t ".key_id, " t ".model, " t ".price_id, " t            \
    ".currency, " t ".outcome, " t ".attempt, " t ".prompt_tokens, " t ".cached_tokens, " t        \
    ".completion_tokens, " t ".reasoning_tokens)"

/* What is there already is not stored again; what differs is kept for reconcile to name. The
 * first SETTLE of a request wins, within the batch too. */
static const char drop_repeats_sql[] =
    "WITH gone AS (DELETE FROM incoming i USING incoming f WHERE f.id = i.id AND f.n < i.n"
    " RETURNING i.*, " CONTENT("i") " IS DISTINCT FROM " CONTENT(
        "f") " AS differs)"
             "INSERT INTO usage_conflicts (request_id, reason, batch_id, journal)"
             " SELECT id, 'content', $1::bigint, to_jsonb(gone) - '{n,rated,differs}'::text[]"
             " FROM gone WHERE differs ON CONFLICT DO NOTHING RETURNING 1";
static const char drop_stored_sql[] =
    "WITH gone AS (DELETE FROM incoming i USING usage_events u WHERE u.id = i.id AND u.day = i.day"
    " AND u.day BETWEEN date '1970-01-01' + $2::int AND date '1970-01-01' + $3::int"
    " RETURNING i.*, " CONTENT("i") " IS DISTINCT FROM " CONTENT(
        "u") " AS differs)"
             "INSERT INTO usage_conflicts (request_id, reason, batch_id, journal)"
             " SELECT id, 'content', $1::bigint, to_jsonb(gone) - '{n,rated,differs}'::text[]"
             " FROM gone WHERE differs ON CONFLICT DO NOTHING RETURNING 1";

static const char strangers_sql[] =
    "SELECT i.id, CASE WHEN p.id IS NULL THEN 'price ' || i.price_id"
    " WHEN p.currency <> i.currency THEN 'price ' || i.price_id || ' in ' || i.currency"
    " ELSE 'project ' || i.project_id END"
    " FROM incoming i LEFT JOIN prices p ON p.id = i.price_id"
    " LEFT JOIN projects j ON j.id = i.project_id AND j.tenant_id = i.tenant_id"
    " WHERE p.id IS NULL OR p.currency <> i.currency OR j.id IS NULL LIMIT 1";

/* The rates are those of the price row, whatever the journal says that it comes to. */
static const char rate_sql[] =
    "UPDATE incoming i SET rated = CASE i.outcome WHEN 'failed' THEN 0 ELSE"
    " (i.prompt_tokens - i.cached_tokens)::numeric * p.input_miss_pico"
    " + i.cached_tokens::numeric * p.input_hit_pico"
    " + i.completion_tokens::numeric * p.output_pico END FROM prices p WHERE p.id = i.price_id";
static const char cost_conflicts_sql[] =
    "INSERT INTO usage_conflicts (request_id, reason, batch_id, journal)"
    " SELECT id, 'cost', $1::bigint, to_jsonb(i) - 'n' FROM incoming i WHERE rated <> cost_pico"
    " ON CONFLICT DO NOTHING RETURNING 1";

static const char post_sql[] =
    "INSERT INTO incoming_postings SELECT project_id, currency, period,"
    " tg_post_usage($1::bigint, tenant_id, project_id, currency, period, amount) FROM"
    " (SELECT tenant_id, project_id, currency, date_trunc('month', day)::date AS period,"
    "  sum(rated) AS amount FROM incoming GROUP BY 1, 2, 3, 4 HAVING sum(rated) > 0"
    "  ORDER BY 1, 2, 3, 4) g";
static const char insert_sql[] =
    "INSERT INTO usage_events SELECT i.id, i.day, i.tenant_id, i.project_id, i.key_id, i.model,"
    " i.price_id, i.currency, i.outcome, i.attempt, i.prompt_tokens, i.cached_tokens,"
    " i.completion_tokens, i.reasoning_tokens, i.rated,"
    " timestamptz 'epoch' + i.admitted_ms * interval '1 millisecond',"
    " timestamptz 'epoch' + i.settled_ms * interval '1 millisecond', $1::bigint,"
    " CASE WHEN i.rated > 0 THEN p.tx END FROM incoming i LEFT JOIN incoming_postings p"
    " ON p.project_id = i.project_id AND p.currency = i.currency"
    " AND p.period = date_trunc('month', i.day)::date ON CONFLICT DO NOTHING RETURNING 1";

/* Every settled request is a usage event by now, from this batch or an older one. */
static const char close_holds_sql[] =
    "DELETE FROM open_holds h USING usage_events u WHERE u.id = h.request_id"
    " AND u.day = tg_uuid_day(h.request_id) AND u.batch_id = $1::bigint"
    " AND u.day BETWEEN date '1970-01-01' + $2::int AND date '1970-01-01' + $3::int";
static const char open_holds_sql[] =
    "INSERT INTO open_holds SELECT a.request_id, $4::uuid, $5::int, a.seq, a.tenant_id,"
    " a.project_id, a.key_id, a.prepaid, a.hold_nano, a.hold_tokens,"
    " timestamptz 'epoch' + a.admitted_ms * interval '1 millisecond' FROM incoming_admits a"
    " WHERE NOT EXISTS (SELECT FROM usage_events u WHERE u.id = a.request_id AND u.day = a.day"
    " AND u.day BETWEEN date '1970-01-01' + $2::int AND date '1970-01-01' + $3::int)"
    " AND $1::bigint IS NOT NULL ON CONFLICT DO NOTHING";
static const char lock_cursor_sql[] =
    "SELECT seq, position FROM journal_cursors WHERE source = $1::uuid AND shard = $2::int"
    " FOR UPDATE";
static const char move_cursor_sql[] =
    "INSERT INTO journal_cursors (source, shard, seq, position) VALUES ($1::uuid, $2::int,"
    " $3::bigint, $4::bigint) ON CONFLICT (source, shard) DO UPDATE SET seq = excluded.seq,"
    " position = excluded.position, updated_at = clock_timestamp()";
static const char batch_sql[] = "INSERT INTO shipping_batches (source, shard, admits, settles)"
                                " VALUES ($1::uuid, $2::int, $3::bigint, $4::bigint) RETURNING id";

struct params {
    struct pg *pg;
    char source[UUID_TEXT_SIZE], shard[16], batch[24], first[24], last[24];
};

/* COPY text: a backslash is the one byte of a model's name that needs care. */
static void put_text(struct buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\\')
            buf_adds(out, "\\");
        buf_add(out, text, 1);
    }
}

static void put_uuid(struct buf *out, const struct uuid *id)
{
    char text[UUID_TEXT_SIZE];
    uuid_format(id, text);
    buf_adds(out, text);
    buf_adds(out, "\t");
}

static void put_day(struct buf *out, const struct uuid *request_id)
{
    char text[32];
    clock_format_utc(ship_day(request_id) * 24 * 3600 * 1000, text, sizeof text);
    buf_add(out, text, strcspn(text, "T"));
    buf_adds(out, "\t");
}

static void put_settle(struct buf *out, int n, const struct meter_settle *s)
{
    static const char *const outcomes[] = {
        [METER_FINISHED] = "finished", [METER_CANCELLED] = "cancelled", [METER_FAILED] = "failed"};
    const struct meter_context *c = &s->context;
    const struct token_counts *t = &s->counts;
    char cost[MONEY_TEXT_SIZE];
    money_format_pico(s->cost_pico, cost);
    buf_addf(out, "%d\t", n);
    put_uuid(out, &c->request_id);
    put_day(out, &c->request_id);
    put_uuid(out, &c->tenant_id);
    put_uuid(out, &c->project_id);
    put_uuid(out, &c->key_id);
    put_text(out, c->model);
    /* As price_rate: more hits than prompt tokens are no more than all of them. */
    buf_addf(out, "\t%" PRId64 "\t%s\t%s\t%" PRIu32 "\t%" PRId64 "\t%" PRId64 "\t%" PRId64, //
             c->price.price_id, c->currency, outcomes[s->outcome], s->attempt & INT32_MAX,
             t->prompt, t->cached < t->prompt ? t->cached : t->prompt, t->completion);
    buf_addf(out, "\t%" PRId64 "\t%s\t%" PRId64 "\t%" PRId64 "\n", t->reasoning, cost,
             c->admitted_wall_ms, s->settled_wall_ms);
}

static void put_admit(struct buf *out, const struct ship_admit *a)
{
    const struct meter_context *c = &a->context;
    put_uuid(out, &c->request_id);
    put_day(out, &c->request_id);
    buf_addf(out, "%" PRId64 "\t", a->seq);
    put_uuid(out, &c->tenant_id);
    put_uuid(out, &c->project_id);
    put_uuid(out, &c->key_id);
    buf_addf(out, "%s\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\n", c->prepaid ? "t" : "f",
             c->hold_nano, c->hold_tokens, c->admitted_wall_ms);
}

static enum status copy(struct pg *pg, const char *sql, const struct buf *rows, struct error *err)
{
    if (buf_len(rows) == 0)
        return OK;
    enum status st = pg_copy_begin(pg, sql, err);
    if (st == OK)
        st = pg_copy_data(pg, (const char *)buf_head(rows), buf_len(rows), err);
    return st == OK ? pg_copy_end(pg, err) : st;
}

static enum status copy_records(const struct ship_batch *b, struct pg *pg, struct error *err)
{
    enum { ROW_BYTES_MAX = 1024 };
    struct buf rows;
    buf_init(&rows, (size_t)(SHIP_BATCH_MAX + 1) * ROW_BYTES_MAX);
    /* Reserved at once, so that no single row can fail for memory. */
    size_t most = b->admit_count > b->settle_count ? b->admit_count : b->settle_count;
    if (buf_reserve(&rows, (most + 1) * ROW_BYTES_MAX) != OK) {
        buf_done(&rows);
        return error_set(err, NOMEM, "out of memory while shipping the journal");
    }
    for (size_t i = 0; i < b->settle_count; i++)
        put_settle(&rows, (int)i, &b->settles[i]);
    enum status st = copy(pg, copy_settles_sql, &rows, err);
    buf_clear(&rows);
    for (size_t i = 0; i < b->admit_count; i++)
        if (!b->admits[i].cancelled)
            put_admit(&rows, &b->admits[i]);
    if (st == OK)
        st = copy(pg, copy_admits_sql, &rows, err);
    buf_done(&rows);
    return st;
}

static enum status check_cursor(const struct ship_batch *b, struct pg *pg, const struct params *p,
                                struct error *err)
{
    struct pg_result *r;
    enum status st =
        pg_query(pg, lock_cursor_sql, 2, (const char *const[]){p->source, p->shard}, &r, err);
    if (st != OK)
        return st;
    bool same = pg_rows(r) == 0
                    ? b->from.seq == 0 && b->from.offset == 0
                    : pg_int(r, 0, 0) == b->from.seq && pg_int(r, 0, 1) == b->from.offset;
    pg_result_free(r);
    return same ? OK : error_set(err, CLOSED, "the cursor of the journal has moved meanwhile");
}

static enum status begin_batch(const struct ship_batch *b, struct pg *pg, struct params *p,
                               struct error *err)
{
    char admits[24], settles[24];
    snprintf(admits, sizeof admits, "%zu", b->admit_count);
    snprintf(settles, sizeof settles, "%zu", b->settle_count);
    struct pg_result *r;
    enum status st = pg_query(pg, batch_sql, 4,
                              (const char *const[]){p->source, p->shard, admits, settles}, &r, err);
    if (st != OK)
        return st;
    snprintf(p->batch, sizeof p->batch, "%s", pg_text(r, 0, 0));
    pg_result_free(r);
    return OK;
}

/* *rows (may be NULL) grows by the rows that came back. */
static enum status step(const struct params *p, const char *sql, int count, int64_t *rows,
                        struct error *err)
{
    const char *const params[] = {p->batch, p->first, p->last, p->source, p->shard};
    struct pg_result *r;
    enum status st = pg_query(p->pg, sql, count, params, &r, err);
    if (st != OK)
        return st;
    if (rows)
        *rows += pg_rows(r);
    pg_result_free(r);
    return OK;
}

static enum status check_strangers(struct pg *pg, struct error *err)
{
    struct pg_result *r;
    enum status st = pg_query(pg, strangers_sql, 0, NULL, &r, err);
    if (st != OK)
        return st;
    if (pg_rows(r) > 0)
        st = error_set(err, CONFLICT, "request %s names %s, which this database does not have",
                       pg_text(r, 0, 0), pg_text(r, 0, 1));
    pg_result_free(r);
    return st;
}

static enum status store_settles(const struct params *p, struct ship_counts *counts,
                                 struct error *err)
{
    enum status st = step(p, drop_repeats_sql, 1, &counts->conflicts, err);
    if (st == OK)
        st = step(p, drop_stored_sql, 3, &counts->conflicts, err);
    if (st == OK)
        st = check_strangers(p->pg, err);
    if (st == OK)
        st = step(p, rate_sql, 0, NULL, err);
    if (st == OK)
        st = step(p, cost_conflicts_sql, 1, &counts->conflicts, err);
    if (st == OK)
        st = step(p, post_sql, 1, NULL, err);
    if (st == OK)
        st = step(p, insert_sql, 1, &counts->events, err);
    return st == OK ? step(p, close_holds_sql, 3, NULL, err) : st;
}

static enum status move_cursor(const struct ship_batch *b, struct pg *pg, const struct params *p,
                               struct error *err)
{
    char seq[24], offset[24];
    snprintf(seq, sizeof seq, "%" PRId64, b->to.seq);
    snprintf(offset, sizeof offset, "%" PRId64, b->to.offset);
    return pg_query(pg, move_cursor_sql, 4, (const char *const[]){p->source, p->shard, seq, offset},
                    NULL, err);
}

static enum status store(struct ship_batch *b, struct pg *pg, struct ship_counts *counts,
                         struct error *err)
{
    struct params p = {.pg = pg};
    int64_t first, last;
    uuid_format(&b->source, p.source);
    snprintf(p.shard, sizeof p.shard, "%d", b->shard);
    enum status st = check_cursor(b, pg, &p, err);
    if (st == OK && ship_batch_days(b, &first, &last)) {
        snprintf(p.first, sizeof p.first, "%" PRId64, first);
        snprintf(p.last, sizeof p.last, "%" PRId64, last);
        st = begin_batch(b, pg, &p, err);
        if (st == OK)
            st = copy_records(b, pg, err);
        if (st == OK && b->settle_count)
            st = store_settles(&p, counts, err);
        if (st == OK && b->admit_count)
            st = step(&p, open_holds_sql, 5, NULL, err);
    }
    return st == OK ? move_cursor(b, pg, &p, err) : st;
}

enum status ship_batch_store(struct ship_batch *b, struct pg *pg, struct ship_counts *counts,
                             struct error *err)
{
    struct ship_counts added = {.admits = (int64_t)b->admit_count,
                                .settles = (int64_t)b->settle_count};
    enum status st = pg_script(pg, tables_sql, err);
    if (st == OK)
        st = pg_begin(pg, err);
    if (st != OK)
        return st;
    st = store(b, pg, &added, err);
    if (st == OK)
        st = pg_commit(pg, err);
    if (st != OK) {
        pg_rollback(pg);
        return st;
    }
    counts->admits += added.admits;
    counts->settles += added.settles;
    counts->events += added.events;
    counts->conflicts += added.conflicts;
    return OK;
}

enum status ship_make_partitions(struct pg *pg, int64_t first, int64_t last, struct error *err)
{
    enum { SPAN_MAX = 400 };
    if (last - first > SPAN_MAX)
        return error_set(err, LIMITED, "the ids of one batch span %lld days; a clock is wrong",
                         (long long)(last - first));
    char a[24], b[24];
    snprintf(a, sizeof a, "%" PRId64, first);
    snprintf(b, sizeof b, "%" PRId64, last);
    return pg_query(pg,
                    "SELECT tg_usage_partition(date '1970-01-01' + d)"
                    " FROM generate_series($1::int, $2::int) AS d",
                    2, (const char *const[]){a, b}, NULL, err);
}
