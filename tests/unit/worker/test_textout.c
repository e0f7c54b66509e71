#include "worker/textout.h"

#include "tests/unit/worker/text_fixture.h"
#include "worker/tokenizer_private.h"
#include "worker/utf8.h"

static struct tokenizer *tokenizer;
static const struct chat_markers markers = {
    .think_begin = 300, .think_end = 301, .stop_ids = {302}, .stop_count = 1};

struct result {
    struct buf content, reasoning;
    size_t used; /* ids pushed */
    int reasoning_tokens;
    bool stopped;
};

static void result_done(struct result *r)
{
    buf_done(&r->content);
    buf_done(&r->reasoning);
}

struct input {
    const int32_t *ids;
    size_t count;
    bool in_reasoning;
    const char *const *stop;
    int stop_count;
};

static bool is_whole(const struct buf *b)
{
    return buf_len(b) == 0 || utf8_valid(buf_head(b), buf_len(b));
}

static struct result run(const struct input *in)
{
    struct result r = {0};
    buf_init(&r.content, 1 << 20);
    buf_init(&r.reasoning, 1 << 20);
    struct textout *o =
        textout_new(tokenizer, &markers, in->in_reasoning, in->stop, in->stop_count);
    CHECK_FATAL(o);
    while (r.used < in->count && !r.stopped) {
        bool reasoning = false;
        CHECK_INT(
            textout_push(o, in->ids[r.used++], &r.content, &r.reasoning, &reasoning, &r.stopped),
            OK);
        r.reasoning_tokens += reasoning;
        CHECK(is_whole(&r.content) && is_whole(&r.reasoning));
    }
    if (!r.stopped)
        CHECK_INT(textout_flush(o, &r.content, &r.reasoning), OK);
    textout_free(o);
    return r;
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
        CHECK_STR(buf_cstr(&r.content), cases[i].content);
        CHECK_STR(buf_cstr(&r.reasoning), cases[i].reasoning);
        CHECK_INT(r.reasoning_tokens, cases[i].reasoning_tokens);
        CHECK_INT(r.stopped, cases[i].stopped);
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
        CHECK_STR(buf_cstr(&r.content), buf_cstr(&want));
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
    test_property();
    tokenizer_free(tokenizer);
    return check_done();
}
