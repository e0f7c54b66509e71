/* Schemas of which several hold together (allOf), exactly one (oneOf), or one after the other
 * (prefixItems): what they take, and what is refused, and where. */
#include "tests/unit/check.h"
#include "worker/grammar/state.h"

static struct tokenizer *tokenizer;
static struct grammar_vocab *vocab;

static bool takes(struct grammar *g, const char *text)
{
    struct grammar_state *s = grammar_state_new(g, vocab);
    CHECK_FATAL(s);
    bool ok = grammar_state_accept_bytes(s, text, strlen(text)) && grammar_state_may_end(s);
    grammar_state_free(s);
    return ok;
}

#define BASE                                                                                       \
    "\"$defs\":{\"base\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}}}}"

static const struct {
    const char *schema;
    const char *good[8], *bad[8];
} rows[] = {
    {"{\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"boolean\"}],\"items\":false}",
     {"[]", "[1]", "[1,true]"},
     {"[true]", "[1,1]", "[1,true,1]"}},
    {"{\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"boolean\"}],\"items\":{\"type\":"
     "\"null\"}"
     ",\"minItems\":2}",
     {"[1,true]", "[1,true,null]", "[1,true,null,null,null]"},
     {"[]", "[1]", "[1,true,true]"}},
    {"{\"prefixItems\":[{\"type\":\"integer\"}]}", {"[]", "[1]", "[1,\"x\",{}]"}, {"[\"x\"]"}},
    {"{\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"null\"},{}],\"maxItems\":2}",
     {"[]", "[1,null]"},
     {"[1,null,1]"}},
    {"{\"prefixItems\":[{\"maxLength\":1},false]}", {"[]", "[\"x\"]"}, {"[\"xy\"]", "[\"x\",1]"}},
    {"{\"prefixItems\":[{\"type\":\"null\"}],\"items\":{\"type\":\"integer\"},\"maxItems\":3}",
     {"[null,1,2]"},
     {"[null,1,2,3]", "[null,null]"}},

    {"{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"integer\"},{\"type\":[\"null\",\"boolean\"]}]}",
     {"\"x\"", "1", "null", "true"},
     {"1.5", "[]"}},
    {"{\"oneOf\":[{\"const\":1},{\"enum\":[2,\"x\"]},{\"type\":\"array\"}]}",
     {"1", "2", "\"x\"", "[3]"},
     {"3", "\"y\""}},
    {"{\"oneOf\":[{\"properties\":{\"t\":{\"const\":\"a\"},\"x\":{\"type\":\"integer\"}},"
     "\"required\":[\"t\",\"x\"]},{\"properties\":{\"t\":{\"const\":\"b\"}},\"required\":[\"t\"]}],"
     "\"discriminator\":{\"propertyName\":\"t\"}}",
     {"{\"t\":\"a\",\"x\":1}", "{\"t\":\"b\"}"},
     {"{\"t\":\"a\"}", "{\"t\":\"b\",\"x\":1}", "{}"}},
    {"{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"a\":{}},\"required\":[\"a\"],"
     "\"additionalProperties\":false},{\"type\":\"object\",\"properties\":{\"b\":{}},"
     "\"required\":[\"b\"],\"additionalProperties\":false}]}",
     {"{\"a\":1}", "{\"b\":1}"},
     {"{}", "{\"a\":1,\"b\":1}"}},
    {"{\"oneOf\":[{\"$ref\":\"#/$defs/x\"},{\"type\":\"string\"}],\"$defs\":{\"x\":{\"anyOf\":["
     "{\"type\":\"null\"},{\"type\":\"integer\"}]}}}",
     {"null", "1", "\"x\""},
     {"true"}},

    {"{\"allOf\":[{\"type\":\"string\",\"minLength\":2},{\"maxLength\":3},{\"pattern\":\"^a\"}]}",
     {"\"ab\"", "\"abc\""},
     {"\"a\"", "\"abcd\"", "\"bb\"", "1"}},
    {"{\"allOf\":[{\"type\":\"number\"},{\"type\":\"integer\",\"minimum\":2},{\"minimum\":4},"
     "{\"maximum\":9},{\"exclusiveMaximum\":6}]}",
     {"4", "5"},
     {"3", "6", "4.5"}},
    {"{\"allOf\":[{\"enum\":[1,2,3,\"x\"]},{\"enum\":[3,\"x\",2.0]},{\"type\":\"integer\"}]}",
     {"2", "3"},
     {"1", "\"x\""}},
    {"{\"allOf\":[{\"$ref\":\"#/$defs/base\"},{\"properties\":{\"b\":{\"type\":\"null\"}},"
     "\"required\":[\"a\",\"b\"]}]," BASE "}",
     {"{\"a\":1,\"b\":null}"},
     {"{\"b\":null,\"a\":1}", "{\"a\":1}", "{\"b\":null}", "{\"a\":1,\"b\":null,\"c\":1}"}},
    {"{\"allOf\":[{\"$ref\":\"#/$defs/base\"}],\"properties\":{\"a\":{\"minimum\":3}},"
     "\"additionalProperties\":true," BASE "}",
     {"{}", "{\"a\":3}"},
     {"{\"a\":2}", "{\"a\":3.5}", "{\"z\":1}"}},
    {"{\"allOf\":[{\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{}},\"additionalProperties\":"
     "false},{\"properties\":{\"b\":{\"type\":\"null\"},\"c\":{}}}]}",
     {"{}", "{\"a\":1}", "{\"a\":1,\"b\":null}"},
     {"{\"b\":1}", "{\"c\":1}"}},
    {"{\"allOf\":[{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\"}},"
     "{\"properties\":{\"a\":{\"minimum\":5}},\"additionalProperties\":{\"maximum\":3}}]}",
     {"{\"a\":5}", "{\"z\":3}", "{\"a\":7,\"z\":-1}"},
     {"{\"a\":5.5}", "{\"z\":4}", "{\"z\":1.5}", "{\"a\":4}"}},
    {"{\"allOf\":[{\"items\":{\"type\":\"integer\"},\"minItems\":1},{\"items\":{\"minimum\":3},"
     "\"maxItems\":2}]}",
     {"[3]", "[3,4]"},
     {"[]", "[2]", "[3.5]", "[3,3,3]"}},
    {"{\"allOf\":[{\"items\":{}},{\"items\":false}]}", {"[]"}, {"[1]"}},
    {"{\"type\":\"object\",\"allOf\":[{\"required\":[\"k\"]},{\"required\":[\"k\",\"l\"]}]}",
     {"{\"k\":1,\"l\":2}"},
     {"{\"k\":1}"}},
    {"{\"anyOf\":[{\"allOf\":[{\"minLength\":1},{\"maxLength\":1}]}],\"type\":\"string\"}",
     {"\"x\""},
     {"\"\"", "\"xy\"", "1"}},
    /* The meeting of two recursive schemas is recursive. */
    {"{\"allOf\":[{\"$ref\":\"#/$defs/x\"},{\"$ref\":\"#/$defs/y\"}],\"$defs\":{\"x\":{\"type\":"
     "\"object\",\"properties\":{\"n\":{\"$ref\":\"#/$defs/x\"},\"v\":{\"type\":\"integer\"}}},"
     "\"y\":{\"type\":\"object\",\"properties\":{\"n\":{\"$ref\":\"#/$defs/y\"},\"v\":{\"minimum\":"
     "3}},\"required\":[\"v\"]}}}",
     {"{\"v\":3}", "{\"n\":{\"n\":{\"v\":5},\"v\":4},\"v\":3}"},
     {"{\"v\":2}", "{\"n\":{\"v\":2},\"v\":3}", "{\"n\":{},\"v\":3}"}},
};

static void test_rows(void)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct grammar *g = NULL;
        struct error err = {{0}};
        if (grammar_compile_schema(rows[i].schema, strlen(rows[i].schema), false, &g, &err) != OK)
            fprintf(stderr, "%s: %s\n", rows[i].schema, err.text);
        CHECK(g);
        for (size_t k = 0; g && k < 8 && rows[i].good[k]; k++)
            if (!takes(g, rows[i].good[k])) {
                CHECK(!"a good text is refused");
                fprintf(stderr, "%s: %s\n", rows[i].schema, rows[i].good[k]);
            }
        for (size_t k = 0; g && k < 8 && rows[i].bad[k]; k++)
            if (takes(g, rows[i].bad[k])) {
                CHECK(!"a bad text is taken");
                fprintf(stderr, "%s: %s\n", rows[i].schema, rows[i].bad[k]);
            }
        grammar_unref(g);
    }
}

#define APART "schema.oneOf: schemas 0 and 1 may hold together: not supported"

static const struct {
    const char *schema, *error;
    bool strict;
} refused[] = {
    {"{\"prefixItems\":[]}", "schema.prefixItems: must be a list of schemas, not empty", false},
    {"{\"prefixItems\":[{},{\"not\":{}}]}", "schema.prefixItems[1].not: not supported", false},
    {"{\"prefixItems\":[{}],\"items\":false,\"minItems\":2}",
     "schema.minItems: is more than there may be", false},
    {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", APART, false},
    {"{\"oneOf\":[{\"minLength\":1},{\"type\":\"integer\"}]}", APART, false},
    {"{\"oneOf\":[{\"type\":\"integer\"},{\"maximum\":3}]}", APART, false},
    {"{\"oneOf\":[{\"enum\":[1,2]},{\"enum\":[3,2.0]}]}", APART, false},
    {"{\"oneOf\":[{\"enum\":[\"a\"]},{\"type\":\"string\",\"minLength\":2}]}", APART, false},
    {"{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"t\":{\"const\":1}}},"
     "{\"type\":\"object\",\"properties\":{\"t\":{\"const\":2}}}]}",
     APART, false},
    {"{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"a\":{}},\"required\":[\"a\"]},"
     "{\"type\":\"object\",\"properties\":{\"b\":{}},\"required\":[\"b\"],"
     "\"additionalProperties\":true}]}",
     APART, false},
    {"{\"oneOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#\"}]}", APART, false},
    {"{\"oneOf\":[{\"type\":\"null\"},{\"type\":\"string\"},{\"type\":[\"null\",\"integer\"]}]}",
     "schema.oneOf: schemas 0 and 2 may hold together: not supported", false},
    {"{\"allOf\":[{\"type\":\"string\"},{\"type\":\"integer\"}]}",
     "schema.allOf: the types contradict each other", false},
    {"{\"allOf\":[{\"const\":1},{\"enum\":[2]}]}", "schema.allOf: no value is in all of its lists",
     false},
    {"{\"allOf\":[{\"pattern\":\"a\"},{\"pattern\":\"b\"}]}",
     "schema.allOf: two different \"pattern\" are not supported", false},
    {"{\"allOf\":[{\"minLength\":3},{\"anyOf\":[{\"maxLength\":5}]}]}",
     "schema.allOf[1].anyOf: not supported among several of an allOf", false},
    {"{\"allOf\":[{},{\"allOf\":[{},{\"multipleOf\":5}]}]}",
     "schema.allOf[1].allOf[1].multipleOf: not supported", false},
    {"{\"allOf\":[{},{\"$ref\":\"#/$defs/no\"}]}",
     "schema.allOf[1].$ref: #/$defs/no is not in the schema", false},
    {"{\"allOf\":[{\"properties\":{\"a\":{\"minimum\":1}}},{\"properties\":{\"a\":{\"maximum\":0}}}"
     "]}",
     "schema.allOf.properties.a.allOf.minimum: no number of at most 15 digits", false},
    {"{\"allOf\":[{\"additionalProperties\":false},{\"required\":[\"x\"]}]}",
     "schema.allOf.required: x is not among the properties", false},
    {"{\"allOf\":[{\"properties\":{\"a\":false}},{\"properties\":{\"b\":{}}}]}",
     "schema.allOf.properties.a: false allows no value", false},
    {"{\"allOf\":[{},{\"$ref\":\"#\"}]}", "leads to itself", false},
    {"{\"allOf\":[{\"type\":\"null\"},{\"title\":\"x\"}]}",
     "schema.allOf: not supported with more than one schema in a strict schema", true},
};

static void test_refused(void)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct grammar *g = NULL;
        struct error err = {{0}};
        enum status st = grammar_compile_schema(refused[i].schema, strlen(refused[i].schema),
                                                refused[i].strict, &g, &err);
        CHECK(st == INVALID || st == LIMITED);
        CHECK(strstr(err.text, refused[i].error));
        if (!strstr(err.text, refused[i].error))
            fprintf(stderr, "%s: %s\n", refused[i].schema, err.text);
        grammar_unref(g);
    }
}

/* Merges of merges, and all pairs of many: an end in bounded time. */
static void test_bounds(void)
{
    static char text[200000];
    size_t len = 0;
    len += (size_t)snprintf(text, sizeof text,
                            "{\"allOf\":[{},{\"$ref\":\"#/$defs/d0\"}],\"$defs\":{");
    for (int i = 0; i < 40; i++)
        len += (size_t)snprintf(
            text + len, sizeof text - len,
            "%s\"d%d\":{\"properties\":{\"a\":{\"allOf\":[{\"$ref\":\"#/$defs/d%d\"},"
            "{\"$ref\":\"#/$defs/d%d\"}]}}}",
            i ? "," : "", i, (i * 7 + 1) % 40, (i * 11 + 3) % 40);
    snprintf(text + len, sizeof text - len, "}}");
    struct grammar *g = NULL;
    struct error err = {{0}};
    enum status st = grammar_compile_schema(text, strlen(text), false, &g, &err);
    CHECK(st == OK || st == LIMITED);
    grammar_unref(g);
    g = NULL;
    len = (size_t)snprintf(text, sizeof text, "{\"oneOf\":[{\"type\":\"null\"}");
    for (int i = 0; i < 99; i++)
        len += (size_t)snprintf(text + len, sizeof text - len,
                                ",{\"type\":\"object\",\"properties\":{\"t\":{\"const\":%d}},"
                                "\"required\":[\"t\"]}",
                                i);
    snprintf(text + len, sizeof text - len, "]}");
    st = grammar_compile_schema(text, strlen(text), false, &g, &err);
    CHECK_INT(st, OK);
    CHECK(g && takes(g, "{\"t\":98}") && takes(g, "null") && !takes(g, "{\"t\":99}"));
    grammar_unref(g);
}

int main(void)
{
    struct error err;
    const int32_t end = 1;
    CHECK_FATAL(tokenizer_load("models/demo", &tokenizer, &err) == OK);
    CHECK_FATAL(grammar_vocab_new(tokenizer, &end, 1, &vocab, &err) == OK);
    test_rows();
    test_refused();
    test_bounds();
    grammar_vocab_free(vocab);
    tokenizer_free(tokenizer);
    return check_done();
}
