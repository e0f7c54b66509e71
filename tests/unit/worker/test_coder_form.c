/* What the texts of Qwen3-Coder's calls mean, by the schemas of their parameters. */
#include "worker/coder_form.h"

#include <string.h>

#include "tests/unit/check.h"

static const struct {
    const char *schema; /* of the parameter p */
    const char *text, *value;
    uint32_t types;
} cases[] = {
    {"{\"type\":\"string\"}", "12", "\"12\"", CODER_STRING},
    {"{\"type\":\"string\"}", "", "\"\"", CODER_STRING},
    {"{\"type\":\"string\"}", "a\n\"b\"\\", "\"a\\n\\\"b\\\"\\\\\"", CODER_STRING},
    {"{\"type\":\"string\"}", "null", "\"null\"", CODER_STRING},
    {"{\"type\":\"integer\"}", "12", "12", CODER_NUMBER},
    {"{\"type\":\"integer\"}", "ten", "\"ten\"", CODER_NUMBER},
    {"{\"type\":\"boolean\"}", "True", "true", CODER_BOOL},
    {"{\"type\":\"boolean\"}", "false", "false", CODER_BOOL},
    {"{\"type\":\"null\"}", "None", "null", CODER_NULL},
    {"{\"type\":\"object\"}", "{\"a\": [1]}", "{\"a\": [1]}", CODER_OBJECT},
    {"{\"type\":\"array\"}", "[1,", "\"[1,\"", CODER_ARRAY},
    {"{\"type\":\"integer\"}", "\"a\"", "\"a\"", CODER_NUMBER},
    {"{\"type\":[\"string\",\"null\"]}", "null", "null", CODER_STRING | CODER_NULL},
    {"{\"type\":[\"string\",\"null\"]}", "5", "\"5\"", CODER_STRING | CODER_NULL},
    {"{\"anyOf\":[{\"type\":\"number\"},{\"type\":\"string\"}]}", "5", "5",
     CODER_STRING | CODER_NUMBER},
    {"{\"anyOf\":[{\"type\":\"number\"},{\"type\":\"string\"}]}", "\"5\"", "\"\\\"5\\\"\"",
     CODER_STRING | CODER_NUMBER},
    {"{\"$ref\":\"#/$defs/t\"}", "5", "\"5\"", CODER_STRING},
    {"{\"$ref\":\"#/definitions/n\"}", "5", "5", CODER_NUMBER},
    {"{\"$ref\":\"#/$defs/loop\"}", "5", "5", CODER_ANY},
    {"{\"$ref\":\"#/$defs/none\"}", "x", "\"x\"", CODER_ANY},
    {"{\"enum\":[\"a\",null,1]}", "1", "1", CODER_STRING | CODER_NULL | CODER_NUMBER},
    {"{\"const\":{\"a\":1}}", "{\"a\": 1}", "{\"a\": 1}", CODER_OBJECT},
    {"{}", "x", "\"x\"", CODER_ANY},
    {"{}", " [1] ", " [1] ", CODER_ANY},
    {"true", "1", "1", CODER_ANY},
};

static void test_values(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char schema[400];
        struct coder_parameters p;
        struct buf out;
        snprintf(
            schema, sizeof schema,
            "{\"type\":\"object\",\"required\":[\"q\",\"p\"],\"properties\":{\"o\":{},\"p\":%s},"
            "\"$defs\":{\"t\":{\"type\":\"string\"},\"loop\":{\"$ref\":\"#/$defs/loop\"}},"
            "\"definitions\":{\"n\":{\"type\":\"number\"}}}",
            cases[i].schema);
        CHECK_FATAL(coder_read(schema, &p) == OK);
        CHECK_INT(p.count, 2);
        const struct coder_parameter *c = coder_find(&p, "pq", 1);
        CHECK_FATAL(c == &p.items[1]);
        CHECK(c->required && !p.items[0].required && !coder_find(&p, "none", 4));
        CHECK_INT(c->types, cases[i].types);
        buf_init(&out, 1000);
        CHECK_INT(coder_value(c, cases[i].text, strlen(cases[i].text), &out), OK);
        CHECK_STR(buf_cstr(&out), cases[i].value);
        buf_done(&out);
        coder_done(&p);
    }
}

static void test_texts(void)
{
    struct coder_parameters p;
    static const char schema[] =
        "{\"properties\":{\"a\":{\"enum\":[\"x\",null,1.5,[\"y\"]]},\"b\":{\"const\":\"z\"},"
        "\"c\":{\"type\":\"string\",\"minLength\":1}},\"$defs\":{\"d\":{}}}";
    CHECK_FATAL(coder_read(schema, &p) == OK);
    CHECK_INT(p.count, 3);
    CHECK_INT(p.items[0].text_count, 4);
    CHECK_STR(p.items[0].texts[0], "x");
    CHECK_STR(p.items[0].texts[1], "null");
    CHECK_STR(p.items[0].texts[2], "1.5");
    CHECK_STR(p.items[0].texts[3], "[\"y\"]");
    CHECK_STR(p.items[1].texts[0], "z");
    CHECK(!p.items[2].texts && !p.items[0].keyword);
    CHECK_STR(p.items[2].keyword, "minLength");
    CHECK_STR(p.items[1].schema, "{\"const\": \"z\",\"$defs\":{\"d\": {}}}");
    coder_done(&p);
}

static void test_none(void)
{
    static const char *const schemas[] = {
        "", "{}", "[]", "7", "{\"properties\":[1]}", "{\"properties\":{}}", "no JSON"};
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++) {
        struct coder_parameters p;
        CHECK_INT(coder_read(schemas[i], &p), OK);
        CHECK_INT(p.count, 0);
        coder_done(&p);
    }
    struct buf out;
    buf_init(&out, 100);
    CHECK_INT(coder_value(NULL, "True", 4, &out), OK);
    CHECK_STR(buf_cstr(&out), "true");
    buf_done(&out);
}

int main(void)
{
    test_values();
    test_texts();
    test_none();
    return check_done();
}
