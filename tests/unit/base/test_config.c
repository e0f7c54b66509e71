#include "base/config.h"

#include <unistd.h>

#include "base/config_value.h"
#include "tests/unit/alloc_fail.h"
#include "tests/unit/check.h"

struct settings {
    int64_t count, bytes, wait_ms;
    bool on;
    char *name, *token, *code;
    int mode;
    struct setting_list items;
};

static const char *const modes[] = {"slow", "fast", NULL};

#define FIELD(x) offsetof(struct settings, x)
static const struct setting table[] = {
    {"common", "count", SETTING_INT, FIELD(count), "3", -5, 10, NULL, true, "how many"},
    {"common", "bytes", SETTING_BYTES, FIELD(bytes), "64k", 1, 8 << 20, NULL, true, "room"},
    {"common", "wait", SETTING_MS, FIELD(wait_ms), "90s", 0, 3600000, NULL, false, "patience"},
    {"gateway", "on", SETTING_BOOL, FIELD(on), "yes", 0, 0, NULL, false, "whether"},
    {"gateway", "name", SETTING_STRING, FIELD(name), "x", 1, 8, NULL, false, "who"},
    {"gateway", "token", SETTING_SECRET, FIELD(token), "", 0, 8, NULL, true, "password"},
    {"gateway", "mode", SETTING_ENUM, FIELD(mode), "fast", 0, 0, modes, false, "how"},
    {"gateway", "items", SETTING_LIST, FIELD(items), "", 0, 3, NULL, false, "which"},
    {"gateway", "code", SETTING_STRING, FIELD(code), "", 0, 0, NULL, true, "code"},
};
enum { COUNT = sizeof table / sizeof *table };

static const struct config_table all = {table, COUNT, config_sections};

static enum status parse(const char *text, struct settings *s, struct error *err)
{
    *s = (struct settings){0};
    return config_parse("f", text, strlen(text), &all, s, err);
}

static void test_defaults(void)
{
    struct settings s = {0};
    struct error err;
    CHECK_INT(config_load(NULL, table, COUNT, config_sections, &s, &err), OK);
    CHECK_INT(s.count, 3);
    CHECK_INT(s.bytes, 65536);
    CHECK_INT(s.wait_ms, 90000);
    CHECK_INT(s.on, true);
    CHECK_STR(s.name, "x");
    CHECK_STR(s.token, "");
    CHECK_INT(s.mode, 1);
    CHECK_INT(s.items.count, 0);
    config_done(table, COUNT, &s);
    CHECK(s.name == NULL);
    config_done(table, COUNT, &s); /* once more is fine */
}

static void test_values(void)
{
    struct settings s;
    struct error err;
    const char *text = "# c\n\n [ common ] \r\n  count=-5\r\nbytes = 2m\n[gateway]\n"
                       "name = a=b #c\ntoken=p w\nmode = slow\non = off\n"
                       "items = a , unix:/b,c:1\n[worker]\nlisten = whatever\n[common]\nwait=1h";
    CHECK_INT(parse(text, &s, &err), OK);
    CHECK_INT(s.count, -5);
    CHECK_INT(s.bytes, 2 << 20);
    CHECK_INT(s.wait_ms, 3600000);
    CHECK_INT(s.on, false);
    CHECK_STR(s.name, "a=b #c");
    CHECK_STR(s.token, "p w");
    CHECK_INT(s.mode, 0);
    CHECK_INT(s.items.count, 3);
    struct settings same;
    CHECK_INT(parse(text, &same, &err), OK);
    CHECK_INT(config_check_reload(table, COUNT, &s, &same, &err), OK);
    same.items.items[1][0] = 'U';
    CHECK_INT(config_check_reload(table, COUNT, &s, &same, &err), CONFLICT);
    config_done(table, COUNT, &same);
    CHECK_STR(s.items.items[0], "a");
    CHECK_STR(s.items.items[1], "unix:/b");
    CHECK_STR(s.items.items[2], "c:1");
    config_done(table, COUNT, &s);
}

static const struct {
    const char *text, *error;
} bad[] = {
    {"count = 1", "f:1: a setting in front of the first [section]"},
    {"[common]\n[other]\n", "f:2: there is no section [other]"},
    {"[common\n", "f:1: a section looks like [name]"},
    {"[]\n", "f:1: there is no section []"},
    {"[", "f:1: a section looks like [name]"},
    {"[common] x\n", "f:1: a section looks like [name]"},
    {"[common]\ncount\n", "f:2: a setting looks like name = value"},
    {"[common]\n= 1\n", "f:2: a setting looks like name = value"},
    {"[common]\nname = 1\n", "f:2: [common] has no setting name"},
    {"[common]\nCount = 1\n", "f:2: [common] has no setting Count"},
    {"[common]\ncount = 1\n\ncount = 1\n", "f:4: count is given twice, first in line 2"},
    {"[common]\ncount = 1\n[common]\ncount = 2\n", "f:4: count is given twice, first in line 2"},
    {"[common]\ncount =\n", "f:2: count: \"\" is not a whole number"},
    {"[common]\ncount = -\n", "f:2: count: \"-\" is not a whole number"},
    {"[common]\ncount = +1\n", "f:2: count: \"+1\" is not a whole number"},
    {"[common]\ncount = 0x1\n", "f:2: count: \"0x1\" is not a whole number"},
    {"[common]\ncount = 1.5\n", "f:2: count: \"1.5\" is not a whole number"},
    {"[common]\ncount = 1k\n", "f:2: count: \"1k\" is not a whole number"},
    {"[common]\ncount = 99999999999999999999\n",
     "f:2: count: \"99999999999999999999\" is not a whole number"},
    {"[common]\ncount = 11\n", "f:2: count: must be from -5 to 10"},
    {"[common]\ncount = -6\n", "f:2: count: must be from -5 to 10"},
    {"[common]\nbytes = 8m1\n",
     "f:2: bytes: \"8m1\" is not a number of bytes like 512, 64k, 8m or 1g"},
    {"[common]\nbytes = 9m\n", "f:2: bytes: must be from 1 to 8m"},
    {"[common]\nbytes = 9223372036854775807g\n",
     "f:2: bytes: \"9223372036854775807g\" is not a number of bytes like 512, 64k, 8m or 1g"},
    {"[common]\nbytes = 0\n", "f:2: bytes: must be from 1 to 8m"},
    {"[common]\nwait = 10 s\n", "f:2: wait: \"10 s\" is not a time like 500ms, 10s, 5m or 1h"},
    {"[common]\nwait = 61m\n", "f:2: wait: must be from 0 to 1h"},
    {"[gateway]\non = 1\n", "f:2: on: \"1\" is not yes or no"},
    {"[gateway]\nmode = Fast\n", "f:2: mode: \"Fast\" is not one of: slow, fast"},
    {"[gateway]\nname =\n", "f:2: name: must not be empty"},
    {"[gateway]\nname = 123456789\n", "f:2: name: must have at most 8 characters"},
    {"[gateway]\ntoken = 123456789\n", "f:2: token: must have at most 8 characters"},
    {"[gateway]\nitems = a,,b\n", "f:2: items: item 2 of the list is empty"},
    {"[gateway]\nitems = a,\n", "f:2: items: item 2 of the list is empty"},
    {"[gateway]\nitems = a,b,c,d\n",
     "f:2: items: must have from 0 to 3 items, separated by commas"},
    {"[gateway]\nname = a\x1b[31m\n", "f:2: a control character in column 9"},
    {"[gateway]\nname = a\rb\n", "f:2: a control character in column 9"},
    {"\xef\xbb\xbf[gateway]\n", "f:1: a byte order mark in front of the text"},
};

static void test_bad(void)
{
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct settings s;
        struct error err = {""};
        CHECK_INT(parse(bad[i].text, &s, &err), INVALID);
        CHECK_STR(err.text, bad[i].error);
        CHECK(s.name == NULL && s.token == NULL && s.items.items == NULL);
    }
    struct settings s = {0};
    struct error err;
    static const char nul[] = "[gateway]\nname = a\0b\n";
    CHECK_INT(config_parse("f", nul, sizeof nul - 1, &all, &s, &err), INVALID);
    CHECK_STR(err.text, "f:2: a control character in column 9");
}

static void test_must_be_set(void)
{
    static const struct setting one[] = {
        {"gateway", "name", SETTING_STRING, FIELD(name), NULL, 1, 8, NULL, false, "who"}};
    struct settings s = {0};
    struct error err;
    CHECK_INT(config_load(NULL, one, 1, config_sections, &s, &err), INVALID);
    CHECK_STR(err.text, "settings: [gateway] name must be set");
}

static void test_bad_table(void)
{
    static const struct setting one[] = {
        {"gateway", "count", SETTING_INT, FIELD(count), "9", 1, 8, NULL, false, "many"}};
    static const struct setting two[] = {
        {"gateway", "name", SETTING_STRING, FIELD(name), "x", 2, 8, NULL, false, "who"}};
    struct settings s = {0};
    struct error err;
    CHECK_INT(config_load(NULL, one, 1, config_sections, &s, &err), INVALID);
    CHECK_STR(err.text, "default of [gateway] count: must be from 1 to 8");
    CHECK_INT(config_load(NULL, two, 1, config_sections, &s, &err), INVALID);
    CHECK_STR(err.text, "default of [gateway] name: must have at least 2 characters");
}

/* A failed allocation is NOMEM, and leaves nothing behind. */
static void test_out_of_memory(void)
{
    const char *text = "[gateway]\nname = n\nitems = a,b,c\ntoken = t\n";
    long held = alloc_live;
    for (int n = 1;; n++) {
        struct settings s;
        struct error err = {""};
        alloc_fail_after(n);
        enum status st = parse(text, &s, &err);
        bool failed = alloc_failed();
        CHECK_INT(st, failed ? NOMEM : OK);
        CHECK((s.name != NULL) == !failed && (s.items.items != NULL) == !failed);
        config_done(table, COUNT, &s);
        if (!failed)
            break;
    }
    CHECK_INT(alloc_live, held);
}

static void test_file(void)
{
    struct settings s = {0};
    struct error err;
    CHECK_INT(config_load("/nonexistent/f", table, COUNT, config_sections, &s, &err), IO_FAILED);
    CHECK_STR(err.text, "cannot open /nonexistent/f: No such file or directory");
    CHECK_INT(config_load("/", table, COUNT, config_sections, &s, &err), IO_FAILED);
    CHECK_INT(config_load("/dev/zero", table, COUNT, config_sections, &s, &err), LIMITED);

    char path[] = "/tmp/test_config_XXXXXX";
    int fd = mkstemp(path);
    CHECK_FATAL(fd >= 0);
    static const char text[] = "[common]\ncount = 7\n";
    CHECK_INT(write(fd, text, sizeof text - 1), (int)sizeof text - 1);
    close(fd);
    CHECK_INT(config_load(path, table, COUNT, config_sections, &s, &err), OK);
    CHECK_INT(s.count, 7);
    config_done(table, COUNT, &s);
    unlink(path);
}

static void test_reload(void)
{
    struct settings a, b;
    struct error err;
    CHECK_INT(parse("", &a, &err), OK);
    CHECK_INT(parse("[common]\ncount = 1\n[gateway]\ntoken = t\n", &b, &err), OK);
    CHECK_INT(config_check_reload(table, COUNT, &a, &b, &err), OK);
    config_done(table, COUNT, &b);
    static const char *const fixed[] = {"[common]\nwait = 1s", "[gateway]\non = no",
                                        "[gateway]\nname = y", "[gateway]\nitems = a",
                                        "[gateway]\nmode = slow"};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        CHECK_INT(parse(fixed[i], &b, &err), OK);
        CHECK_INT(config_check_reload(table, COUNT, &a, &b, &err), CONFLICT);
        config_done(table, COUNT, &b);
    }
    CHECK_STR(err.text, "[gateway] mode cannot change without a restart");
    config_done(table, COUNT, &a);
}

static void test_describe(void)
{
    struct buf out;
    buf_init(&out, 8192);
    CHECK_INT(config_describe(table, COUNT, &out), OK);
    const char *text = buf_cstr(&out);
    CHECK(strstr(text, "| common | `wait` | time | `90s` | 0 to 1h | no | patience |\n"));
    CHECK(strstr(text, "| common | `bytes` | bytes | `64k` | 1 to 8m | yes | room |\n"));
    CHECK(strstr(text, "| gateway | `mode` | word | `fast` | slow, fast | no | how |\n"));
    CHECK(strstr(text, "| gateway | `items` | list | empty | 0 to 3 items | no | which |\n"));
    buf_done(&out);
}

int main(void)
{
    test_defaults();
    test_values();
    test_bad();
    test_must_be_set();
    test_bad_table();
    test_out_of_memory();
    test_file();
    test_reload();
    test_describe();
    return check_done();
}
