#include "worker/toolout_json.h"

#include <string.h>

#include "base/json.h"

size_t json_track_feed(struct json_track *t, const char *text, size_t len)
{
    size_t i = 0;
    for (; i < len && !t->ended; i++) {
        char c = text[i];
        if (t->escaped) {
            t->escaped = false;
        } else if (t->in_string) {
            t->escaped = c == '\\';
            t->in_string = c != '"';
        } else if (c == '"') {
            t->in_string = true;
        } else if (c == '{' || c == '[') {
            t->depth++;
        } else if (c == '}' || c == ']') {
            t->depth--;
            t->ended = t->depth <= 0;
        }
    }
    return i;
}

struct cursor {
    const char *at, *end;
};

enum next { NEXT_YES, NEXT_NO, NEXT_MORE };

static void skip_space(struct cursor *c)
{
    while (c->at < c->end && strchr(" \t\r\n", *c->at))
        c->at++;
}

static enum next take(struct cursor *c, char what)
{
    skip_space(c);
    if (c->at == c->end)
        return NEXT_MORE;
    if (*c->at != what)
        return NEXT_NO;
    c->at++;
    return NEXT_YES;
}

/* A string without its quotes. */
static enum next take_string(struct cursor *c, const char **text, size_t *len)
{
    enum next n = take(c, '"');
    if (n != NEXT_YES)
        return n;
    *text = c->at;
    for (; c->at < c->end && *c->at != '"'; c->at++)
        if (*c->at == '\\' && ++c->at == c->end)
            return NEXT_MORE;
    if (c->at == c->end)
        return NEXT_MORE;
    *len = (size_t)(c->at++ - *text);
    return NEXT_YES;
}

static bool is(const char *text, size_t len, const char *word)
{
    return strlen(word) == len && memcmp(text, word, len) == 0;
}

static bool is_arguments(const char *text, size_t len)
{
    return is(text, len, "arguments") || is(text, len, "parameters");
}

/* "key" : */
static enum next take_key(struct cursor *c, const char **key, size_t *len)
{
    enum next n = take_string(c, key, len);
    return n == NEXT_YES ? take(c, ':') : n;
}

/* "name": NAME, -- maybe behind a "type": KIND, */
static enum next take_name(struct cursor *c, struct json_call *out)
{
    const char *key;
    size_t len;
    for (int i = 0; i < 2; i++) {
        enum next n = take_key(c, &key, &len);
        if (n != NEXT_YES)
            return n;
        bool name = is(key, len, "name");
        if (!name && !is(key, len, "type"))
            return NEXT_NO;
        n = take_string(c, &out->name, &out->name_len);
        if (n == NEXT_YES)
            n = take(c, ',');
        if (n != NEXT_YES || name)
            return n;
    }
    return NEXT_NO;
}

enum json_head json_call_head(const char *text, size_t len, struct json_call *out)
{
    struct cursor c = {text, text + len};
    const char *key;
    size_t key_len;
    enum next n = take(&c, '{');
    if (n == NEXT_NO)
        return JSON_HEAD_NONE;
    if (n == NEXT_YES)
        n = take_name(&c, out);
    if (n == NEXT_YES)
        n = take_key(&c, &key, &key_len);
    if (n == NEXT_YES && !is_arguments(key, key_len))
        n = NEXT_NO;
    if (n == NEXT_YES) {
        n = take(&c, '{');
        out->arguments = c.at - 1;
    }
    return n == NEXT_YES ? JSON_HEAD_CALL : n == NEXT_MORE ? JSON_HEAD_MORE : JSON_HEAD_OTHER;
}

/* The value from the cursor on; the text has passed the guard. */
static void take_value(struct cursor *c, const char **value, size_t *len)
{
    const char *string;
    size_t string_len;
    skip_space(c);
    *value = c->at;
    if (*c->at == '"') {
        take_string(c, &string, &string_len);
    } else if (*c->at == '{' || *c->at == '[') {
        struct json_track track = {0};
        c->at += json_track_feed(&track, c->at, (size_t)(c->end - c->at));
    } else {
        while (c->at < c->end && !strchr(" \t\r\n,}", *c->at))
            c->at++;
    }
    *len = (size_t)(c->at - *value);
}

bool json_call_read(const char *text, size_t len, struct json_call *out)
{
    struct cursor c = {text, text + len};
    if (json_guard(text, len, NULL, NULL) != OK || take(&c, '{') != NEXT_YES)
        return false;
    *out = (struct json_call){0};
    for (;;) {
        const char *key, *value;
        size_t key_len, value_len;
        if (take_key(&c, &key, &key_len) != NEXT_YES)
            break;
        take_value(&c, &value, &value_len);
        if (is(key, key_len, "name") && *value == '"') {
            out->name = value + 1;
            out->name_len = value_len - 2;
        } else if (is_arguments(key, key_len)) {
            out->arguments = value;
            out->arguments_len = value_len;
        }
        if (take(&c, ',') != NEXT_YES)
            break;
    }
    return out->name && out->arguments;
}
