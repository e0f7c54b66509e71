/* The calls. Reading answers with the same rows as the command line's `list` and `show`. */
#include "admin/api/api.h"
#include "admin/views.h"
#include "billing/invoice.h"

enum { NAME_ROOM = 256, EVENTS_MAX = 1000, EVENTS_DEFAULT = 100 };

static enum status answer(struct api_call *call, enum status st, struct report *r, bool single)
{
    if (st == OK && single && report_rows(r) == 0)
        st = error_set(&call->err, NOT_FOUND, "no such thing");
    if (st == OK)
        st = report_write_json(r, single, &call->out);
    report_free(r);
    return st;
}

/* The tenant named by the query, where there is one: *out points at room, or is NULL. */
static enum status query_tenant(struct api_call *call, struct uuid *room, const struct uuid **out)
{
    char name[NAME_ROOM];
    *out = NULL;
    if (!api_query(call, "tenant", name, sizeof name))
        return OK;
    enum status st = find_tenant(call->pg, name, room, &call->err);
    if (st == OK)
        *out = room;
    return st;
}

static enum status member_tenant(struct api_call *call, struct uuid *out)
{
    const char *name;
    enum status st = api_member(call, "tenant", true, &name);
    return st == OK ? find_tenant(call->pg, name, out, &call->err) : st;
}

static enum status member_project(struct api_call *call, struct uuid *out)
{
    const char *tenant, *project;
    enum status st = api_member(call, "tenant", true, &tenant);
    if (st == OK)
        st = api_member(call, "project", true, &project);
    return st == OK ? find_project(call->pg, tenant, project, out, &call->err) : st;
}

static enum status put_id(struct api_call *call, const struct uuid *id)
{
    char text[UUID_TEXT_SIZE];
    uuid_format(id, text);
    return buf_addf(&call->out, "{\"id\": \"%s\"}\n", text);
}

static enum status tenants_get(struct api_call *call)
{
    struct uuid room;
    const struct uuid *tenant;
    enum status st = query_tenant(call, &room, &tenant);
    struct report *r = report_new();
    if (st == OK)
        st = r ? view_tenants(call->pg, tenant, r, &call->err) : NOMEM;
    return answer(call, st, r, false);
}

static enum status tenants_post(struct api_call *call)
{
    const char *name, *currency, *billing;
    enum status st = api_member(call, "name", true, &name);
    if (st == OK)
        st = api_member(call, "currency", true, &currency);
    if (st == OK)
        st = api_member(call, "billing", true, &billing);
    if (st != OK)
        return st;
    bool prepaid = strcmp(billing, "prepaid") == 0;
    if (!prepaid && strcmp(billing, "postpaid") != 0)
        return error_set(&call->err, INVALID, "'billing' is prepaid or postpaid");
    struct tenant_new t = {name, currency, prepaid, NULL};
    struct uuid id;
    st = tenant_create(call->pg, &call->actor, &t, &id, &call->err);
    return st == OK ? put_id(call, &id) : st;
}

static enum status projects_get(struct api_call *call)
{
    struct uuid room;
    const struct uuid *tenant;
    enum status st = query_tenant(call, &room, &tenant);
    struct report *r = report_new();
    if (st == OK)
        st = r ? view_projects(call->pg, tenant, NULL, r, &call->err) : NOMEM;
    return answer(call, st, r, false);
}

static enum status projects_post(struct api_call *call)
{
    struct uuid tenant, id;
    const char *name;
    enum status st = member_tenant(call, &tenant);
    if (st == OK)
        st = api_member(call, "name", true, &name);
    if (st == OK)
        st = project_create(call->pg, &call->actor, &tenant, name, &id, &call->err);
    return st == OK ? put_id(call, &id) : st;
}

static enum status keys_get(struct api_call *call)
{
    struct uuid room;
    struct key_filter filter = {0};
    enum status st = query_tenant(call, &room, &filter.tenant);
    struct report *r = report_new();
    if (st == OK)
        st = r ? view_keys(call->pg, &filter, r, &call->err) : NOMEM;
    return answer(call, st, r, false);
}

static enum status member_models(struct api_call *call, const char **models, int *count)
{
    const struct json *list = json_get(call->json, "models");
    *count = 0;
    if (!list)
        return OK;
    if (!json_is_array(list) || json_count(list) > KEY_MODELS_MAX)
        return error_set(&call->err, INVALID, "'models' must be an array of at most %d names",
                         KEY_MODELS_MAX);
    for (const struct json *v = json_first(list); v; v = json_next(v)) {
        if (!json_is_string(v))
            return error_set(&call->err, INVALID, "'models' must hold strings");
        models[(*count)++] = json_string(v);
    }
    return OK;
}

static enum status keys_post(struct api_call *call)
{
    const char *models[KEY_MODELS_MAX];
    struct key_new k = {.models = models};
    struct uuid id;
    struct secret key;
    enum status st = member_project(call, &k.project);
    if (st == OK)
        st = api_member(call, "name", true, &k.name);
    if (st == OK)
        st = api_member(call, "expires_at", false, &k.expires_at);
    if (st == OK)
        st = member_models(call, models, &k.model_count);
    if (st == OK)
        st = key_create(call->pg, &call->actor, &k, &id, &key, &call->err);
    if (st != OK)
        return st;
    char text[UUID_TEXT_SIZE];
    uuid_format(&id, text);
    st = buf_addf(&call->out, "{\"id\": \"%s\", \"key\": \"%s\"}\n", text, key.text);
    secret_wipe(&key);
    api_publish(call, SUBJECT_KEY, &id);
    return st;
}

static enum status keys_delete(struct api_call *call)
{
    struct uuid id;
    if (!uuid_parse(call->argument, strlen(call->argument), &id))
        return error_set(&call->err, NOT_FOUND, "no such key");
    enum status st = key_revoke(call->pg, &call->actor, &id, &call->err);
    if (st != OK)
        return st;
    api_publish(call, SUBJECT_KEY, &id);
    return put_id(call, &id);
}

static enum status limits_get(struct api_call *call)
{
    struct uuid room;
    const struct uuid *tenant;
    enum status st = query_tenant(call, &room, &tenant);
    struct report *r = report_new();
    if (st == OK)
        st = r ? view_limits(call->pg, tenant, r, &call->err) : NOMEM;
    return answer(call, st, r, false);
}

static enum status member_limit(struct api_call *call, const char *name, int64_t *out)
{
    const struct json *v = json_get(call->json, name);
    *out = -1;
    if (!v || json_int(v, 0, 1000000000, out))
        return OK;
    return error_set(&call->err, INVALID, "'%s' must be a whole number from 0 (none) to 1000000000",
                     name);
}

static enum status limits_put(struct api_call *call)
{
    static const char *const subjects[] = {"key", "project", "tenant"};
    const char *kind, *text;
    struct uuid id;
    struct limits limits;
    enum status st = api_member(call, "subject", true, &kind);
    if (st == OK)
        st = api_member(call, "id", true, &text);
    if (st == OK && !uuid_parse(text, strlen(text), &id))
        st = error_set(&call->err, INVALID, "'id' is not an id");
    if (st == OK)
        st = member_limit(call, "requests_per_min", &limits.requests_per_min);
    if (st == OK)
        st = member_limit(call, "tokens_per_min", &limits.tokens_per_min);
    if (st == OK)
        st = member_limit(call, "concurrency", &limits.concurrency);
    if (st != OK)
        return st;
    for (int s = 0; s < SUBJECTS; s++) {
        if (strcmp(kind, subjects[s]) != 0)
            continue;
        st = limit_set(call->pg, &call->actor, (enum limit_subject)s, &id, &limits, &call->err);
        if (st == OK)
            api_publish(call, (enum limit_subject)s, &id);
        return st == OK ? put_id(call, &id) : st;
    }
    return error_set(&call->err, INVALID, "'subject' is key, project or tenant");
}

static enum status credits_get(struct api_call *call)
{
    struct uuid room;
    const struct uuid *tenant;
    enum status st = query_tenant(call, &room, &tenant);
    if (st == OK && !tenant)
        st = error_set(&call->err, INVALID, "?tenant= is missing");
    struct report *r = report_new();
    if (st == OK)
        st = r ? view_credits(call->pg, tenant, r, &call->err) : NOMEM;
    return answer(call, st, r, false);
}

static enum status events_get(struct api_call *call)
{
    struct uuid room;
    struct usage_filter filter = {.limit = EVENTS_DEFAULT};
    char limit[24];
    enum status st = query_tenant(call, &room, &filter.tenant);
    if (st == OK && api_query(call, "limit", limit, sizeof limit)) {
        char *end;
        long n = strtol(limit, &end, 10);
        if (*end || n < 1 || n > EVENTS_MAX)
            st = error_set(&call->err, INVALID, "?limit= must lie between 1 and %d", EVENTS_MAX);
        filter.limit = (int)n;
    }
    struct report *r = report_new();
    if (st == OK)
        st = r ? view_usage_events(call->pg, &filter, r, &call->err) : NOMEM;
    return answer(call, st, r, false);
}

static enum status invoice_get(struct api_call *call)
{
    struct invoice *i = NULL;
    enum status st = invoice_load(call->pg, call->argument, &i, &call->err);
    if (st == OK)
        st = invoice_json(i, &call->out);
    invoice_free(i);
    return st;
}

static enum status preview_get(struct api_call *call)
{
    char tenant[NAME_ROOM], month[NAME_ROOM];
    struct invoice *i = NULL;
    if (!api_query(call, "tenant", tenant, sizeof tenant))
        return error_set(&call->err, INVALID, "?tenant= is missing");
    enum status st = invoice_preview(call->pg, tenant,
                                     api_query(call, "month", month, sizeof month), &i, &call->err);
    if (st == OK)
        st = invoice_json(i, &call->out);
    invoice_free(i);
    return st;
}

const struct api_route api_routes[] = {
    {"GET", "/v1/admin/tenants", false, tenants_get},
    {"POST", "/v1/admin/tenants", true, tenants_post},
    {"GET", "/v1/admin/projects", false, projects_get},
    {"POST", "/v1/admin/projects", true, projects_post},
    {"GET", "/v1/admin/keys", false, keys_get},
    {"POST", "/v1/admin/keys", true, keys_post},
    {"DELETE", "/v1/admin/keys/*", true, keys_delete},
    {"GET", "/v1/admin/limits", false, limits_get},
    {"PUT", "/v1/admin/limits", true, limits_put},
    {"GET", "/v1/admin/credits", false, credits_get},
    {"GET", "/v1/admin/usage", false, events_get},
    {"GET", "/v1/admin/invoices/preview", false, preview_get},
    {"GET", "/v1/admin/invoices/*", false, invoice_get},
    {0},
};
