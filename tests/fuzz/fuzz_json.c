/* links: tg_base */
/*
 * What the guard passes, cJSON reads: the tree has the values and keys that the text has, no
 * string with a NUL in it, no key twice, no number that is not finite.
 */
#include <assert.h>
#include <math.h>

#include "base/json.h"
#include "base/json_guard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Recursion is bounded by the guard's depth. */
static int check_value(const struct json *v)
{
    assert(json_is_object(v) + json_is_array(v) + json_is_string(v) + json_is_number(v) +
               json_is_bool(v) + json_is_null(v) ==
           1);
    if (json_is_number(v))
        assert(isfinite(json_number(v)));
    int64_t n;
    if (json_int(v, INT64_MIN, INT64_MAX, &n))
        assert((double)n == json_number(v));
    int nodes = 1;
    int members = 0;
    for (const struct json *m = json_first(v); m; m = json_next(m)) {
        nodes += check_value(m);
        if (json_is_object(v) && members++ < 200)
            assert(json_get(v, json_key(m)) == m); /* the first of that key is this one */
    }
    return nodes;
}

/* Values and string bytes by a plain walk over a text known to be valid. */
static int count_values(const char *text, size_t len)
{
    int values = 0;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '"') {
            for (i++; text[i] != '"'; i++)
                i += text[i] == '\\';
            size_t next = i + 1;
            while (next < len && strchr(" \t\r\n", text[next]))
                next++;
            values += next == len || text[next] != ':';
        } else if (c == '{' || c == '[') {
            values++;
        } else if (!strchr(" \t\r\n,:]}", c)) {
            values++;
            while (i + 1 < len && !strchr(" \t\r\n,]}", text[i + 1]))
                i++;
        }
    }
    return values;
}

/* A string of the tree survives being written and read again. */
static void check_strings(const struct json *v)
{
    const char *text = json_string(v);
    if (text) {
        struct buf b;
        buf_init(&b, 8 << 20);
        struct json *again = NULL;
        assert(json_put_string(&b, text, strlen(text)) == OK);
        assert(json_parse((const char *)buf_head(&b), buf_len(&b), NULL, &again, NULL) == OK);
        assert(strcmp(json_string(again), text) == 0);
        json_free(again);
        buf_done(&b);
    }
    for (const struct json *m = json_first(v); m; m = json_next(m))
        check_strings(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct error err = {""};
    struct json *root = NULL;
    const char *text = (const char *)data;
    enum status guarded = json_guard(text, len, NULL, &err);
    assert((guarded == OK) == (err.text[0] == 0));
    enum status st = json_parse(text, len, NULL, &root, &err);
    assert(st == guarded);
    if (st == OK) {
        assert(memchr(text, 0, len) == NULL);
        assert(check_value(root) == count_values(text, len));
        check_strings(root);
        json_free(root);
    }
    /* Any bytes can be written as a string that the guard takes, NUL apart. */
    struct buf b;
    buf_init(&b, 8 << 20);
    assert(json_put_string(&b, text, len) == OK);
    st = json_guard((const char *)buf_head(&b), buf_len(&b), NULL, NULL);
    assert(st == (len && memchr(text, 0, len) ? INVALID : OK));
    buf_done(&b);
    return 0;
}
