/* The bytes of answers, and that every piece of them is JSON. */
#include "base/json.h"
#include "gateway/api/chat_reply.h"
#include "tests/unit/check.h"

#define ID "01932b3c-0000-7000-8000-000000000001"
static const struct chat_answer plain = {ID, "m\"x", 1700000000, false};
static const struct chat_answer with_usage = {ID, "m", 1700000000, true};
static const struct token_counts counts = {
    .prompt = 10, .cached = 4, .completion = 7, .reasoning = 3};

static struct chat_text text_of(const char *content, const char *reasoning)
{
    return (struct chat_text){content, reasoning, strlen(content), strlen(reasoning)};
}

/* The data of each event; the count of them. */
static int events(struct buf *out, struct json **list, int most)
{
    int n = 0;
    const char *at = buf_cstr(out);
    struct error err;
    while (*at) {
        const char *end = strstr(at, "\n\n");
        CHECK_FATAL(end && strncmp(at, "data: ", 6) == 0);
        if (strncmp(at + 6, "[DONE]", 6) == 0) {
            CHECK_STR(end, "\n\n"); /* the last event */
            return n;
        }
        CHECK_FATAL(n < most);
        CHECK_FATAL(json_parse(at + 6, (size_t)(end - at - 6), NULL, &list[n++], &err) == OK);
        at = end + 2;
    }
    return n;
}

static void test_stream(void)
{
    struct buf out;
    struct json *e[8];
    buf_init(&out, 1 << 16);
    struct chat_text both = text_of("con\"tent\n", "why");
    CHECK(chat_put_role(&out, &with_usage) == OK);
    CHECK(chat_put_delta(&out, &with_usage, &both) == OK);
    CHECK(chat_put_end(&out, &with_usage, "length", &counts) == OK);
    int n = events(&out, e, 8);
    CHECK_FATAL(n == 5);
    for (int i = 0; i < n; i++) {
        CHECK_STR(json_string(json_get(e[i], "id")), "chatcmpl-" ID);
        CHECK_STR(json_string(json_get(e[i], "object")), "chat.completion.chunk");
        CHECK_INT(json_number(json_get(e[i], "created")), 1700000000);
        CHECK_INT(json_count(json_get(e[i], "choices")), i == 4 ? 0 : 1);
        CHECK_INT(json_is_null(json_get(e[i], "usage")), i != 4);
    }
#define DELTA(i, name) json_get(json_get(json_first(json_get(e[i], "choices")), "delta"), name)
    CHECK_STR(json_string(DELTA(0, "role")), "assistant");
    CHECK_STR(json_string(DELTA(0, "content")), "");
    CHECK_STR(json_string(DELTA(1, "reasoning_content")), "why");
    CHECK(!DELTA(1, "content"));
    CHECK_STR(json_string(DELTA(2, "content")), "con\"tent\n");
#undef DELTA
    const struct json *last = json_first(json_get(e[3], "choices"));
    CHECK_STR(json_string(json_get(last, "finish_reason")), "length");
    CHECK_INT(json_number(json_get(json_get(e[4], "usage"), "total_tokens")), 17);
    for (int i = 0; i < n; i++)
        json_free(e[i]);
    buf_done(&out);
}

static void test_stream_without_usage(void)
{
    struct buf out;
    struct json *e[8];
    buf_init(&out, 1 << 16);
    struct chat_text content = text_of("x", "");
    CHECK(chat_put_delta(&out, &plain, &content) == OK);
    CHECK(chat_put_end(&out, &plain, "stop", &counts) == OK);
    int n = events(&out, e, 8);
    CHECK_INT(n, 2);
    for (int i = 0; i < n; i++) {
        CHECK(!json_get(e[i], "usage"));
        CHECK_STR(json_string(json_get(e[i], "model")), "m\"x");
        json_free(e[i]);
    }
    buf_done(&out);
}

static int64_t number_at(const struct json *v, const char *a, const char *b)
{
    v = json_get(v, a);
    return (int64_t)json_number(b ? json_get(v, b) : v);
}

static void test_whole(void)
{
    struct buf out;
    struct json *v;
    struct error err;
    buf_init(&out, 1 << 16);
    struct chat_text text = text_of("tab\tquote\" \xc3\xa9 \xff", "because");
    CHECK(chat_put_whole(&out, &plain, &text, "stop", &counts) == OK);
    CHECK_FATAL(json_parse((const char *)buf_head(&out), buf_len(&out), NULL, &v, &err) == OK);
    CHECK_STR(json_string(json_get(v, "object")), "chat.completion");
    CHECK(json_is_null(json_get(v, "system_fingerprint")));
    const struct json *choice = json_first(json_get(v, "choices"));
    const struct json *message = json_get(choice, "message");
    CHECK_STR(json_string(json_get(message, "role")), "assistant");
    CHECK_STR(json_string(json_get(message, "content")), "tab\tquote\" \xc3\xa9 \xef\xbf\xbd");
    CHECK_STR(json_string(json_get(message, "reasoning_content")), "because");
    CHECK(json_is_null(json_get(message, "refusal")));
    CHECK(json_is_null(json_get(choice, "logprobs")));
    CHECK_STR(json_string(json_get(choice, "finish_reason")), "stop");
    const struct json *usage = json_get(v, "usage");
    CHECK_INT(number_at(usage, "prompt_tokens", NULL), 10);
    CHECK_INT(number_at(usage, "completion_tokens", NULL), 7);
    CHECK_INT(number_at(usage, "total_tokens", NULL), 17);
    CHECK_INT(number_at(usage, "prompt_cache_hit_tokens", NULL), 4);
    CHECK_INT(number_at(usage, "prompt_cache_miss_tokens", NULL), 6);
    CHECK_INT(number_at(usage, "prompt_tokens_details", "cached_tokens"), 4);
    CHECK_INT(number_at(usage, "completion_tokens_details", "reasoning_tokens"), 3);
    json_free(v);

    buf_clear(&out);
    text = text_of("x", "");
    CHECK(chat_put_whole(&out, &plain, &text, "stop", &counts) == OK);
    CHECK(!strstr(buf_cstr(&out), "reasoning_content"));
    buf_done(&out);
}

static void test_too_small(void)
{
    struct buf out;
    buf_init(&out, 40);
    struct chat_text text = text_of("x", "");
    CHECK(chat_put_role(&out, &plain) == LIMITED);
    CHECK(chat_put_delta(&out, &plain, &text) == LIMITED);
    CHECK(chat_put_end(&out, &plain, "stop", &counts) == LIMITED);
    CHECK(chat_put_whole(&out, &plain, &text, "stop", &counts) == LIMITED);
    buf_done(&out);
}

int main(void)
{
    test_stream();
    test_stream_without_usage();
    test_whole();
    test_too_small();
    return check_done();
}
