#include "worker/grammar/schema.h"

#include <assert.h>
#include <stdarg.h>

size_t schema_enter(struct schema *s, const char *format, ...)
{
    size_t before = s->place_len;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(s->place + before, sizeof s->place - before, format, args);
    va_end(args);
    size_t room = sizeof s->place - 1 - before;
    s->place_len = before + (n < 0 ? 0 : (size_t)n < room ? (size_t)n : room);
    return before;
}

void schema_leave(struct schema *s, size_t before)
{
    s->place_len = before;
    s->place[before] = 0;
}

enum status schema_error(struct schema *s, enum status st, const char *keyword, const char *format,
                         ...)
{
    char what[200];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return error_set(s->err, st, "%s%s%s: %s", s->place, keyword ? "." : "", keyword ? keyword : "",
                     what);
}

enum status schema_full(struct schema *s)
{
    if (s->a->status == NOMEM)
        return error_set(s->err, NOMEM, "out of memory");
    return schema_error(s, s->a->status, NULL, "the schema is too large or too complex");
}

enum status schema_count(struct schema *s, const struct json *v, const char *keyword, uint32_t most,
                         uint32_t *out)
{
    const struct json *number = json_get(v, keyword);
    int64_t n;
    if (!number)
        return OK;
    if (!json_int(number, 0, INT64_MAX, &n))
        return schema_error(s, INVALID, keyword, "must be a whole number, 0 or more");
    if (n > most)
        return schema_error(s, LIMITED, keyword, "at most %u is supported", most);
    *out = (uint32_t)n;
    return OK;
}

static const char *const used[] = {"type",
                                   "enum",
                                   "const",
                                   "anyOf",
                                   "oneOf",
                                   "allOf",
                                   "$ref",
                                   "$defs",
                                   "properties",
                                   "required",
                                   "items",
                                   "prefixItems",
                                   "additionalProperties",
                                   "definitions",
                                   "minItems",
                                   "maxItems",
                                   "pattern",
                                   "format",
                                   "minLength",
                                   "maxLength",
                                   "minimum",
                                   "maximum",
                                   "exclusiveMinimum",
                                   "exclusiveMaximum",
                                   NULL};
static const char *const annotations[] = {"title",
                                          "description",
                                          "default",
                                          "examples",
                                          "example",
                                          "$schema",
                                          "$id",
                                          "$comment",
                                          "readOnly",
                                          "writeOnly",
                                          "deprecated",
                                          "contentEncoding",
                                          "contentMediaType",
                                          "$anchor",
                                          "nullable",
                                          "discriminator", /* the branches say it themselves */
                                          NULL};
static const char *const unsupported[] = {"multipleOf",
                                          "not",
                                          "if",
                                          "then",
                                          "else",
                                          "contains",
                                          "minContains",
                                          "maxContains",
                                          "uniqueItems",
                                          "additionalItems",
                                          "patternProperties",
                                          "propertyNames",
                                          "minProperties",
                                          "maxProperties",
                                          "dependencies",
                                          "dependentRequired",
                                          "dependentSchemas",
                                          "unevaluatedProperties",
                                          "unevaluatedItems",
                                          "$dynamicRef",
                                          "$recursiveRef",
                                          "contentSchema",
                                          NULL};

static bool listed(const char *const *list, const char *word)
{
    for (; *list; list++)
        if (strcmp(*list, word) == 0)
            return true;
    return false;
}

enum status schema_check_keywords(struct schema *s, const struct json *v)
{
    for (const struct json *k = json_first(v); k; k = json_next(k)) {
        const char *key = json_key(k);
        if (listed(used, key) || listed(annotations, key))
            continue;
        bool harmless = json_is_bool(k) && !json_bool(k) && strcmp(key, "uniqueItems") == 0;
        if (listed(unsupported, key) && !harmless)
            return schema_error(s, INVALID, key, "not supported");
        if (s->strict && !harmless)
            return schema_error(s, INVALID, key, "unknown keyword");
    }
    return OK;
}

/* A keyword beside `keyword` that is no annotation, no definition and not `also`; NULL: none. */
static const char *sibling(const struct json *v, const char *keyword, const char *also)
{
    for (const struct json *k = json_first(v); k; k = json_next(k)) {
        const char *key = json_key(k);
        if (strcmp(key, keyword) != 0 && !(also && strcmp(key, also) == 0) && listed(used, key) &&
            strcmp(key, "$defs") != 0 && strcmp(key, "definitions") != 0)
            return key;
    }
    return NULL;
}

static enum status check_alone(struct schema *s, const struct json *v, const char *keyword,
                               const char *also)
{
    const char *other = sibling(v, keyword, also);
    return other ? schema_error(s, INVALID, other, "not supported beside %s", keyword) : OK;
}

static int type_of(const char *name)
{
    static const char *const names[] = {"string", "number", "integer", "boolean",
                                        "null",   "object", "array"};
    for (int i = 0; name && i < 7; i++)
        if (strcmp(names[i], name) == 0)
            return 1 << i;
    return 0;
}

bool schema_read_types(const struct json *type, int *out)
{
    int types = 0, one = 0;
    if (!json_is_array(type))
        types = one = type_of(json_string(type));
    for (const struct json *t = json_is_array(type) ? json_first(type) : NULL; t;
         t = json_next(t)) {
        one = type_of(json_string(t));
        if (!one)
            return false;
        types |= one;
    }
    if (types)
        *out = types;
    return types != 0;
}

static enum status read_types(struct schema *s, const struct json *type, int *out)
{
    return schema_read_types(type, out)
               ? OK
               : schema_error(s, INVALID, "type", "must be a type's name, or a list of them");
}

int schema_common_types(int a, int b)
{
    int both = a & b;
    if (a & TYPE_NUMBER)
        both |= b & TYPE_INTEGER;
    if (b & TYPE_NUMBER)
        both |= a & TYPE_INTEGER;
    return both;
}

int schema_implied_types(const struct json *v)
{
    static const struct {
        const char *keyword;
        int type;
    } implied[] = {
        {"properties", TYPE_OBJECT},
        {"required", TYPE_OBJECT},
        {"additionalProperties", TYPE_OBJECT},
        {"items", TYPE_ARRAY},
        {"prefixItems", TYPE_ARRAY},
        {"minItems", TYPE_ARRAY},
        {"maxItems", TYPE_ARRAY},
        {"pattern", TYPE_STRING},
        {"format", TYPE_STRING},
        {"minLength", TYPE_STRING},
        {"maxLength", TYPE_STRING},
        {"minimum", TYPE_NUMBER},
        {"maximum", TYPE_NUMBER},
        {"exclusiveMinimum", TYPE_NUMBER},
        {"exclusiveMaximum", TYPE_NUMBER},
    };
    int types = 0;
    for (size_t i = 0; i < sizeof implied / sizeof *implied; i++)
        if (json_get(v, implied[i].keyword))
            types |= implied[i].type;
    return types;
}

static enum status types_of(struct schema *s, const struct json *v, const struct json *outer,
                            int *out)
{
    const struct json *own = json_get(v, "type");
    int types = 0, around = 0;
    enum status st = own ? read_types(s, own, &types) : OK;
    if (st == OK && outer)
        st = read_types(s, outer, &around);
    if (st != OK)
        return st;
    if (own && around) {
        int both = schema_common_types(types, around);
        if (!both)
            return schema_error(s, INVALID, "type", "contradicts the type around it");
        types = both;
    }
    if (!own)
        types = around ? around : schema_implied_types(v);
    if (types & TYPE_NUMBER)
        types &= ~TYPE_INTEGER;
    *out = types;
    return OK;
}

/* A rule that calls one of several. */
static struct call choice(struct schema *s, const struct call *calls, size_t count)
{
    if (count == 1)
        return calls[0];
    uint32_t rule = automaton_rule(s->a, s->place), end = automaton_node(s->a);
    automaton_flag(s->a, end, NODE_ACCEPT);
    for (size_t i = 0; i < count && s->a->status == OK; i++) {
        struct call c = calls[i];
        c.to = end;
        automaton_call_string(s->a, automaton_start(s->a, rule), c);
    }
    return schema_call(rule);
}

static enum status compile_types(struct schema *s, const struct json *v, int types,
                                 struct call *out)
{
    struct call calls[8];
    size_t count = 0;
    enum status st = OK;
    for (int type = 1; type <= TYPE_ARRAY && st == OK; type <<= 1) {
        struct call *c = &calls[count];
        if (!(types & type))
            continue;
        count++;
        if (type == TYPE_STRING)
            st = schema_string(s, v, c);
        else if (type == TYPE_NUMBER || type == TYPE_INTEGER)
            st = schema_number(s, v, type == TYPE_INTEGER, c);
        else if (type == TYPE_OBJECT)
            st = schema_object(s, v, c);
        else if (type == TYPE_ARRAY)
            st = schema_array(s, v, c);
        else
            *c = schema_call(type == TYPE_NULL ? RULE_NULL : RULE_BOOLEAN);
    }
    if (st == OK)
        *out = choice(s, calls, count);
    return st;
}

/* With oneOf, exactly one may hold: so it is when no two can, and then it is the same as anyOf. */
static enum status check_disjoint(struct schema *s, const struct json *list)
{
    int i = 0;
    for (const struct json *a = json_first(list); a; a = json_next(a), i++) {
        int k = i + 1;
        for (const struct json *b = json_next(a); b; b = json_next(b), k++)
            if (!schema_disjoint(s, a, b))
                return s->a->status != OK
                           ? schema_full(s)
                           : schema_error(s, INVALID, "oneOf",
                                          "schemas %d and %d may hold together: not supported", i,
                                          k);
    }
    return OK;
}

static enum status compile_branches(struct schema *s, const struct json *v, const char *keyword,
                                    const struct json *outer, struct call *out)
{
    const struct json *list = json_get(v, keyword), *type = json_get(v, "type");
    int count = json_count(list);
    bool all = strcmp(keyword, "allOf") == 0;
    if (!json_is_array(list) || count == 0)
        return schema_error(s, INVALID, keyword, "must be a list of schemas, not empty");
    if (all && s->strict && count > 1)
        return schema_error(s, INVALID, keyword,
                            "not supported with more than one schema in a strict schema");
    if (all && !s->strict && (count > 1 || sibling(v, keyword, "type")))
        return schema_all_of(s, v, outer, out);
    if (count > SCHEMA_BRANCHES_MAX)
        return schema_error(s, LIMITED, keyword, "more than %d schemas", SCHEMA_BRANCHES_MAX);
    if (type && outer)
        return schema_error(s, INVALID, "type", "not supported here and around it");
    enum status st = check_alone(s, v, keyword, "type");
    if (st == OK && strcmp(keyword, "oneOf") == 0)
        st = check_disjoint(s, list);
    struct call calls[SCHEMA_BRANCHES_MAX];
    int i = 0;
    for (const struct json *b = json_first(list); b && st == OK; b = json_next(b), i++) {
        size_t before = schema_enter(s, ".%s[%d]", keyword, i);
        st = schema_value(s, b, type ? type : outer, &calls[i]);
        schema_leave(s, before);
    }
    if (st == OK)
        *out = choice(s, calls, (size_t)count);
    return st;
}

/* One step of a JSON pointer, decoded. False: too long. */
static bool pointer_step(const char **at, char *out, size_t size)
{
    size_t n = 0;
    const char *c = *at;
    for (; *c && *c != '/'; c++) {
        char byte = *c;
        char hex[3] = {byte == '%' ? c[1] : 0, byte == '%' && c[1] ? c[2] : 0, 0};
        char *end;
        long value = strtol(hex, &end, 16);
        if (hex[0] && hex[1] && !*end && value > 0) {
            byte = (char)value;
            c += 2;
        }
        if (byte == '~' && (c[1] == '0' || c[1] == '1'))
            byte = *++c == '0' ? '~' : '/';
        if (n + 1 >= size)
            return false;
        out[n++] = byte;
    }
    out[n] = 0;
    *at = c;
    return true;
}

/* Follows "#/a/b" and appends ".a.b" to the place. NULL: it leads nowhere. */
static const struct json *resolve(struct schema *s, const char *ref)
{
    const struct json *at = s->root;
    if (*ref++ != '#')
        return NULL;
    while (at && *ref == '/') {
        char step[SCHEMA_PLACE_MAX];
        ref++;
        if (!pointer_step(&ref, step, sizeof step))
            return NULL;
        if (json_is_array(at)) {
            char *end;
            long i = strtol(step, &end, 10);
            if (!*step || *end || i < 0)
                return NULL;
            for (at = json_first(at); at && i > 0; i--)
                at = json_next(at);
            schema_enter(s, "[%s]", step);
        } else {
            at = json_get(at, step);
            schema_enter(s, ".%s", step);
        }
    }
    return *ref ? NULL : at;
}

static enum status add_ref(struct schema *s, const struct json *target, uint32_t *rule)
{
    for (uint32_t i = 0; i < s->ref_count; i++) {
        if (s->refs[i].value == target) {
            *rule = s->refs[i].rule;
            return OK;
        }
    }
    if (s->ref_count == SCHEMA_REFS_MAX)
        return schema_error(s, LIMITED, NULL, "more than %d schemas are referred to",
                            SCHEMA_REFS_MAX);
    struct schema_ref *r = &s->refs[s->ref_count++];
    r->value = target;
    r->rule = *rule = automaton_rule(s->a, s->place);
    memcpy(r->place, s->place, s->place_len + 1);
    return OK;
}

struct schema_text {
    struct schema_text *next;
    struct json *doc;
    uint32_t rule;
    size_t len;
    char text[];
};

enum status schema_add_text(struct schema *s, const char *text, size_t len, struct call *out)
{
    static const struct json_limits limits = {64, 50000, 1 << 24};
    for (const struct schema_text *t = s->texts; t; t = t->next)
        if (t->len == len && memcmp(t->text, text, len) == 0) {
            *out = schema_call(t->rule);
            return OK;
        }
    if (!automaton_work(s->a, len))
        return schema_full(s);
    struct schema_text *made = malloc(sizeof *made + len);
    if (!made)
        return error_set(s->err, NOMEM, "out of memory");
    enum status st = json_parse(text, len, &limits, &made->doc, s->err);
    if (st != OK) {
        free(made);
        return st == NOMEM ? st : schema_error(s, LIMITED, NULL, "too deep or too large");
    }
    memcpy(made->text, text, len);
    made->len = len;
    made->next = s->texts;
    s->texts = made;
    st = add_ref(s, made->doc, &made->rule);
    *out = schema_call(made->rule);
    return st;
}

static void texts_free(struct schema_text *t)
{
    while (t) {
        struct schema_text *next = t->next;
        json_free(t->doc);
        free(t);
        t = next;
    }
}

/* What a "$ref" points at; if asked, as a rule. */
static const struct json *follow(struct schema *s, const struct json *v, uint32_t *rule,
                                 enum status *st)
{
    const char *ref = json_string(json_get(v, "$ref"));
    char before[SCHEMA_PLACE_MAX];
    size_t len = s->place_len;
    memcpy(before, s->place, len + 1);
    schema_leave(s, s->place_root);
    const struct json *target = ref && *ref == '#' ? resolve(s, ref) : NULL;
    if (target && rule)
        *st = add_ref(s, target, rule);
    memcpy(s->place, before, len + 1);
    s->place_len = len;
    return target;
}

const struct json *schema_target(struct schema *s, const struct json *v)
{
    return follow(s, v, NULL, NULL);
}

enum status schema_check_ref(struct schema *s, const struct json *v)
{
    const char *ref = json_string(json_get(v, "$ref"));
    if (!ref || *ref != '#')
        return schema_error(s, INVALID, "$ref",
                            "must point into the schema itself, like #/$defs/x");
    enum status st = check_alone(s, v, "$ref", NULL);
    if (st == OK && !schema_target(s, v))
        return schema_error(s, INVALID, "$ref", "%.100s is not in the schema", ref);
    return st;
}

static enum status compile_ref(struct schema *s, const struct json *v, struct call *out)
{
    enum status st = schema_check_ref(s, v);
    uint32_t rule = 0;
    if (st == OK)
        follow(s, v, &rule, &st);
    *out = schema_call(rule);
    return st;
}

enum status schema_value(struct schema *s, const struct json *v, const struct json *outer,
                         struct call *out)
{
    static const char *const several[] = {"anyOf", "oneOf", "allOf"};
    if (s->a->status != OK)
        return schema_full(s);
    if (json_is_bool(v)) {
        *out = schema_call(RULE_VALUE);
        return json_bool(v) ? OK : schema_error(s, INVALID, NULL, "false allows no value");
    }
    if (!json_is_object(v))
        return schema_error(s, INVALID, NULL, "must be a schema: an object, true or false");
    enum status st = schema_check_keywords(s, v);
    if (st != OK)
        return st;
    if (json_get(v, "$ref"))
        return compile_ref(s, v, out);
    for (int i = 0; i < 3; i++)
        if (json_get(v, several[i]))
            return compile_branches(s, v, several[i], outer, out);
    int types = 0;
    st = types_of(s, v, outer, &types);
    if (st != OK)
        return st;
    if (json_get(v, "enum") || json_get(v, "const"))
        return schema_literals(s, v, types, out);
    if (types)
        return compile_types(s, v, types, out);
    *out = schema_call(RULE_VALUE);
    return OK;
}

static enum status compile_refs(struct schema *s)
{
    for (uint32_t i = 0; i < s->ref_count; i++) {
        size_t len = strlen(s->refs[i].place);
        memcpy(s->place, s->refs[i].place, len + 1);
        s->place_len = len;
        struct call c;
        enum status st = schema_value(s, s->refs[i].value, NULL, &c);
        if (st != OK)
            return st;
        if (s->a->status != OK)
            return schema_full(s);
        c.to = automaton_node(s->a);
        automaton_flag(s->a, c.to, NODE_ACCEPT);
        automaton_call_string(s->a, automaton_start(s->a, s->refs[i].rule), c);
    }
    return OK;
}

enum status schema_compile(struct automaton *a, const struct schema_source *source, uint32_t *rule,
                           struct error *err)
{
    static const struct json_limits limits = {64, 50000, 1 << 24};
    struct json *root;
    enum status st = json_parse(source->text, source->len, &limits, &root, err);
    if (st != OK) {
        error_prefix(err, "%s", source->place);
        return st;
    }
    struct schema s = {.a = a, .root = root, .strict = source->strict, .err = err};
    s.refs = malloc(SCHEMA_REFS_MAX * sizeof *s.refs);
    schema_enter(&s, "%s", source->place);
    s.place_root = s.place_len;
    st = s.refs ? add_ref(&s, root, rule) : error_set(err, NOMEM, "out of memory");
    if (st == OK)
        st = compile_refs(&s);
    free(s.refs);
    texts_free(s.texts);
    json_free(root);
    return st;
}
