#include "admin/views.h"

#define EPOCH_MS(column) "(extract(epoch from " column ") * 1000)::bigint"

/* The id as text, or NULL; the text lives as long as the caller's room for it. */
static const char *id_text(const struct uuid *id, char room[UUID_TEXT_SIZE])
{
    if (!id)
        return NULL;
    uuid_format(id, room);
    return room;
}

static const struct view tenants = {
    .sql = "select t.name, t.status, t.currency, t.billing_mode, coalesce(b.available_pico, 0),"
           " (select count(*) from projects p where p.tenant_id = t.id),"
           " (select count(*) from api_keys k join projects p on p.id = k.project_id"
           "  where p.tenant_id = t.id and k.revoked_at is null),"
           " t.legal, " EPOCH_MS(
               "t.created_at") ", t.id"
                               " from tenants t left join tenant_balances b on b.tenant_id = t.id"
                               " where $1::uuid is null or t.id = $1 order by t.name",
    .columns = "name text status text currency text billing text balance money projects int"
               " keys int -legal json created time id text",
};

enum status view_tenants(struct pg *pg, const struct uuid *tenant, struct report *r,
                         struct error *err)
{
    char id[UUID_TEXT_SIZE];
    return view_read(pg, &tenants, 1, (const char *const[]){id_text(tenant, id)}, r, err);
}

static const struct view projects = {
    .sql = "select t.name, p.name, p.status, p.priority,"
           " (select count(*) from api_keys k where k.project_id = p.id and k.revoked_at is null),"
           " " EPOCH_MS("p.created_at") ", p.id, t.id"
                                        " from projects p join tenants t on t.id = p.tenant_id"
                                        " where ($1::uuid is null or t.id = $1) and ($2::uuid is "
                                        "null or p.id = $2)"
                                        " order by t.name, p.name",
    .columns = "tenant text name text status text priority int keys int created time id text"
               " -tenant_id text",
};

enum status view_projects(struct pg *pg, const struct uuid *tenant, const struct uuid *project,
                          struct report *r, struct error *err)
{
    char a[UUID_TEXT_SIZE], b[UUID_TEXT_SIZE];
    return view_read(pg, &projects, 2,
                     (const char *const[]){id_text(tenant, a), id_text(project, b)}, r, err);
}

static const struct view keys = {
    .sql = "select t.name, p.name, k.name, k.prefix,"
           " case when k.revoked_at is not null then 'revoked'"
           "  when k.expires_at <= now() then 'expired' else 'live' end,"
           " case when cardinality(k.models) > 0 then to_jsonb(k.models) end,"
           " " EPOCH_MS("k.expires_at") ", " EPOCH_MS("k.revoked_at") ", " EPOCH_MS(
               "k.created_at") ", k.id"
                               " from api_keys k join projects p on p.id = k.project_id"
                               " join tenants t on t.id = p.tenant_id"
                               " where ($1::uuid is null or t.id = $1) and ($2::uuid is null or "
                               "p.id = $2)"
                               " and ($3::uuid is null or k.id = $3) and ($4::boolean or "
                               "k.revoked_at is null)"
                               " order by t.name, p.name, k.name, k.created_at",
    .columns = "tenant text project text name text prefix text status text models list"
               " expires time -revoked time created time id text",
};

enum status view_keys(struct pg *pg, const struct key_filter *f, struct report *r,
                      struct error *err)
{
    char a[UUID_TEXT_SIZE], b[UUID_TEXT_SIZE], c[UUID_TEXT_SIZE];
    const char *params[] = {id_text(f->tenant, a), id_text(f->project, b), id_text(f->key, c),
                            f->revoked_too ? "t" : "f"};
    return view_read(pg, &keys, 4, params, r, err);
}

static const struct view admin_keys = {
    .sql = "select name, prefix, role, case when revoked_at is not null then 'revoked'"
           " when expires_at <= now() then 'expired' else 'live' end,"
           " " EPOCH_MS("expires_at") ", " EPOCH_MS("revoked_at") ", " EPOCH_MS(
               "created_at") ", id from admin_keys where $1::boolean or revoked_at is null order "
                             "by name, created_at",
    .columns = "name text prefix text role text status text expires time -revoked time"
               " created time id text",
};

enum status view_admin_keys(struct pg *pg, bool revoked_too, struct report *r, struct error *err)
{
    return view_read(pg, &admin_keys, 1, (const char *const[]){revoked_too ? "t" : "f"}, r, err);
}

static const struct view limits = {
    .sql = "with subjects as ("
           " select 'tenant' as kind, t.id, t.name, t.id as tenant_id, 1 as place from tenants t"
           " union all select 'project', p.id, t.name || '/' || p.name, t.id, 2"
           "  from projects p join tenants t on t.id = p.tenant_id"
           " union all select 'key', k.id, t.name || '/' || p.name || '/' || k.name, t.id, 3"
           "  from api_keys k join projects p on p.id = k.project_id"
           "  join tenants t on t.id = p.tenant_id where k.revoked_at is null)"
           " select s.kind, s.name, nullif(l.requests_per_min, 0), nullif(l.tokens_per_min, 0),"
           " nullif(l.concurrency, 0), s.id from limits l"
           " join subjects s on s.kind = l.subject_kind and s.id = l.subject_id"
           " where ($1::uuid is null or s.tenant_id = $1)"
           " and l.requests_per_min + l.tokens_per_min + l.concurrency > 0"
           " order by s.place, s.name",
    .columns = "subject text name text requests_per_min int tokens_per_min int concurrency int"
               " id text",
};

enum status view_limits(struct pg *pg, const struct uuid *tenant, struct report *r,
                        struct error *err)
{
    char id[UUID_TEXT_SIZE];
    return view_read(pg, &limits, 1, (const char *const[]){id_text(tenant, id)}, r, err);
}
