#include "auth/key_record.h"

#include "base/json.h"

size_t key_record_bytes(const struct key_record *r)
{
    return offsetof(struct key_record, models) + (size_t)r->model_count * KEY_MODEL_NAME_MAX;
}

bool key_record_allows(const struct key_record *r, const char *model)
{
    for (int i = 0; i < r->model_count; i++)
        if (strcmp(r->models[i], model) == 0)
            return true;
    return r->model_count == 0;
}

static bool get_uuid(const struct json *v, const char *name, struct uuid *out)
{
    const char *text = json_string(json_get(v, name));
    return text && uuid_parse(text, strlen(text), out);
}

static bool get_int(const struct json *v, const char *name, int64_t *out)
{
    return json_int(json_get(v, name), 0, (int64_t)1 << 53, out);
}

static bool get_bool(const struct json *v, const char *name, bool *out)
{
    const struct json *member = json_get(v, name);
    *out = json_bool(member);
    return json_is_bool(member);
}

static bool get_limits(const struct json *v, const char *subject, struct limits *out)
{
    char requests[32], tokens[32], running[32];
    snprintf(requests, sizeof requests, "%s_requests", subject);
    snprintf(tokens, sizeof tokens, "%s_tokens", subject);
    snprintf(running, sizeof running, "%s_concurrency", subject);
    return get_int(v, requests, &out->requests_per_min) &&
           get_int(v, tokens, &out->tokens_per_min) && get_int(v, running, &out->concurrency);
}

/* Records that were cached before there were priorities have none. */
static bool get_priority(const struct json *v, int *out)
{
    const struct json *member = json_get(v, "priority");
    int64_t priority = 0;
    bool good = !member || json_int(member, -KEY_PRIORITY_MAX, KEY_PRIORITY_MAX, &priority);
    *out = (int)priority;
    return good;
}

static bool get_models(const struct json *v, struct key_record *out)
{
    const struct json *list = json_get(v, "models");
    if (!json_is_array(list) || json_count(list) > KEY_MODELS_MAX)
        return false;
    for (const struct json *m = json_first(list); m; m = json_next(m)) {
        const char *name = json_string(m);
        if (!name || strlen(name) >= KEY_MODEL_NAME_MAX)
            return false;
        snprintf(out->models[out->model_count++], KEY_MODEL_NAME_MAX, "%s", name);
    }
    return true;
}

static bool get_all(const struct json *v, struct key_record *out)
{
    const char *currency = json_string(json_get(v, "currency"));
    if (!currency || strlen(currency) != 3)
        return false;
    snprintf(out->currency, sizeof out->currency, "%s", currency);
    return get_uuid(v, "key_id", &out->key_id) && get_uuid(v, "project_id", &out->project_id) &&
           get_uuid(v, "tenant_id", &out->tenant_id) && get_int(v, "version", &out->version) &&
           get_int(v, "expires_ms", &out->expires_wall_ms) &&
           get_bool(v, "revoked", &out->revoked) && get_bool(v, "prepaid", &out->prepaid) &&
           get_limits(v, "key", &out->limits[SUBJECT_KEY]) &&
           get_limits(v, "project", &out->limits[SUBJECT_PROJECT]) &&
           get_limits(v, "tenant", &out->limits[SUBJECT_TENANT]) &&
           get_priority(v, &out->priority) && get_models(v, out);
}

enum status key_record_parse(const char *json, size_t len, struct key_record *out)
{
    struct json *v;
    struct error ignored; /* what is wrong inside a cache entry helps nobody */
    struct key_record r = {0};
    if (json_parse(json, len, NULL, &v, &ignored) != OK)
        return CORRUPT;
    bool good = get_all(v, &r);
    json_free(v);
    if (!good)
        return CORRUPT;
    *out = r;
    return OK;
}
