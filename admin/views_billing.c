#include "admin/views.h"

#define EPOCH_MS(column) "(extract(epoch from " column ") * 1000)::bigint"

static const char *id_text(const struct uuid *id, char room[UUID_TEXT_SIZE])
{
    if (!id)
        return NULL;
    uuid_format(id, room);
    return room;
}

static const struct view credits = {
    .sql = "select x.id, x.kind, -e.amount_pico, a.currency, nullif(x.reference, ''),"
           " (select bool_and(o.applied_at is not null) from balance_ops o"
           "  where o.ledger_transaction_id = x.id), " EPOCH_MS(
               "x.created_at") " from ledger_transactions x join ledger_entries e on "
                               "e.transaction_id = x.id"
                               " join ledger_accounts a on a.id = e.account_id"
                               " where x.tenant_id = $1 and x.kind in ('grant', 'payment')"
                               " and a.kind in ('granted', 'paid') order by x.id desc limit 1000",
    .columns = "id int kind text amount money currency text reference text usable bool"
               " created time",
};

enum status view_credits(struct pg *pg, const struct uuid *tenant, struct report *r,
                         struct error *err)
{
    char id[UUID_TEXT_SIZE];
    return view_read(pg, &credits, 1, (const char *const[]){id_text(tenant, id)}, r, err);
}

static const struct view events = {
    .sql = "select " EPOCH_MS("u.admitted_at") ", t.name, p.name, k.name, u.model, u.outcome,"
                                               " u.prompt_tokens, u.cached_tokens, "
                                               "u.completion_tokens, u.reasoning_tokens,"
                                               " u.cost_pico, u.currency, u.id from usage_events u"
                                               " left join tenants t on t.id = u.tenant_id"
                                               " left join projects p on p.id = u.project_id left "
                                               "join api_keys k on k.id = u.key_id"
                                               " where ($1::uuid is null or u.tenant_id = $1) and "
                                               "($2::text is null or u.model = $2)"
                                               " order by u.day desc, u.id desc limit $3::int",
    .columns = "admitted time -tenant text project text key text model text outcome text"
               " prompt_tokens int cached_tokens int completion_tokens int -reasoning_tokens int"
               " cost money currency text request_id text",
};

enum status view_usage_events(struct pg *pg, const struct usage_filter *f, struct report *r,
                              struct error *err)
{
    char id[UUID_TEXT_SIZE], limit[16];
    snprintf(limit, sizeof limit, "%d", f->limit);
    const char *params[] = {id_text(f->tenant, id), f->model, limit};
    return view_read(pg, &events, 3, params, r, err);
}
