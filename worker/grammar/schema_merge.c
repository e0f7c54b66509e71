/*
 * allOf: several schemas as one that says the same. It is written as the text of a schema, which
 * is compiled like any other, as a rule of its own; the same text again is the same rule, so that
 * recursion through allOf ends.
 */
#include "worker/grammar/schema.h"

enum { PARTS_MAX = 100, DEPTH_MAX = 16, TEXT_MAX = 1 << 20 };

struct merge {
    struct schema *s;
    const struct json *outer; /* a "type" that applies too; or NULL */
    const struct json *parts[PARTS_MAX];
    size_t count;
    struct buf out;
    enum status status; /* of the buffer */
};

/* ---- the parts ---- */

static enum status add_part(struct merge *m, const struct json *v, int depth);

static enum status add_all_of(struct merge *m, const struct json *v, int depth)
{
    const struct json *list = json_get(v, "allOf");
    enum status st = OK;
    int i = 0;
    if (!json_is_array(list) || json_count(list) == 0)
        return schema_error(m->s, INVALID, "allOf", "must be a list of schemas, not empty");
    for (const struct json *b = json_first(list); b && st == OK; b = json_next(b), i++) {
        size_t before = schema_enter(m->s, ".allOf[%d]", i);
        st = add_part(m, b, depth + 1);
        schema_leave(m->s, before);
    }
    return st;
}

static enum status add_part(struct merge *m, const struct json *v, int depth)
{
    struct schema *s = m->s;
    if (json_is_bool(v))
        return json_bool(v) ? OK : schema_error(s, INVALID, NULL, "false allows no value");
    if (!json_is_object(v))
        return schema_error(s, INVALID, NULL, "must be a schema: an object, true or false");
    if (depth == DEPTH_MAX)
        return schema_error(s, INVALID, NULL, "leads to itself, or through too many schemas");
    enum status st = schema_check_keywords(s, v);
    if (st != OK)
        return st;
    for (size_t i = 0; i < m->count; i++)
        if (schema_equal(m->s, m->parts[i], v))
            return OK;
    if (json_get(v, "$ref")) {
        st = schema_check_ref(s, v);
        return st == OK ? add_part(m, schema_target(s, v), depth + 1) : st;
    }
    for (int i = 0; i < 2; i++)
        if (json_get(v, i ? "oneOf" : "anyOf"))
            return schema_error(s, INVALID, i ? "oneOf" : "anyOf",
                                "not supported among several of an allOf");
    if (json_get(v, "allOf"))
        st = add_all_of(m, v, depth);
    if (st == OK && m->count == PARTS_MAX)
        st = schema_error(s, LIMITED, NULL, "more than %d schemas in an allOf", PARTS_MAX);
    if (st == OK)
        m->parts[m->count++] = v;
    return st;
}

/* ---- the text ---- */

static void text(struct merge *m, const char *words)
{
    if (m->status == OK)
        m->status = buf_adds(&m->out, words);
}

static void separate(struct merge *m)
{
    size_t len = buf_len(&m->out);
    if (len && !strchr("{[,:", ((const char *)buf_head(&m->out))[len - 1]))
        text(m, ",");
}

static void string(struct merge *m, const char *words)
{
    separate(m);
    if (m->status == OK)
        m->status = json_put_string(&m->out, words, strlen(words));
}

static void key(struct merge *m, const char *name)
{
    string(m, name);
    text(m, ":");
}

static void value(struct merge *m, const struct json *v)
{
    separate(m);
    if (m->status == OK)
        m->status = json_put(&m->out, v);
}

/* Schemas of which all must hold, without those that come again. */
struct together {
    const struct json *list[PARTS_MAX];
    size_t count;
};

static void add(struct schema *s, struct together *t, const struct json *v)
{
    for (size_t i = 0; i < t->count; i++)
        if (schema_equal(s, t->list[i], v))
            return;
    t->list[t->count++] = v;
}

static void put_together(struct merge *m, const struct together *t)
{
    text(m, t->count > 1 ? "{\"allOf\":[" : "");
    for (size_t i = 0; i < t->count; i++)
        value(m, t->list[i]);
    text(m, t->count > 1 ? "]}" : "");
}

/* ---- keywords ---- */

static enum status merge_types(struct merge *m)
{
    static const char *const names[] = {"string", "number", "integer", "boolean",
                                        "null",   "object", "array"};
    int types = 0, found;
    for (size_t i = 0; i <= m->count; i++) {
        const struct json *type = i < m->count ? json_get(m->parts[i], "type") : m->outer;
        if (!type)
            continue;
        if (!schema_read_types(type, &found))
            return schema_error(m->s, INVALID, "type", "must be a type's name, or a list of them");
        types = types ? schema_common_types(types, found) : found;
        if (!types)
            return schema_error(m->s, INVALID, "allOf", "the types contradict each other");
    }
    if (!types)
        return OK;
    key(m, "type");
    text(m, "[");
    for (int i = 0; i < 7; i++)
        if (types >> i & 1)
            string(m, names[i]);
    text(m, "]");
    return OK;
}

static bool lists_value(struct schema *s, const struct json *part, const struct json *v)
{
    const struct json *list = json_get(part, "enum"), *one = json_get(part, "const");
    bool among = !list;
    for (const struct json *k = list ? json_first(list) : NULL; k && !among; k = json_next(k))
        among = schema_equal(s, k, v);
    return among && (!one || schema_equal(s, one, v));
}

static bool all_list(const struct merge *m, const struct json *v)
{
    for (size_t i = 0; i < m->count; i++)
        if (!lists_value(m->s, m->parts[i], v))
            return false;
    return true;
}

static enum status merge_values(struct merge *m)
{
    const struct json *first = NULL;
    for (size_t i = 0; i < m->count && !first; i++)
        first =
            json_get(m->parts[i], "enum") || json_get(m->parts[i], "const") ? m->parts[i] : NULL;
    if (!first)
        return OK;
    const struct json *list = json_get(first, "enum");
    if (list && !json_is_array(list))
        return schema_error(m->s, INVALID, "enum", "must be a list of values, not empty");
    bool any = false;
    key(m, "enum");
    text(m, "[");
    for (const struct json *v = list ? json_first(list) : json_get(first, "const"); v;
         v = list ? json_next(v) : NULL) {
        if (!automaton_work(m->s->a, 10 * m->count) || !all_list(m, v))
            continue;
        any = true;
        value(m, v);
    }
    text(m, "]");
    return any ? OK : schema_error(m->s, INVALID, "allOf", "no value is in all of its lists");
}

/* The narrowest of each bound; of words, those that all agree on. */
static enum status merge_scalars(struct merge *m)
{
    static const struct {
        const char *keyword;
        enum { LARGEST, SMALLEST, SAME } which;
    } rules[] = {{"minItems", LARGEST},
                 {"minLength", LARGEST},
                 {"minimum", LARGEST},
                 {"maxItems", SMALLEST},
                 {"maxLength", SMALLEST},
                 {"maximum", SMALLEST},
                 {"pattern", SAME},
                 {"format", SAME},
                 {"exclusiveMinimum", LARGEST},
                 {"exclusiveMaximum", SMALLEST}};
    for (size_t r = 0; r < sizeof rules / sizeof *rules; r++) {
        const struct json *best = NULL;
        for (size_t i = 0; i < m->count; i++) {
            const struct json *v = json_get(m->parts[i], rules[r].keyword);
            if (!v)
                continue;
            if (best && rules[r].which == SAME && !schema_equal(m->s, v, best))
                return schema_error(m->s, INVALID, "allOf",
                                    "two different \"%s\" are not supported", rules[r].keyword);
            bool better = rules[r].which == LARGEST    ? json_number(v) > json_number(best)
                          : rules[r].which == SMALLEST ? json_number(v) < json_number(best)
                                                       : false;
            best = !best || better || (!json_is_number(v) && json_is_number(best)) ? v : best;
        }
        if (best) {
            key(m, rules[r].keyword);
            value(m, best);
        }
    }
    return OK;
}

static bool is_false(const struct json *v)
{
    return json_is_bool(v) && !json_bool(v);
}

static enum status merge_items(struct merge *m)
{
    const struct json *prefix = NULL, *none = NULL;
    struct together items = {.count = 0};
    size_t arrays = 0;
    for (size_t i = 0; i < m->count; i++) {
        const struct json *one = json_get(m->parts[i], "items");
        const struct json *before = json_get(m->parts[i], "prefixItems");
        arrays += one || before;
        if (one)
            add(m->s, &items, one);
        if (is_false(one))
            none = one;
        if (before)
            prefix = before;
    }
    if (prefix && arrays > 1)
        return schema_error(m->s, INVALID, "allOf",
                            "\"prefixItems\" with other \"items\" is not supported");
    if (prefix) {
        key(m, "prefixItems");
        value(m, prefix);
    }
    if (items.count)
        key(m, "items");
    if (none)
        value(m, none);
    else
        put_together(m, &items);
    return OK;
}

static bool named_before(const struct merge *m, size_t part, const char *name)
{
    for (size_t i = 0; i < part; i++) {
        const struct json *all = json_get(m->parts[i], "properties");
        if (json_is_object(all) && json_get(all, name))
            return true;
    }
    return false;
}

/* What part i says of a member with that name; NULL: nothing. */
static const struct json *says(const struct json *part, const char *name)
{
    const struct json *all = json_get(part, "properties");
    const struct json *own = json_is_object(all) ? json_get(all, name) : NULL;
    const struct json *more = json_get(part, "additionalProperties");
    return own ? own : json_is_bool(more) && json_bool(more) ? NULL : more;
}

/* What a part forbids that allows no others is left out. */
static void merge_property(struct merge *m, const char *name)
{
    struct together all = {.count = 0};
    for (size_t i = 0; i < m->count; i++) {
        const struct json *v = says(m->parts[i], name);
        if (is_false(v) && v == json_get(m->parts[i], "additionalProperties"))
            return;
        if (v)
            add(m->s, &all, v);
    }
    key(m, name);
    put_together(m, &all);
}

/* Names are looked for in lists: as many steps for each as there are. */
static uint64_t count_properties(const struct merge *m)
{
    uint64_t count = 0;
    for (size_t i = 0; i < m->count; i++) {
        const struct json *all = json_get(m->parts[i], "properties");
        count += all ? (uint64_t)json_count(all) : 0;
    }
    return count;
}

static enum status merge_properties(struct merge *m)
{
    bool any = false;
    uint64_t steps = 20 * m->count + count_properties(m) / 4;
    for (size_t i = 0; i < m->count; i++) {
        const struct json *all = json_get(m->parts[i], "properties");
        if (all && !json_is_object(all))
            return schema_error(m->s, INVALID, "properties", "must be an object");
        if (!all)
            continue;
        if (!any) {
            key(m, "properties");
            text(m, "{");
        }
        any = true;
        for (const struct json *p = json_first(all); p; p = json_next(p))
            if (automaton_work(m->s->a, steps) && !named_before(m, i, json_key(p)))
                merge_property(m, json_key(p));
    }
    text(m, any ? "}" : "");
    return OK;
}

static bool required_before(const struct merge *m, size_t part, const struct json *name)
{
    for (size_t i = 0; i < part; i++) {
        const struct json *list = json_get(m->parts[i], "required");
        for (const struct json *n = list ? json_first(list) : NULL; n; n = json_next(n))
            if (schema_equal(m->s, n, name))
                return true;
    }
    return false;
}

static enum status merge_required(struct merge *m)
{
    bool any = false;
    for (size_t i = 0; i < m->count; i++) {
        const struct json *list = json_get(m->parts[i], "required");
        if (list && !json_is_array(list))
            return schema_error(m->s, INVALID, "required", "must be a list of names");
        if (!list)
            continue;
        if (!any) {
            key(m, "required");
            text(m, "[");
        }
        any = true;
        for (const struct json *n = json_first(list); n; n = json_next(n))
            if (automaton_work(m->s->a, 20 * m->count) && !required_before(m, i, n))
                value(m, n);
    }
    text(m, any ? "]" : "");
    return OK;
}

/* Closed where a part is, be it only by naming properties; else what the parts say of others. */
static void merge_others(struct merge *m)
{
    struct together others = {.count = 0};
    bool closed = false, open = false;
    for (size_t i = 0; i < m->count; i++) {
        const struct json *more = json_get(m->parts[i], "additionalProperties");
        const struct json *own = json_get(m->parts[i], "properties");
        if (is_false(more)) {
            key(m, "additionalProperties");
            value(m, more);
            return;
        }
        closed |= !more && own && json_count(own) > 0;
        open |= json_is_bool(more);
        if (more && !json_is_bool(more))
            add(m->s, &others, more);
    }
    if (closed || (!others.count && !open))
        return;
    key(m, "additionalProperties");
    text(m, others.count ? "" : "true");
    put_together(m, &others);
}

static enum status write_merged(struct merge *m)
{
    text(m, "{");
    enum status st = merge_types(m);
    if (st == OK)
        st = merge_values(m);
    if (st == OK)
        st = merge_scalars(m);
    if (st == OK)
        st = merge_items(m);
    if (st == OK)
        st = merge_properties(m);
    if (st == OK)
        st = merge_required(m);
    if (st == OK)
        merge_others(m);
    text(m, "}");
    if (st == OK && m->s->a->status != OK)
        st = schema_full(m->s);
    if (st != OK || m->status == OK)
        return st;
    return m->status == NOMEM ? error_set(m->s->err, NOMEM, "out of memory")
                              : schema_error(m->s, LIMITED, "allOf", "too large");
}

enum status schema_all_of(struct schema *s, const struct json *v, const struct json *outer,
                          struct call *out)
{
    struct merge m = {.s = s, .outer = outer};
    buf_init(&m.out, TEXT_MAX);
    enum status st = add_part(&m, v, 0);
    if (st == OK)
        st = write_merged(&m);
    size_t before = schema_enter(s, ".allOf");
    if (st == OK)
        st = schema_add_text(s, (const char *)buf_head(&m.out), buf_len(&m.out), out);
    schema_leave(s, before);
    buf_done(&m.out);
    return st;
}
