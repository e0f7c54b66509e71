#include <assert.h>
#include <math.h>

#include "worker/grammar/decimal.h"
#include "worker/grammar/schema.h"

/* As the npm validator ajv-formats takes them; times without leap seconds. */
#define DATE                                                                                       \
    "(\\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|"            \
    "02-(0[1-9]|1\\d|2[0-8]))|"                                                                    \
    "(\\d\\d(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)"
#define TIME "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,9})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)"

static const struct {
    const char *name, *pattern;
} formats[] = {
    {"date", "^" DATE "$"},
    {"time", "^" TIME "$"},
    {"date-time", "^" DATE "T" TIME "$"},
    {"uuid", "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"},
    {"email", "^[A-Za-z0-9_%+-]+(\\.[A-Za-z0-9_%+-]+)*@"
              "([A-Za-z0-9]+(-+[A-Za-z0-9]+)*\\.)+[A-Za-z]{2,12}$"},
    {"ipv4",
     "^((25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)\\.){3}(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)$"},
};

static const char *format_pattern(const char *name)
{
    for (size_t i = 0; name && i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i].name, name) == 0)
            return formats[i].pattern;
    return NULL;
}

/* The pattern, or that of the format; *keyword says which. NULL: neither. */
static enum status pattern_of(struct schema *s, const struct json *v, const char **pattern,
                              const char **keyword)
{
    const struct json *own = json_get(v, "pattern");
    const char *format = format_pattern(json_string(json_get(v, "format")));
    if (own && !json_is_string(own))
        return schema_error(s, INVALID, "pattern", "must be a string");
    if (own && format)
        return schema_error(s, INVALID, "format", "not supported beside pattern");
    *pattern = own ? json_string(own) : format;
    *keyword = own ? "pattern" : "format";
    return OK;
}

static enum status lengths_of(struct schema *s, const struct json *v, struct call *out)
{
    *out = schema_call(RULE_STRING);
    enum status st = schema_count(s, v, "minLength", SCHEMA_LENGTH_MAX, &out->least);
    if (st == OK)
        st = schema_count(s, v, "maxLength", SCHEMA_LENGTH_MAX, &out->most);
    if (st == OK && out->least > out->most)
        st = schema_error(s, INVALID, "minLength", "is more than maxLength");
    return st;
}

static enum status compile_pattern(struct schema *s, const char *pattern, const char *keyword,
                                   struct dfa *d)
{
    struct error err;
    enum status st = regex_compile(pattern, s->a, d, &err);
    return st == OK ? OK : schema_error(s, st, keyword, "%s", err.text);
}

enum status schema_string(struct schema *s, const struct json *v, struct call *out)
{
    const char *pattern, *keyword;
    struct call call;
    enum status st = lengths_of(s, v, &call);
    if (st == OK)
        st = pattern_of(s, v, &pattern, &keyword);
    if (st != OK || !pattern) {
        *out = call;
        return st;
    }
    struct dfa d = {0};
    bool counted = false;
    st = compile_pattern(s, pattern, keyword, &d);
    if (st == OK) {
        st = dfa_bound(&d, call.least, call.most, s->a, &counted);
        if (st == INVALID)
            schema_error(s, st, keyword, "no text of the length asked for matches it");
        else if (st != OK)
            schema_error(s, st, keyword, "too complex with these lengths");
    }
    if (st == OK) {
        call.rule = dfa_rule(&d, s->a, s->place);
        if (!counted) {
            call.least = 0;
            call.most = UINT32_MAX;
        }
        *out = call;
    }
    dfa_done(&d);
    return st;
}

static enum status read_bound(struct schema *s, const struct json *v, const char *keyword,
                              double *out)
{
    const struct json *number = json_get(v, keyword);
    if (number && !json_is_number(number))
        return schema_error(s, INVALID, keyword, "must be a number");
    if (number)
        *out = json_number(number);
    return OK;
}

static enum status read_range(struct schema *s, const struct json *v, struct decimal_range *out)
{
    double above = -INFINITY, below = INFINITY;
    *out = (struct decimal_range){.low = -INFINITY, .high = INFINITY};
    enum status st = read_bound(s, v, "minimum", &out->low);
    if (st == OK)
        st = read_bound(s, v, "maximum", &out->high);
    if (st == OK)
        st = read_bound(s, v, "exclusiveMinimum", &above);
    if (st == OK)
        st = read_bound(s, v, "exclusiveMaximum", &below);
    if (above >= out->low) {
        out->low = above;
        out->above = isfinite(above);
    }
    if (below <= out->high) {
        out->high = below;
        out->below = isfinite(below);
    }
    return st;
}

enum status schema_number(struct schema *s, const struct json *v, bool integer, struct call *out)
{
    struct decimal_range range;
    enum status st = read_range(s, v, &range);
    if (st != OK)
        return st;
    *out = schema_call(integer ? RULE_INTEGER : RULE_NUMBER);
    if (!isfinite(range.low) && !isfinite(range.high))
        return OK;
    const char *keyword = !isfinite(range.low) ? range.below ? "exclusiveMaximum" : "maximum"
                          : range.above        ? "exclusiveMinimum"
                                               : "minimum";
    range.integer = integer;
    out->rule = decimal_rule(s->a, range, s->place);
    if (s->a->status != OK)
        return schema_full(s);
    if (out->rule == GRAMMAR_NONE)
        return schema_error(s, INVALID, keyword, "no %s is within the bounds",
                            integer ? "integer" : "number of at most 15 digits");
    return OK;
}

static enum status write_all(struct buf *out, const struct json *v, char open, char close)
{
    enum status st = buf_addf(out, "%c", open);
    for (const struct json *k = json_first(v); k && st == OK; k = json_next(k)) {
        if (k != json_first(v))
            st = buf_adds(out, ",");
        if (st == OK && open == '{')
            st = schema_write_string(out, json_key(k));
        if (st == OK && open == '{')
            st = buf_adds(out, ":");
        if (st == OK)
            st = schema_write(out, k);
    }
    return st == OK ? buf_addf(out, "%c", close) : st;
}

enum status schema_write_string(struct buf *out, const char *text)
{
    static const char escapes[] = "btn.fr"; /* from \b on; \v has none */
    enum status st = buf_adds(out, "\"");
    for (const char *c = text; *c && st == OK; c++) {
        uint8_t byte = (uint8_t)*c;
        if (byte == '"' || byte == '\\')
            st = buf_addf(out, "\\%c", byte);
        else if (byte >= 8 && byte <= 13 && byte != 11)
            st = buf_addf(out, "\\%c", escapes[byte - 8]);
        else if (byte < 0x20)
            st = buf_addf(out, "\\u%04x", byte);
        else
            st = buf_add(out, c, 1);
    }
    return st == OK ? buf_adds(out, "\"") : st;
}

enum status schema_write(struct buf *out, const struct json *v)
{
    char number[DECIMAL_MAX];
    if (json_is_object(v))
        return write_all(out, v, '{', '}');
    if (json_is_array(v))
        return write_all(out, v, '[', ']');
    if (json_is_string(v))
        return schema_write_string(out, json_string(v));
    if (json_is_null(v))
        return buf_adds(out, "null");
    if (json_is_bool(v))
        return buf_adds(out, json_bool(v) ? "true" : "false");
    decimal_text(json_number(v), number);
    return buf_adds(out, number);
}

bool schema_literal_is(const struct json *v, int types)
{
    double n = json_is_number(v) ? json_number(v) : NAN;
    return !types || (types & TYPE_STRING && json_is_string(v)) ||
           (types & TYPE_NUMBER && json_is_number(v)) || (types & TYPE_INTEGER && n == floor(n)) ||
           (types & TYPE_BOOLEAN && json_is_bool(v)) || (types & TYPE_NULL && json_is_null(v)) ||
           (types & TYPE_OBJECT && json_is_object(v)) || (types & TYPE_ARRAY && json_is_array(v));
}

struct literal_rules { /* what else the schema asks of its literals */
    struct call lengths;
    struct decimal_range range;
    struct dfa pattern;
    bool has_pattern;
};

static bool literal_fits(const struct literal_rules *r, const struct json *v)
{
    if (json_is_string(v)) {
        uint32_t length = 0;
        size_t len;
        for (const char *c = json_string(v); *c; c += len, length++)
            dfa_decode(c, &len);
        return length >= r->lengths.least && length <= r->lengths.most &&
               (!r->has_pattern || dfa_matches(&r->pattern, json_string(v)));
    }
    if (!json_is_number(v))
        return true;
    double n = json_number(v);
    return n >= r->range.low && n <= r->range.high && !(r->range.above && n == r->range.low) &&
           !(r->range.below && n == r->range.high);
}

static enum status read_rules(struct schema *s, const struct json *v, struct literal_rules *r)
{
    static const char *const no_sibling[] = {"properties", "required", "additionalProperties",
                                             "items",      "minItems", "maxItems",
                                             "prefixItems"};
    for (size_t i = 0; i < sizeof no_sibling / sizeof *no_sibling; i++)
        if (json_get(v, no_sibling[i]))
            return schema_error(s, INVALID, no_sibling[i], "not supported beside enum or const");
    if (json_get(v, "enum") && json_get(v, "const"))
        return schema_error(s, INVALID, "const", "not supported beside enum");
    const char *pattern, *keyword;
    enum status st = lengths_of(s, v, &r->lengths);
    if (st == OK)
        st = read_range(s, v, &r->range);
    if (st == OK)
        st = pattern_of(s, v, &pattern, &keyword);
    if (st == OK && pattern) {
        st = compile_pattern(s, pattern, keyword, &r->pattern);
        r->has_pattern = st == OK;
    }
    return st;
}

static enum status add_literal(struct schema *s, const struct json *v, uint32_t start)
{
    struct buf text;
    buf_init(&text, 1 << 20);
    enum status st = schema_write(&text, v);
    if (st == OK) {
        automaton_work(s->a, buf_len(&text) * 4);
        uint32_t end = automaton_branch(s->a, start, (char *)buf_head(&text), buf_len(&text));
        automaton_flag(s->a, end, NODE_ACCEPT);
    }
    buf_done(&text);
    return st == OK ? OK : error_set(s->err, st, "out of memory");
}

enum status schema_literals(struct schema *s, const struct json *v, int types, struct call *out)
{
    const struct json *list = json_get(v, "enum"), *one = json_get(v, "const");
    const char *keyword = list ? "enum" : "const";
    struct literal_rules rules = {0};
    if (list && (!json_is_array(list) || json_count(list) == 0))
        return schema_error(s, INVALID, "enum", "must be a list of values, not empty");
    if (list && json_count(list) > SCHEMA_CHOICES_MAX)
        return schema_error(s, LIMITED, "enum", "more than %d values", SCHEMA_CHOICES_MAX);
    enum status st = read_rules(s, v, &rules);
    uint32_t rule = st == OK ? automaton_rule(s->a, s->place) : 0;
    uint32_t start = st == OK ? automaton_start(s->a, rule) : 0;
    bool any = false;
    for (const struct json *k = list ? json_first(list) : one; k && st == OK;
         k = list ? json_next(k) : NULL) {
        if (!schema_literal_is(k, types) || !literal_fits(&rules, k))
            continue;
        any = true;
        st = add_literal(s, k, start);
    }
    dfa_done(&rules.pattern);
    if (st == OK && s->a->status != OK)
        st = schema_full(s);
    if (st == OK && !any)
        st = schema_error(s, INVALID, keyword, "no value fits the rest of the schema");
    *out = schema_call(rule);
    return st;
}
