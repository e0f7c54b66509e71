#include "base/config_value.h"

#include <assert.h>

#include "base/crypto.h"

enum {
    SHOWN_BYTES_MAX = 80,    /* of a wrong value, in an error */
    STRING_BYTES_MAX = 4096, /* where the table gives no bound */
    LIST_ITEMS_MAX = 1024,
};

struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit no_units[] = {{"", 1}, {NULL, 0}};
static const struct unit byte_units[] = {
    {"", 1}, {"g", INT64_C(1) << 30}, {"m", 1 << 20}, {"k", 1 << 10}, {NULL, 0}};
static const struct unit time_units[] = {{"", 1},     {"h", 3600000}, {"m", 60000},
                                         {"s", 1000}, {"ms", 1},      {NULL, 0}};

static const struct unit *units_of(enum setting_type type)
{
    return type == SETTING_BYTES ? byte_units : type == SETTING_MS ? time_units : no_units;
}

static bool is_number(enum setting_type type)
{
    return type == SETTING_INT || type == SETTING_BYTES || type == SETTING_MS;
}

static int64_t string_most(const struct setting *s)
{
    if (s->most > 0)
        return s->most;
    return s->type == SETTING_LIST ? LIST_ITEMS_MAX : STRING_BYTES_MAX;
}

/* Shows a number with the largest unit that divides it. */
static void format_number(enum setting_type type, int64_t value, char *out, size_t size)
{
    const struct unit *u = units_of(type) + 1;
    if (type == SETTING_INT || value == 0) {
        snprintf(out, size, "%lld", (long long)value);
        return;
    }
    while (u->name && value % u->factor != 0)
        u++;
    snprintf(out, size, "%lld%s", (long long)(u->name ? value / u->factor : value),
             u->name ? u->name : "");
}

static enum status wrong(const struct setting *s, const char *text, size_t len, struct error *err,
                         const char *want)
{
    if (s->type == SETTING_SECRET)
        return error_set(err, INVALID, "must be %s", want);
    return error_set(err, INVALID, "\"%.*s\" is not %s",
                     (int)(len < SHOWN_BYTES_MAX ? len : SHOWN_BYTES_MAX), text, want);
}

/* Decimal digits with one of the units behind them. */
static bool read_number(enum setting_type type, const char *text, size_t len, int64_t *out)
{
    size_t at = 0;
    bool negative = len > 0 && text[0] == '-';
    at += negative;
    size_t first = at;
    int64_t value = 0;
    for (; at < len && text[at] >= '0' && text[at] <= '9'; at++) {
        int digit = text[at] - '0';
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, negative ? -digit : digit, &value))
            return false;
    }
    if (at == first)
        return false;
    for (const struct unit *u = units_of(type); u->name; u++)
        if (strlen(u->name) == len - at && strncmp(u->name, text + at, len - at) == 0) {
            if (__builtin_mul_overflow(value, u->factor, &value))
                return false;
            *out = value;
            return true;
        }
    return false;
}

static enum status set_number(const struct setting *s, const char *text, size_t len, int64_t *field,
                              struct error *err)
{
    const char *want = s->type == SETTING_BYTES ? "a number of bytes like 512, 64k, 8m or 1g"
                       : s->type == SETTING_MS  ? "a time like 500ms, 10s, 5m or 1h"
                                                : "a whole number";
    int64_t value;
    if (!read_number(s->type, text, len, &value))
        return wrong(s, text, len, err, want);
    if (value < s->least || value > s->most) {
        char least[32], most[32];
        format_number(s->type, s->least, least, sizeof least);
        format_number(s->type, s->most, most, sizeof most);
        return error_set(err, INVALID, "must be from %s to %s", least, most);
    }
    *field = value;
    return OK;
}

static enum status set_bool(const struct setting *s, const char *text, size_t len, bool *field,
                            struct error *err)
{
    static const char *const words[] = {"no", "yes", "false", "true", "off", "on"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i]) == len && memcmp(words[i], text, len) == 0) {
            *field = i % 2 == 1;
            return OK;
        }
    return wrong(s, text, len, err, "yes or no");
}

static enum status set_enum(const struct setting *s, const char *text, size_t len, int *field,
                            struct error *err)
{
    char all[256] = "";
    for (int i = 0; s->names[i]; i++) {
        if (strlen(s->names[i]) == len && memcmp(s->names[i], text, len) == 0) {
            *field = i;
            return OK;
        }
        size_t used = strlen(all);
        snprintf(all + used, sizeof all - used, "%s%s", i ? ", " : "one of: ", s->names[i]);
    }
    return wrong(s, text, len, err, all);
}

static enum status set_string(const struct setting *s, const char *text, size_t len, char **field,
                              struct error *err)
{
    if ((int64_t)len < s->least)
        return s->least == 1 ? error_set(err, INVALID, "must not be empty")
                             : error_set(err, INVALID, "must have at least %lld characters",
                                         (long long)s->least);
    if ((int64_t)len > string_most(s))
        return error_set(err, INVALID, "must have at most %lld characters",
                         (long long)string_most(s));
    char *copy = strndup(text, len);
    if (!copy)
        return error_set(err, NOMEM, "out of memory");
    *field = copy;
    return OK;
}

static void list_done(struct setting_list *list)
{
    for (int i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct setting_list){0};
}

/* The next item, without the blanks around it; *at moves behind its comma. */
static const char *next_item(const char *text, size_t len, size_t *at, size_t *item_len)
{
    const char *start = text + *at;
    const char *comma = memchr(start, ',', len - *at);
    const char *end = comma ? comma : text + len;
    *at = comma ? (size_t)(comma - text) + 1 : len + 1;
    while (start < end && (*start == ' ' || *start == '\t'))
        start++;
    while (end > start && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *item_len = (size_t)(end - start);
    return start;
}

static enum status fill_list(const char *text, size_t len, struct setting_list *list,
                             struct error *err)
{
    for (size_t at = 0, item_len; at <= len;) {
        const char *item = next_item(text, len, &at, &item_len);
        if (item_len == 0)
            return error_set(err, INVALID, "item %d of the list is empty", list->count + 1);
        char *copy = strndup(item, item_len);
        if (!copy)
            return error_set(err, NOMEM, "out of memory");
        list->items[list->count++] = copy;
    }
    return OK;
}

static enum status set_list(const struct setting *s, const char *text, size_t len,
                            struct setting_list *field, struct error *err)
{
    int64_t count = len > 0;
    for (size_t i = 0; i < len; i++)
        count += text[i] == ',';
    if (count < s->least || count > string_most(s))
        return error_set(err, INVALID, "must have from %lld to %lld items, separated by commas",
                         (long long)s->least, (long long)string_most(s));
    if (count == 0) {
        *field = (struct setting_list){0};
        return OK;
    }
    struct setting_list list = {.items = calloc((size_t)count, sizeof *list.items)};
    if (!list.items)
        return error_set(err, NOMEM, "out of memory");
    enum status st = fill_list(text, len, &list, err);
    if (st != OK) {
        list_done(&list);
        return st;
    }
    *field = list;
    return OK;
}

enum status config_value_set(const struct setting *s, const char *text, size_t len, void *settings,
                             struct error *err)
{
    void *field = (char *)settings + s->offset;
    switch (s->type) {
    case SETTING_INT:
    case SETTING_BYTES:
    case SETTING_MS:
        return set_number(s, text, len, field, err);
    case SETTING_BOOL:
        return set_bool(s, text, len, field, err);
    case SETTING_ENUM:
        return set_enum(s, text, len, field, err);
    case SETTING_STRING:
    case SETTING_SECRET:
        return set_string(s, text, len, field, err);
    case SETTING_LIST:
        return set_list(s, text, len, field, err);
    }
    assert(!"a setting has a known type");
    return INVALID;
}

void config_value_clear(const struct setting *s, void *settings)
{
    void *field = (char *)settings + s->offset;
    if (s->type == SETTING_LIST)
        list_done(field);
    if (s->type != SETTING_STRING && s->type != SETTING_SECRET)
        return;
    char **text = field;
    if (*text && s->type == SETTING_SECRET)
        crypto_wipe(*text, strlen(*text));
    free(*text);
    *text = NULL;
}

static bool list_equal(const struct setting_list *a, const struct setting_list *b)
{
    if (a->count != b->count)
        return false;
    for (int i = 0; i < a->count; i++)
        if (strcmp(a->items[i], b->items[i]) != 0)
            return false;
    return true;
}

bool config_value_equal(const struct setting *s, const void *a, const void *b)
{
    const void *x = (const char *)a + s->offset, *y = (const char *)b + s->offset;
    switch (s->type) {
    case SETTING_INT:
    case SETTING_BYTES:
    case SETTING_MS:
        return *(const int64_t *)x == *(const int64_t *)y;
    case SETTING_BOOL:
        return *(const bool *)x == *(const bool *)y;
    case SETTING_ENUM:
        return *(const int *)x == *(const int *)y;
    case SETTING_STRING:
    case SETTING_SECRET:
        return strcmp(*(char *const *)x, *(char *const *)y) == 0;
    case SETTING_LIST:
        return list_equal(x, y);
    }
    assert(!"a setting has a known type");
    return false;
}

static enum status describe_bounds(const struct setting *s, struct buf *out)
{
    char least[32], most[32];
    if (is_number(s->type)) {
        format_number(s->type, s->least, least, sizeof least);
        format_number(s->type, s->most, most, sizeof most);
        return buf_addf(out, "%s to %s", least, most);
    }
    if (s->type == SETTING_BOOL)
        return buf_adds(out, "yes, no");
    if (s->type == SETTING_ENUM) {
        enum status st = OK;
        for (int i = 0; s->names[i] && st == OK; i++)
            st = buf_addf(out, "%s%s", i ? ", " : "", s->names[i]);
        return st;
    }
    return buf_addf(out, "%lld to %lld %s", (long long)s->least, (long long)string_most(s),
                    s->type == SETTING_LIST ? "items" : "characters");
}

enum status config_value_describe(const struct setting *s, struct buf *out)
{
    static const char *const types[] = {
        [SETTING_INT] = "number", [SETTING_BYTES] = "bytes",   [SETTING_MS] = "time",
        [SETTING_BOOL] = "bool",  [SETTING_STRING] = "string", [SETTING_SECRET] = "secret",
        [SETTING_ENUM] = "word",  [SETTING_LIST] = "list",
    };
    const char *text = s->default_text;
    const char *shown = !text                       ? "must be set"
                        : text[0] == 0              ? "empty"
                        : s->type == SETTING_SECRET ? "a secret"
                                                    : text;
    const char *quote = shown == text ? "`" : "";
    enum status st = buf_addf(out, "| %s | `%s` | %s | %s%s%s | ", s->section, s->name,
                              types[s->type], quote, shown, quote);
    if (st == OK)
        st = describe_bounds(s, out);
    if (st == OK)
        st = buf_addf(out, " | %s | %s |\n", s->reloadable ? "yes" : "no", s->help ? s->help : "");
    return st;
}
