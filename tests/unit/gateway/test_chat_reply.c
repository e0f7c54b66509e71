/* The bytes of answers, and that every piece of them is JSON. */
#include <math.h>

#include "base/json.h"
#include "gateway/api/chat_reply.h"
#include "tests/unit/check.h"

#define ID "01932b3c-0000-7000-8000-000000000001"
static const struct chat_answer plain = {ID, "m\"x", 1700000000, false, false};
static const struct chat_answer with_usage = {ID, "m", 1700000000, true, false};
static const struct chat_answer completion = {ID, "m", 1700000000, false, true};
static const struct token_counts counts = {
    .prompt = 10, .cached = 4, .completion = 7, .reasoning = 3};

static Wire__Tokens tokens_of(const char *content, const char *reasoning)
{
    Wire__Tokens m = WIRE__TOKENS__INIT;
    m.content = (char *)content;
    m.reasoning = (char *)reasoning;
    return m;
}

static Wire__ToolCallDelta call_of(uint32_t index, const char *id, const char *arguments)
{
    Wire__ToolCallDelta d = WIRE__TOOL_CALL_DELTA__INIT;
    d.index = index;
    d.id = (char *)id;
    d.name = (char *)(*id ? "f" : "");
    d.arguments = (char *)arguments;
    return d;
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

static const struct json *choice_of(const struct json *event)
{
    return json_first(json_get(event, "choices"));
}

static const struct json *delta_of(const struct json *event, const char *name)
{
    return json_get(json_get(choice_of(event), "delta"), name);
}

static void free_all(struct json **list, int n)
{
    for (int i = 0; i < n; i++)
        json_free(list[i]);
}

static void test_stream(void)
{
    struct buf out;
    struct json *e[8];
    struct chat_choice c;
    buf_init(&out, 1 << 16);
    chat_choice_init(&c, 1 << 16);
    Wire__Tokens both = tokens_of("con\"tent\n", "why");
    CHECK(chat_put_tokens(&out, &with_usage, &c, &both) == OK);
    c.finish = "length";
    CHECK(chat_put_finish(&out, &with_usage, &c, 0) == OK);
    CHECK(chat_put_end(&out, &with_usage, &counts) == OK);
    int n = events(&out, e, 8);
    CHECK_FATAL(n == 5);
    for (int i = 0; i < n; i++) {
        CHECK_STR(json_string(json_get(e[i], "id")), "chatcmpl-" ID);
        CHECK_STR(json_string(json_get(e[i], "object")), "chat.completion.chunk");
        CHECK_INT(json_number(json_get(e[i], "created")), 1700000000);
        CHECK_INT(json_count(json_get(e[i], "choices")), i == 4 ? 0 : 1);
        CHECK_INT(json_is_null(json_get(e[i], "usage")), i != 4);
    }
    CHECK_STR(json_string(delta_of(e[0], "role")), "assistant");
    CHECK_STR(json_string(delta_of(e[0], "content")), "");
    CHECK_STR(json_string(delta_of(e[1], "reasoning_content")), "why");
    CHECK(!delta_of(e[1], "content"));
    CHECK_STR(json_string(delta_of(e[2], "content")), "con\"tent\n");
    CHECK_STR(json_string(json_get(choice_of(e[3]), "finish_reason")), "length");
    CHECK_INT(json_number(json_get(json_get(e[4], "usage"), "total_tokens")), 17);
    free_all(e, n);
    chat_choice_done(&c);
    buf_done(&out);
}

/* An answer without a word has a role and an end; without usage asked for there is none. */
static void test_empty_stream(void)
{
    struct buf out;
    struct json *e[8];
    struct chat_choice c;
    buf_init(&out, 1 << 16);
    chat_choice_init(&c, 1 << 16);
    Wire__Tokens nothing = tokens_of("", "");
    CHECK(chat_put_tokens(&out, &plain, &c, &nothing) == OK);
    CHECK_INT(buf_len(&out), 0);
    c.finish = "stop";
    CHECK(chat_put_finish(&out, &plain, &c, 3) == OK && c.ended);
    CHECK(chat_put_end(&out, &plain, &counts) == OK);
    int n = events(&out, e, 8);
    CHECK_FATAL(n == 2);
    for (int i = 0; i < n; i++) {
        CHECK(!json_get(e[i], "usage"));
        CHECK_STR(json_string(json_get(e[i], "model")), "m\"x");
        CHECK_INT(json_number(json_get(choice_of(e[i]), "index")), 3);
    }
    free_all(e, n);
    buf_done(&out);
}

static void test_stream_calls(void)
{
    struct buf out;
    struct json *e[8];
    struct chat_choice c;
    buf_init(&out, 1 << 16);
    chat_choice_init(&c, 1 << 16);
    Wire__ToolCallDelta one = call_of(0, "call_1", ""), more = call_of(0, "", "{\"a\":"),
                        two = call_of(1, "call_2", "{}");
    Wire__ToolCallDelta *first[] = {&one}, *second[] = {&more, &two};
    Wire__Tokens m = tokens_of("", "");
    m.choice = 1;
    m.tool_calls = first;
    m.n_tool_calls = 1;
    CHECK(chat_choice_check(&c, &m) == OK);
    CHECK(chat_put_tokens(&out, &plain, &c, &m) == OK);
    chat_choice_pass(&c, &m);
    CHECK_INT(c.call_count, 1);
    m.tool_calls = second;
    m.n_tool_calls = 2;
    CHECK(chat_choice_check(&c, &m) == OK);
    CHECK(chat_put_tokens(&out, &plain, &c, &m) == OK);
    chat_choice_pass(&c, &m);
    CHECK_INT(c.call_count, 2);
    int n = events(&out, e, 8);
    CHECK_FATAL(n == 3);
    const struct json *call = json_first(delta_of(e[1], "tool_calls"));
    CHECK_STR(json_string(json_get(call, "id")), "call_1");
    CHECK_STR(json_string(json_get(call, "type")), "function");
    CHECK_STR(json_string(json_get(json_get(call, "function"), "name")), "f");
    CHECK_STR(json_string(json_get(json_get(call, "function"), "arguments")), "");
    call = json_first(delta_of(e[2], "tool_calls"));
    CHECK(!json_get(call, "id") && !json_get(json_get(call, "function"), "name"));
    CHECK_STR(json_string(json_get(json_get(call, "function"), "arguments")), "{\"a\":");
    CHECK_INT(json_number(json_get(json_next(call), "index")), 1);
    CHECK_INT(json_number(json_get(choice_of(e[2]), "index")), 1);
    free_all(e, n);
    /* A call out of order, one without a name, and anything behind the end. */
    Wire__ToolCallDelta late = call_of(5, "call_5", ""), unnamed = call_of(2, "", "{}");
    Wire__ToolCallDelta *bad[] = {&late};
    m.tool_calls = bad;
    m.n_tool_calls = 1;
    CHECK(chat_choice_check(&c, &m) == INVALID);
    bad[0] = &unnamed;
    CHECK(chat_choice_check(&c, &m) == INVALID);
    m.n_tool_calls = 0;
    c.finish = "stop";
    CHECK(chat_choice_check(&c, &m) == OK);
    m.content = (char *)"x";
    CHECK(chat_choice_check(&c, &m) == INVALID);
    chat_choice_done(&c);
    buf_done(&out);
}

/* Two tokens: half a character with two candidates, and one that is next to impossible. */
static Wire__Tokens with_logprobs(void)
{
    static Wire__TokenLogprob__Candidate a, b;
    static Wire__TokenLogprob__Candidate *top[] = {&a, &b};
    static Wire__TokenLogprob one, two;
    static Wire__TokenLogprob *list[] = {&one, &two};
    wire__token_logprob__candidate__init(&a);
    wire__token_logprob__candidate__init(&b);
    wire__token_logprob__init(&one);
    wire__token_logprob__init(&two);
    a.token = (ProtobufCBinaryData){3, (uint8_t *)"a\xf0\x9f"};
    a.logprob = -0.5f;
    b.token = (ProtobufCBinaryData){1, (uint8_t *)"b"};
    b.logprob = -1.25f;
    one.token = a.token;
    one.logprob = a.logprob;
    one.top = top;
    one.n_top = 2;
    two.token = (ProtobufCBinaryData){2, (uint8_t *)"\xc3\xa9"};
    two.logprob = -(float)INFINITY;
    Wire__Tokens m = tokens_of("x", "");
    m.logprobs = list;
    m.n_logprobs = 2;
    return m;
}

static void check_logprobs(const struct json *logprobs)
{
    const struct json *t = json_first(json_get(logprobs, "content"));
    CHECK_STR(json_string(json_get(t, "token")), "a\\xf0\\x9f");
    CHECK(json_number(json_get(t, "logprob")) == -0.5);
    CHECK_INT(json_count(json_get(t, "bytes")), 3);
    CHECK_INT(json_number(json_next(json_first(json_get(t, "bytes")))), 0xf0);
    const struct json *top = json_first(json_get(t, "top_logprobs"));
    CHECK_STR(json_string(json_get(json_next(top), "token")), "b");
    CHECK(json_number(json_get(json_next(top), "logprob")) == -1.25);
    t = json_next(t);
    CHECK_STR(json_string(json_get(t, "token")), "\xc3\xa9");
    CHECK(json_number(json_get(t, "logprob")) == -9999);
    CHECK_INT(json_count(json_get(t, "top_logprobs")), 0);
    CHECK(!json_next(t));
}

static void test_logprobs(void)
{
    struct buf out;
    struct json *e[8];
    struct error err;
    struct chat_choice c;
    buf_init(&out, 1 << 16);
    chat_choice_init(&c, 1 << 16);
    Wire__Tokens m = with_logprobs();
    CHECK(chat_put_tokens(&out, &plain, &c, &m) == OK);
    int n = events(&out, e, 8);
    CHECK_FATAL(n == 2);
    check_logprobs(json_get(choice_of(e[1]), "logprobs"));
    free_all(e, n);
    buf_clear(&out);
    CHECK(chat_choice_gather(&c, &m, false) == OK);
    c.finish = "stop";
    CHECK(chat_put_whole(&out, &plain, &c, 1, &counts) == OK);
    CHECK_FATAL(json_parse(buf_cstr(&out), buf_len(&out), NULL, e, &err) == OK);
    check_logprobs(json_get(choice_of(e[0]), "logprobs"));
    json_free(e[0]);
    chat_choice_done(&c);
    buf_done(&out);
}

static void check_arrays(const struct json *logprobs, int64_t begin)
{
    CHECK_STR(json_string(json_first(json_get(logprobs, "tokens"))), "a\\xf0\\x9f");
    CHECK_INT(json_number(json_next(json_first(json_get(logprobs, "token_logprobs")))), -9999);
    const struct json *top = json_first(json_get(logprobs, "top_logprobs"));
    CHECK(json_number(json_get(top, "b")) == -1.25);
    const struct json *offset = json_first(json_get(logprobs, "text_offset"));
    CHECK_INT(json_number(offset), begin);
    CHECK_INT(json_number(json_next(offset)), begin + 2); /* an "a", and what begins behind it */
}

static void test_completion(void)
{
    struct buf out;
    struct json *e[8];
    struct error err;
    struct chat_choice c;
    buf_init(&out, 1 << 16);
    chat_choice_init(&c, 1 << 16);
    Wire__Tokens m = with_logprobs();
    CHECK(chat_put_tokens(&out, &completion, &c, &m) == OK);
    CHECK(chat_put_tokens(&out, &completion, &c, &m) == OK);
    c.finish = "stop";
    CHECK(chat_put_finish(&out, &completion, &c, 0) == OK);
    int n = events(&out, e, 8);
    CHECK_FATAL(n == 3);
    CHECK_STR(json_string(json_get(e[0], "object")), "text_completion");
    CHECK_STR(json_string(json_get(choice_of(e[0]), "text")), "x");
    check_arrays(json_get(choice_of(e[0]), "logprobs"), 0);
    check_arrays(json_get(choice_of(e[1]), "logprobs"), 3);
    CHECK_STR(json_string(json_get(choice_of(e[2]), "finish_reason")), "stop");
    free_all(e, n);
    buf_clear(&out);
    chat_choice_reset(&c);
    CHECK(chat_choice_gather(&c, &m, true) == OK);
    CHECK(chat_choice_gather(&c, &m, true) == OK);
    c.finish = "length";
    CHECK(chat_put_whole(&out, &completion, &c, 1, &counts) == OK);
    CHECK_FATAL(json_parse(buf_cstr(&out), buf_len(&out), NULL, e, &err) == OK);
    CHECK_STR(json_string(json_get(e[0], "id")), "cmpl-" ID);
    CHECK_STR(json_string(json_get(choice_of(e[0]), "text")), "xx");
    const struct json *logprobs = json_get(choice_of(e[0]), "logprobs");
    CHECK_INT(json_count(json_get(logprobs, "text_offset")), 4);
    check_arrays(logprobs, 0);
    json_free(e[0]);
    chat_choice_done(&c);
    buf_done(&out);
}

static int64_t number_at(const struct json *v, const char *a, const char *b)
{
    v = json_get(v, a);
    return (int64_t)json_number(b ? json_get(v, b) : v);
}

static void gather(struct chat_choice *c, const char *content, const char *reasoning)
{
    Wire__Tokens m = tokens_of(content, reasoning);
    CHECK_INT(chat_choice_gather(c, &m, false), OK);
    c->finish = "stop";
}

static void test_whole(void)
{
    struct buf out;
    struct json *v;
    struct error err;
    struct chat_choice c;
    buf_init(&out, 1 << 16);
    chat_choice_init(&c, 1 << 16);
    gather(&c, "tab\tquote\" \xc3", "because");
    gather(&c, "\xa9 \xff", "");
    CHECK(chat_put_whole(&out, &plain, &c, 1, &counts) == OK);
    CHECK_FATAL(json_parse(buf_cstr(&out), buf_len(&out), NULL, &v, &err) == OK);
    CHECK_STR(json_string(json_get(v, "object")), "chat.completion");
    CHECK(json_is_null(json_get(v, "system_fingerprint")));
    const struct json *message = json_get(choice_of(v), "message");
    CHECK_STR(json_string(json_get(message, "role")), "assistant");
    CHECK_STR(json_string(json_get(message, "content")), "tab\tquote\" \xc3\xa9 \xef\xbf\xbd");
    CHECK_STR(json_string(json_get(message, "reasoning_content")), "because");
    CHECK(json_is_null(json_get(message, "refusal")) && !json_get(message, "tool_calls"));
    CHECK(json_is_null(json_get(choice_of(v), "logprobs")));
    CHECK_STR(json_string(json_get(choice_of(v), "finish_reason")), "stop");
    const struct json *usage = json_get(v, "usage");
    CHECK_INT(number_at(usage, "prompt_tokens", NULL), 10);
    CHECK_INT(number_at(usage, "completion_tokens", NULL), 7);
    CHECK_INT(number_at(usage, "total_tokens", NULL), 17);
    CHECK_INT(number_at(usage, "prompt_cache_hit_tokens", NULL), 4);
    CHECK_INT(number_at(usage, "prompt_cache_miss_tokens", NULL), 6);
    CHECK_INT(number_at(usage, "prompt_tokens_details", "cached_tokens"), 4);
    CHECK_INT(number_at(usage, "completion_tokens_details", "reasoning_tokens"), 3);
    json_free(v);
    chat_choice_done(&c);
    buf_done(&out);
}

/* Two choices: a text, and calls whose arguments came in pieces. */
static void test_whole_calls(void)
{
    struct buf out;
    struct json *v;
    struct error err;
    struct chat_choice c[2];
    buf_init(&out, 1 << 16);
    chat_choice_init(&c[0], 1 << 16);
    chat_choice_init(&c[1], 1 << 16);
    gather(&c[0], "x", "");
    Wire__ToolCallDelta one = call_of(0, "call_1", "{\"a\""), two = call_of(1, "call_2", "{}"),
                        more = call_of(0, "", ":1}");
    Wire__ToolCallDelta *list[] = {&one, &two, &more};
    Wire__Tokens m = tokens_of("", "");
    m.tool_calls = list;
    m.n_tool_calls = 3;
    CHECK(chat_choice_check(&c[1], &m) == OK);
    CHECK(chat_choice_gather(&c[1], &m, false) == OK);
    c[1].finish = "tool_calls";
    CHECK(chat_put_whole(&out, &plain, c, 2, &counts) == OK);
    CHECK_FATAL(json_parse(buf_cstr(&out), buf_len(&out), NULL, &v, &err) == OK);
    const struct json *second = json_next(choice_of(v));
    CHECK_INT(json_number(json_get(second, "index")), 1);
    const struct json *message = json_get(second, "message");
    CHECK(json_is_null(json_get(message, "content")));
    const struct json *calls = json_get(message, "tool_calls");
    CHECK_INT(json_count(calls), 2);
    const struct json *function = json_get(json_first(calls), "function");
    CHECK_STR(json_string(json_get(function, "arguments")), "{\"a\":1}");
    CHECK_STR(json_string(json_get(json_first(calls), "type")), "function");
    CHECK_STR(json_string(json_get(second, "finish_reason")), "tool_calls");
    CHECK(!strstr(buf_cstr(&out), "reasoning_content"));
    json_free(v);
    chat_choice_done(&c[0]);
    chat_choice_done(&c[1]);
    buf_done(&out);
}

static void test_too_small(void)
{
    struct buf out;
    struct chat_choice c;
    buf_init(&out, 40);
    chat_choice_init(&c, 3);
    Wire__Tokens m = tokens_of("x", ""), much = tokens_of("xxxx", "");
    CHECK(chat_put_tokens(&out, &plain, &c, &m) == LIMITED);
    c.finish = "stop";
    CHECK(chat_put_finish(&out, &plain, &c, 0) == LIMITED);
    CHECK(chat_put_end(&out, &with_usage, &counts) == LIMITED);
    CHECK(chat_put_whole(&out, &plain, &c, 1, &counts) == LIMITED);
    CHECK(chat_choice_gather(&c, &much, false) == LIMITED);
    chat_choice_done(&c);
    buf_done(&out);
}

int main(void)
{
    test_stream();
    test_empty_stream();
    test_stream_calls();
    test_logprobs();
    test_completion();
    test_whole();
    test_whole_calls();
    test_too_small();
    return check_done();
}
