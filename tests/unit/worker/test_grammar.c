/* Which texts a schema's grammar takes, byte by byte; what the compiler refuses, and where. */
#include "worker/grammar/state.h"

#include "tests/unit/check.h"

static struct tokenizer *tokenizer;
static struct grammar_vocab *vocab;

static struct grammar *compile(const char *schema, bool strict)
{
    struct grammar *g = NULL;
    struct error err = {{0}};
    if (grammar_compile_schema(schema, strlen(schema), strict, &g, &err) != OK)
        fprintf(stderr, "%s: %s\n", schema, err.text);
    return g;
}

static bool takes(struct grammar *g, const char *text)
{
    struct grammar_state *s = grammar_state_new(g, vocab);
    CHECK_FATAL(s);
    bool ok = grammar_state_accept_bytes(s, text, strlen(text)) && grammar_state_may_end(s);
    grammar_state_free(s);
    return ok;
}

struct row {
    const char *schema;
    const char *good[12], *bad[16];
};

static const struct row rows[] = {
    {"{\"type\":\"string\"}",
     {"\"\"", "\"a\"", "\"\\n\\u00e9\\ud83d\\ude00\"", "\"\xc3\xa9\xf0\x9f\x98\x80\""},
     {"", "a", "\"", "\"\n\"", "\"\\x\"", "\"\\ud83d\"", "\"\\u0000\"", "\"\\udc00\"", "\"\xc3\"",
      "\"\xff\"", "\"a\" ", "\"\xed\xa0\x80\"", "\"\xc0\x80\""}},
    {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}",
     {"\"ab\"", "\"abc\"", "\"\xc3\xa9\xf0\x9f\x98\x80\"", "\"\\n\\n\\ud83d\\ude00\""},
     {"\"\"", "\"a\"", "\"abcd\"", "\"\xf0\x9f\x98\x80\"", "\"\\n\\n\\n\\n\""}},
    {"{\"type\":\"integer\"}",
     {"0", "-1", "12", "123456789012345678"},
     {"-0", "01", "1.0", "+1", "1e3", "", "-", "1234567890123456789"}},
    {"{\"type\":\"number\"}",
     {"0", "-0.5", "12.25", "1e5", "1.5E-7", "2e+279"},
     {"01", ".5", "1.", "1e", "1e400", "NaN", "--1"}},
    {"{\"type\":\"boolean\"}", {"true", "false"}, {"True", "null", "tru", "truee"}},
    {"{\"type\":[\"null\",\"integer\"]}", {"null", "7"}, {"\"7\"", "nul"}},
    {"{\"enum\":[\"a\",\"ab\",1,12,true,null,{\"k\":[1,2]}]}",
     {"\"a\"", "\"ab\"", "1", "12", "true", "null", "{\"k\":[1,2]}"},
     {"\"abc\"", "\"\"", "2", "false", "{}"}},
    {"{\"const\":\"x\\\"y\\n\"}", {"\"x\\\"y\\n\""}, {"\"x\"", "\"x\\\"y\\u000a\""}},
    {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}",
     {"[]", "[1]", "[1,2,3]", "[ 1, 2 ]", "[\n    1,\n    2\n]"},
     {"[,]", "[1,]", "[1 ,2]", "[  1]", "[1", "[[1]]", "[\n\n1]"}},
    {"{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},\"minItems\":2,\"maxItems\":3}",
     {"[true,true]", "[true,false,true]"},
     {"[]", "[true]", "[true,true,true,true]"}},
    {"{\"type\":\"array\",\"minItems\":1}", {"[1]", "[{},[],\"a\",null]"}, {"[]"}},
    {"{\"type\":\"array\",\"maxItems\":0}", {"[]"}, {"[1]"}},
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"string\"}"
     "},"
     "\"required\":[\"a\",\"b\"],\"additionalProperties\":false}",
     {"{\"a\":1,\"b\":\"x\"}", "{\"a\": 1, \"b\": \"x\"}", "{\n  \"a\": 1,\n  \"b\": \"x\"\n}"},
     {"{}", "{\"a\":1}", "{\"b\":\"x\",\"a\":1}", "{\"a\":1,\"b\":\"x\",}",
      "{\"a\":1,\"b\":\"x\",\"c\":1}", "{\"a\" :1,\"b\":\"x\"}"}},
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"null\"},"
     "\"c\":{\"type\":\"boolean\"}},\"required\":[\"b\"]}",
     {"{\"b\":null}", "{\"a\":1,\"b\":null}", "{\"b\":null,\"c\":true}",
      "{\"a\":1,\"b\":null,\"c\":true}"},
     {"{}", "{\"a\":1}", "{\"a\":1,\"c\":true}", "{\"c\":true,\"b\":null}",
      "{\"b\":null,\"d\":1}"}},
    {"{\"type\":\"object\",\"properties\":{\"ab\":{\"type\":\"integer\"}},"
     "\"additionalProperties\":{\"type\":\"string\"}}",
     {"{}", "{\"ab\":1}", "{\"a\":\"\"}", "{\"ab\":1,\"abc\":\"\",\"\":\"x\"}"},
     {"{\"ab\":\"\"}", "{\"a\":1}", "{\"a\":\"\",\"ab\":1}", "{\"\\u0061b\":\"\"}"}},
    {"{\"type\":\"object\"}", {"{}", "{\"a\":[{}]}"}, {"[]", "{\"a\"}", "{a:1}"}},
    {"{}", {"{}", "[1,\"a\",null]", "1", "\"x\""}, {"", "x"}},
    {"{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"object\",\"properties\":{\"k\":{\"const\":1}},"
     "\"required\":[\"k\"]},{\"type\":\"object\",\"properties\":{\"k\":{\"const\":2},\"v\":true},"
     "\"required\":[\"k\",\"v\"]}]}",
     {"\"x\"", "{\"k\":1}", "{\"k\":2,\"v\":[]}"},
     {"{\"k\":2}", "{\"k\":1,\"v\":1}", "{}"}},
    {"{\"$ref\":\"#/$defs/node\",\"$defs\":{\"node\":{\"type\":\"object\",\"properties\":{\"v\":"
     "{\"type\":\"integer\"},\"next\":{\"anyOf\":[{\"$ref\":\"#/$defs/"
     "node\"},{\"type\":\"null\"}]}},"
     "\"required\":[\"v\",\"next\"],\"additionalProperties\":false}}}",
     {"{\"v\":1,\"next\":null}", "{\"v\":1,\"next\":{\"v\":2,\"next\":null}}"},
     {"{\"v\":1}", "{\"v\":1,\"next\":{}}"}},
    {"{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}]}",
     {"[]", "[[],[[]]]"},
     {"1", "[1]"}},
    {"{\"type\":\"string\",\"pattern\":\"^[a-z]+(-\\\\d{2})?$\"}",
     {"\"a\"", "\"abc-12\""},
     {"\"\"", "\"A\"", "\"a-1\"", "\"a-123\"", "\"\\u0061\""}},
    {"{\"pattern\":\"b+\"}", {"\"b\"", "\"abba\"", "\"\\n\\\"b\xc3\xa9\""}, {"\"\"", "\"ac\""}},
    {"{\"pattern\":\"^a\"}", {"\"a\"", "\"ab\xe2\x82\xac\""}, {"\"ba\"", "\"\""}},
    {"{\"pattern\":\"a$|^$\"}", {"\"a\"", "\"ba\"", "\"\""}, {"\"ab\"", "\"b\""}},
    {"{\"pattern\":\"^[^a]$\"}",
     {"\"b\"", "\"\xf0\x9f\x98\x80\"", "\"\\\\\""},
     {"\"a\"", "\"bb\""}},
    {"{\"pattern\":\"^(ab)*$\",\"minLength\":3,\"maxLength\":5}",
     {"\"abab\""},
     {"\"ab\"", "\"ababab\"", "\"\""}},
    {"{\"pattern\":\"^\\\\w+$\",\"minLength\":2,\"maxLength\":3}",
     {"\"ab\"", "\"ab_\""},
     {"\"a\"", "\"abcd\"", "\"a b\""}},
    {"{\"type\":\"integer\",\"minimum\":-5,\"maximum\":120}",
     {"-5", "-1", "0", "9", "120", "99", "100"},
     {"-6", "-0", "121", "130", "1000", "-10", "00"}},
    {"{\"type\":\"integer\",\"exclusiveMinimum\":9,\"exclusiveMaximum\":12}",
     {"10", "11"},
     {"9", "12", "1", "110"}},
    {"{\"type\":\"number\",\"exclusiveMinimum\":0,\"maximum\":1.5}",
     {"1", "0.5", "1.5", "1.50", "0.00001", "1.499"},
     {"0", "0.0", "1.51", "2", "-1", "1e0"}},
    {"{\"type\":\"number\",\"minimum\":-0.25,\"maximum\":-0.1}",
     {"-0.1", "-0.25", "-0.2"},
     {"-0.05", "-0.26", "0", "-1", "-0.09"}},
    {"{\"type\":\"integer\",\"minimum\":1000000000000}",
     {"1000000000000", "99999999999999999"},
     {"999999999999"}},
    {"{\"type\":\"number\",\"minimum\":0.1,\"exclusiveMaximum\":0.3}",
     {"0.1", "0.10", "0.2", "0.29999999999999"},
     {"0.3", "0.30", "0.09", "0", "1", "0.09999999999999"}},
    {"{\"type\":\"number\",\"exclusiveMinimum\":-1,\"exclusiveMaximum\":1}",
     {"0", "-0.5", "0.999", "-0.99999999999999"},
     {"1", "-1", "-1.0", "1.0", "-0", "-0.0", "2"}},
    {"{\"type\":\"number\",\"minimum\":1e21,\"maximum\":1e22}",
     {"1000000000000000000000", "9999999999999999999999", "10000000000000000000000"},
     {"999999999999999999999", "10000000000000000000001", "1e21"}},
    {"{\"type\":\"integer\",\"minimum\":0.5,\"exclusiveMaximum\":3.5}",
     {"1", "2", "3"},
     {"0", "4", "-1"}},
    {"{\"type\":\"integer\",\"minimum\":-9007199254740992,\"maximum\":-9007199254740990}",
     {"-9007199254740992", "-9007199254740991", "-9007199254740990"},
     {"-9007199254740993", "-9007199254740989", "9007199254740991"}},
    {"{\"type\":\"integer\",\"minimum\":1,\"exclusiveMinimum\":1,\"maximum\":2}",
     {"2"},
     {"1", "3"}},
    {"{\"pattern\":\"^[\\\\u00e9-\\\\u00ff]\\\\u{1f600}\\\\ud83d\\\\ude01$\"}",
     {"\"\xc3\xaa\xf0\x9f\x98\x80\xf0\x9f\x98\x81\""},
     {"\"\xc3\xa8\xf0\x9f\x98\x80\xf0\x9f\x98\x81\"", "\"\xc3\xaa\""}},
    {"{\"pattern\":\"^a.c$\"}",
     {"\"abc\"", "\"a\\tc\"", "\"a\\u001fc\""},
     {"\"a\\nc\"", "\"ac\"", "\"a\\u0009c\""}},
    {"{\"format\":\"date\"}",
     {"\"2024-02-29\"", "\"2023-12-31\""},
     {"\"2023-02-29\"", "\"2023-13-01\"", "\"2023-04-31\""}},
};

static void test_rows(void)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct grammar *g = compile(rows[i].schema, false);
        CHECK(g);
        for (size_t k = 0; g && k < 12 && rows[i].good[k]; k++)
            if (!takes(g, rows[i].good[k])) {
                CHECK(!"a good text is refused");
                fprintf(stderr, "%s: %s\n", rows[i].schema, rows[i].good[k]);
            }
        for (size_t k = 0; g && k < 16 && rows[i].bad[k]; k++)
            if (takes(g, rows[i].bad[k])) {
                CHECK(!"a bad text is taken");
                fprintf(stderr, "%s: %s\n", rows[i].schema, rows[i].bad[k]);
            }
        grammar_unref(g);
    }
}

static const struct {
    const char *schema, *error;
    bool strict;
} refused[] = {
    {"{", "schema: JSON, byte 1: the text ends too early", false},
    {"3", "schema: must be a schema: an object, true or false", false},
    {"{\"type\":\"strin\"}", "schema.type: must be a type's name, or a list of them", false},
    {"{\"properties\":{\"age\":{\"type\":\"integer\",\"multipleOf\":5}}}",
     "schema.properties.age.multipleOf: not supported", false},
    {"{\"type\":\"object\",\"properties\":{\"a\":{}},\"additionalProperties\":false}",
     "schema.required: must name a: the schema is strict", true},
    {"{\"type\":\"object\",\"properties\":{}}",
     "schema.additionalProperties: must be false in a strict schema", true},
    {"{\"type\":\"string\",\"minLenght\":1}", "schema.minLenght: unknown keyword", true},
    {"{\"enum\":[]}", "schema.enum: must be a list of values, not empty", false},
    {"{\"type\":\"string\",\"enum\":[1,2]}", "schema.enum: no value fits the rest of the schema",
     false},
    {"{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}",
     "schema.minLength: is more than maxLength", false},
    {"{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}",
     "schema.minimum: no integer is within the bounds", false},
    {"{\"type\":\"integer\",\"exclusiveMinimum\":3,\"exclusiveMaximum\":4}",
     "schema.exclusiveMinimum: no integer is within the bounds", false},
    {"{\"items\":{\"minItems\":2,\"maxItems\":1}}", "schema.items.minItems: is more than maxItems",
     false},
    {"{\"pattern\":\"^a{3}$\",\"maxLength\":2}",
     "schema.pattern: no text of the length asked for matches it", false},
    {"{\"pattern\":\"abc\",\"maxLength\":2}",
     "schema.pattern: no text of the length asked for matches it", false},
    {"{\"pattern\":\"(?=a)\"}", "schema.pattern: not supported: look-around and flags, at byte 3",
     false},
    {"{\"pattern\":\"a**\"}", "schema.pattern: nothing to repeat, or a lone bracket, at byte 3",
     false},
    {"{\"pattern\":\"[b-a]\"}",
     "schema.pattern: the range's ends are in the wrong order, at byte 5", false},
    {"{\"pattern\":\"$a\"}", "schema.pattern: no text of the length asked for matches it", false},
    {"{\"$ref\":\"#/$defs/x\"}", "schema.$ref: #/$defs/x is not in the schema", false},
    {"{\"$ref\":\"other.json\"}", "schema.$ref: must point into the schema itself, like #/$defs/x",
     false},
    {"{\"properties\":{\"n\":{\"$ref\":\"#/$defs/n\"}},\"$defs\":{\"n\":{\"properties\":{\"n\":"
     "{\"$ref\":\"#/$defs/n\"}},\"required\":[\"n\"]}}}",
     "schema.$defs.n: cannot be satisfied: it contains itself without end", false},
    {"{\"anyOf\":[{\"type\":\"null\"},false]}", "schema.anyOf[1]: false allows no value", false},
    {"{\"anyOf\":[{\"type\":\"null\"}],\"minimum\":1}",
     "schema.minimum: not supported beside anyOf", false},
    {"{\"type\":\"array\",\"maxItems\":100000}", "schema.maxItems: at most 2048 is supported",
     false},
};

static void test_refused(void)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct grammar *g = NULL;
        struct error err = {{0}};
        enum status st = grammar_compile_schema(refused[i].schema, strlen(refused[i].schema),
                                                refused[i].strict, &g, &err);
        CHECK(st == INVALID || st == LIMITED);
        CHECK_STR(err.text, refused[i].error);
        grammar_unref(g);
    }
}

/* The mask against the definition: a token is allowed if its bytes are accepted. */
static void check_mask(struct grammar_state *s)
{
    const uint32_t *mask = grammar_state_mask(s);
    CHECK_FATAL(mask);
    int size = tokenizer_vocab_size(tokenizer), wrong = 0, allowed = 0;
    struct grammar_state *try = grammar_state_copy(s);
    for (int id = 0; id < size; id++) {
        bool bit = mask[id / 32] >> id % 32 & 1;
        size_t len;
        const uint8_t *bytes = tokenizer_bytes(tokenizer, id, &len);
        bool want = bytes && len && !tokenizer_is_added(tokenizer, id) &&
                    grammar_state_accept_bytes(try, bytes, len);
        if (want)
            CHECK(grammar_state_rollback(try, 1));
        if (id == 1)
            want = grammar_state_may_end(s);
        wrong += bit != want;
        allowed += bit;
    }
    grammar_state_free(try);
    CHECK_INT(wrong, 0);
    CHECK(allowed > 0);
}

static void test_masks(void)
{
    static const char text[] =
        "{\"ab\":[1,-2.5e3,\"x\\n\xc3\xa9\\ud83d\\ude00\"],\n  \"c\": {\"d\":null}}";
    struct grammar *g = NULL;
    struct error err;
    CHECK_FATAL(grammar_compile_json_object(&g, &err) == OK);
    struct grammar_state *s = grammar_state_new(g, vocab);
    for (size_t i = 0; i < sizeof text - 1; i++) {
        check_mask(s);
        CHECK(grammar_state_accept_bytes(s, text + i, 1));
    }
    check_mask(s);
    CHECK(grammar_state_is_done(s));
    grammar_state_free(s);
    grammar_unref(g);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        g = compile(rows[i].schema, false);
        s = grammar_state_new(g, vocab);
        check_mask(s);
        for (const char *c = rows[i].good[0]; *c; c++) {
            CHECK(grammar_state_accept_bytes(s, c, 1));
            check_mask(s);
        }
        grammar_state_free(s);
        grammar_unref(g);
    }
}

int main(void)
{
    struct error err;
    const int32_t end = 1;
    CHECK_FATAL(tokenizer_load("models/demo", &tokenizer, &err) == OK);
    CHECK_FATAL(grammar_vocab_new(tokenizer, &end, 1, &vocab, &err) == OK);
    test_rows();
    test_refused();
    test_masks();
    grammar_vocab_free(vocab);
    tokenizer_free(tokenizer);
    return check_done();
}
