#include "admin/api/api.h"

#include "auth/publish.h"

static const char *error_type(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 500:
        return "server_error";
    case 503:
        return "overloaded_error";
    default:
        return "invalid_request_error";
    }
}

void api_error(struct buf *out, int status, const char *message)
{
    buf_clear(out);
    buf_adds(out, "{\"error\": {\"message\": ");
    json_put_string(out, message, strlen(message));
    buf_addf(out, ", \"type\": \"%s\", \"param\": null, \"code\": null}}\n", error_type(status));
}

static int http_status(enum status st)
{
    switch (st) {
    case OK:
        return 200;
    case INVALID:
        return 400;
    case DENIED:
        return 403;
    case NOT_FOUND:
        return 404;
    case CONFLICT:
        return 409;
    case UNAVAILABLE:
    case TIMED_OUT:
        return 503;
    default:
        return 500;
    }
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

const char *api_query(const struct api_call *call, const char *name, char *room, size_t size)
{
    size_t len = strlen(name), used = 0;
    const char *p = call->query;
    while (p && !(strncmp(p, name, len) == 0 && p[len] == '=')) {
        p = strchr(p, '&');
        p = p ? p + 1 : NULL;
    }
    if (!p)
        return NULL;
    for (p += len + 1; *p && *p != '&' && used + 1 < size; p++) {
        char c = *p == '+' ? ' ' : *p;
        if (c == '%' && digit(p[1]) >= 0 && digit(p[2]) >= 0) {
            c = (char)(digit(p[1]) << 4 | digit(p[2]));
            p += 2;
        }
        if (c)
            room[used++] = c;
    }
    room[used] = 0;
    return room;
}

enum status api_member(struct api_call *call, const char *name, bool required, const char **out)
{
    const struct json *v = json_get(call->json, name);
    *out = json_string(v);
    if (*out || (!required && (!v || json_is_null(v))))
        return OK;
    return error_set(&call->err, INVALID, "'%s' %s", name, v ? "must be a string" : "is missing");
}

static void publish_one(const char *sha256_hex, void *arg)
{
    struct api_call *call = arg;
    struct error ignored; /* billing announces it again from PostgreSQL's own message */
    (void)publish_key(call->pg, call->redis, sha256_hex, &ignored);
}

void api_publish(struct api_call *call, enum limit_subject subject, const struct uuid *id)
{
    struct error ignored;
    if (call->redis)
        (void)manage_key_hashes(call->pg, subject, id, publish_one, call, &ignored);
}

static bool path_matches(const char *pattern, const char *path, const char **argument)
{
    size_t len = strlen(pattern);
    if (pattern[len - 1] != '*')
        return strcmp(pattern, path) == 0;
    if (strncmp(pattern, path, len - 1) != 0 || !path[len - 1] || strchr(path + len - 1, '/'))
        return false;
    *argument = path + len - 1;
    return true;
}

static enum status parse_body(struct api_call *call)
{
    if (call->body_len == 0 && strcmp(call->method, "DELETE") == 0)
        return OK;
    if (strcmp(call->method, "GET") == 0)
        return OK;
    enum status st = json_parse(call->body, call->body_len, NULL, &call->json, &call->err);
    if (st == OK && !json_is_object(call->json))
        st = error_set(&call->err, INVALID, "the body must be a JSON object");
    return st == OK ? OK : INVALID;
}

static bool may_write(const struct admin_identity *who)
{
    return strcmp(who->role, "owner") == 0 || strcmp(who->role, "admin") == 0;
}

static enum status run_route(struct api_call *call, const struct api_route *route)
{
    if (route->writes && !may_write(&call->who))
        return error_set(&call->err, DENIED, "the role %s may not change anything", call->who.role);
    enum status st = parse_body(call);
    if (st == OK)
        st = route->run(call);
    json_free(call->json);
    call->json = NULL;
    return st;
}

void api_run(struct api_call *call, int *status)
{
    bool path_known = false;
    for (const struct api_route *r = api_routes; r->method; r++) {
        if (!path_matches(r->path, call->path, &call->argument))
            continue;
        path_known = true;
        if (strcmp(r->method, call->method) != 0)
            continue;
        enum status st = run_route(call, r);
        *status = http_status(st);
        if (st != OK)
            api_error(&call->out, *status, *status == 500 ? "internal error" : call->err.text);
        return;
    }
    *status = path_known ? 405 : 404;
    api_error(&call->out, *status, path_known ? "the method is not allowed here" : "no such path");
}
