/* JSON texts in prompts, as the publishers' programs write them: Python's json.dumps (ensure_ascii
 * off), or str() of the value. */
#include "base/json.h"
#include "worker/chat_private.h"
#include "worker/toolout_json.h"

struct writer {
    struct prompt *p;
    const char *end; /* of the text */
    bool python;     /* str(), else json.dumps */
    int indent, depth;
};

static void put_byte(struct prompt *p, char c)
{
    prompt_words_n(p, &c, 1);
}

static void put_utf8(struct prompt *p, uint32_t c)
{
    if (c < 0x80) {
        put_byte(p, (char)c);
    } else if (c < 0x800) {
        put_byte(p, (char)(0xc0 | c >> 6));
        put_byte(p, (char)(0x80 | (c & 63)));
    } else {
        if (c < 0x10000) {
            put_byte(p, (char)(0xe0 | c >> 12));
        } else {
            put_byte(p, (char)(0xf0 | c >> 18));
            put_byte(p, (char)(0x80 | (c >> 12 & 63)));
        }
        put_byte(p, (char)(0x80 | (c >> 6 & 63)));
        put_byte(p, (char)(0x80 | (c & 63)));
    }
}

/* ---- characters ---- */

static uint32_t hex4(const char *text)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char c = text[i];
        value = value * 16 + (uint32_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return value;
}

/* One escape, from behind its backslash; the guard has seen that it is right. */
static const char *take_escape(const char *at, uint32_t *c)
{
    static const char plain[] = "b\bf\fn\nr\rt\t";
    if (*at != 'u') {
        const char *named = strchr(plain, *at);
        *c = (unsigned char)(named ? named[1] : *at);
        return at + 1;
    }
    *c = hex4(at + 1);
    at += 5;
    if (*c >= 0xd800 && *c < 0xdc00) {
        *c = 0x10000 + ((*c - 0xd800) << 10) + (hex4(at + 2) - 0xdc00);
        at += 6;
    }
    return at;
}

/* The next character of a string's inside. */
static const char *take_character(const char *at, uint32_t *c)
{
    const uint8_t *u = (const uint8_t *)at;
    if (*u == '\\')
        return take_escape(at + 1, c);
    int more = *u < 0x80 ? 0 : *u < 0xe0 ? 1 : *u < 0xf0 ? 2 : 3;
    *c = more ? *u & (0x3fu >> more) : *u;
    for (int i = 1; i <= more; i++)
        *c = *c << 6 | (u[i] & 63u);
    return at + 1 + more;
}

static void put_json_character(struct prompt *p, uint32_t c)
{
    static const char named[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* character, letter behind \ */
    char text[8];
    for (const char *n = named; *n; n += 2)
        if (c == (unsigned char)*n) {
            prompt_words_n(p, (char[]){'\\', n[1]}, 2);
            return;
        }
    if (c < 0x20)
        prompt_words_n(p, text, (size_t)snprintf(text, sizeof text, "\\u%04x", c));
    else
        put_utf8(p, c);
}

/* Of the characters behind ASCII those that Python shows by number, as far as texts have them. */
static bool is_hidden(uint32_t c)
{
    static const struct {
        uint32_t lo, hi;
    } hidden[] = {{0x7f, 0xa0},     {0xad, 0xad},     {0x1680, 0x1680},   {0x2000, 0x200f},
                  {0x2028, 0x202f}, {0x205f, 0x206f}, {0x3000, 0x3000},   {0xd800, 0xf8ff},
                  {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xe0000, 0xe0fff}, {0xf0000, 0x10ffff}};
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
        if (c >= hidden[i].lo && c <= hidden[i].hi)
            return true;
    return false;
}

static void put_python_character(struct prompt *p, uint32_t c, char quote)
{
    char text[16];
    const char *form = c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x";
    if (c == '\\' || c == (unsigned char)quote)
        prompt_words_n(p, (char[]){'\\', (char)c}, 2);
    else if (c == '\n' || c == '\r' || c == '\t')
        prompt_words(p, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
    else if (c < 0x20 || is_hidden(c))
        prompt_words_n(p, text, (size_t)snprintf(text, sizeof text, form, c));
    else
        put_utf8(p, c);
}

/* ---- strings, numbers, words ---- */

static bool holds(const char *at, const char *end, char what)
{
    uint32_t c;
    while (at < end) {
        at = take_character(at, &c);
        if (c == (unsigned char)what)
            return true;
    }
    return false;
}

static const char *string_end(const char *at)
{
    for (at++; *at != '"'; at++)
        at += *at == '\\';
    return at;
}

/* From the quote on; returns what is behind the closing one. */
static const char *put_string(struct writer *w, const char *at)
{
    const char *end = string_end(at++);
    char quote = w->python && !(holds(at, end, '\'') && !holds(at, end, '"')) ? '\'' : '"';
    put_byte(w->p, quote);
    while (at < end) {
        uint32_t c;
        at = take_character(at, &c);
        if (w->python)
            put_python_character(w->p, c, quote);
        else
            put_json_character(w->p, c);
    }
    put_byte(w->p, quote);
    return end + 1;
}

/* repr() of a float: the shortest digits that make the same value. */
static void put_float(struct prompt *p, double value)
{
    char text[40];
    int digits = 1;
    for (; digits < 17; digits++) {
        snprintf(text, sizeof text, "%.*e", digits - 1, value);
        if (strtod(text, NULL) == value)
            break;
    }
    snprintf(text, sizeof text, "%.*e", digits - 1, value);
    int exponent = (int)strtol(strchr(text, 'e') + 1, NULL, 10);
    if (exponent >= -4 && exponent < 16) {
        int behind = digits - 1 - exponent;
        snprintf(text, sizeof text, "%.*f", behind > 0 ? behind : 1, value);
    }
    prompt_words(p, text);
}

static void put_bare(struct writer *w, const char *text, size_t len)
{
    static const char *const names[][2] = {{"true", "True"}, {"false", "False"}, {"null", "None"}};
    for (int i = 0; i < 3; i++)
        if (w->python && *text == *names[i][0]) {
            prompt_words(w->p, names[i][1]);
            return;
        }
    bool number = *text == '-' || (*text >= '0' && *text <= '9');
    if (number && (memchr(text, '.', len) || memchr(text, 'e', len) || memchr(text, 'E', len)))
        put_float(w->p, strtod(text, NULL));
    else if (number && len == 2 && *text == '-' && text[1] == '0')
        prompt_words(w->p, "0");
    else
        prompt_words_n(w->p, text, len);
}

/* ---- values ---- */

static void new_line(struct writer *w)
{
    if (!w->indent)
        return;
    prompt_words(w->p, "\n");
    for (int i = 0; i < w->indent * w->depth; i++)
        prompt_words(w->p, " ");
}

static const char *put_bracket(struct writer *w, const char *at)
{
    char c = *at++;
    bool opens = c == '{' || c == '[';
    if (opens) {
        at += strspn(at, " \t\r\n");
        bool empty = *at == '}' || *at == ']';
        put_byte(w->p, c);
        w->depth++;
        if (!empty) {
            new_line(w);
        } else {
            put_byte(w->p, *at);
            w->depth--;
            at++;
        }
        return at;
    }
    w->depth--;
    new_line(w);
    put_byte(w->p, c);
    return at;
}

static void put_value(struct writer *w, const char *at)
{
    while (at < w->end && w->p->status == OK) {
        size_t run;
        switch (*at) {
        case ' ':
        case '\t':
        case '\r':
        case '\n':
            at++;
            break;
        case '"':
            at = put_string(w, at);
            break;
        case ',':
            prompt_words(w->p, w->indent ? "," : ", ");
            new_line(w);
            at++;
            break;
        case ':':
            prompt_words(w->p, ": ");
            at++;
            break;
        case '{':
        case '[':
        case '}':
        case ']':
            at = put_bracket(w, at);
            break;
        default: /* a number, true, false, null */
            run = strcspn(at, " \t\r\n,:{}[]\"");
            put_bare(w, at, run);
            at += run;
        }
    }
}

void prompt_json(struct prompt *p, const char *json, int indent)
{
    if (p->status != OK)
        return;
    if (json_guard(json, strlen(json), NULL, NULL) != OK) {
        prompt_words(p, json);
        return;
    }
    struct writer w = {p, json + strlen(json), false, indent, 0};
    put_value(&w, json);
}

void prompt_json_n(struct prompt *p, const char *json, size_t len)
{
    struct writer w = {p, json + len, false, 0, 0};
    put_value(&w, json);
}

void prompt_inside(struct prompt *p, const char *inside, size_t len)
{
    const char *end = inside + len;
    while (inside < end) {
        uint32_t c;
        inside = take_character(inside, &c);
        put_utf8(p, c);
    }
}

void prompt_python(struct prompt *p, const char *json, size_t len)
{
    if (*json == '"') {
        prompt_inside(p, json + 1, len - 2);
        return;
    }
    struct writer w = {p, json + len, true, 0, 0};
    put_value(&w, json);
}

/* ---- an object's members ---- */

static const char *skip_space(const char *at)
{
    return at + strspn(at, " \t\r\n");
}

static size_t value_bytes(const char *at)
{
    if (*at == '"')
        return (size_t)(string_end(at) + 1 - at);
    struct json_track track = {0};
    return *at == '{' || *at == '[' ? json_track_feed(&track, at, strlen(at))
                                    : strcspn(at, " \t\r\n,:{}[]\"");
}

bool chat_member_next(const char **at, struct chat_member *out)
{
    const char *s = skip_space(*at);
    if (*s == '{' || *s == ',')
        s = skip_space(s + 1);
    if (*s != '"')
        return false;
    out->key = s + 1;
    s = string_end(s);
    out->key_len = (size_t)(s - out->key);
    s = skip_space(skip_space(s + 1) + 1); /* the colon */
    out->value = s;
    out->value_len = value_bytes(s);
    *at = s + out->value_len;
    return true;
}

bool chat_item_next(const char **at, size_t *len)
{
    const char *s = skip_space(*at);
    if (*s == '[' || *s == ',')
        s = skip_space(s + 1);
    if (*s == ']')
        return false;
    *at = s;
    *len = value_bytes(s);
    return true;
}

bool chat_member_is(const struct chat_member *m, const char *key)
{
    return strlen(key) == m->key_len && memcmp(key, m->key, m->key_len) == 0;
}

bool chat_member_find(const char *object, const char *key, struct chat_member *out)
{
    while (*skip_space(object) && chat_member_next(&object, out))
        if (chat_member_is(out, key))
            return true;
    return false;
}
