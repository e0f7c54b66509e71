/* JSON in prompts as Python shows it; what is expected here is what Python 3.11 prints. */
#include <string.h>

#include "tests/unit/check.h"
#include "worker/chat_private.h"

static const struct {
    const char *json, *dumps, *str; /* json.dumps(v, ensure_ascii=False), str(v) */
} cases[] = {
    {"{ \"a\":[1,2],\"b\":{} }", "{\"a\": [1, 2], \"b\": {}}", "{'a': [1, 2], 'b': {}}"},
    {"[true,false,null]", "[true, false, null]", "[True, False, None]"},
    {"\"x\\u00fcy\"", "\"x\xc3\xbcy\"", "x\xc3\xbcy"},
    {"[\"it's\",\"say \\\"x\\\"\",\"both ' \\\"\"]",
     "[\"it's\", \"say \\\"x\\\"\", \"both ' \\\"\"]", "[\"it's\", 'say \"x\"', 'both \\' \"']"},
    {"[\"a\\nb\\t\\u0007\\\\\\u007f\"]", "[\"a\\nb\\t\\u0007\\\\\x7f\"]",
     "['a\\nb\\t\\x07\\\\\\x7f']"},
    {"[\"\\u200b\\u00a0\\ud83d\\ude42\"]", "[\"\xe2\x80\x8b\xc2\xa0\xf0\x9f\x99\x82\"]",
     "['\\u200b\\xa0\xf0\x9f\x99\x82']"},
    {"1.0", "1.0", "1.0"},
    {"1e3", "1000.0", "1000.0"},
    {"1.50", "1.5", "1.5"},
    {"1E16", "1e+16", "1e+16"},
    {"123456789012345680.0", "1.2345678901234568e+17", "1.2345678901234568e+17"},
    {"0.0001", "0.0001", "0.0001"},
    {"0.00001", "1e-05", "1e-05"},
    {"0.1", "0.1", "0.1"},
    {"-0", "0", "0"},
    {"-0.0", "-0.0", "-0.0"},
    {"9007199254740991", "9007199254740991", "9007199254740991"},
};

static void test_values(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct prompt p;
        prompt_begin(&p, NULL, NULL);
        prompt_json(&p, cases[i].json, 0);
        CHECK_STR(buf_cstr(&p.plain), cases[i].dumps);
        buf_clear(&p.plain);
        prompt_python(&p, cases[i].json, strlen(cases[i].json));
        CHECK_STR(buf_cstr(&p.plain), cases[i].str);
        CHECK_INT(p.status, OK);
        buf_done(&p.plain);
    }
}

static void test_members(void)
{
    static const char text[] = " { \"a\\\"}\" : \"x\\\\\" ,\n\"b\":[ {\"c\":1}, 2 ],\"d\":-1.5}";
    static const char *const members[][2] = {
        {"a\\\"}", "\"x\\\\\""}, {"b", "[ {\"c\":1}, 2 ]"}, {"d", "-1.5"}};
    const char *at = text;
    struct chat_member m;
    int n = 0;
    for (; chat_member_next(&at, &m); n++) {
        CHECK_FATAL(n < 3);
        CHECK(m.key_len == strlen(members[n][0]) && memcmp(m.key, members[n][0], m.key_len) == 0);
        CHECK(m.value_len == strlen(members[n][1]) &&
              memcmp(m.value, members[n][1], m.value_len) == 0);
    }
    CHECK_INT(n, 3);
    CHECK(chat_member_find(text, "b", &m) && *m.value == '[');
    CHECK(!chat_member_find(text, "c", &m) && !chat_member_find("{}", "c", &m));
    const char *item = "[ 1 , {\"a\":[]} ]";
    size_t len;
    CHECK(chat_item_next(&item, &len) && len == 1 && *item == '1');
    item += len;
    CHECK(chat_item_next(&item, &len) && len == 8 && *item == '{');
    item += len;
    CHECK(!chat_item_next(&item, &len));
}

int main(void)
{
    test_values();
    test_members();
    return check_done();
}
