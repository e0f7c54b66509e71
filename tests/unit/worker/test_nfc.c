/* Composition beside Python's, on texts of tests/tools/make_nfc_table.py. */
#include "worker/nfc.h"

#include <string.h>

#include "base/json.h"
#include "tests/unit/check.h"

static void check(const char *text, const char *want)
{
    struct buf out;
    buf_init(&out, 1 << 20);
    CHECK_INT(nfc_compose(text, strlen(text), &out), OK);
    CHECK_STR(buf_cstr(&out), want);
    CHECK(nfc_may_change(text, strlen(text)) || strcmp(text, want) == 0);
    buf_done(&out);
}

static void test_golden(void)
{
    struct json *root = NULL;
    struct error err = {0};
    CHECK_FATAL(json_parse_file("tests/golden/nfc.json", 1 << 20, &root, &err) == OK);
    CHECK(json_count(root) >= 500);
    for (const struct json *v = json_first(root); v; v = json_next(v)) {
        const char *text = json_string(json_first(v)),
                   *want = json_string(json_next(json_first(v)));
        check(text, want);
        check(want, want);
    }
    json_free(root);
}

/* A letter with more marks than are looked at together. */
static void test_long(void)
{
    enum { MARKS = 20000 };
    struct buf text, out;
    buf_init(&text, 1 << 20);
    buf_init(&out, 1 << 20);
    CHECK_INT(buf_adds(&text, "e"), OK);
    for (int i = 0; i < MARKS; i++)
        CHECK_INT(buf_adds(&text, "\xcc\x81"), OK);
    CHECK_INT(nfc_compose((const char *)buf_head(&text), buf_len(&text), &out), OK);
    CHECK_INT(buf_len(&out), buf_len(&text) - 1);
    CHECK(memcmp(buf_head(&out), "\xc3\xa9\xcc\x81", 4) == 0);
    buf_done(&text);
    buf_done(&out);
}

int main(void)
{
    check("", "");
    check("plain", "plain");
    check("e\xcc\x81t\xc3\xa9", "\xc3\xa9t\xc3\xa9");
    check("\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", "\xed\x95\x9c"); /* Korean "han" */
    test_golden();
    test_long();
    return check_done();
}
