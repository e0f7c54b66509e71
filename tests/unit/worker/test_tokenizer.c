#include "worker/tokenizer.h"

#include "base/json.h"
#include "tests/unit/worker/text_fixture.h"
#include "worker/tokenizer_private.h"

static bool same_ids(const struct token_list *got, const struct json *want)
{
    size_t i = 0;
    if ((int)got->count != json_count(want))
        return false;
    for (const struct json *v = json_first(want); v; v = json_next(v))
        if (json_number(v) != got->ids[i++])
            return false;
    return true;
}

static void check_decoding(const struct tokenizer *t, const struct token_list *ids,
                           const char *text)
{
    struct buf out;
    buf_init(&out, 1 << 24);
    for (size_t i = 0; i < ids->count; i++) {
        size_t len = 0;
        const uint8_t *bytes = tokenizer_bytes(t, ids->ids[i], &len);
        CHECK_FATAL(bytes);
        CHECK(buf_add(&out, bytes, len) == OK);
    }
    CHECK_STR(buf_cstr(&out), text);
    buf_done(&out);
}

static void check_cases(const char *dir, const char *cases)
{
    struct error err = {0};
    struct tokenizer *t = NULL;
    struct json *root = NULL;
    if (tokenizer_load(dir, &t, &err) != OK || json_parse_file(cases, 1 << 24, &root, &err) != OK)
        fprintf(stderr, "%s\n", err.text);
    CHECK_FATAL(t && root);
    int count = 0;
    for (const struct json *v = json_first(root); v; v = json_next(v), count++) {
        const char *text = json_string(json_get(v, "text"));
        struct token_list ids;
        token_list_init(&ids, 1 << 20);
        CHECK_INT(tokenizer_encode(t, text, strlen(text), true, &ids), OK);
        if (!same_ids(&ids, json_get(v, "ids")))
            fprintf(stderr, "%s, case %d: \"%s\"\n", cases, count, text);
        CHECK(same_ids(&ids, json_get(v, "ids")));
        check_decoding(t, &ids, text);
        token_list_done(&ids);
    }
    CHECK(count > 40);
    json_free(root);
    tokenizer_free(t);
}

static void test_demo(void)
{
    const char *dir = fixture_demo();
    check_cases(dir, "tests/golden/tokenizer.json");
    struct error err = {0};
    struct tokenizer *t = NULL;
    CHECK_FATAL(tokenizer_load(dir, &t, &err) == OK);
    CHECK_INT(tokenizer_vocab_size(t), 1024);
    CHECK_INT(tokenizer_id(t, "<｜User｜>"), 1007);
    CHECK(tokenizer_is_added(t, 1007) && !tokenizer_is_special(t, 1007));
    CHECK(tokenizer_is_special(t, 1) && !tokenizer_is_added(t, 100));
    struct token_list ids;
    token_list_init(&ids, 100);
    CHECK_INT(tokenizer_encode(t, "\0", 1, false, &ids), OK);
    CHECK(ids.count == 1 && ids.ids[0] == 3);
    token_list_done(&ids);
    tokenizer_free(t);
}

static void test_published(void)
{
    static const char *const names[] = {"deepseek-v3", "llama-3"};
    for (int i = 0; i < 2; i++) {
        char dir[4096], cases[4200];
        snprintf(dir, sizeof dir, "%s/fixtures/tokenizers/%s", fixture_shared(), names[i]);
        snprintf(cases, sizeof cases, "%s/cases.json", dir);
        if (access(cases, R_OK) == 0)
            check_cases(dir, cases);
        else
            printf("without %s: %s is not there\n", names[i], cases);
    }
}

static struct tokenizer *small(void)
{
    struct buf text;
    fixture_tokenizer(&text);
    struct tokenizer *t = NULL;
    struct error err = {0};
    if (tokenizer_parse((const char *)buf_head(&text), buf_len(&text), &t, &err) != OK)
        fprintf(stderr, "%s\n", err.text);
    CHECK_FATAL(t);
    buf_done(&text);
    return t;
}

static void check_ids(const struct tokenizer *t, const char *text, bool added, const char *want)
{
    struct token_list ids;
    token_list_init(&ids, 1000);
    CHECK_INT(tokenizer_encode(t, text, strlen(text), added, &ids), OK);
    char got[1000] = "";
    for (size_t i = 0, n = 0; i < ids.count; i++)
        n += (size_t)snprintf(got + n, sizeof got - n, "%s%d", i ? " " : "", ids.ids[i]);
    CHECK_STR(got, want);
    token_list_done(&ids);
}

static void test_small(void)
{
    struct tokenizer *t = small();
    check_ids(t, "", true, "");
    check_ids(t, "abc", false, "97 258"); /* b+c has the lower rank */
    check_ids(t, "abab", false, "256 256");
    check_ids(t, "aaaaa", false, "260 97"); /* the leftmost of equals first */
    check_ids(t, "ab c", false, "256 32 99");
    check_ids(t, "<think>", false, "60 116 104 105 110 107 62");
    check_ids(t, "a<think>b</think><end>", true, "97 300 98 301 302");
    check_ids(t, "<think", true, "60 116 104 105 110 107");
    check_ids(t, "\xe1\xa0\x8e", false, "225 160 142");
    CHECK_INT(tokenizer_vocab_size(t), 309);
    size_t len;
    CHECK(!tokenizer_bytes(t, 270, &len) && !tokenizer_bytes(t, -1, &len));
    CHECK(!tokenizer_bytes(t, 309, &len));
    CHECK_INT(tokenizer_id(t, "<none>"), -1);
    tokenizer_free(t);
}

static void test_not_utf8(void)
{
    static const char *const bad[] = {"\x80",         "a\xff",    "\xc0\x80",
                                      "\xed\xa0\x80", "\xe4\xbd", "\xf4\x90\x80\x80"};
    struct tokenizer *t = small();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct token_list ids;
        token_list_init(&ids, 100);
        CHECK_INT(tokenizer_encode(t, bad[i], strlen(bad[i]), false, &ids), INVALID);
        token_list_done(&ids);
    }
    tokenizer_free(t);
}

/* The plain way: again and again the first of the pairs with the lowest rank. */
static size_t naive(const struct tokenizer *t, const char *text, size_t n, int32_t *ids)
{
    for (size_t i = 0; i < n; i++)
        ids[i] = t->byte_ids[(uint8_t)text[i]];
    for (;;) {
        const struct pair_slot *best = NULL;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            const struct pair_slot *p = pair_table_get(&t->merges, ids[i], ids[i + 1]);
            if (p && (!best || p->rank < best->rank)) {
                best = p;
                at = i;
            }
        }
        if (!best)
            return n;
        ids[at] = best->merged;
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

static void test_against_naive(void)
{
    struct tokenizer *t = small();
    uint32_t seed = 1;
    for (int round = 0; round < 2000; round++) {
        char text[200];
        int32_t want[200];
        size_t n = (size_t)round % 199 + 1;
        for (size_t i = 0; i < n; i++) {
            seed = seed * 1664525 + 1013904223;
            text[i] = "aaabbc"[(seed >> 16) % 6];
        }
        struct token_list ids;
        token_list_init(&ids, 200);
        CHECK_INT(tokenizer_encode(t, text, n, false, &ids), OK);
        size_t count = naive(t, text, n, want);
        CHECK(ids.count == count && memcmp(ids.ids, want, count * sizeof *want) == 0);
        token_list_done(&ids);
    }
    tokenizer_free(t);
}

static void test_long(void)
{
    enum { LEN = 1 << 20 };
    struct tokenizer *t = small();
    char *text = malloc(LEN);
    CHECK_FATAL(text);
    memset(text, 'a', LEN);
    struct token_list ids;
    token_list_init(&ids, LEN);
    CHECK_INT(tokenizer_encode(t, text, LEN, false, &ids), OK);
    CHECK_INT(ids.count, LEN / 4);
    token_list_done(&ids);
    token_list_init(&ids, 2048);
    CHECK_INT(tokenizer_encode(t, text, LEN, false, &ids), LIMITED);
    token_list_done(&ids);
    free(text);
    tokenizer_free(t);
}

/* The small tokenizer.json with one text in it replaced, and what the error must say. */
static const struct {
    const char *from, *to, *error;
} bad_files[] = {
    {"{\"normalizer\":null", "{\"normalizer\":{\"type\":\"NFD\"}", "normalizer type NFD"},
    {"{\"normalizer\":null",
     "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"}]}",
     "normalizer type NFKC"},
    {"\"type\":\"Split\"", "\"type\":\"Metaspace\"", "type Metaspace"},
    {"Isolated", "Removed", "behavior Removed"},
    {"\"invert\":false", "\"invert\":true", "invert"},
    {"\\\\s+|", "(\\\\s+|", "regular expression"},
    {"{\"Regex\"", "{\"Other\"", "no pattern"},
    {"\"add_prefix_space\":false", "\"add_prefix_space\":true", "add_prefix_space"},
    {"," FIXTURE_BYTE_LEVEL, "", "no ByteLevel"},
    {"\"decoder\":{\"type\":\"ByteLevel\"}", "\"decoder\":{\"type\":\"Metaspace\"}",
     "decoder type Metaspace"},
    {"\"lstrip\":false", "\"lstrip\":true", "lstrip of \"<think>\""},
    {"\"id\":301", "\"id\":300", "there twice"},
    {"\"id\":300", "\"id\":-1", "not a whole number"},
    {"\"id\":300", "\"id\":1000000000", "not a whole number"},
    {"\"id\":300", "\"id\":1.5", "not a whole number"},
    {"\"type\":\"BPE\"", "\"type\":\"Unigram\"", "model type Unigram"},
    {"\"ignore_merges\":false", "\"byte_fallback\":true", "byte_fallback"},
    {"\"\\u0041\":65,", "", "no token for the byte 0x41"},
    {"\"ab\":256", "\"ab\":65", "two tokens have the id 65"},
    {"\"ab\":256", "\"ab\":300", "two tokens have the id 300"},
    {"\"a b\"", "\"a x y\"", "entry 1"},
    {"\"a b\"", "\"ax\"", "entry 1"},
    {"\"a b\"", "7", "entry 1"},
    {"\"a b\"", "\"a x\"", "(\"a\", \"x\") has no token"},
    {"\"merges\":", "\"none\":", "merges is not a list"},
    {"\"vocab\":", "\"none\":", "vocab is not an object"},
    {"\"merges\":", "\"merges\"", ""},
};

/* The small file with one text in it replaced. */
static void change(const char *from, const char *to, struct buf *changed)
{
    struct buf text;
    fixture_tokenizer(&text);
    const char *start = buf_cstr(&text);
    const char *at = strstr(start, from);
    CHECK_FATAL(at);
    buf_init(changed, 1 << 20);
    CHECK(buf_add(changed, start, (size_t)(at - start)) == OK);
    CHECK(buf_adds(changed, to) == OK);
    CHECK(buf_adds(changed, at + strlen(from)) == OK);
    buf_done(&text);
}

/* With NFC, as Qwen's have it, a letter and its mark are as good as the letter with it; without,
 * they are not. */
static void test_composes(void)
{
    static const char apart[] = "ae\xcc\x81", one[] = "a\xc3\xa9";
    for (int nfc = 0; nfc < 2; nfc++) {
        struct buf file;
        struct tokenizer *t = NULL;
        struct token_list a, b;
        struct error err = {0};
        change("{\"normalizer\":null",
               nfc ? "{\"normalizer\":{\"type\":\"NFC\"}" : "{\"normalizer\":null", &file);
        CHECK_INT(tokenizer_parse((const char *)buf_head(&file), buf_len(&file), &t, &err), OK);
        CHECK_FATAL(t);
        token_list_init(&a, 100);
        token_list_init(&b, 100);
        CHECK_INT(tokenizer_encode(t, apart, sizeof apart - 1, false, &a), OK);
        CHECK_INT(tokenizer_encode(t, one, sizeof one - 1, false, &b), OK);
        CHECK_INT(a.count, nfc ? b.count : b.count + 1);
        CHECK_INT(memcmp(a.ids, b.ids, b.count * sizeof *b.ids) == 0, nfc);
        token_list_done(&a);
        token_list_done(&b);
        tokenizer_free(t);
        buf_done(&file);
    }
}

static void test_bad_files(void)
{
    for (size_t i = 0; i < sizeof bad_files / sizeof *bad_files; i++) {
        struct buf changed;
        change(bad_files[i].from, bad_files[i].to, &changed);
        struct tokenizer *t = NULL;
        struct error err = {0};
        CHECK_INT(tokenizer_parse((const char *)buf_head(&changed), buf_len(&changed), &t, &err),
                  INVALID);
        CHECK(!t);
        if (!strstr(err.text, bad_files[i].error))
            fprintf(stderr, "case %zu says: %s\n", i, err.text);
        CHECK(strstr(err.text, bad_files[i].error) != NULL);
        buf_done(&changed);
    }
    struct tokenizer *t = NULL;
    struct error err = {0};
    CHECK(tokenizer_load("/nowhere", &t, &err) != OK);
    CHECK(strstr(err.text, "/nowhere/tokenizer.json") != NULL);
}

static void check_golden(const struct tokenizer *t, const struct json *cases)
{
    CHECK(json_count(cases) > 0);
    for (const struct json *v = json_first(cases); v; v = json_next(v)) {
        const char *words = json_string(json_get(v, "text"));
        struct token_list got;
        size_t at = 0;
        token_list_init(&got, 1000);
        CHECK_INT(tokenizer_encode(t, words, strlen(words), json_bool(json_get(v, "added")), &got),
                  OK);
        CHECK_INT(got.count, json_count(json_get(v, "ids")));
        for (const struct json *id = json_first(json_get(v, "ids")); id; id = json_next(id), at++) {
            int64_t want = -1;
            json_int(id, 0, INT32_MAX, &want);
            if (at < got.count && got.ids[at] != want) {
                fprintf(stderr, "\"%s\" at %zu\n", words, at);
                CHECK_INT(got.ids[at], want);
                break;
            }
        }
        token_list_done(&got);
    }
}

/* A text in front of which there are tokens already. */
static void check_on(const struct tokenizer *t, bool space)
{
    struct token_list a, b;
    token_list_init(&a, 100);
    token_list_init(&b, 100);
    CHECK_INT(tokenizer_encode(t, "<s>Hello", 8, true, &a), OK);
    CHECK_INT(tokenizer_encode_on(t, "Hello", 5, &b), OK);
    CHECK(a.count == b.count + 1 && memcmp(a.ids + 1, b.ids, b.count * sizeof *b.ids) == 0);
    b.count = 0;
    CHECK_INT(tokenizer_encode(t, "Hello", 5, false, &b), OK);
    CHECK_INT(a.count == b.count + 1 && memcmp(a.ids + 1, b.ids, b.count * sizeof *b.ids) == 0,
              space);
    CHECK_INT(tokenizer_encode_on(t, "\xff", 1, &b), INVALID);
    token_list_done(&a);
    token_list_done(&b);
}

static struct tokenizer *parse(const struct buf *text)
{
    struct tokenizer *t = NULL;
    struct error err = {0};
    CHECK_INT(tokenizer_parse((const char *)buf_head(text), buf_len(text), &t, &err), OK);
    CHECK_STR(err.text, "");
    CHECK_FATAL(t);
    CHECK(tokenizer_adds_space(t));
    return t;
}

/* Small tokenizers of SentencePiece's forms, the older and the newer one, with ids by the library
 * that publishers use. */
static void test_sentencepiece(void)
{
    static const char newer[] =
        "{\"normalizer\": null, \"pre_tokenizer\": {\"type\": \"Metaspace\", "
        "\"replacement\": \"\xe2\x96\x81\", \"prepend_scheme\": \"first\", "
        "\"split\": false}";
    struct json *root = NULL;
    struct error err = {0};
    struct buf text, changed;
    CHECK_FATAL(
        json_parse_file("tests/golden/tokenizer_sentencepiece.json", 1 << 20, &root, &err) == OK);
    buf_init(&text, 1 << 20);
    buf_init(&changed, 1 << 20);
    CHECK_INT(json_put(&text, json_get(root, "tokenizer")), OK);
    struct tokenizer *t = parse(&text);
    check_golden(t, json_get(root, "cases"));
    check_on(t, true);
    tokenizer_free(t);
    const char *rest = strstr(buf_cstr(&text), ", \"post_processor\"");
    const char *added = strstr(buf_cstr(&text), "\"added_tokens\"");
    const char *behind = strstr(buf_cstr(&text), ", \"normalizer\"");
    CHECK_FATAL(rest && added && behind && added < behind && behind < rest);
    CHECK_INT(buf_adds(&changed, newer), OK);
    CHECK_INT(buf_addf(&changed, ", %.*s%s", (int)(behind - added), added, rest), OK);
    t = parse(&changed);
    check_golden(t, json_get(root, "metaspace"));
    check_on(t, false);
    tokenizer_free(t);
    buf_done(&changed);
    buf_done(&text);
    json_free(root);
}

int main(void)
{
    test_small();
    test_not_utf8();
    test_against_naive();
    test_long();
    test_composes();
    test_bad_files();
    test_published();
    test_demo();
    test_sentencepiece();
    return check_done();
}
