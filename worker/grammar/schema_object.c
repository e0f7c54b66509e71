#include <assert.h>

#include "worker/grammar/schema.h"

struct property {
    const char *name;
    const struct json *value; /* NULL: any value */
    bool required;
};

struct object {
    struct property *properties;
    size_t count;
    bool open;                 /* others may follow */
    const struct json *others; /* NULL: any value */
};

static int by_name(const void *x, const void *y)
{
    return strcmp(*(const char *const *)x, *(const char *const *)y);
}

/* The names in "required", sorted. */
static enum status read_required(struct schema *s, const struct json *v, const char ***names,
                                 size_t *count)
{
    const struct json *list = json_get(v, "required");
    *count = 0;
    *names = malloc((list ? (size_t)json_count(list) + 1 : 1) * sizeof **names);
    if (!*names)
        return error_set(s->err, NOMEM, "out of memory");
    if (list && !json_is_array(list))
        return schema_error(s, INVALID, "required", "must be a list of names");
    for (const struct json *n = json_first(list); list && n; n = json_next(n)) {
        if (!json_is_string(n))
            return schema_error(s, INVALID, "required", "must be a list of names");
        (*names)[(*count)++] = json_string(n);
    }
    qsort(*names, *count, sizeof **names, by_name);
    for (size_t i = 1; i < *count; i++)
        if (strcmp((*names)[i - 1], (*names)[i]) == 0)
            return schema_error(s, INVALID, "required", "names %.60s twice", (*names)[i]);
    return OK;
}

static bool is_among(const char *const *names, size_t count, const char *name)
{
    return bsearch(&name, names, count, sizeof *names, by_name) != NULL;
}

static enum status read_open(struct schema *s, const struct json *v, struct object *o)
{
    const struct json *more = json_get(v, "additionalProperties");
    const struct json *properties = json_get(v, "properties");
    bool closed = json_is_bool(more) && !json_bool(more);
    if (s->strict && !closed)
        return schema_error(s, INVALID, "additionalProperties", "must be false in a strict schema");
    if (!more)
        o->open = !properties || json_count(properties) == 0;
    else if (json_is_object(more))
        o->others = more;
    else if (!json_is_bool(more))
        return schema_error(s, INVALID, "additionalProperties", "must be true, false or a schema");
    o->open |= more && !closed;
    return OK;
}

static enum status add_property(struct schema *s, struct object *o, struct property p)
{
    if (o->count == SCHEMA_PROPERTIES_MAX)
        return schema_error(s, LIMITED, "properties", "more than %d", SCHEMA_PROPERTIES_MAX);
    o->properties[o->count++] = p;
    return OK;
}

/* Required names that "properties" does not have: values as additionalProperties says. */
static enum status add_unnamed(struct schema *s, const struct json *v, struct object *o,
                               const char *const *required, size_t count)
{
    const struct json *properties = json_get(v, "properties");
    enum status st = OK;
    for (size_t i = 0; i < count && st == OK; i++) {
        if (properties && json_get(properties, required[i]))
            continue;
        if (json_get(v, "additionalProperties") && !o->open)
            return schema_error(s, INVALID, "required", "%.60s is not among the properties",
                                required[i]);
        st = add_property(s, o, (struct property){required[i], o->others, true});
    }
    return st;
}

static enum status read_properties(struct schema *s, const struct json *v, struct object *o)
{
    const struct json *properties = json_get(v, "properties");
    const char **required = NULL;
    size_t count = 0, optional = 0;
    enum status st = read_required(s, v, &required, &count);
    if (st == OK && properties && !json_is_object(properties))
        st = schema_error(s, INVALID, "properties", "must be an object");
    const struct json *p = st == OK && properties ? json_first(properties) : NULL;
    for (; p && st == OK; p = json_next(p)) {
        bool must = is_among(required, count, json_key(p));
        optional += !must;
        if (!must && s->strict)
            st = schema_error(s, INVALID, "required", "must name %.60s: the schema is strict",
                              json_key(p));
        else
            st = add_property(s, o, (struct property){json_key(p), p, must});
    }
    if (st == OK && optional > SCHEMA_OPTIONAL_MAX)
        st = schema_error(s, LIMITED, "properties", "more than %d that are not required",
                          SCHEMA_OPTIONAL_MAX);
    if (st == OK)
        st = add_unnamed(s, v, o, required, count);
    free(required);
    return st;
}

/* Adds a state for each prefix of the names, and one for every text that is none. */
static enum status excluding_dfa(const struct object *o, struct dfa *d)
{
    uint32_t bounds[512], count = 0;
    size_t len;
    for (size_t i = 0; i < o->count; i++)
        for (const char *c = o->properties[i].name; *c && count + 2 <= 512; c += len) {
            uint32_t cp = dfa_decode(c, &len), at = 0;
            while (at < count && bounds[at] != cp)
                at += 2;
            if (at < count)
                continue;
            bounds[count++] = cp;
            bounds[count++] = cp + 1;
        }
    if (count + 2 > 512)
        return LIMITED;
    if (!dfa_init(d, bounds, count) || dfa_add(d) == DFA_DEAD || dfa_add(d) == DFA_DEAD)
        return NOMEM;
    for (uint32_t s = 0; s < 2; s++) { /* 0: the start, 1: any other text */
        d->accept[s] = true;
        for (uint32_t c = 0; c < d->class_count; c++)
            if (!dfa_never(d, c))
                d->next[s * d->class_count + c] = 1;
    }
    return OK;
}

static enum status exclude(struct dfa *d, const char *name)
{
    uint32_t at = 0;
    size_t len;
    for (const char *c = name; *c; c += len) {
        size_t way = (size_t)at * d->class_count + dfa_class(d, dfa_decode(c, &len));
        if (d->next[way] == 1) {
            if (dfa_full(d))
                return LIMITED;
            uint32_t added = dfa_add(d);
            if (added == DFA_DEAD)
                return NOMEM;
            for (uint32_t k = 0; k < d->class_count; k++)
                if (!dfa_never(d, k))
                    d->next[(size_t)added * d->class_count + k] = 1;
            d->accept[added] = true;
            d->next[way] = added;
        }
        at = d->next[way];
    }
    d->accept[at] = false;
    return OK;
}

/* Strings that are no property's name. */
static enum status other_keys(struct schema *s, const struct object *o, uint32_t *rule)
{
    *rule = RULE_STRING;
    if (o->count == 0)
        return OK;
    struct dfa d = {0};
    enum status st = excluding_dfa(o, &d);
    for (size_t i = 0; i < o->count && st == OK; i++)
        st = exclude(&d, o->properties[i].name);
    if (st == OK)
        *rule = dfa_rule(&d, s->a, s->place);
    dfa_done(&d);
    return st == OK ? OK
                    : schema_error(s, st, "additionalProperties", "too many names to leave out");
}

static enum status member(struct schema *s, const struct json *value, uint32_t key_end, uint32_t to)
{
    uint32_t colon = automaton_node(s->a);
    automaton_edge(s->a, key_end, ':', ':', colon);
    struct call c = schema_call(RULE_VALUE);
    enum status st = value ? schema_value(s, value, NULL, &c) : OK;
    if (st != OK)
        return st;
    c.to = to;
    automaton_call_string(s->a, core_after_colon(s->a, colon), c);
    return OK;
}

struct chain { /* nodes before property i: first[i] with none before it, next[i] behind a comma */
    uint32_t *first, *next, *after, *key;
};

static enum status property_member(struct schema *s, const struct property *p, uint32_t key,
                                   uint32_t after)
{
    struct buf name;
    buf_init(&name, 1 << 20);
    enum status st = schema_write_string(&name, p->name);
    uint32_t end =
        st == OK ? automaton_text(s->a, key, (char *)buf_head(&name), buf_len(&name)) : 0;
    buf_done(&name);
    if (st != OK)
        return error_set(s->err, st, "out of memory");
    size_t before = schema_enter(s, ".properties.%s", p->name);
    st = member(s, p->value, end, after);
    schema_leave(s, before);
    return st;
}

static enum status other_member(struct schema *s, const struct object *o, uint32_t key,
                                uint32_t after)
{
    uint32_t rule, end = automaton_node(s->a);
    enum status st = other_keys(s, o, &rule);
    if (st != OK)
        return st;
    automaton_call(s->a, key, rule, end);
    size_t before = schema_enter(s, ".additionalProperties");
    st = member(s, o->others, end, after);
    schema_leave(s, before);
    return st;
}

/* What may come at each point: the properties that can be left out may be passed over. */
static void link_chain(struct schema *s, const struct object *o, const struct chain *c,
                       uint32_t closing)
{
    size_t must = o->count; /* behind the last property that is required */
    while (must > 0 && !o->properties[must - 1].required)
        must--;
    for (size_t i = 0; i <= o->count; i++) {
        bool more = i < o->count || o->open;
        if (more) {
            automaton_jump(s->a, c->first[i], c->key[i]);
            automaton_jump(s->a, c->next[i], c->key[i]);
            uint32_t comma = automaton_node(s->a);
            automaton_edge(s->a, c->after[i], ',', ',', comma);
            automaton_call(s->a, comma, RULE_GAP, c->next[i]);
        }
        if (i < o->count && !o->properties[i].required) {
            automaton_jump(s->a, c->first[i], c->first[i + 1]);
            automaton_jump(s->a, c->next[i], c->next[i + 1]);
        }
        if (i >= must)
            automaton_call(s->a, c->after[i], RULE_GAP, closing);
    }
}

static enum status build_object(struct schema *s, const struct object *o, uint32_t rule,
                                const struct chain *c)
{
    struct automaton *a = s->a;
    uint32_t opened = automaton_node(a), closing = automaton_node(a), end = automaton_node(a);
    for (size_t i = 0; i <= o->count; i++) {
        c->first[i] = automaton_node(a);
        c->next[i] = automaton_node(a);
        c->after[i] = automaton_node(a);
        c->key[i] = automaton_node(a);
    }
    if (a->status != OK)
        return schema_full(s);
    automaton_flag(a, end, NODE_ACCEPT);
    automaton_edge(a, automaton_start(a, rule), '{', '{', opened);
    automaton_call(a, opened, RULE_GAP, c->first[0]);
    automaton_edge(a, c->first[o->count], '}', '}', end);
    automaton_edge(a, closing, '}', '}', end);
    link_chain(s, o, c, closing);
    enum status st = OK;
    for (size_t i = 0; i < o->count && st == OK; i++)
        st = property_member(s, &o->properties[i], c->key[i], c->after[i + 1]);
    if (o->open && st == OK)
        st = other_member(s, o, c->key[o->count], c->after[o->count]);
    return st;
}

enum status schema_object(struct schema *s, const struct json *v, struct call *out)
{
    struct object o = {0};
    int listed = json_get(v, "properties") ? json_count(json_get(v, "properties")) : 0;
    int named = json_get(v, "required") ? json_count(json_get(v, "required")) : 0;
    o.properties = malloc(((size_t)listed + (size_t)named + 1) * sizeof *o.properties);
    uint32_t *nodes = NULL;
    enum status st = o.properties ? OK : error_set(s->err, NOMEM, "out of memory");
    if (st == OK)
        st = read_open(s, v, &o);
    if (st == OK)
        st = read_properties(s, v, &o);
    if (st == OK) {
        size_t n = o.count + 1;
        nodes = malloc(4 * n * sizeof *nodes);
        uint32_t rule = automaton_rule(s->a, s->place);
        struct chain c = {nodes, nodes + n, nodes + 2 * n, nodes + 3 * n};
        st = s->a->status != OK ? schema_full(s)
             : nodes            ? build_object(s, &o, rule, &c)
                                : error_set(s->err, NOMEM, "out of memory");
        *out = schema_call(rule);
    }
    free(nodes);
    free(o.properties);
    return st;
}

struct array {
    struct call *prefix; /* of the first items */
    uint32_t prefixed;
    struct call item; /* of the others */
    uint32_t least, most;
};

/* Items one after the other: as many groups of nodes as the prefix, minItems or maxItems make
 * different. */
static enum status build_array(struct schema *s, uint32_t rule, const struct array *array)
{
    struct automaton *a = s->a;
    uint32_t opened = automaton_node(a), first = automaton_node(a), closing = automaton_node(a);
    uint32_t end = automaton_node(a), before = first;
    uint32_t least = array->least, most = array->most;
    automaton_flag(a, end, NODE_ACCEPT);
    automaton_edge(a, automaton_start(a, rule), '[', '[', opened);
    automaton_call(a, opened, RULE_GAP, first);
    automaton_edge(a, closing, ']', ']', end);
    if (least == 0)
        automaton_edge(a, first, ']', ']', end);
    uint32_t enough = array->prefixed + 1 > least ? array->prefixed + 1 : least;
    uint32_t groups = most != UINT32_MAX ? most : enough;
    for (uint32_t i = 1; i <= groups && a->status == OK; i++) {
        uint32_t after = automaton_node(a);
        struct call item = i <= array->prefixed ? array->prefix[i - 1] : array->item;
        item.to = after;
        automaton_call_string(a, before, item);
        if (i >= least)
            automaton_call(a, after, RULE_GAP, closing);
        bool last = i == groups;
        if (last && most != UINT32_MAX)
            break;
        uint32_t comma = automaton_node(a);
        /* The last group without a maximum goes round. */
        uint32_t next = automaton_node(a);
        automaton_edge(a, after, ',', ',', comma);
        automaton_call(a, comma, RULE_GAP, next);
        before = next;
        if (last)
            automaton_call_string(a, next, item);
    }
    return a->status == OK ? OK : schema_full(s);
}

static bool is_false(const struct json *v)
{
    return json_is_bool(v) && !json_bool(v);
}

/* Where no item may come, the array ends before. */
static void end_before(struct array *a, uint32_t count)
{
    if (a->most > count)
        a->most = count;
}

static enum status read_prefix(struct schema *s, const struct json *list, struct array *a)
{
    if (!json_is_array(list) || json_count(list) == 0)
        return schema_error(s, INVALID, "prefixItems", "must be a list of schemas, not empty");
    if (json_count(list) > SCHEMA_ITEMS_MAX)
        return schema_error(s, LIMITED, "prefixItems", "more than %d schemas", SCHEMA_ITEMS_MAX);
    a->prefix = malloc((size_t)json_count(list) * sizeof *a->prefix);
    if (!a->prefix)
        return error_set(s->err, NOMEM, "out of memory");
    enum status st = OK;
    for (const struct json *v = json_first(list); v && st == OK && a->prefixed < a->most;
         v = json_next(v)) {
        if (is_false(v)) {
            end_before(a, a->prefixed);
            break;
        }
        size_t before = schema_enter(s, ".prefixItems[%u]", (unsigned)a->prefixed);
        st = schema_value(s, v, NULL, &a->prefix[a->prefixed++]);
        schema_leave(s, before);
    }
    return st;
}

static enum status read_items(struct schema *s, const struct json *v, struct array *a)
{
    const struct json *items = json_get(v, "items"), *prefix = json_get(v, "prefixItems");
    enum status st = prefix ? read_prefix(s, prefix, a) : OK;
    if (st != OK)
        return st;
    if (is_false(items)) {
        end_before(a, a->prefixed);
    } else if (items && a->most > a->prefixed) {
        size_t before = schema_enter(s, ".items");
        st = schema_value(s, items, NULL, &a->item);
        schema_leave(s, before);
    }
    if (st == OK && a->least > a->most)
        st = schema_error(s, INVALID, "minItems", "is more than there may be");
    return st;
}

enum status schema_array(struct schema *s, const struct json *v, struct call *out)
{
    struct array a = {.item = schema_call(RULE_VALUE), .most = UINT32_MAX};
    enum status st = schema_count(s, v, "minItems", SCHEMA_ITEMS_MAX, &a.least);
    if (st == OK)
        st = schema_count(s, v, "maxItems", SCHEMA_ITEMS_MAX, &a.most);
    if (st == OK && a.least > a.most)
        st = schema_error(s, INVALID, "minItems", "is more than maxItems");
    if (st == OK)
        st = read_items(s, v, &a);
    if (st == OK) {
        uint32_t rule = automaton_rule(s->a, s->place);
        *out = schema_call(rule);
        st = build_array(s, rule, &a);
    }
    free(a.prefix);
    return st;
}
