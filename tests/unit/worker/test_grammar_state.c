/* runs: thread */
/* States of a grammar: taking back, copying, ends, depth, parts around schemas, masks that a second
 * thread makes, and what hostile schemas may cost. */
#include "worker/grammar/state.h"

#include <pthread.h>

#include "base/buf.h"
#include "tests/unit/check.h"
#include "worker/grammar/private.h"

enum { END = 1 };

static struct tokenizer *tokenizer;
static struct grammar_vocab *vocab;

static struct grammar *compile(const char *schema)
{
    struct grammar *g = NULL;
    struct error err = {{0}};
    if (grammar_compile_schema(schema, strlen(schema), false, &g, &err) != OK)
        fprintf(stderr, "%s: %s\n", schema, err.text);
    CHECK_FATAL(g);
    return g;
}

static bool put(struct grammar_state *s, const char *text)
{
    return grammar_state_accept_bytes(s, text, strlen(text));
}

struct whole_case {
    const char *text;
    bool whole; /* the grammar takes it and may end there */
};

static void check_whole(struct grammar *g, const struct whole_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct grammar_state *s = grammar_state_new(g, vocab);
        CHECK_INT(put(s, cases[i].text) && grammar_state_is_done(s), cases[i].whole);
        grammar_state_free(s);
    }
}

static void test_rollback(void)
{
    struct grammar *g = compile("{\"type\":\"array\",\"items\":{\"type\":\"array\"}}");
    struct grammar_state *s = grammar_state_new(g, vocab);
    CHECK(!grammar_state_rollback(s, 1));
    CHECK(put(s, "[[[") && put(s, "[1,"));
    CHECK(!put(s, "]]]"));
    CHECK(grammar_state_rollback(s, 1) && put(s, "]]]") && grammar_state_is_done(s));
    CHECK(grammar_state_rollback(s, 1) && !grammar_state_may_end(s));
    for (int i = 0; i < 40; i++)
        CHECK(put(s, "[") && put(s, "1],"));
    CHECK(!grammar_state_rollback(s, GRAMMAR_ROLLBACK_MAX + 1));
    CHECK(grammar_state_rollback(s, GRAMMAR_ROLLBACK_MAX) && put(s, "7") && put(s, "]]]"));
    CHECK(grammar_state_may_end(s));
    grammar_state_free(s);
    grammar_unref(g);
}

static void test_copy(void)
{
    struct grammar *g =
        compile("{\"type\":\"array\",\"items\":{\"type\":\"string\",\"maxLength\":2}}");
    struct grammar_state *a = grammar_state_new(g, vocab);
    grammar_unref(g);
    CHECK(put(a, "[\"x"));
    struct grammar_state *b = grammar_state_copy(a);
    CHECK_FATAL(b);
    CHECK(put(a, "y\"]") && !put(b, "yz") && put(b, "\"") && !grammar_state_may_end(b));
    CHECK(grammar_state_rollback(b, 2) && put(b, "[]"));
    grammar_state_free(a);
    CHECK(grammar_state_is_done(b));
    grammar_state_free(b);
}

static void test_end(void)
{
    struct grammar *g = compile("{\"type\":\"integer\"}");
    struct grammar_state *s = grammar_state_new(g, vocab);
    CHECK(!grammar_state_accept(s, END) && !grammar_state_accept(s, -1));
    CHECK(!grammar_state_accept(s, 1 << 30) && !grammar_state_accept(s, 0));
    CHECK(put(s, "1") && grammar_state_may_end(s) && !grammar_state_is_done(s));
    const uint32_t *mask = grammar_state_mask(s);
    CHECK(mask[0] >> END & 1);
    CHECK(grammar_state_accept(s, END) && grammar_state_rollback(s, 1));
    CHECK(put(s, "0") && grammar_state_is_done(s));
    mask = grammar_state_mask(s);
    int others = 0;
    for (int id = 0; id < tokenizer_vocab_size(tokenizer); id++)
        others += id != END && mask[id / 32] >> id % 32 & 1;
    CHECK_INT(others, 0);
    grammar_state_free(s);
    grammar_unref(g);
}

/* Free JSON nests up to the frames there are, then only what fits may come, and it can be closed.
 */
static void test_depth(void)
{
    struct grammar *g = NULL;
    struct error err;
    char closing[1000];
    CHECK_FATAL(grammar_compile_json_object(&g, &err) == OK);
    struct grammar_state *s = grammar_state_new(g, vocab);
    int depth = 0;
    CHECK(put(s, "{\"k\":"));
    while (depth < 1000 && put(s, "["))
        depth++;
    CHECK(depth > 50 && depth < GRAMMAR_DEPTH);
    CHECK(grammar_state_mask(s) && !put(s, "{"));
    size_t len = grammar_state_closing(s, closing, sizeof closing);
    CHECK_INT(len, depth + 1);
    CHECK(grammar_state_accept_bytes(s, closing, len) && grammar_state_is_done(s));
    grammar_state_free(s);
    grammar_unref(g);
}

/* A call of one of two tools, as some templates write it. */
static void test_parts(void)
{
    static const char first[] =
        "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"}},"
        "\"required\":[\"city\"],\"additionalProperties\":false}";
#define TEXT(t)                                                                                    \
    {                                                                                              \
        .kind = GRAMMAR_LITERAL, .text = (t), .len = sizeof(t) - 1                                 \
    }
    const struct grammar_part a[] = {
        TEXT("{\"name\": \"weather\", \"arguments\": "),
        {.kind = GRAMMAR_SCHEMA, .text = first, .len = sizeof first - 1, .strict = true},
        TEXT("}")};
    const struct grammar_part b[] = {
        TEXT("{\"name\": \"wait\", \"arguments\": "), {.kind = GRAMMAR_JSON_OBJECT}, TEXT("}")};
    const struct grammar_part tools[] = {{.kind = GRAMMAR_SEQUENCE, .parts = a, .count = 3},
                                         {.kind = GRAMMAR_SEQUENCE, .parts = b, .count = 3}};
    const struct grammar_part root = {.kind = GRAMMAR_CHOICE, .parts = tools, .count = 2};
    struct grammar *g = NULL;
    struct error err = {{0}};
    CHECK_FATAL(grammar_compile(&root, NULL, &g, &err) == OK);
    static const struct whole_case cases[] = {
        {"{\"name\": \"weather\", \"arguments\": {\"city\":\"Rome\"}}", true},
        {"{\"name\": \"wait\", \"arguments\": {\"x\": [1]}}", true},
        {"{\"name\": \"weather\", \"arguments\": {\"x\": 1}}", false},
        {"{\"name\": \"other\", \"arguments\": {}}", false},
        {"{\"name\": \"wait\", \"arguments\": {}", false},
    };
    check_whole(g, cases, sizeof cases / sizeof *cases);
    grammar_unref(g);
    const struct grammar_part wrong = {
        .kind = GRAMMAR_SCHEMA, .text = "{\"not\":{}}", .len = 10, .place = "tools[1].parameters"};
    CHECK(grammar_compile(&wrong, NULL, &g, &err) == INVALID);
    CHECK_STR(err.text, "tools[1].parameters.not: not supported");
}

/* Text up to a mark, and a list of schemas. */
static void test_text_and_list(void)
{
    const struct grammar_part list[] = {
        {.kind = GRAMMAR_SCHEMA, .text = "{\"enum\":[1,22]}", .len = 15}, TEXT(", ")};
    const struct grammar_part parts[] = {TEXT("<"),
                                         {.kind = GRAMMAR_TEXT, .text = "\n</p>", .len = 5},
                                         TEXT("\n</p>"),
                                         {.kind = GRAMMAR_LIST, .parts = list, .count = 2},
                                         TEXT(".")};
    const struct grammar_part root = {.kind = GRAMMAR_SEQUENCE, .parts = parts, .count = 5};
    struct grammar *g = NULL;
    struct error err = {{0}};
    CHECK_FATAL(grammar_compile(&root, NULL, &g, &err) == OK);
    static const struct whole_case cases[] = {
        {"<\n</p>1.", true},
        {"<a</p>\n\n</p>1, 22, 1.", true},
        {"<\n</q>\n</\n</p>22.", true},
        {"<\xc3\xbc\xf0\x9f\x98\x80\n\xe6\xbc\xa2\t\r\n\n</p>22.", true},
        {"<a\n</p>\n</p>1.", false},
        {"<a\n</p>a\n</p>1.", false},
        {"<a</p>1.", false},
        {"<\x01\n</p>1.", false},
        {"<\xc3\n</p>1.", false},
        {"<\n</p>.", false},
        {"<\n</p>1,1.", false},
        {"<\n</p>1, .", false},
        {"<\n</p>1", false},
    };
    check_whole(g, cases, sizeof cases / sizeof *cases);
    grammar_unref(g);
}

/* Characters cut by tokens, and lengths that count them whole. */
static void test_characters(void)
{
    struct grammar *g = compile("{\"type\":\"string\",\"minLength\":2,\"maxLength\":2}");
    struct grammar_state *s = grammar_state_new(g, vocab);
    CHECK(put(s, "\"") && put(s, "\xf0\x9f") && !put(s, "\"") && put(s, "\x98\x80"));
    CHECK(!put(s, "\"") && put(s, "\\") && put(s, "ud8") && put(s, "3d") && !put(s, "\""));
    CHECK(put(s, "\\ude0") && put(s, "0") && !put(s, "a") && !put(s, "\\") && !put(s, "\xc3"));
    const uint32_t *mask = grammar_state_mask(s);
    int allowed = 0;
    for (size_t i = 0; i < grammar_vocab_words(vocab); i++)
        allowed += __builtin_popcount(mask[i]);
    CHECK_INT(allowed, 1);
    CHECK(put(s, "\"") && grammar_state_is_done(s));
    grammar_state_free(s);
    grammar_unref(g);
}

static void *warm(void *arg)
{
    grammar_warm(arg, vocab, 10000000);
    return NULL;
}

static void test_threads(void)
{
    struct grammar *g =
        compile("{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{"
                "\"a\":{\"pattern\":\"^[^x]+$\"},\"b\":{\"enum\":[\"p\",\"q\"]}}}}");
    struct grammar_state *s = grammar_state_new(g, vocab);
    pthread_t thread;
    CHECK_FATAL(pthread_create(&thread, NULL, warm, g) == 0);
    for (const char *c = "[{\"a\":\"bcd\",\"b\":\"q\"},{}]"; *c; c++) {
        const uint32_t *mask = grammar_state_mask(s);
        char one[2] = {*c, 0};
        CHECK(mask && put(s, one));
    }
    CHECK(grammar_state_is_done(s));
    pthread_join(thread, NULL);
    size_t bytes = grammar_bytes(g);
    grammar_warm(g, vocab, 10000000);
    CHECK_INT(grammar_bytes(g), bytes);
    grammar_state_free(s);
    grammar_unref(g);
}

/* Frames of texts long gone are found and dropped. */
static void test_long(void)
{
    struct grammar *g = compile("{\"type\":\"array\"}");
    struct grammar_state *s = grammar_state_new(g, vocab);
    CHECK(put(s, "["));
    for (int i = 0; i < 20000; i++)
        CHECK(put(s, "{\"a\":[1,\"x\"]}") && put(s, ","));
    CHECK(put(s, "0]") && grammar_state_is_done(s));
    grammar_state_free(s);
    grammar_unref(g);
}

/* Text with its middle repeated. */
static char *repeated(const char *before, const char *middle, int count, const char *after)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    buf_adds(&b, before);
    for (int i = 0; i < count; i++)
        buf_addf(&b, middle, i, i);
    buf_adds(&b, after);
    char *text = strdup(buf_cstr(&b));
    buf_done(&b);
    return text;
}

static void test_hostile(void)
{
    static const struct {
        const char *before, *middle, *after;
        int count;
        enum status status;
    } cases[] = {
        {"{\"pattern\":\"^(a|b)*a(a|b){", "", "30}$\"}", 0, LIMITED},
        {"{\"pattern\":\"", "(", "\"}", 100, INVALID},
        {"{\"pattern\":\"((a{100}){100}){100}", "", "\"}", 0, LIMITED},
        {"{\"pattern\":\"^(ab)*$\",\"maxLength\":", "1", "\"}", 1, INVALID},
        {"{\"pattern\":\"^(ab)*$\",\"maxLength\":16000000", "", "}", 0, LIMITED},
        {"{\"minLength\":16000000", "", "}", 0, OK},
        {"", "{\"items\":", "{}", 63, INVALID},
        {"{\"properties\":{\"p\":{}", ",\"q%d\":{\"type\":\"array\",\"maxItems\":2048}", "}}", 190,
         LIMITED},
        {"{\"enum\":[0", ",\"value %d\"", "]}", 999, OK},
        {"{\"enum\":[0", ",%d", "]}", 1001, LIMITED},
        {"{\"anyOf\":[true", ",{\"const\":%d}", "]}", 100, LIMITED},
        {"{\"anyOf\":[{\"$ref\":\"#\"}", ",{\"$ref\":\"#\"}", "]}", 50, INVALID},
        {"{\"properties\":{\"a\":{}", ",\"b%d\":{\"pattern\":\"^[^a]*%d$\"}", "}}", 190, OK},
        {"{\"required\":[\"a\"", ",\"b%d\"", "]}", 999, OK},
        {"{\"required\":[\"a\"", ",\"b%d\"", "]}", 1000, LIMITED},
        {"{\"properties\":{\"a\":{}", ",\"b%d\":{}", "}}", 200, LIMITED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = repeated(cases[i].before, cases[i].middle, cases[i].count, cases[i].after);
        struct grammar *g = NULL;
        struct error err = {{0}};
        enum status st = grammar_compile_schema(text, strlen(text), false, &g, &err);
        CHECK_INT(st, cases[i].status);
        if (st != cases[i].status)
            fprintf(stderr, "%.60s: %s\n", text, err.text);
        CHECK(st == OK || strncmp(err.text, "schema", 6) == 0);
        CHECK(!g || grammar_bytes(g) < 16 << 20);
        grammar_unref(g);
        free(text);
    }
}

int main(void)
{
    struct error err;
    const int32_t end = END;
    CHECK_FATAL(tokenizer_load("models/demo", &tokenizer, &err) == OK);
    const int32_t wrong = tokenizer_vocab_size(tokenizer);
    CHECK(grammar_vocab_new(tokenizer, &wrong, 1, &vocab, &err) == INVALID);
    CHECK_FATAL(grammar_vocab_new(tokenizer, &end, 1, &vocab, &err) == OK);
    test_rollback();
    test_copy();
    test_end();
    test_depth();
    test_parts();
    test_text_and_list();
    test_characters();
    test_threads();
    test_long();
    test_hostile();
    grammar_vocab_free(vocab);
    tokenizer_free(tokenizer);
    return check_done();
}
