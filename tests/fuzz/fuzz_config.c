/* links: tg_base */
/* Settings are within their bounds or refused with the line; a secret is never in an error. */
#include <assert.h>

#include "base/config_value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct settings {
    int64_t count, bytes, wait_ms;
    bool on;
    char *name, *token;
    int mode;
    struct setting_list items;
};

static const char *const modes[] = {"slow", "fast", NULL};

#define FIELD(x) offsetof(struct settings, x)
static const struct setting table[] = {
    {"common", "count", SETTING_INT, FIELD(count), "3", INT64_MIN, 10, NULL, true, "how many"},
    {"common", "bytes", SETTING_BYTES, FIELD(bytes), "64k", 1, INT64_MAX, NULL, true, "room"},
    {"common", "wait", SETTING_MS, FIELD(wait_ms), "90s", 0, 3600000, NULL, false, "patience"},
    {"gateway", "on", SETTING_BOOL, FIELD(on), "yes", 0, 0, NULL, false, "whether"},
    {"gateway", "name", SETTING_STRING, FIELD(name), "x", 1, 8, NULL, false, "who"},
    {"gateway", "token", SETTING_SECRET, FIELD(token), "", 0, 8, NULL, true, "password"},
    {"gateway", "mode", SETTING_ENUM, FIELD(mode), "fast", 0, 0, modes, false, "how"},
    {"gateway", "items", SETTING_LIST, FIELD(items), "", 0, 3, NULL, true, "which"},
};
enum { COUNT = sizeof table / sizeof *table };

static const struct config_table all = {table, COUNT, config_sections};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct settings s = {0}, defaults = {0};
    struct error err = {""};
    enum status st = config_parse("f", (const char *)data, len, &all, &s, &err);
    if (st != OK) {
        assert(st == INVALID && strncmp(err.text, "f:", 2) == 0);
        assert(!s.name && !s.token && !s.items.items && s.items.count == 0);
        return 0;
    }
    assert(err.text[0] == 0);
    assert(s.count <= 10 && s.bytes >= 1 && s.wait_ms >= 0 && s.wait_ms <= 3600000);
    assert(strlen(s.name) >= 1 && strlen(s.name) <= 8 && strlen(s.token) <= 8);
    assert(s.mode == 0 || s.mode == 1);
    assert(s.items.count >= 0 && s.items.count <= 3);
    for (int i = 0; i < s.items.count; i++)
        assert(s.items.items[i][0] && !strchr(s.items.items[i], ','));
    assert(config_load(NULL, table, COUNT, config_sections, &defaults, &err) == OK);
    assert(config_check_reload(table, COUNT, &s, &s, &err) == OK);
    config_check_reload(table, COUNT, &s, &defaults, &err);
    config_done(table, COUNT, &s);
    config_done(table, COUNT, &defaults);
    return 0;
}
