/* What is valid is taken as it reads; every text of the two tables of invalid ones is refused. */
#include "base/json.h"

#include <math.h>
#include <unistd.h>

#include "base/json_guard.h"
#include "tests/unit/alloc_fail.h"
#include "tests/unit/base/json_cases.h"
#include "tests/unit/check.h"

/* From an exact-size copy, so that a sanitizer sees a read past the end. */
static enum status parse(const char *text, size_t len, struct json **out, struct error *err)
{
    char *copy = malloc(len ? len : 1);
    CHECK_FATAL(copy != NULL);
    memcpy(copy, text, len);
    enum status guarded = json_guard(copy, len, NULL, NULL);
    enum status st = json_parse(copy, len, NULL, out, err);
    CHECK_INT(st, guarded);
    free(copy);
    return st;
}

static void test_valid(void)
{
    for (size_t i = 0; i < VALID_COUNT; i++) {
        const struct json_case *c = &json_valid[i];
        struct json *root = NULL;
        struct error err = {""};
        enum status st = parse(c->text, c->len, &root, &err);
        if (st != OK)
            fprintf(stderr, "valid case %s: %s\n", c->text, err.text);
        CHECK_INT(st, OK);
        json_free(root);
        /* No value but a number is whole before its last byte. */
        size_t whole = c->len;
        while (strchr(" \t\r\n", c->text[whole - 1]))
            whole--;
        if (strchr("{[\"tfn", c->text[0]))
            for (size_t len = 0; len < whole; len++)
                CHECK_INT(parse(c->text, len, &root, &err), INVALID);
    }
}

static void test_invalid(void)
{
    for (size_t i = 0; i < INVALID_COUNT; i++) {
        const struct json_case *c = &json_invalid[i];
        struct json *root = NULL;
        struct error err = {""};
        enum status st = parse(c->text, c->len, &root, &err);
        if (st != INVALID)
            fprintf(stderr, "invalid case %zu: %s\n", i, c->text);
        CHECK_INT(st, INVALID);
        CHECK(root == NULL);
        CHECK(strncmp(err.text, "JSON, byte ", 11) == 0);
    }
}

static const struct {
    const char *text, *error;
} places[] = {
    {"", "JSON, byte 0: the text ends too early"},
    {"nul", "JSON, byte 3: the text ends too early"},
    {"nulx", "JSON, byte 0: expected a value"},
    {"[1,]", "JSON, byte 3, [1]: expected a value"},
    {"[1 2]", "JSON, byte 3, [0]: expected , or ]"},
    {"[1]]", "JSON, byte 3: more text behind the value"},
    {"{\"a\":1,}", "JSON, byte 7: expected a key in double quotes"},
    {"{\"a\" 1}", "JSON, byte 5, a: expected a colon behind a key"},
    {"{\"a\":1 \"b\":2}", "JSON, byte 7, a: expected , or }"},
    {"{\"model\":\"x\",\"model\":\"y\"}", "JSON, byte 13: key \"model\" is given twice"},
    {"{\"m\":[{\"r\":1},{\"r\":1,\"c\":2,\"\\u0072\":3}]}",
     "JSON, byte 27, m[1]: key \"\\u0072\" is given twice"},
    {"{\"messages\":[{},{\"content\":\"a\\u0000b\"}]}",
     "JSON, byte 29, messages[1].content: \\u0000 is not allowed in strings"},
    {"{\"a\":{\"b\":[[],[0,{\"c\":1e400}]]}}",
     "JSON, byte 22, a.b[1][1].c: a number too large for a double"},
    {"{\"seed\":9007199254740993}",
     "JSON, byte 8, seed: a whole number beyond 2^53 that a double cannot hold exactly"},
    {"[[[[[[[[1,[x", "JSON, byte 11, ...[0][0][0][0][1][0]: expected a value"},
    {"{\"a\x1b\":1}", "JSON, byte 3: a control character in a string must be escaped"},
    {"{\"0123456789012345678901234567890123456789\xc3\xa9\":01}",
     "JSON, byte 47, 0123456789012345678901234567890123456789...: a number must not start with 0"},
    {"{\"012345678901234567890123456789012345678\xc3\xa9\":01}",
     "JSON, byte 46, 012345678901234567890123456789012345678...: a number must not start with 0"},
};

static void test_places(void)
{
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        struct json *root;
        struct error err = {""};
        CHECK_INT(parse(places[i].text, strlen(places[i].text), &root, &err), INVALID);
        CHECK_STR(err.text, places[i].error);
    }
}

static void fill(struct buf *b, const char *open, const char *piece, int count)
{
    buf_clear(b);
    buf_adds(b, open);
    for (int i = 0; i < count; i++)
        buf_adds(b, piece);
}

static void check_buf(struct buf *b, enum status want, const char *error)
{
    struct json *root = NULL;
    struct error err = {""};
    enum status st = json_parse((const char *)buf_head(b), buf_len(b), NULL, &root, &err);
    CHECK_INT(st, want);
    if (want != OK)
        CHECK_STR(err.text, error);
    json_free(root);
}

static void test_limits(void)
{
    struct buf b;
    buf_init(&b, 32 << 20);
    fill(&b, "", "[", 64);
    for (int i = 0; i < 64; i++)
        buf_adds(&b, "]");
    check_buf(&b, OK, NULL);
    fill(&b, "", "[", 65);
    check_buf(&b, LIMITED, "JSON, byte 64, ...[0][0][0][0][0][0]: nested too deep");
    fill(&b, "", "{\"a\":", 65);
    check_buf(&b, LIMITED, "JSON, byte 320, ....a.a.a.a.a.a: nested too deep");
    fill(&b, "", "[", 1 << 20);
    check_buf(&b, LIMITED, "JSON, byte 64, ...[0][0][0][0][0][0]: nested too deep");

    fill(&b, "[", "0,", 99998);
    buf_adds(&b, "0]");
    check_buf(&b, OK, NULL);
    fill(&b, "[", "0,", 99999);
    buf_adds(&b, "0]");
    check_buf(&b, LIMITED, "JSON, byte 199999, [99999]: too many values");
    fill(&b, "[", "0,", 5 << 20);
    check_buf(&b, LIMITED, "JSON: more than 8388608 bytes");
    fill(&b, "[", "0,", 4 << 20);
    b.end--;
    check_buf(&b, LIMITED, "JSON, byte 199999, [99999]: too many values");
    buf_done(&b);
}

/* Many keys: in one object, in many, and nested in an open one. */
static void test_keys(void)
{
    struct buf b;
    buf_init(&b, 32 << 20);
    for (int twice = 0; twice <= 1; twice++) {
        buf_clear(&b);
        buf_adds(&b, "{");
        for (int i = 0; i < 90000; i++)
            buf_addf(&b, "\"%s%x\":0,", i % 3 ? "" : "\\u006b", i);
        buf_adds(&b, twice ? "\"k0\":0}" : "\"kk\":0}");
        struct json *root = NULL;
        struct error err = {""};
        enum status st = json_parse((const char *)buf_head(&b), buf_len(&b), NULL, &root, &err);
        CHECK_INT(st, twice ? INVALID : OK);
        if (twice)
            CHECK(strstr(err.text, ": key \"k0\" is given twice"));
        json_free(root);
    }
    fill(&b, "{\"x\":[", "{\"a\":1,\"b\":{\"a\":1,\"x\":2}},", 10000);
    b.end--;
    buf_adds(&b, "],\"a\":1,\"b\":2}");
    check_buf(&b, OK, NULL);
    b.end--;
    buf_adds(&b, ",\"x\":0}");
    struct error err = {""};
    CHECK_INT(json_guard((const char *)buf_head(&b), buf_len(&b), NULL, &err), INVALID);
    CHECK(strstr(err.text, ": key \"x\" is given twice"));
    buf_done(&b);
}

/* Around the counts at which an object's keys change the way they are kept. */
static void test_key_counts(void)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    for (int count = 1; count <= 140; count++)
        for (int again = 0; again <= count; again += again < 20 ? 1 : 40) {
            buf_clear(&b);
            buf_adds(&b, "{\"o\":{");
            for (int i = 0; i < count; i++)
                buf_addf(&b, "\"key %d\":{\"key %d\":%d},", i, i, i);
            buf_addf(&b, "\"key %d\":0},\"key 0\":1}", again);
            enum status st = json_guard((const char *)buf_head(&b), buf_len(&b), NULL, NULL);
            if (st != (again < count ? INVALID : OK))
                CHECK(!"a key among few or many is judged wrongly");
        }
    buf_done(&b);
}

/* A failed allocation is NOMEM, and leaves nothing behind. */
static void test_out_of_memory(void)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    buf_adds(&b, "{\"n\":[1.");
    for (int i = 0; i < 70; i++)
        buf_adds(&b, "1");
    for (int i = 0; i < 100; i++)
        buf_addf(&b, ",\"%d\"", i);
    buf_adds(&b, "],\"o\":{");
    for (int i = 0; i < 150; i++)
        buf_addf(&b, "\"k%d\":null,", i);
    buf_adds(&b, "\"x\":{}}}");
    long held = alloc_live;
    for (int n = 1;; n++) {
        struct json *root = NULL;
        struct error err = {""};
        alloc_fail_after(n);
        enum status st = json_parse((const char *)buf_head(&b), buf_len(&b), NULL, &root, &err);
        bool failed = alloc_failed();
        if (st != (failed ? NOMEM : OK) || (root != NULL) != (st == OK))
            CHECK(!"a failed allocation is not reported");
        json_free(root);
        if (!failed)
            break;
    }
    CHECK_INT(alloc_live, held);
    buf_done(&b);
}

static const struct {
    const char *a, *b;
    bool same;
} key_pairs[] = {
    {"a", "\\u0061", true},
    {"\\u0061", "a", true},
    {"\\u0041", "a", false},
    {"A", "a", false},
    {"/", "\\/", true},
    {"\\n", "\\u000A", true},
    {"\\b\\f\\r\\t\\\"\\\\", "\\u0008\\u000c\\u000d\\u0009\\u0022\\u005C", true},
    {"\xc3\xa9", "\\u00e9", true},
    {"\xe2\x82\xac", "\\u20AC", true},
    {"\xf0\x9f\x98\x80", "\\ud83d\\ude00", true},
    {"\xf0\x9f\x98\x80", "\\ud83d\\ude01", false},
    {"", "", true},
    {"", "\\u0001", false},
    {"abcdefgh", "abcdefg\\u0068", true},
    {"abcdefghi", "abcdefgh\\u0069", true},
    {"abcdefgh", "abcdefgh\\u0001", false},
    {"a", "ab", false},
    {"e\\u0301", "\xc3\xa9", false}, /* not normalised */
};

static void test_key_pairs(void)
{
    for (size_t i = 0; i < sizeof key_pairs / sizeof *key_pairs; i++) {
        char text[256];
        int len =
            snprintf(text, sizeof text, "{\"%s\":1,\"%s\":2}", key_pairs[i].a, key_pairs[i].b);
        enum status st = json_guard(text, (size_t)len, NULL, NULL);
        CHECK_INT(st, key_pairs[i].same ? INVALID : OK);
        len = snprintf(text, sizeof text, "{\"%s\":{\"%s\":2}}", key_pairs[i].a, key_pairs[i].b);
        CHECK_INT(json_guard(text, (size_t)len, NULL, NULL), OK);
    }
}

static void test_access(void)
{
    const char *text =
        "{\"a\":[1,-2.5,\"x\",true,false,null],\"A\":{},\"s\":\"\\ud83d\\ude00/\\/\","
        "\"big\":9007199254740992,\"neg\":-9007199254740992,\"exp\":1e3,\"u\":3e9}";
    struct json *root = NULL;
    struct error err;
    CHECK_FATAL(parse(text, strlen(text), &root, &err) == OK);
    CHECK(json_is_object(root) && json_count(root) == 7);
    const struct json *a = json_get(root, "a"), *v = json_first(a);
    CHECK(json_is_array(a) && json_count(a) == 6);
    CHECK_STR(json_key(a), "a");
    CHECK(json_is_object(json_get(root, "A")) && json_first(json_get(root, "A")) == NULL);
    CHECK(json_get(root, "S") == NULL && json_get(a, "a") == NULL && json_get(NULL, "a") == NULL);
    int64_t n = 7;
    CHECK(json_is_number(v) && json_int(v, 0, 1, &n) && n == 1);
    CHECK(!json_int(v, 2, 3, &n) && !json_int(v, -1, 0, &n) && n == 1);
    v = json_next(v);
    CHECK(json_number(v) == -2.5 && !json_int(v, -10, 10, &n));
    v = json_next(v);
    CHECK(json_is_string(v) && isnan(json_number(v)) && !json_int(v, 0, 9, &n));
    CHECK_STR(json_string(v), "x");
    v = json_next(v);
    CHECK(json_is_bool(v) && json_bool(v) && !json_string(v));
    v = json_next(v);
    CHECK(json_is_bool(v) && !json_bool(v));
    v = json_next(v);
    CHECK(json_is_null(v) && !json_is_bool(v) && json_next(v) == NULL);
    CHECK_STR(json_string(json_get(root, "s")), "\xf0\x9f\x98\x80//");
    CHECK(json_int(json_get(root, "big"), INT64_MIN, INT64_MAX, &n) && n == INT64_C(1) << 53);
    CHECK(json_int(json_get(root, "neg"), INT64_MIN, INT64_MAX, &n) && n == -(INT64_C(1) << 53));
    CHECK(json_int(json_get(root, "exp"), 0, 1000, &n) && n == 1000);
    CHECK(json_int(json_get(root, "u"), 0, INT64_MAX, &n) && n == 3000000000);
    CHECK(!json_is_null(NULL) && !json_is_array(NULL) && !json_is_string(NULL) &&
          !json_is_number(NULL) && !json_is_bool(NULL) && !json_next(NULL) && !json_key(NULL));
    json_free(root);
    json_free(NULL);
}

/* cJSON alone cuts numbers after 63 characters. */
static void test_long_numbers(void)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    fill(&b, "{\"1e99, [0.\\\\\\\"\":\"\\\\\", \"n\":[-0.", "0", 77);
    buf_adds(&b, "1, 1.");
    for (int i = 0; i < 5000; i++)
        buf_adds(&b, "3");
    buf_adds(&b, "E+0001, 5]}");
    struct json *root = NULL;
    struct error err;
    CHECK_FATAL(parse((const char *)buf_head(&b), buf_len(&b), &root, &err) == OK);
    const struct json *n = json_first(json_get(root, "n"));
    CHECK(json_number(n) == -1e-78);
    CHECK(json_number(json_next(n)) == 13.333333333333334);
    CHECK(json_number(json_next(json_next(n))) == 5);
    CHECK_STR(json_key(json_first(root)), "1e99, [0.\\\"");
    json_free(root);
    buf_done(&b);
}

static void test_number_range(void)
{
    static const struct {
        const char *text;
        bool ok;
    } cases[] = {
        {"9007199254740991", true},
        {"9007199254740992", true},
        {"9007199254740993", false},
        {"-9007199254740993", false},
        {"9007199254740994", true},
        {"9223372036854775807", false},
        {"9223372036854775808", true},
        {"18446744073709551615", false},
        {"1e308", true},
        {"1.7976931348623157e308", true},
        {"1.7976931348623158e308", false},
        {"17976931348623157e292", true},
        {"0.00017976931348623157e312", true},
        {"-1.8e308", false},
        {"1e309", false},
        {"1e400", false},
        {"-1e400", false},
        {"1e99999999999999999999", false},
        {"0e99999999999999999999", true},
        {"0.0e400", true},
        {"1e-400", true},
        {"1e-99999999999999999999", true},
        {"0.001e311", true},
        {"0.01e311", false},
        {"100e306", true},
        {"100e307", false},
        {"9007199254740993.0", true}, /* a real: the nearest double will do */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum status st = json_guard(cases[i].text, strlen(cases[i].text), NULL, NULL);
        if ((st == OK) != cases[i].ok)
            fprintf(stderr, "%s\n", cases[i].text);
        CHECK_INT(st, cases[i].ok ? OK : INVALID);
        if (cases[i].ok)
            CHECK(isfinite(strtod(cases[i].text, NULL)));
    }
}

static void check_put(const char *text, size_t len, const char *want)
{
    struct buf b;
    buf_init(&b, 4096);
    CHECK_INT(json_put_string(&b, text, len), OK);
    CHECK_STR(buf_cstr(&b), want);
    CHECK_INT(json_guard((const char *)buf_head(&b), buf_len(&b), NULL, NULL),
              memchr(text, 0, len) ? INVALID : OK);
    buf_done(&b);
}

static void test_put_string(void)
{
    check_put("", 0, "\"\"");
    check_put("plain text of more than eight bytes", 35, "\"plain text of more than eight bytes\"");
    check_put("\"\\/\b\f\n\r\t\x01\x1f\x7f", 11, "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\"");
    check_put("a\0b", 3, "\"a\\u0000b\"");
    check_put("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9,
              "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"");
    check_put("a\xff"
              "b\xc0\x80"
              "c\xed\xa0\x80\xe2\x82",
              11,
              "\"a\xef\xbf\xbd"
              "b\xef\xbf\xbd\xef\xbf\xbd"
              "c\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    struct buf b;
    buf_init(&b, 6);
    CHECK_INT(buf_adds(&b, "ab"), OK);
    CHECK_INT(json_put_string(&b, "cde", 3), LIMITED);
    CHECK_STR(buf_cstr(&b), "ab");
    CHECK_INT(json_put_string(&b, "cd", 2), OK);
    CHECK_STR(buf_cstr(&b), "ab\"cd\"");
    buf_done(&b);
}

static void test_file(void)
{
    char path[] = "/tmp/test_json_XXXXXX";
    int fd = mkstemp(path);
    CHECK_FATAL(fd >= 0);
    CHECK_INT(write(fd, "{\"a\":1}", 7), 7);
    close(fd);
    struct json *root = NULL;
    struct error err;
    CHECK_INT(json_parse_file(path, 7, &root, &err), OK);
    CHECK_INT(json_count(root), 1);
    json_free(root);
    CHECK_INT(json_parse_file(path, 6, &root, &err), LIMITED);
    CHECK_INT(truncate(path, 5), 0);
    CHECK_INT(json_parse_file(path, 7, &root, &err), INVALID);
    CHECK(strncmp(err.text, path, strlen(path)) == 0);
    unlink(path);
    CHECK_INT(json_parse_file(path, 7, &root, &err), IO_FAILED);
}

/* Each string of up to three bytes against a slow reading of the definition of UTF-8. */
static void test_utf8(void)
{
    for (uint32_t code = 0x80; code < 0x120000; code += code < 0x3000 || code >= 0xd7f0 ? 1 : 7) {
        uint8_t s[4];
        int n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
        uint32_t rest = code;
        for (int i = n - 1; i > 0; i--, rest >>= 6)
            s[i] = (uint8_t)(0x80 | (rest & 0x3f));
        s[0] = (uint8_t)((n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0) | rest);
        bool valid = (code < 0xd800 || code > 0xdfff) && code <= 0x10ffff;
        if (json_utf8_len(s, s + n) != (valid ? n : 0) || json_utf8_len(s, s + n - 1) != 0)
            CHECK(!"UTF-8 of a code point is judged wrongly");
        for (int i = 1; i < n; i++) {
            uint8_t old = s[i];
            s[i] ^= 0x80;
            if (json_utf8_len(s, s + n) != 0)
                CHECK(!"a broken sequence passes");
            s[i] = old;
        }
        if (code > 0x110000)
            code += 0x1000;
    }
}

/* A value printed is the value read, in one line with a space behind each comma and colon. */
static void test_put(void)
{
    static const char *const texts[] = {
        "{\"a\": [1, -2.5, 0.1, 1e+100, true, false, null], \"b\": {}, \"c\": []}",
        "\"\\u0001\\n\\\"\\\\ \xc3\xa9\"",
        "9007199254740992",
        "[[[[[]]]]]",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct json *v;
        struct error err;
        struct buf out, small;
        CHECK_FATAL(json_parse(texts[i], strlen(texts[i]), NULL, &v, &err) == OK);
        buf_init(&out, 1000);
        CHECK_INT(json_put(&out, v), OK);
        CHECK_STR(buf_cstr(&out), texts[i]);
        buf_init(&small, strlen(texts[i]) - 1);
        CHECK_INT(json_put(&small, v), LIMITED);
        CHECK_INT(buf_len(&small), 0);
        buf_done(&out);
        buf_done(&small);
        json_free(v);
    }
}

int main(void)
{
    test_valid();
    test_invalid();
    test_places();
    test_limits();
    test_keys();
    test_key_pairs();
    test_key_counts();
    test_out_of_memory();
    test_access();
    test_long_numbers();
    test_number_range();
    test_put_string();
    test_put();
    test_file();
    test_utf8();
    return check_done();
}
