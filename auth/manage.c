#include "auth/manage.h"

#include <ctype.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"

static const char *const subject_names[] = {"key", "project", "tenant"};

/* The rule of tg_is_slug in the schema, said in words. */
static enum status check_name(const char *what, const char *name, struct error *err)
{
    size_t len = strlen(name);
    bool good = len >= 1 && len <= 63 && name[0] != '-' && name[len - 1] != '-';
    for (size_t i = 0; i < len; i++)
        good = good && (islower((unsigned char)name[i]) || isdigit((unsigned char)name[i]) ||
                        name[i] == '-');
    struct uuid id;
    if (good && !uuid_parse(name, len, &id))
        return OK;
    return error_set(err, INVALID,
                     "'%.80s' cannot be the name of a %s: use a-z, 0-9 and dashes inside, at most "
                     "63 characters",
                     name, what);
}

static enum status check_status(const char *status, struct error *err)
{
    if (strcmp(status, "active") == 0 || strcmp(status, "suspended") == 0)
        return OK;
    return error_set(err, INVALID, "a status is active or suspended, not '%.40s'", status);
}

/* Runs a statement that returns a row when it did something. */
static enum status run_change(struct pg *pg, const char *sql, int count, const char *const *params,
                              const char *missing, struct error *err)
{
    struct pg_result *r = NULL;
    enum status st = pg_query(pg, sql, count, params, &r, err);
    if (st == OK && pg_rows(r) == 0)
        st = error_set(err, NOT_FOUND, "%s", missing);
    pg_result_free(r);
    return st;
}

static enum status name_conflict(enum status st, const char *what, const char *name,
                                 struct error *err)
{
    if (st != CONFLICT)
        return st;
    return error_set(err, CONFLICT, "there is a %s '%.80s' already", what, name);
}

enum status tenant_create(struct pg *pg, const struct actor *actor, const struct tenant_new *t,
                          struct uuid *id, struct error *err)
{
    enum status st = check_name("tenant", t->name, err);
    if (st != OK)
        return st;
    bool currency = strlen(t->currency) == 3;
    for (const char *c = t->currency; *c; c++)
        currency = currency && isupper((unsigned char)*c);
    if (!currency)
        return error_set(err, INVALID, "'%.20s' is not a currency such as USD", t->currency);
    struct uuid new_id = uuid_v7(clock_wall_ms());
    char text[UUID_TEXT_SIZE];
    uuid_format(&new_id, text);
    const char *const params[] = {
        text,     t->name,     t->currency,  t->prepaid ? "prepaid" : "postpaid",
        t->legal, actor->name, actor->source};
    st = run_change(pg,
                    "WITH n AS (INSERT INTO tenants (id, name, currency, billing_mode, legal)"
                    " VALUES ($1::uuid, $2, $3, $4, coalesce($5::jsonb, '{}')) RETURNING *)"
                    "INSERT INTO audit_log (actor, source, action, subject_kind, subject_id, after)"
                    " SELECT $6, $7, 'tenant.create', 'tenant', n.id::text, to_jsonb(n) FROM n"
                    " RETURNING id",
                    7, params, "nothing was made", err);
    st = name_conflict(st, "tenant", t->name, err);
    if (st == OK)
        *id = new_id;
    return st;
}

enum status tenant_set_status(struct pg *pg, const struct actor *actor, const struct uuid *id,
                              const char *status, struct error *err)
{
    char text[UUID_TEXT_SIZE];
    uuid_format(id, text);
    const char *const params[] = {text, status, actor->name, actor->source};
    if (check_status(status, err) != OK)
        return INVALID;
    return run_change(
        pg,
        "WITH o AS (SELECT * FROM tenants WHERE id = $1::uuid FOR UPDATE), n AS (UPDATE tenants"
        " SET status = $2 WHERE id = (SELECT id FROM o) RETURNING *)"
        "INSERT INTO audit_log (actor, source, action, subject_kind, subject_id, before, after)"
        " SELECT $3, $4, 'tenant.status', 'tenant', n.id::text, to_jsonb(o), to_jsonb(n)"
        " FROM n, o RETURNING id",
        4, params, "no such tenant", err);
}

enum status tenant_set_legal(struct pg *pg, const struct actor *actor, const struct uuid *id,
                             const char *legal, struct error *err)
{
    struct json *v;
    enum status st = json_parse(legal, strlen(legal), NULL, &v, err);
    if (st != OK)
        return st;
    bool object = json_is_object(v);
    json_free(v);
    if (!object)
        return error_set(err, INVALID, "what an invoice says of the buyer must be a JSON object");
    char text[UUID_TEXT_SIZE];
    uuid_format(id, text);
    const char *const params[] = {text, legal, actor->name, actor->source};
    return run_change(
        pg,
        "WITH o AS (SELECT * FROM tenants WHERE id = $1::uuid FOR UPDATE), n AS (UPDATE tenants"
        " SET legal = $2::jsonb WHERE id = (SELECT id FROM o) RETURNING *)"
        "INSERT INTO audit_log (actor, source, action, subject_kind, subject_id, before, after)"
        " SELECT $3, $4, 'tenant.legal', 'tenant', n.id::text, to_jsonb(o), to_jsonb(n)"
        " FROM n, o RETURNING id",
        4, params, "no such tenant", err);
}

enum status project_create(struct pg *pg, const struct actor *actor, const struct uuid *tenant,
                           const char *name, struct uuid *id, struct error *err)
{
    enum status st = check_name("project", name, err);
    if (st != OK)
        return st;
    struct uuid new_id = uuid_v7(clock_wall_ms());
    char text[UUID_TEXT_SIZE], owner[UUID_TEXT_SIZE];
    uuid_format(&new_id, text);
    uuid_format(tenant, owner);
    const char *const params[] = {text, owner, name, actor->name, actor->source};
    st = run_change(
        pg,
        "WITH n AS (INSERT INTO projects (id, tenant_id, name) SELECT $1::uuid, id, $3"
        " FROM tenants WHERE id = $2::uuid RETURNING *)"
        "INSERT INTO audit_log (actor, source, action, subject_kind, subject_id, after)"
        " SELECT $4, $5, 'project.create', 'project', n.id::text, to_jsonb(n) FROM n RETURNING id",
        5, params, "no such tenant", err);
    st = name_conflict(st, "project", name, err);
    if (st == OK)
        *id = new_id;
    return st;
}

enum status project_set_status(struct pg *pg, const struct actor *actor, const struct uuid *id,
                               const char *status, struct error *err)
{
    char text[UUID_TEXT_SIZE];
    uuid_format(id, text);
    const char *const params[] = {text, status, actor->name, actor->source};
    if (check_status(status, err) != OK)
        return INVALID;
    return run_change(
        pg,
        "WITH o AS (SELECT * FROM projects WHERE id = $1::uuid FOR UPDATE), n AS (UPDATE projects"
        " SET status = $2 WHERE id = (SELECT id FROM o) RETURNING *)"
        "INSERT INTO audit_log (actor, source, action, subject_kind, subject_id, before, after)"
        " SELECT $3, $4, 'project.status', 'project', n.id::text, to_jsonb(o), to_jsonb(n)"
        " FROM n, o RETURNING id",
        4, params, "no such project", err);
}

enum status project_set_priority(struct pg *pg, const struct actor *actor, const struct uuid *id,
                                 int priority, struct error *err)
{
    char text[UUID_TEXT_SIZE], number[16];
    if (priority < -KEY_PRIORITY_MAX || priority > KEY_PRIORITY_MAX)
        return error_set(err, INVALID, "a priority is from %d to %d", -KEY_PRIORITY_MAX,
                         KEY_PRIORITY_MAX);
    uuid_format(id, text);
    snprintf(number, sizeof number, "%d", priority);
    const char *const params[] = {text, number, actor->name, actor->source};
    return run_change(
        pg,
        "WITH o AS (SELECT * FROM projects WHERE id = $1::uuid FOR UPDATE), n AS (UPDATE projects"
        " SET priority = $2::smallint WHERE id = (SELECT id FROM o) RETURNING *)"
        "INSERT INTO audit_log (actor, source, action, subject_kind, subject_id, before, after)"
        " SELECT $3, $4, 'project.priority', 'project', n.id::text, to_jsonb(o), to_jsonb(n)"
        " FROM n, o RETURNING id",
        4, params, "no such project", err);
}

/* A JSON array of the models, which PostgreSQL turns into its own. */
static enum status models_json(const char *const *models, int count, struct buf *out,
                               struct error *err)
{
    enum status st = count > KEY_MODELS_MAX ? LIMITED : buf_adds(out, "[");
    for (int i = 0; st == OK && i < count; i++) {
        size_t len = strlen(models[i]);
        if (len == 0 || len >= KEY_MODEL_NAME_MAX)
            return error_set(err, INVALID, "'%.80s' cannot be the name of a model", models[i]);
        st = i ? buf_adds(out, ",") : OK;
        if (st == OK)
            st = json_put_string(out, models[i], len);
    }
    if (st == OK)
        st = buf_adds(out, "]");
    if (st != OK || !buf_cstr(out))
        return error_set(err, INVALID, "a key names at most %d models", KEY_MODELS_MAX);
    return OK;
}

enum status key_create(struct pg *pg, const struct actor *actor, const struct key_new *k,
                       struct uuid *id, struct secret *key, struct error *err)
{
    enum status st = check_name("key", k->name, err);
    if (st != OK)
        return st;
    struct buf models;
    buf_init(&models, KEY_MODELS_MAX * KEY_MODEL_NAME_MAX * 6);
    st = models_json(k->models, k->model_count, &models, err);
    struct uuid new_id = uuid_v7(clock_wall_ms());
    struct secret made;
    char text[UUID_TEXT_SIZE], project[UUID_TEXT_SIZE], prefix[KEY_PREFIX_SIZE];
    char hash[2 * SHA256_BYTES + 1];
    uuid_format(&new_id, text);
    uuid_format(&k->project, project);
    key_text_make(KEY_API, &made);
    key_text_prefix(&made, prefix);
    key_text_hash_hex(made.text, strlen(made.text), hash);
    if (st == OK) {
        const char *const params[] = {text,          project,     k->name,
                                      hash,          prefix,      buf_cstr(&models),
                                      k->expires_at, actor->name, actor->source};
        st = run_change(
            pg,
            "WITH n AS (INSERT INTO api_keys (id, project_id, name, sha256, prefix, models,"
            " expires_at) SELECT $1::uuid, id, $3, decode($4, 'hex'), $5, ARRAY(SELECT"
            " jsonb_array_elements_text($6::jsonb)), $7::timestamptz FROM projects"
            " WHERE id = $2::uuid RETURNING *)"
            "INSERT INTO audit_log (actor, source, action, subject_kind, subject_id, after)"
            " SELECT $8, $9, 'key.create', 'key', n.id::text, to_jsonb(n) - 'sha256' FROM n"
            " RETURNING id",
            9, params, "no such project", err);
        st = name_conflict(st, "key", k->name, err);
    }
    buf_done(&models);
    if (st == OK) {
        *id = new_id;
        *key = made;
    }
    secret_wipe(&made);
    return st;
}

enum status key_revoke(struct pg *pg, const struct actor *actor, const struct uuid *id,
                       struct error *err)
{
    char text[UUID_TEXT_SIZE];
    uuid_format(id, text);
    const char *const params[] = {text, actor->name, actor->source};
    return run_change(
        pg,
        "WITH n AS (UPDATE api_keys SET revoked_at = now() WHERE id = $1::uuid AND revoked_at IS"
        " NULL RETURNING *)"
        "INSERT INTO audit_log (actor, source, action, subject_kind, subject_id, after)"
        " SELECT $2, $3, 'key.revoke', 'key', n.id::text, to_jsonb(n) - 'sha256' FROM n"
        " RETURNING id",
        3, params, "no such key, or it is revoked already", err);
}

enum status key_update(struct pg *pg, const struct actor *actor, const struct uuid *id,
                       const struct key_change *change, struct error *err)
{
    char text[UUID_TEXT_SIZE];
    uuid_format(id, text);
    struct buf models;
    buf_init(&models, KEY_MODELS_MAX * KEY_MODEL_NAME_MAX * 6);
    enum status st = OK;
    if (change->model_count >= 0)
        st = models_json(change->models, change->model_count, &models, err);
    const char *const params[] = {text, change->model_count >= 0 ? buf_cstr(&models) : NULL,
                                  change->expires_at, actor->name, actor->source};
    if (st == OK)
        st = run_change(
            pg,
            "WITH o AS (SELECT * FROM api_keys WHERE id = $1::uuid AND revoked_at IS NULL FOR"
            " UPDATE), n AS (UPDATE api_keys k SET models = CASE WHEN $2::jsonb IS NULL THEN"
            " k.models ELSE ARRAY(SELECT jsonb_array_elements_text($2::jsonb)) END, expires_at ="
            " CASE WHEN $3::text IS NULL THEN k.expires_at ELSE nullif($3::text, '')::timestamptz"
            " END FROM o WHERE k.id = o.id RETURNING k.*)"
            "INSERT INTO audit_log (actor, source, action, subject_kind, subject_id, before, after)"
            " SELECT $4, $5, 'key.update', 'key', n.id::text, to_jsonb(o) - 'sha256',"
            " to_jsonb(n) - 'sha256' FROM n, o RETURNING id",
            5, params, "no such key, or it is revoked", err);
    buf_done(&models);
    return st;
}

/* NULL: left as it is. */
static const char *limit_text(int64_t value, char out[24])
{
    if (value < 0)
        return NULL;
    snprintf(out, 24, "%lld", (long long)value);
    return out;
}

enum status limit_set(struct pg *pg, const struct actor *actor, enum limit_subject subject,
                      const struct uuid *id, const struct limits *limits, struct error *err)
{
    char text[UUID_TEXT_SIZE], requests[24], tokens[24], running[24];
    uuid_format(id, text);
    const char *const params[] = {subject_names[subject],
                                  text,
                                  limit_text(limits->requests_per_min, requests),
                                  limit_text(limits->tokens_per_min, tokens),
                                  limit_text(limits->concurrency, running),
                                  actor->name,
                                  actor->source};
    enum status st = run_change(
        pg,
        "WITH o AS (SELECT * FROM limits WHERE subject_kind = $1 AND subject_id = $2::uuid),"
        " n AS (INSERT INTO limits AS l (subject_kind, subject_id, requests_per_min,"
        " tokens_per_min, concurrency) VALUES ($1, $2::uuid, coalesce($3::bigint, 0),"
        " coalesce($4::bigint, 0), coalesce($5::bigint, 0))"
        " ON CONFLICT (subject_kind, subject_id) DO UPDATE SET"
        " requests_per_min = coalesce($3::bigint, l.requests_per_min),"
        " tokens_per_min = coalesce($4::bigint, l.tokens_per_min),"
        " concurrency = coalesce($5::bigint, l.concurrency) RETURNING *)"
        "INSERT INTO audit_log (actor, source, action, subject_kind, subject_id, before, after)"
        " SELECT $6, $7, 'limit.set', $1, $2, (SELECT to_jsonb(o) FROM o), to_jsonb(n) FROM n"
        " RETURNING id",
        7, params, "nothing was set", err);
    if (st == CONFLICT && strstr(err->text, "no such"))
        return error_set(err, NOT_FOUND, "no such %s", subject_names[subject]);
    return st;
}

enum status admin_key_create(struct pg *pg, const struct actor *actor, const char *name,
                             const char *role, struct uuid *id, struct secret *key,
                             struct error *err)
{
    enum status st = check_name("key", name, err);
    if (st != OK)
        return st;
    struct uuid new_id = uuid_v7(clock_wall_ms());
    struct secret made;
    char text[UUID_TEXT_SIZE], prefix[KEY_PREFIX_SIZE], hash[2 * SHA256_BYTES + 1];
    uuid_format(&new_id, text);
    key_text_make(KEY_ADMIN, &made);
    key_text_prefix(&made, prefix);
    key_text_hash_hex(made.text, strlen(made.text), hash);
    const char *const params[] = {text, name, hash, prefix, role, actor->name, actor->source};
    st = run_change(
        pg,
        "WITH n AS (INSERT INTO admin_keys (id, name, sha256, prefix, role) VALUES ($1::uuid, $2,"
        " decode($3, 'hex'), $4, $5) RETURNING *)"
        "INSERT INTO audit_log (actor, source, action, subject_kind, subject_id, after)"
        " SELECT $6, $7, 'admin_key.create', 'admin_key', n.id::text, to_jsonb(n) - 'sha256'"
        " FROM n RETURNING id",
        7, params, "nothing was made", err);
    if (st == CONFLICT && strstr(err->text, "role"))
        st = error_set(err, INVALID,
                       "a role is owner, admin, finance, developer or auditor, not '%.40s'", role);
    st = name_conflict(st, "key", name, err);
    if (st == OK) {
        *id = new_id;
        *key = made;
    }
    secret_wipe(&made);
    return st;
}

enum status admin_key_revoke(struct pg *pg, const struct actor *actor, const char *name,
                             struct error *err)
{
    const char *const params[] = {name, actor->name, actor->source};
    return run_change(
        pg,
        "WITH n AS (UPDATE admin_keys SET revoked_at = now() WHERE name = $1 AND revoked_at IS"
        " NULL RETURNING *)"
        "INSERT INTO audit_log (actor, source, action, subject_kind, subject_id, after)"
        " SELECT $2, $3, 'admin_key.revoke', 'admin_key', n.id::text, to_jsonb(n) - 'sha256'"
        " FROM n RETURNING id",
        3, params, "no such key, or it is revoked already", err);
}

enum status admin_key_find(struct pg *pg, const char *key, size_t len, struct admin_identity *out,
                           struct error *err)
{
    char hash[2 * SHA256_BYTES + 1];
    key_text_hash_hex(key, len, hash); /* of malformed ones too: the same path for all */
    const char *const params[] = {hash};
    struct pg_result *r = NULL;
    enum status st = pg_query(pg,
                              "SELECT name, role FROM admin_keys WHERE sha256 = decode($1, 'hex')"
                              " AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at >"
                              " now())",
                              1, params, &r, err);
    if (st == OK && pg_rows(r) == 0)
        st = error_set(err, DENIED, "not a valid administrator's key");
    if (st == OK) {
        snprintf(out->name, sizeof out->name, "%s", pg_text(r, 0, 0));
        snprintf(out->role, sizeof out->role, "%s", pg_text(r, 0, 1));
    }
    pg_result_free(r);
    return st;
}

enum status manage_key_hashes(struct pg *pg, enum limit_subject subject, const struct uuid *id,
                              key_hash_fn *fn, void *arg, struct error *err)
{
    char text[UUID_TEXT_SIZE];
    uuid_format(id, text);
    const char *const params[] = {text, subject_names[subject]};
    struct pg_result *r = NULL;
    enum status st = pg_query(pg,
                              "SELECT encode(k.sha256, 'hex') FROM api_keys k JOIN projects p"
                              " ON p.id = k.project_id WHERE CASE $2 WHEN 'key' THEN k.id"
                              " WHEN 'project' THEN p.id ELSE p.tenant_id END = $1::uuid",
                              2, params, &r, err);
    for (int row = 0; st == OK && row < pg_rows(r); row++)
        fn(pg_text(r, row, 0), arg);
    pg_result_free(r);
    return st;
}
