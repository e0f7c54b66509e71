#include "worker/textout.h"

#include "tests/unit/worker/text_fixture.h"
#include "worker/tokenizer_private.h"
#include "worker/utf8.h"

static struct tokenizer *tokenizer;
static const struct chat_markers markers = {.think_begin = 300,
                                            .think_end = 301,
                                            .stop_ids = {302},
                                            .stop_count = 1,
                                            .tools = TOOLS_DEEPSEEK_31,
                                            .calls_begin = 304,
                                            .call_begin = 305,
                                            .call_sep = 306,
                                            .call_end = 307,
                                            .calls_end = 308};

struct result {
    struct delta made;
    size_t used; /* ids pushed */
    int reasoning_tokens, content_tokens, calls;
    bool stopped;
};

static void result_done(struct result *r)
{
    delta_done(&r->made);
}

struct input {
    const int32_t *ids;
    size_t count;
    bool in_reasoning;
    const char *const *stop;
    int stop_count;
    bool tools, one_call, plain;
};

static bool is_whole(const struct buf *b)
{
    return buf_len(b) == 0 || utf8_valid(buf_head(b), buf_len(b));
}

static struct textout *make(const struct input *in)
{
    static const struct tool tools[] = {{"get", "", "", false}, {"put", "", "", false}};
    struct textout_options o = {.tokenizer = tokenizer,
                                .markers = &markers,
                                .starts_in_reasoning = in->in_reasoning,
                                .stop = in->stop,
                                .stop_count = in->stop_count,
                                .tools = tools,
                                .tool_count = in->tools ? 2 : 0,
                                .one_call = in->one_call,
                                .plain = in->plain};
    struct textout *t = textout_new(&o);
    CHECK_FATAL(t);
    return t;
}

static struct result run(const struct input *in)
{
    struct result r = {0};
    delta_init(&r.made, 1 << 20);
    struct textout *o = make(in);
    while (r.used < in->count && !r.stopped) {
        struct textout_said said;
        CHECK_INT(textout_push(o, in->ids[r.used++], &r.made, &said), OK);
        r.stopped = said.stopped;
        r.reasoning_tokens += said.is_reasoning;
        r.content_tokens += said.is_content;
        CHECK(!(said.is_reasoning && said.is_content));
        CHECK(is_whole(&r.made.parts[DELTA_CONTENT]) && is_whole(&r.made.parts[DELTA_REASONING]));
    }
    if (!r.stopped)
        CHECK_INT(textout_flush(o, &r.made), OK);
    r.calls = textout_calls(o);
    textout_free(o);
    return r;
}

static const char *content(struct result *r)
{
    return buf_cstr(&r->made.parts[DELTA_CONTENT]);
}

static const char *reasoning(struct result *r)
{
    return buf_cstr(&r->made.parts[DELTA_REASONING]);
}

/* "name arguments;" of each call. */
static const char *calls(const struct result *r)
{
    static char text[1024];
    struct delta_view v;
    struct delta_call c;
    size_t used = 0;
    text[0] = 0;
    delta_see(&r->made, &v);
    for (size_t at = 0; delta_next_call(&v, &at, &c);)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s %s;", c.name, c.arguments);
    return text;
}

/* In cases: letters are byte ids; T, E, X, P are <think>, </think>, <end>, <pad>. */
static const struct {
    const char *ids;
    bool in_reasoning;
    const char *stop[3];
    const char *content, *reasoning;
    int reasoning_tokens;
    bool stopped;
} cases[] = {
    {"abc", false, {0}, "abc", "", 0, false},
    {"abX", false, {0}, "ab", "", 0, true},
    {"\n\nsoE\n\nok\nX", true, {0}, "ok\n", "so", 5, true},
    {"\nab", false, {0}, "\nab", "", 0, false},
    {"soEokX", true, {0}, "ok", "so", 3, true},
    {"TsoEok", false, {0}, "ok", "so", 4, false},
    {"aEb", false, {0}, "ab", "", 0, false},
    {"soX", true, {0}, "", "so", 3, true},
    {"aPb", false, {0}, "ab", "", 0, false},
    {"one.two", false, {"."}, "one", "", 0, true},
    {"o.nE", true, {"."}, "", "o.n", 4, false},
    {"o.nEp.q", true, {"."}, "p", "o.n", 4, true},
    {"aab", false, {"aac"}, "aab", "", 0, false},
    {"aaac", false, {"aac"}, "a", "", 0, true},
    {"abcd", false, {"abcd", "bc"}, "a", "", 0, true},
    {"xbcd", false, {"bc", "xbc"}, "", "", 0, true},
    {"aa", false, {"aaa"}, "aa", "", 0, false},
    {"aX", false, {"aa"}, "a", "", 0, true},
    {"\xe4\xbd\xa0", false, {0}, "\xe4\xbd\xa0", "", 0, false},
    {"\xe4\xbdX", false, {0}, "\xef\xbf\xbd", "", 0, true},
    {"\xe4\xbd", false, {0}, "\xef\xbf\xbd", "", 0, false},
    {"\xe4\xbd"
     "a",
     false,
     {0},
     "\xef\xbf\xbd"
     "a",
     "",
     0,
     false},
    {"\xf0\xf0\x9f\x99\x82\x80",
     false,
     {0},
     "\xef\xbf\xbd\xf0\x9f\x99\x82\xef\xbf\xbd",
     "",
     0,
     false},
    {"a\xe4\xbd\xa0"
     "b",
     false,
     {"\xe4\xbd\xa0"},
     "a",
     "",
     0,
     true},
    {"a\xe4\xbd"
     "Eb",
     true,
     {0},
     "b",
     "a\xef\xbf\xbd",
     4,
     false},
};

static int32_t id_of(char c)
{
    if (c >= '1' && c <= '5') /* marks of calls */
        return 304 + c - '1';
    switch (c) {
    case 'T':
        return 300;
    case 'E':
        return 301;
    case 'X':
        return 302;
    case 'P':
        return 303;
    default:
        return (uint8_t)c;
    }
}

static void test_cases(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t ids[64];
        struct input in = {.ids = ids,
                           .count = strlen(cases[i].ids),
                           .in_reasoning = cases[i].in_reasoning,
                           .stop = cases[i].stop};
        for (size_t k = 0; k < in.count; k++)
            ids[k] = id_of(cases[i].ids[k]);
        while (in.stop_count < 3 && cases[i].stop[in.stop_count])
            in.stop_count++;
        struct result r = run(&in);
        CHECK_STR(content(&r), cases[i].content);
        CHECK_STR(reasoning(&r), cases[i].reasoning);
        CHECK_INT(r.reasoning_tokens, cases[i].reasoning_tokens);
        CHECK_INT(r.stopped, cases[i].stopped);
        result_done(&r);
    }
}

/* Of a text that goes on nothing is reasoning. */
static void test_plain(void)
{
    const int32_t ids[] = {'a', id_of('T'), 'b', id_of('E'), 'c', id_of('X')};
    struct result r = run(&(struct input){.ids = ids, .count = 6, .plain = true});
    CHECK_STR(content(&r), "a<think>b</think>c");
    CHECK_STR(reasoning(&r), "");
    CHECK_INT(r.reasoning_tokens, 0);
    CHECK(r.stopped);
    result_done(&r);
}

/* 1 to 5 are the marks: calls, call, sep, end of the call, of all. */
static const struct {
    const char *ids;
    bool tools, one_call;
    const char *stop[2];
    const char *content, *calls;
    int content_tokens;
    bool stopped;
} call_cases[] = {
    {"12get3{}45X", true, false, {0}, "", "get {};", 0, true},
    {"hi12get3{}42put3{a}45X", true, false, {0}, "hi", "get {};put {a};", 2, true},
    {"12get3{}42put3{a}45X", true, true, {0}, "", "get {};", 0, true},
    {"12get3{}45X", false, false, {0}, "<calls><call>get<sep>{}</call></calls>", "", 10, true},
    {"12gut3{}45X", true, false, {0}, "<calls><call>gut<sep>{}</call></calls>", "", 2, true},
    {"12get3{", true, false, {0}, "", "get {;", 0, false},
    {"12ge", true, false, {0}, "<calls><call>ge", "", 0, false},
    {"a12get3{a}45b", true, false, {0}, "ab", "get {a};", 2, false},
    /* A stop string does not look into calls; what it might have begun with is shown before. */
    {"ab12get3{abc}45X", true, false, {"abc"}, "ab", "get {abc};", 2, true},
    {"abc12get3{}45X", true, false, {"bc"}, "a", "", 3, true},
    {"12gut3bc45X", true, false, {"bc"}, "<calls><call>gut<sep>", "", 2, true},
    {"15X", true, false, {0}, "<calls></calls>", "", 0, true},
};

static void test_calls(void)
{
    for (size_t i = 0; i < sizeof call_cases / sizeof *call_cases; i++) {
        int32_t ids[64];
        struct input in = {.ids = ids,
                           .count = strlen(call_cases[i].ids),
                           .tools = call_cases[i].tools,
                           .one_call = call_cases[i].one_call,
                           .in_reasoning = false,
                           .stop = call_cases[i].stop,
                           .stop_count = call_cases[i].stop[0] != NULL};
        for (size_t k = 0; k < in.count; k++)
            ids[k] = id_of(call_cases[i].ids[k]);
        struct result r = run(&in);
        CHECK_STR(content(&r), call_cases[i].content);
        CHECK_STR(calls(&r), call_cases[i].calls);
        CHECK_INT(r.content_tokens, call_cases[i].content_tokens);
        CHECK_INT(r.stopped, call_cases[i].stopped);
        CHECK_INT(r.calls > 0, *call_cases[i].calls != 0);
        result_done(&r);
    }
}

static uint32_t seed = 7;
static uint32_t next_random(uint32_t below)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % below;
}

/* Bytes of all ids; those that are no UTF-8 become U+FFFD. */
static void decode(const int32_t *ids, size_t count, struct buf *out)
{
    struct buf raw;
    buf_init(&raw, 1 << 20);
    buf_init(out, 1 << 20);
    for (size_t i = 0; i < count; i++) {
        size_t len;
        const uint8_t *bytes = tokenizer_bytes(tokenizer, ids[i], &len);
        CHECK(buf_add(&raw, bytes, len) == OK);
    }
    for (size_t at = 0, used; at < buf_len(&raw); at += used) {
        const uint8_t *p = buf_head(&raw) + at;
        enum utf8_state state = utf8_next(p, buf_len(&raw) - at, &used);
        if (state == UTF8_WHOLE)
            CHECK(buf_add(out, p, used) == OK);
        else
            CHECK(buf_adds(out, "\xef\xbf\xbd") == OK);
        if (state == UTF8_CUT)
            break;
    }
    buf_done(&raw);
}

/* The text up to the stop string that ends first. */
static void cut_at_stop(struct buf *text, const char *const *stop, int count)
{
    const char *start = buf_cstr(text), *best = NULL, *best_end = NULL;
    for (int i = 0; i < count; i++) {
        const char *hit = strstr(start, stop[i]), *end = hit ? hit + strlen(stop[i]) : NULL;
        if (hit && (!best || end < best_end || (end == best_end && hit < best))) {
            best = hit;
            best_end = end;
        }
    }
    if (best)
        text->end = text->start + (size_t)(best - start);
}

/* Whatever the tokens, what comes out is the decoded text up to the first stop string. */
static void test_property(void)
{
    static const char *const stop[] = {"abca", "\xe4\xbd\240b", "bb", "caa", "\xef\xbf\xbd"};
    static const int32_t some[] = {'a', 'b', 'c', 256, 257, 258, 259, 0xe4, 0xbd, 0xa0, 0xf0, 0x9f};
    for (int round = 0; round < 20000; round++) {
        int32_t ids[24];
        struct input in = {.ids = ids, .count = next_random(24) + 1};
        int first = (int)next_random(5);
        in.stop = stop + first;
        in.stop_count = (int)next_random((uint32_t)(5 - first) + 1);
        for (size_t i = 0; i < in.count; i++)
            ids[i] = some[next_random(sizeof some / sizeof *some)];
        struct result r = run(&in);
        struct buf want;
        decode(ids, in.count, &want);
        cut_at_stop(&want, in.stop, in.stop_count);
        CHECK_STR(content(&r), buf_cstr(&want));
        buf_done(&want);
        result_done(&r);
    }
}

int main(void)
{
    struct buf text;
    struct error err = {0};
    fixture_tokenizer(&text);
    CHECK_FATAL(tokenizer_parse((const char *)buf_head(&text), buf_len(&text), &tokenizer, &err) ==
                OK);
    buf_done(&text);
    test_cases();
    test_plain();
    test_calls();
    test_property();
    tokenizer_free(tokenizer);
    return check_done();
}
