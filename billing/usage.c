#include "billing/usage.h"

static void copy_text(char *out, size_t size, const struct pg_result *r, int row, int column)
{
    const char *text = pg_text(r, row, column);
    snprintf(out, size, "%s", text ? text : "");
}

static enum status read_money(const struct pg_result *r, int row, int column, money_pico *out,
                              struct error *err)
{
    const char *text = pg_text(r, row, column);
    if (!text || !money_parse_pico(text, out))
        return error_set(err, CORRUPT, "the database holds an amount that is not a number");
    return OK;
}

static enum status read_event(const struct pg_result *r, struct usage_event *out, struct error *err)
{
    struct usage_event e = {0};
    copy_text(e.id, sizeof e.id, r, 0, 0);
    copy_text(e.tenant, sizeof e.tenant, r, 0, 1);
    copy_text(e.project, sizeof e.project, r, 0, 2);
    copy_text(e.key, sizeof e.key, r, 0, 3);
    copy_text(e.model, sizeof e.model, r, 0, 4);
    copy_text(e.outcome, sizeof e.outcome, r, 0, 5);
    copy_text(e.currency, sizeof e.currency, r, 0, 6);
    e.prompt_tokens = pg_int(r, 0, 7);
    e.cached_tokens = pg_int(r, 0, 8);
    e.completion_tokens = pg_int(r, 0, 9);
    e.reasoning_tokens = pg_int(r, 0, 10);
    enum status st = read_money(r, 0, 11, &e.cost_pico, err);
    if (st != OK)
        return st;
    copy_text(e.admitted_at, sizeof e.admitted_at, r, 0, 12);
    copy_text(e.settled_at, sizeof e.settled_at, r, 0, 13);
    e.input_miss_pico = pg_int(r, 0, 14);
    e.input_hit_pico = pg_int(r, 0, 15);
    e.output_pico = pg_int(r, 0, 16);
    *out = e;
    return OK;
}

enum status usage_find(struct pg *pg, const char *request_id, struct usage_event *out,
                       struct error *err)
{
    struct uuid id;
    if (!uuid_parse(request_id, strlen(request_id), &id))
        return error_set(err, INVALID, "'%.60s' is not a request id (x-request-id of an answer)",
                         request_id);
    const char *const params[] = {request_id};
    struct pg_result *r = NULL;
    enum status st = pg_query(
        pg,
        "SELECT u.id, t.name, p.name, k.name, u.model, u.outcome, u.currency, u.prompt_tokens,"
        " u.cached_tokens, u.completion_tokens, u.reasoning_tokens, u.cost_pico,"
        " to_char(u.admitted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),"
        " to_char(u.settled_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),"
        " r.input_miss_pico, r.input_hit_pico, r.output_pico"
        " FROM usage_events u LEFT JOIN tenants t ON t.id = u.tenant_id"
        " LEFT JOIN projects p ON p.id = u.project_id LEFT JOIN api_keys k ON k.id = u.key_id"
        " LEFT JOIN prices r ON r.id = u.price_id"
        " WHERE u.id = $1 AND u.day = tg_uuid_day($1)",
        1, params, &r, err);
    if (st != OK)
        return st;
    if (pg_rows(r) == 0)
        st = error_set(err, NOT_FOUND,
                       "no usage event of request %s; billing ships the journal "
                       "within moments of an answer",
                       request_id);
    else
        st = read_event(r, out, err);
    pg_result_free(r);
    return st;
}

static enum status find_tenant(struct pg *pg, const char *tenant, char id[UUID_TEXT_SIZE],
                               struct error *err)
{
    const char *const params[] = {tenant};
    struct pg_result *r = NULL;
    enum status st =
        pg_query(pg, "SELECT id FROM tenants WHERE name = $1 OR id::text = $1", 1, params, &r, err);
    if (st != OK)
        return st;
    if (pg_rows(r) == 0)
        st = error_set(err, NOT_FOUND, "no tenant '%s'", tenant);
    else
        copy_text(id, UUID_TEXT_SIZE, r, 0, 0);
    pg_result_free(r);
    return st;
}

enum status usage_sums(struct pg *pg, const struct usage_query *query, usage_sum_fn *fn, void *arg,
                       struct error *err)
{
    static const char *const groups[] = {"day", "project", "model", "key"};
    char tenant[UUID_TEXT_SIZE];
    enum status st = find_tenant(pg, query->tenant, tenant, err);
    if (st != OK)
        return st;
    const char *const params[] = {tenant, query->from, query->to, groups[query->by]};
    struct pg_result *r = NULL;
    st = pg_query(pg,
                  "SELECT CASE $4 WHEN 'day' THEN u.day::text WHEN 'project' THEN p.name"
                  " WHEN 'model' THEN u.model ELSE k.name END AS bucket, u.currency, count(*),"
                  " sum(u.prompt_tokens), sum(u.cached_tokens), sum(u.completion_tokens),"
                  " sum(u.reasoning_tokens), sum(u.cost_pico)"
                  " FROM usage_events u LEFT JOIN projects p ON p.id = u.project_id"
                  " LEFT JOIN api_keys k ON k.id = u.key_id"
                  " WHERE u.tenant_id = $1 AND u.day >= coalesce($2::date, '-infinity')"
                  " AND u.day < coalesce($3::date, 'infinity') GROUP BY 1, 2 ORDER BY 1, 2",
                  4, params, &r, err);
    for (int row = 0; st == OK && row < pg_rows(r); row++) {
        struct usage_sum sum = {.bucket = pg_text(r, row, 0) ? pg_text(r, row, 0) : "",
                                .currency = pg_text(r, row, 1),
                                .requests = pg_int(r, row, 2),
                                .prompt_tokens = pg_int(r, row, 3),
                                .cached_tokens = pg_int(r, row, 4),
                                .completion_tokens = pg_int(r, row, 5),
                                .reasoning_tokens = pg_int(r, row, 6)};
        st = read_money(r, row, 7, &sum.cost_pico, err);
        if (st == OK)
            fn(&sum, arg);
    }
    pg_result_free(r);
    return st;
}
