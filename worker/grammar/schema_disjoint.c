/*
 * Whether two schemas have no value in common, as far as that is easily seen: by their types, by
 * the values they list, and for objects by a property. What this says of `oneOf` is that it means
 * the same as `anyOf`. One side is what a grammar writes (narrower than the schema, see
 * docs/decisions/061), the other what a validator takes.
 */
#include "worker/grammar/schema.h"

enum {
    DEPTH_MAX = 12,
    STEP_WORK = 50, /* of the budget, for one pair of schemas */
    TYPE_ALL = 2 * TYPE_ARRAY - 1,
};

bool schema_equal(struct schema *s, const struct json *a, const struct json *b)
{
    if (!automaton_work(s->a, 2))
        return false;
    if (json_is_object(a) && json_is_object(b) && json_count(a) == json_count(b)) {
        uint64_t count = (uint64_t)json_count(a);
        for (const struct json *m = json_first(a); m; m = json_next(m)) {
            const struct json *other = json_get(b, json_key(m));
            if (!other || !automaton_work(s->a, count) || !schema_equal(s, m, other))
                return false;
        }
        return true;
    }
    if (json_is_array(a) && json_is_array(b) && json_count(a) == json_count(b)) {
        const struct json *x = json_first(a), *y = json_first(b);
        while (x && schema_equal(s, x, y)) {
            x = json_next(x);
            y = json_next(y);
        }
        return !x;
    }
    if (json_is_string(a) && json_is_string(b))
        return strcmp(json_string(a), json_string(b)) == 0;
    if (json_is_number(a) && json_is_number(b))
        return json_number(a) == json_number(b);
    if (json_is_bool(a) && json_is_bool(b))
        return json_bool(a) == json_bool(b);
    return json_is_null(a) && json_is_null(b);
}

/* The list of an enum, or the one value of a const as if it were one. */
static const struct json *first_value(const struct json *v, bool *one)
{
    const struct json *list = json_get(v, "enum");
    *one = !list;
    return list ? json_first(list) : json_get(v, "const");
}

static bool no_value_in_common(struct schema *s, const struct json *a, const struct json *b)
{
    bool one, single;
    const struct json *x = first_value(a, &one);
    if (!x || !first_value(b, &single))
        return false;
    for (; x; x = one ? NULL : json_next(x))
        for (const struct json *y = first_value(b, &single); y; y = single ? NULL : json_next(y))
            if (schema_equal(s, x, y))
                return false;
    return s->a->status == OK;
}

/* Of the values listed, else of "type", else (of what is written) of the keywords. Whole numbers
 * count as both kinds. */
static int types_of(const struct json *v, bool written)
{
    int types = 0, found;
    bool one;
    const struct json *value = first_value(v, &one), *type = json_get(v, "type");
    for (; value; value = one ? NULL : json_next(value))
        for (int bit = 1; bit < TYPE_ALL; bit <<= 1)
            types |= schema_literal_is(value, bit) ? bit : 0;
    if (type && schema_read_types(type, &found))
        types = types ? types & (found & TYPE_NUMBER ? found | TYPE_INTEGER : found) : found;
    else if (!types && written)
        types = schema_implied_types(v);
    if (!types && !type)
        return TYPE_ALL;
    return types & TYPE_NUMBER ? types | TYPE_INTEGER : types;
}

static bool requires(const struct json *v, const char *name)
{
    const struct json *list = json_get(v, "required");
    for (const struct json *n = json_is_array(list) ? json_first(list) : NULL; n; n = json_next(n))
        if (json_is_string(n) && strcmp(json_string(n), name) == 0)
            return true;
    return false;
}

static bool refuses_others(const struct json *v)
{
    const struct json *more = json_get(v, "additionalProperties");
    return json_is_bool(more) && !json_bool(more);
}

static const struct json *property(const struct json *v, const char *name)
{
    const struct json *all = json_get(v, "properties");
    return json_is_object(all) ? json_get(all, name) : NULL;
}

/* Objects written for the schema have no such member. */
static bool never_writes(const struct json *v, const char *name)
{
    bool closed = refuses_others(v) || (!json_get(v, "additionalProperties") &&
                                        json_count(json_get(v, "properties")) > 0);
    return closed && !property(v, name) && !requires(v, name);
}

static bool apart(struct schema *s, const struct json *written, const struct json *read, int depth);

/* Every object written for one has, in this member or in its lack, what the other does not take. */
static bool parts_objects(struct schema *s, const struct json *written, const struct json *read,
                          const char *name, int depth)
{
    const struct json *w = property(written, name), *r = property(read, name);
    if (!automaton_work(s->a, STEP_WORK))
        return false;
    bool wanted = requires(read, name), given = requires(written, name);
    if (wanted && never_writes(written, name))
        return true;
    if (given && !r && refuses_others(read))
        return true;
    return w && r && (wanted || given) && apart(s, w, r, depth);
}

static bool objects_apart(struct schema *s, const struct json *written, const struct json *read,
                          int depth)
{
    const struct json *names = json_get(read, "required"), *own = json_get(written, "required");
    for (const struct json *n = json_is_array(names) ? json_first(names) : NULL; n;
         n = json_next(n))
        if (json_is_string(n) && parts_objects(s, written, read, json_string(n), depth))
            return true;
    for (const struct json *n = json_is_array(own) ? json_first(own) : NULL; n; n = json_next(n))
        if (json_is_string(n) && parts_objects(s, written, read, json_string(n), depth))
            return true;
    return false;
}

/* Of a list below a keyword: whether all, or some, are apart from the other side. */
static bool list_apart(struct schema *s, const struct json *v, const char *keyword,
                       const struct json *other, bool v_is_written, int depth)
{
    const struct json *list = json_get(v, keyword);
    bool all = strcmp(keyword, "allOf") != 0;
    if (!json_is_array(list) || json_count(list) == 0)
        return false;
    for (const struct json *b = json_first(list); b; b = json_next(b))
        if ((v_is_written ? apart(s, b, other, depth) : apart(s, other, b, depth)) != all)
            return !all;
    return all;
}

static bool apart(struct schema *s, const struct json *written, const struct json *read, int depth)
{
    static const char *const lists[] = {"anyOf", "oneOf", "allOf"};
    if (depth == DEPTH_MAX || !automaton_work(s->a, STEP_WORK) || !json_is_object(written) ||
        !json_is_object(read))
        return false;
    if (json_get(written, "$ref"))
        return (written = schema_target(s, written)) && apart(s, written, read, depth + 1);
    if (json_get(read, "$ref"))
        return (read = schema_target(s, read)) && apart(s, written, read, depth + 1);
    for (int i = 0; i < 3; i++)
        if (list_apart(s, written, lists[i], read, true, depth + 1) ||
            list_apart(s, read, lists[i], written, false, depth + 1))
            return true;
    int common = types_of(written, true) & types_of(read, false);
    if (!common || no_value_in_common(s, written, read))
        return true;
    return common == TYPE_OBJECT && objects_apart(s, written, read, depth + 1);
}

bool schema_disjoint(struct schema *s, const struct json *a, const struct json *b)
{
    return apart(s, a, b, 0) && apart(s, b, a, 0);
}
