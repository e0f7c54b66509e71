#include "base/json_guard.h"

#include <assert.h>

#include "base/json_keys.h"

const struct json_limits json_limits_default = {64, 100000, 8 << 20};

enum expect {
    WANT_VALUE,
    WANT_FIRST, /* a value, or the end of an empty array */
    WANT_KEY,
    WANT_FIRST_KEY, /* a key, or the end of an empty object */
    WANT_END,       /* a comma, or the end of the container */
};

struct level {
    uint32_t keys;  /* how many there were before this object's */
    uint32_t index; /* of the array's element */
    bool object;
};

struct guard {
    const uint8_t *text, *at, *end;
    const struct json_limits *limits;
    int depth, nodes;
    bool long_number;
    bool at_key; /* the innermost object's last key is not about what is at `at` */
    enum status status;
    const char *problem; /* what is wrong at `at` */
    char problem_text[96];
    struct json_keys keys;
    struct level levels[JSON_DEPTH_MAX];
};

/* Always false, so that checks can end with it. */
static bool refuse_as(struct guard *g, enum status status, const uint8_t *at, const char *problem)
{
    g->status = status;
    g->at = at;
    g->problem = problem;
    return false;
}

static bool refuse(struct guard *g, const uint8_t *at, const char *problem)
{
    return refuse_as(g, INVALID, at, at < g->end ? problem : "the text ends too early");
}

static inline void skip_space(struct guard *g)
{
    const uint8_t *at = g->at;
    while (at < g->end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t'))
        at++;
    g->at = at;
}

static bool read_hex4(const uint8_t *at, const uint8_t *end, uint32_t *out)
{
    if (end - at < 4)
        return false;
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t c = at[i], lower = c | 0x20;
        if (c >= '0' && c <= '9')
            value = value * 16 + (uint32_t)(c - '0');
        else if (lower >= 'a' && lower <= 'f')
            value = value * 16 + (uint32_t)(lower - 'a' + 10);
        else
            return false;
    }
    *out = value;
    return true;
}

/* At the backslash of \uXXXX. */
static bool pass_unicode_escape(struct guard *g)
{
    const uint8_t *at = g->at;
    uint32_t code, low;
    if (!read_hex4(at + 2, g->end, &code))
        return refuse(g, at, "four hex digits must follow \\u");
    g->at = at + 6;
    if (code == 0)
        return refuse(g, at, "\\u0000 is not allowed in strings");
    if (code < 0xd800 || code > 0xdfff)
        return true;
    if (code > 0xdbff || g->end - g->at < 6 || g->at[0] != '\\' || g->at[1] != 'u' ||
        !read_hex4(g->at + 2, g->end, &low) || low < 0xdc00 || low > 0xdfff)
        return refuse(g, at, "half of a surrogate pair");
    g->at += 6;
    return true;
}

static bool pass_escape(struct guard *g)
{
    if (g->end - g->at < 2)
        return refuse(g, g->end, "");
    switch (g->at[1]) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        g->at += 2;
        return true;
    case 'u':
        return pass_unicode_escape(g);
    default:
        return refuse(g, g->at, "an unknown escape in a string");
    }
}

/* At the opening quote; leaves behind the closing one. */
static bool pass_string(struct guard *g, struct json_key *key)
{
    key->text = ++g->at;
    key->escaped = false;
    for (;;) {
        const uint8_t *at = g->at = json_skip_plain(g->at, g->end);
        if (at == g->end)
            return refuse(g, at, "");
        if (*at == '"') {
            key->len = (size_t)(at - key->text);
            g->at++;
            return true;
        }
        if (*at == '\\') {
            key->escaped = true;
            if (!pass_escape(g))
                return false;
        } else if (*at < 0x20) {
            return refuse(g, at, "a control character in a string must be escaped");
        } else {
            do {
                int n = json_utf8_len(g->at, g->end);
                if (n == 0)
                    return refuse(g, g->at, "invalid UTF-8");
                g->at += n;
            } while (g->at < g->end && *g->at >= 0x80);
        }
    }
}

static bool pass_word(struct guard *g, const char *word)
{
    size_t len = strlen(word);
    size_t left = (size_t)(g->end - g->at);
    if (left < len && memcmp(g->at, word, left) == 0)
        return refuse(g, g->end, "");
    if (left < len || memcmp(g->at, word, len) != 0)
        return refuse(g, g->at, "expected a value");
    g->at += len;
    return true;
}

static bool pass_number(struct guard *g)
{
    const uint8_t *stop;
    const char *problem = json_number_problem(g->at, g->end, &stop);
    if (problem)
        return refuse(g, stop, problem);
    g->long_number |= stop - g->at > JSON_NUMBER_MAX;
    g->at = stop;
    return true;
}

static bool open_level(struct guard *g, bool object)
{
    if (g->depth == g->limits->depth)
        return refuse_as(g, LIMITED, g->at, "nested too deep");
    g->levels[g->depth++] = (struct level){g->keys.count, 0, object};
    g->at++;
    return true;
}

static void close_level(struct guard *g)
{
    struct level *level = &g->levels[--g->depth];
    if (level->object)
        json_keys_cut(&g->keys, level->keys);
    g->at++;
}

static bool pass_value(struct guard *g, enum expect *next)
{
    if (g->at == g->end)
        return refuse(g, g->at, "");
    if (++g->nodes > g->limits->nodes)
        return refuse_as(g, LIMITED, g->at, "too many values");
    struct json_key ignored;
    *next = WANT_END;
    switch (*g->at) {
    case '{':
        *next = WANT_FIRST_KEY;
        return open_level(g, true);
    case '[':
        *next = WANT_FIRST;
        return open_level(g, false);
    case '"':
        return pass_string(g, &ignored);
    case 't':
        return pass_word(g, "true");
    case 'f':
        return pass_word(g, "false");
    case 'n':
        return pass_word(g, "null");
    default:
        if (*g->at != '-' && (*g->at < '0' || *g->at > '9'))
            return refuse(g, g->at, "expected a value");
        return pass_number(g);
    }
}

/* A key's text as it stands, cut at a whole character. */
static void name_key(const struct json_key *key, char *out, size_t size)
{
    enum { SHOWN_MAX = 40 };
    size_t n = key->len;
    const char *dots = "";
    if (n > SHOWN_MAX) {
        n = SHOWN_MAX;
        dots = "...";
        while (n > 0 && (key->text[n] & 0xc0) == 0x80)
            n--;
    }
    snprintf(out, size, "%.*s%s", (int)n, (const char *)key->text, dots);
}

static bool refuse_key(struct guard *g, const struct json_key *key, enum status st)
{
    if (st != CONFLICT)
        return refuse_as(g, st, key->text - 1, "out of memory");
    char name[48];
    name_key(key, name, sizeof name);
    snprintf(g->problem_text, sizeof g->problem_text, "key \"%s\" is given twice", name);
    return refuse(g, key->text - 1, g->problem_text);
}

static bool pass_key(struct guard *g)
{
    g->at_key = true;
    if (g->at == g->end || *g->at != '"')
        return refuse(g, g->at, "expected a key in double quotes");
    struct json_key key = {.object = g->levels[g->depth - 1].keys};
    if (!pass_string(g, &key))
        return false;
    enum status st = json_keys_add(&g->keys, &key);
    if (st != OK)
        return refuse_key(g, &key, st);
    g->at_key = false;
    skip_space(g);
    if (g->at == g->end || *g->at != ':')
        return refuse(g, g->at, "expected a colon behind a key");
    g->at++;
    return true;
}

static bool pass_end(struct guard *g, enum expect *next)
{
    struct level *level = &g->levels[g->depth - 1];
    if (g->at < g->end && *g->at == ',') {
        g->at++;
        level->index++;
        *next = level->object ? WANT_KEY : WANT_VALUE;
        return true;
    }
    if (g->at == g->end || *g->at != (level->object ? '}' : ']'))
        return refuse(g, g->at, level->object ? "expected , or }" : "expected , or ]");
    close_level(g);
    *next = WANT_END;
    return true;
}

static bool pass_document(struct guard *g)
{
    enum expect want = WANT_VALUE;
    do {
        skip_space(g);
        uint8_t c = g->at < g->end ? *g->at : 0;
        if ((want == WANT_FIRST && c == ']') || (want == WANT_FIRST_KEY && c == '}')) {
            close_level(g);
            want = WANT_END;
            continue;
        }
        bool ok;
        if (want == WANT_KEY || want == WANT_FIRST_KEY) {
            ok = pass_key(g);
            want = WANT_VALUE;
        } else if (want == WANT_END) {
            ok = pass_end(g, &want);
        } else {
            ok = pass_value(g, &want);
        }
        if (!ok)
            return false;
    } while (want != WANT_END || g->depth > 0);
    skip_space(g);
    return g->at == g->end || refuse(g, g->at, "more text behind the value");
}

/* The way to the value at hand, like messages[2].content; the innermost parts if it is long. */
static void name_place(const struct guard *g, char *out, size_t size)
{
    enum { PARTS_MAX = 6 };
    size_t used = 0;
    out[0] = 0;
    for (int i = 0; i < g->depth && used < size; i++) {
        const struct level *level = &g->levels[i];
        if (i == 0 && g->depth > PARTS_MAX) {
            i = g->depth - PARTS_MAX - 1;
            used += (size_t)snprintf(out + used, size - used, "...");
            continue;
        }
        if (!level->object) {
            used += (size_t)snprintf(out + used, size - used, "[%u]", level->index);
            continue;
        }
        if (g->at_key && i == g->depth - 1)
            break;
        uint32_t keys = g->keys.count;
        for (int k = g->depth - 1; k > i; k--)
            if (g->levels[k].object)
                keys = g->levels[k].keys;
        if (keys == level->keys)
            continue; /* its first key has not been read */
        char name[48];
        name_key(&g->keys.entries[keys - 1].key, name, sizeof name);
        used += (size_t)snprintf(out + used, size - used, "%s%s", used ? "." : "", name);
    }
}

static enum status fail(struct guard *g, struct error *err)
{
    char place[384];
    name_place(g, place, sizeof place);
    size_t offset = (size_t)(g->at - g->text);
    if (place[0])
        return error_set(err, g->status, "JSON, byte %zu, %s: %s", offset, place, g->problem);
    return error_set(err, g->status, "JSON, byte %zu: %s", offset, g->problem);
}

enum status json_guard_check(const char *text, size_t len, const struct json_limits *limits,
                             struct json_facts *facts, struct error *err)
{
    if (!limits)
        limits = &json_limits_default;
    assert(limits->depth <= JSON_DEPTH_MAX);
    if (len > limits->bytes)
        return error_set(err, LIMITED, "JSON: more than %zu bytes", limits->bytes);
    struct guard g; /* its tables are large and mostly not touched */
    g.text = g.at = (const uint8_t *)text;
    g.end = g.text + len;
    g.limits = limits;
    g.depth = g.nodes = 0;
    g.long_number = g.at_key = false;
    json_keys_init(&g.keys);
    bool ok;
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        ok = refuse(&g, g.at, "a byte order mark in front of the text");
    else
        ok = pass_document(&g);
    enum status st = ok ? OK : fail(&g, err);
    if (ok)
        *facts = (struct json_facts){.long_number = g.long_number};
    json_keys_done(&g.keys);
    return st;
}

enum status json_guard(const char *text, size_t len, const struct json_limits *limits,
                       struct error *err)
{
    struct json_facts facts;
    return json_guard_check(text, len, limits, &facts, err);
}
