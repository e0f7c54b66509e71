#include "gateway/api/errors.h"

#include <assert.h>
#include <stdarg.h>

#include "base/json.h"

static const char *type_of(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 402:
        return "insufficient_balance";
    case 403:
        return "permission_error";
    case 409:
    case 422:
        return "idempotency_error";
    case 429:
        return "rate_limit_error";
    case 500:
        return "server_error";
    case 503:
        return "overloaded_error";
    case 504:
        return "timeout_error";
    default:
        return "invalid_request_error";
    }
}

void api_error_set(struct api_error *e, int status, const char *code, const char *format, ...)
{
    *e = (struct api_error){.status = status, .type = type_of(status), .code = code};
    va_list args;
    va_start(args, format);
    vsnprintf(e->message, sizeof e->message, format, args);
    va_end(args);
}

bool api_error_param(struct api_error *e, const char *param, const char *format, ...)
{
    *e = (struct api_error){.status = 400, .type = type_of(400), .code = "invalid_value"};
    snprintf(e->param, sizeof e->param, "%s", param);
    va_list args;
    va_start(args, format);
    vsnprintf(e->message, sizeof e->message, format, args);
    va_end(args);
    return false;
}

void api_error_overloaded(struct api_error *e, int64_t retry_ms, const char *message)
{
    api_error_set(e, 503, "overloaded", "%s", message);
    e->retry_ms = retry_ms;
}

void api_error_key(struct api_error *e)
{
    api_error_set(e, 401, "invalid_api_key",
                  "The API key is missing or not valid. Send it as \"Authorization: Bearer "
                  "<key>\".");
}

static const char *subject_name(enum limit_subject subject)
{
    switch (subject) {
    case SUBJECT_KEY:
        return "this API key";
    case SUBJECT_PROJECT:
        return "this project";
    default:
        return "this account";
    }
}

void api_error_admission(struct api_error *e, const struct admit_result *r)
{
    const char *who = subject_name(r->subject);
    switch (r->verdict) {
    case ADMIT_RATE_REQUESTS:
        api_error_set(e, 429, "rate_limit_exceeded",
                      "The limit of requests per minute for %s is reached.", who);
        break;
    case ADMIT_RATE_TOKENS:
        api_error_set(e, 429, "rate_limit_exceeded",
                      "The limit of tokens per minute for %s is reached. A request counts with "
                      "its prompt and max_tokens until it is done.",
                      who);
        break;
    case ADMIT_CONCURRENCY:
        api_error_set(e, 429, "rate_limit_exceeded",
                      "The limit of requests at the same time for %s is reached.", who);
        break;
    case ADMIT_BALANCE:
        api_error_set(e, 402, "insufficient_balance",
                      "The balance does not cover this request: its prompt and max_tokens at the "
                      "model's price. Add credit, or lower max_tokens.");
        return;
    default:
        api_error_overloaded(e, 1000, "Limits cannot be checked right now. Try again shortly.");
        return;
    }
    e->retry_ms = r->retry_ms > 0 ? r->retry_ms : 1000;
}

static enum status put_text(struct buf *out, const char *name, const char *text)
{
    enum status st = buf_adds(out, name);
    if (st != OK)
        return st;
    return text && *text ? json_put_string(out, text, strlen(text)) : buf_adds(out, "null");
}

enum status api_error_body(struct buf *out, const struct api_error *e)
{
    enum status st = put_text(out, "{\"error\":{\"message\":", e->message);
    if (st == OK)
        st = put_text(out, ",\"type\":", e->type);
    if (st == OK)
        st = put_text(out, ",\"param\":", e->param);
    if (st == OK)
        st = put_text(out, ",\"code\":", e->code);
    return st == OK ? buf_adds(out, "}}") : st;
}

void api_error_refused(int status, const char *text, struct buf *body)
{
    struct api_error e;
    api_error_set(&e, status, NULL, "%s", text);
    size_t before = body->end;
    if (api_error_body(body, &e) != OK)
        body->end = before; /* an empty body is better than half of one */
}
