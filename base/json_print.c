/* Writing a parsed value as text. */
#include <math.h>

#include "base/json.h"

enum { NUMBER_SIZE = 32 };

/* The shortest spelling that reads back as the same double. */
static enum status put_number(struct buf *out, double n)
{
    char text[NUMBER_SIZE];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, n);
        if (strtod(text, NULL) == n)
            break;
    }
    return buf_adds(out, text);
}

static enum status put_value(struct buf *out, const struct json *v);

static enum status put_members(struct buf *out, const struct json *v, bool keys)
{
    enum status st = OK;
    for (const struct json *m = json_first(v); m && st == OK; m = json_next(m)) {
        if (m != json_first(v))
            st = buf_adds(out, ", ");
        if (st == OK && keys)
            st = json_put_string(out, json_key(m), strlen(json_key(m)));
        if (st == OK && keys)
            st = buf_adds(out, ": ");
        if (st == OK)
            st = put_value(out, m);
    }
    return st;
}

/* Calls itself: the guard has bounded the depth. */
static enum status put_value(struct buf *out, const struct json *v)
{
    if (json_is_string(v))
        return json_put_string(out, json_string(v), strlen(json_string(v)));
    if (json_is_number(v))
        return put_number(out, json_number(v));
    if (json_is_bool(v))
        return buf_adds(out, json_bool(v) ? "true" : "false");
    if (json_is_null(v))
        return buf_adds(out, "null");
    bool object = json_is_object(v);
    enum status st = buf_adds(out, object ? "{" : "[");
    if (st == OK)
        st = put_members(out, v, object);
    return st == OK ? buf_adds(out, object ? "}" : "]") : st;
}

enum status json_put(struct buf *out, const struct json *v)
{
    size_t before = buf_len(out);
    enum status st = put_value(out, v);
    if (st != OK)
        out->end = out->start + before;
    return st;
}
