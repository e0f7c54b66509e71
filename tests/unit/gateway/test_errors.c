/* Error bodies: all four fields, whatever the text; and what admission's verdicts become. */
#include "base/json.h"
#include "gateway/api/errors.h"
#include "tests/unit/check.h"

static struct json *body_of(const struct api_error *e)
{
    struct buf out;
    struct json *v;
    struct error err;
    buf_init(&out, 4096);
    CHECK_FATAL(api_error_body(&out, e) == OK);
    CHECK_FATAL(json_parse((const char *)buf_head(&out), buf_len(&out), NULL, &v, &err) == OK);
    CHECK_INT(json_count(json_get(v, "error")), 4);
    buf_done(&out);
    return v;
}

static void check_body(const struct api_error *e, const char *type, const char *param,
                       const char *code)
{
    struct json *v = body_of(e);
    const struct json *error = json_get(v, "error");
    CHECK_STR(json_string(json_get(error, "type")), type);
    CHECK(json_string(json_get(error, "message")) != NULL);
    if (param)
        CHECK_STR(json_string(json_get(error, "param")), param);
    else
        CHECK(json_is_null(json_get(error, "param")));
    if (code)
        CHECK_STR(json_string(json_get(error, "code")), code);
    else
        CHECK(json_is_null(json_get(error, "code")));
    json_free(v);
}

static void test_bodies(void)
{
    struct api_error e;
    api_error_set(&e, 404, NULL, "nothing \"here\"\n\x01");
    check_body(&e, "invalid_request_error", NULL, NULL);
    api_error_set(&e, 500, "x", "ours");
    check_body(&e, "server_error", NULL, "x");
    api_error_set(&e, 504, NULL, "silent");
    check_body(&e, "timeout_error", NULL, NULL);
    CHECK(!api_error_param(&e, "stop", "too many"));
    check_body(&e, "invalid_request_error", "stop", "invalid_value");
    CHECK_INT(e.status, 400);
    api_error_key(&e);
    check_body(&e, "authentication_error", NULL, "invalid_api_key");
    CHECK_INT(e.status, 401);
    api_error_overloaded(&e, 1500, "later");
    check_body(&e, "overloaded_error", NULL, "overloaded");
    CHECK_INT(e.retry_ms, 1500);
}

static void test_admission(void)
{
    static const struct {
        enum admit_verdict verdict;
        int status;
        const char *type, *code;
    } cases[] = {
        {ADMIT_RATE_REQUESTS, 429, "rate_limit_error", "rate_limit_exceeded"},
        {ADMIT_RATE_TOKENS, 429, "rate_limit_error", "rate_limit_exceeded"},
        {ADMIT_CONCURRENCY, 429, "rate_limit_error", "rate_limit_exceeded"},
        {ADMIT_BALANCE, 402, "insufficient_balance", "insufficient_balance"},
        {ADMIT_UNAVAILABLE, 503, "overloaded_error", "overloaded"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int subject = 0; subject < SUBJECTS; subject++) {
            struct admit_result result = {.verdict = cases[i].verdict,
                                          .subject = (enum limit_subject)subject,
                                          .retry_ms = 250};
            struct api_error e;
            api_error_admission(&e, &result);
            CHECK_INT(e.status, cases[i].status);
            check_body(&e, cases[i].type, NULL, cases[i].code);
            /* Clients wait as told; an empty balance is not mended by waiting. */
            CHECK_INT(e.retry_ms > 0, e.status != 402);
            if (e.status == 429)
                CHECK_INT(e.retry_ms, 250);
        }
}

static void test_refused(void)
{
    struct buf out;
    buf_init(&out, 4096);
    api_error_refused(431, "the header is too long", &out);
    CHECK(strstr(buf_cstr(&out), "\"type\":\"invalid_request_error\"") != NULL);
    buf_done(&out);
    buf_init(&out, 10);
    api_error_refused(431, "the header is too long", &out);
    CHECK_INT(buf_len(&out), 0);
    buf_done(&out);
}

int main(void)
{
    test_bodies();
    test_admission();
    test_refused();
    return check_done();
}
