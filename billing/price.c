#include "billing/price.h"

static const char cut_sql[] =
    "UPDATE prices SET valid = tstzrange(lower(valid), $4::timestamptz)"
    " WHERE model = $1 AND tenant_id IS NOT DISTINCT FROM $2::uuid AND currency = $3"
    " AND valid @> $4::timestamptz AND lower(valid) < $4::timestamptz"
    " RETURNING $4::timestamptz < now() - interval '1 minute'";

static const char insert_sql[] =
    "INSERT INTO prices (model, tenant_id, currency, input_miss_pico, input_hit_pico, output_pico,"
    " batch_permille, valid) SELECT $1, $2::uuid, $3, $5, $6, $7, $8, tstzrange($4::timestamptz,"
    " (SELECT min(lower(valid)) FROM prices WHERE model = $1 AND tenant_id IS NOT DISTINCT FROM"
    "  $2::uuid AND currency = $3 AND lower(valid) > $4::timestamptz)) RETURNING id";

/* The time as PostgreSQL text; 0: its own now. */
static enum status start_time(struct pg *pg, int64_t wall_ms, char out[64], struct error *err)
{
    char ms[24];
    snprintf(ms, sizeof ms, "%lld", (long long)wall_ms);
    struct pg_result *r;
    enum status st =
        pg_query(pg,
                 "SELECT CASE $1::bigint WHEN 0 THEN date_trunc('milliseconds', now())"
                 " ELSE timestamptz 'epoch' + $1::bigint * interval '1 millisecond' END::text",
                 1, (const char *const[]){ms}, &r, err);
    if (st != OK)
        return st;
    snprintf(out, 64, "%s", pg_text(r, 0, 0));
    pg_result_free(r);
    return OK;
}

static enum status cut_current(struct pg *pg, const char *const *params, struct error *err)
{
    struct pg_result *r;
    enum status st = pg_query(pg, cut_sql, 4, params, &r, err);
    if (st != OK)
        return st;
    bool past = pg_rows(r) > 0 && pg_bool(r, 0, 0);
    pg_result_free(r);
    if (past)
        return error_set(err, CONFLICT, "a price cannot change in the past: usage was rated by it");
    return OK;
}

static enum status change(struct pg *pg, const struct price_change *c, int64_t *id,
                          struct error *err)
{
    char from[64], tenant[UUID_TEXT_SIZE], numbers[4][24];
    const int64_t values[] = {c->input_miss_pico, c->input_hit_pico, c->output_pico,
                              c->batch_permille};
    enum status st = start_time(pg, c->from_wall_ms, from, err);
    if (st != OK)
        return st;
    if (c->tenant_id)
        uuid_format(c->tenant_id, tenant);
    for (int i = 0; i < 4; i++)
        snprintf(numbers[i], sizeof numbers[i], "%lld", (long long)values[i]);
    const char *params[] = {c->model,    c->tenant_id ? tenant : NULL,
                            c->currency, from,
                            numbers[0],  numbers[1],
                            numbers[2],  numbers[3]};
    st = cut_current(pg, params, err);
    if (st != OK)
        return st;
    struct pg_result *r;
    st = pg_query(pg, insert_sql, 8, params, &r, err);
    if (st != OK)
        return st;
    *id = pg_int(r, 0, 0);
    pg_result_free(r);
    return OK;
}

static enum status check(const struct price_change *c, struct error *err)
{
    size_t len = strlen(c->model);
    if (len == 0 || len >= MODEL_NAME_MAX)
        return error_set(err, INVALID, "a model's name has 1 to %d bytes", MODEL_NAME_MAX - 1);
    for (const char *p = c->model; *p; p++)
        if ((unsigned char)*p <= 0x20 || *p == 0x7f)
            return error_set(err, INVALID, "a model's name has no spaces or control characters");
    if (c->input_miss_pico < 0 || c->input_hit_pico < 0 || c->output_pico < 0)
        return error_set(err, INVALID, "a price is not negative");
    return OK;
}

enum status price_set(struct pg *pg, const struct price_change *c, int64_t *id, struct error *err)
{
    int64_t made;
    enum status st = check(c, err);
    if (st == OK)
        st = pg_begin(pg, err);
    if (st != OK)
        return st;
    st = change(pg, c, &made, err);
    if (st == OK)
        st = pg_commit(pg, err);
    if (st != OK) {
        pg_rollback(pg);
        return st;
    }
    *id = made;
    return OK;
}

static void read_row(const struct pg_result *r, int i, struct price_version *p)
{
    *p = (struct price_version){
        .id = pg_int(r, i, 0),
        .own = pg_uuid(r, i, 2, &p->tenant_id),
        .input_miss_pico = pg_int(r, i, 5),
        .input_hit_pico = pg_int(r, i, 6),
        .output_pico = pg_int(r, i, 7),
        .batch_permille = (int)pg_int(r, i, 8),
        .from_wall_ms = pg_int(r, i, 9),
        .until_wall_ms = pg_int(r, i, 10),
    };
    pg_uuid(r, i, 2, &p->tenant_id);
    snprintf(p->model, sizeof p->model, "%s", pg_text(r, i, 1));
    snprintf(p->tenant_name, sizeof p->tenant_name, "%s", p->own ? pg_text(r, i, 3) : "");
    snprintf(p->currency, sizeof p->currency, "%s", pg_text(r, i, 4));
}

enum status price_list(struct pg *pg, const char *model, bool current_only, price_fn *fn, void *arg,
                       struct error *err)
{
    struct pg_result *r;
    enum status st = pg_query(
        pg,
        "SELECT p.id, p.model, p.tenant_id, t.name, p.currency, p.input_miss_pico,"
        " p.input_hit_pico, p.output_pico, p.batch_permille,"
        " (extract(epoch FROM lower(p.valid)) * 1000)::bigint,"
        " (extract(epoch FROM upper(p.valid)) * 1000)::bigint"
        " FROM prices p LEFT JOIN tenants t ON t.id = p.tenant_id"
        " WHERE ($1::text IS NULL OR p.model = $1) AND (NOT $2::boolean OR p.valid @> now())"
        " ORDER BY p.model, t.name NULLS FIRST, p.currency, lower(p.valid)",
        2, (const char *const[]){model, current_only ? "t" : "f"}, &r, err);
    if (st != OK)
        return st;
    for (int i = 0; i < pg_rows(r); i++) {
        struct price_version p;
        read_row(r, i, &p);
        fn(&p, arg);
    }
    pg_result_free(r);
    return OK;
}

bool price_parse_rate(const char *per_million, int64_t *pico)
{
    money_pico value;
    if (!money_parse(per_million, &value) || value < 0 || value % 1000000 != 0)
        return false;
    if (value / 1000000 > INT64_MAX)
        return false;
    *pico = (int64_t)(value / 1000000);
    return true;
}
