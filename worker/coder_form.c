#include "worker/coder_form.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

enum { REFERENCES_MAX = 16 /* one behind the other */ };

static const char *const definitions[] = {"$defs", "definitions"};

/* ---- what a schema allows ---- */

static uint32_t type_of_name(const char *name)
{
    static const struct {
        const char *name;
        uint32_t type;
    } names[] = {{"string", CODER_STRING}, {"number", CODER_NUMBER}, {"integer", CODER_NUMBER},
                 {"boolean", CODER_BOOL},  {"null", CODER_NULL},     {"object", CODER_OBJECT},
                 {"array", CODER_ARRAY}};
    for (size_t i = 0; name && i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i].name) == 0)
            return names[i].type;
    return 0;
}

static uint32_t type_of_value(const struct json *v)
{
    return json_is_string(v)   ? CODER_STRING
           : json_is_number(v) ? CODER_NUMBER
           : json_is_bool(v)   ? CODER_BOOL
           : json_is_null(v)   ? CODER_NULL
           : json_is_object(v) ? CODER_OBJECT
                               : CODER_ARRAY;
}

/* "#/$defs/NAME" */
static const struct json *referred(const struct json *root, const char *text)
{
    for (int i = 0; i < 2; i++) {
        size_t len = strlen(definitions[i]);
        if (strncmp(text, "#/", 2) == 0 && strncmp(text + 2, definitions[i], len) == 0 &&
            text[2 + len] == '/')
            return json_get(json_get(root, definitions[i]), text + 3 + len);
    }
    return NULL;
}

static uint32_t types_of(const struct json *root, const struct json *schema, int depth);

static uint32_t types_of_all(const struct json *root, const struct json *list, int depth)
{
    uint32_t types = 0;
    for (const struct json *v = json_first(list); v; v = json_next(v))
        types |= types_of(root, v, depth);
    return types;
}

static uint32_t types_of(const struct json *root, const struct json *schema, int depth)
{
    static const char *const choices[] = {"anyOf", "oneOf", "allOf"};
    const struct json *v;
    uint32_t types = 0;
    if (depth > REFERENCES_MAX || !json_is_object(schema))
        return CODER_ANY;
    if ((v = json_get(schema, "const")))
        return type_of_value(v);
    if (json_is_array(v = json_get(schema, "enum"))) {
        for (v = json_first(v); v; v = json_next(v))
            types |= type_of_value(v);
        return types;
    }
    v = json_get(schema, "type");
    types = type_of_name(json_string(v));
    for (v = json_is_array(v) ? json_first(v) : NULL; v; v = json_next(v))
        types |= type_of_name(json_string(v));
    if (types)
        return types;
    const char *to = json_string(json_get(schema, "$ref"));
    if (to)
        return types_of(root, referred(root, to), depth + 1);
    for (int i = 0; i < 3; i++)
        if (json_is_array(v = json_get(schema, choices[i])) && json_first(v))
            return types_of_all(root, v, depth + 1);
    return CODER_ANY;
}

/* ---- reading ---- */

static bool is_required(const struct json *root, const char *name)
{
    const struct json *list = json_get(root, "required");
    for (const struct json *v = json_is_array(list) ? json_first(list) : NULL; v; v = json_next(v))
        if (json_string(v) && strcmp(json_string(v), name) == 0)
            return true;
    return false;
}

/* A value as it stands in a call. */
static char *text_of(const struct json *v)
{
    if (json_string(v))
        return strdup(json_string(v));
    struct buf b;
    buf_init(&b, SIZE_MAX / 4);
    const char *text = json_put(&b, v) == OK ? buf_cstr(&b) : NULL;
    char *copy = text ? strdup(text) : NULL;
    buf_done(&b);
    return copy;
}

static enum status add_text(struct coder_parameter *p, const struct json *v)
{
    p->texts[p->text_count] = text_of(v);
    return p->texts[p->text_count++] ? OK : NOMEM;
}

static enum status read_texts(struct coder_parameter *p, const struct json *schema)
{
    const struct json *one = json_get(schema, "const"), *list = json_get(schema, "enum");
    if (!one && !(json_is_array(list) && json_first(list)))
        return OK;
    p->texts = calloc(one ? 1 : (size_t)json_count(list), sizeof *p->texts);
    enum status st = p->texts ? OK : NOMEM;
    if (one)
        return st == OK ? add_text(p, one) : st;
    for (const struct json *v = json_first(list); v && st == OK; v = json_next(v))
        st = add_text(p, v);
    return st;
}

/* The schema with the root's definitions, so that its references lead somewhere. */
static char *whole_schema(const struct json *root, const struct json *schema)
{
    struct buf b;
    buf_init(&b, SIZE_MAX / 4);
    enum status st = json_put(&b, schema);
    bool empty = !json_first(schema);
    for (int i = 0; i < 2 && st == OK && json_is_object(schema); i++) {
        const struct json *defs = json_get(root, definitions[i]);
        if (!defs || json_get(schema, definitions[i]))
            continue;
        b.end--; /* the brace */
        st = buf_addf(&b, "%s\"%s\":", empty ? "" : ",", definitions[i]);
        empty = false;
        if (st == OK)
            st = json_put(&b, defs);
        if (st == OK)
            st = buf_adds(&b, "}");
    }
    const char *text = st == OK ? buf_cstr(&b) : NULL;
    char *copy = text ? strdup(text) : NULL;
    buf_done(&b);
    return copy;
}

static enum status read_parameter(const struct json *root, const struct json *schema,
                                  struct coder_parameter *p)
{
    static const char *const keywords[] = {"pattern", "format", "minLength", "maxLength"};
    p->name = strdup(json_key(schema));
    p->schema = whole_schema(root, schema);
    p->types = types_of(root, schema, 0);
    p->required = is_required(root, json_key(schema));
    for (int i = 0; i < 4 && !p->keyword; i++)
        p->keyword = json_get(schema, keywords[i]) ? keywords[i] : NULL;
    return p->name && p->schema ? read_texts(p, schema) : NOMEM;
}

enum status coder_read(const char *text, struct coder_parameters *out)
{
    struct json *root = NULL;
    *out = (struct coder_parameters){0};
    enum status st = *text ? json_parse(text, strlen(text), NULL, &root, NULL) : OK;
    if (st == NOMEM)
        return st;
    const struct json *list = st == OK ? json_get(root, "properties") : NULL;
    st = OK;
    if (json_is_object(list) && json_first(list)) {
        out->items = calloc((size_t)json_count(list), sizeof *out->items);
        st = out->items ? OK : NOMEM;
        for (const struct json *v = json_first(list); v && st == OK; v = json_next(v))
            st = read_parameter(root, v, &out->items[out->count++]);
    }
    json_free(root);
    if (st != OK)
        coder_done(out);
    return st;
}

void coder_done(struct coder_parameters *p)
{
    for (int i = 0; i < p->count; i++) {
        for (int k = 0; k < p->items[i].text_count; k++)
            free(p->items[i].texts[k]);
        free(p->items[i].texts);
        free(p->items[i].name);
        free(p->items[i].schema);
    }
    free(p->items);
    *p = (struct coder_parameters){0};
}

const struct coder_parameter *coder_find(const struct coder_parameters *p, const char *name,
                                         size_t len)
{
    for (int i = 0; i < p->count; i++)
        if (strlen(p->items[i].name) == len && memcmp(p->items[i].name, name, len) == 0)
            return &p->items[i];
    return NULL;
}

/* ---- values ---- */

/* Of the words for them both JSON's and Python's. */
static const char *word_of(const char *text, size_t len, uint32_t *type)
{
    static const struct {
        const char *word, *json;
        uint32_t type;
    } words[] = {{"true", "true", CODER_BOOL},   {"True", "true", CODER_BOOL},
                 {"false", "false", CODER_BOOL}, {"False", "false", CODER_BOOL},
                 {"null", "null", CODER_NULL},   {"None", "null", CODER_NULL}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i].word) == len && memcmp(words[i].word, text, len) == 0) {
            *type = words[i].type;
            return words[i].json;
        }
    return NULL;
}

static uint32_t type_of_text(const char *text, size_t len)
{
    static const char space[] = " \t\r\n";
    if (json_guard(text, len, NULL, NULL) != OK)
        return 0;
    while (len && strchr(space, *text)) {
        text++;
        len--;
    }
    return *text == '{'   ? CODER_OBJECT
           : *text == '[' ? CODER_ARRAY
           : *text == '"' ? CODER_STRING
                          : CODER_NUMBER;
}

enum status coder_value(const struct coder_parameter *parameter, const char *text, size_t len,
                        struct buf *out)
{
    uint32_t allowed = parameter ? parameter->types : CODER_ANY, type = 0;
    const char *word = word_of(text, len, &type);
    if (!word && allowed != CODER_STRING)
        type = type_of_text(text, len);
    bool json = type && type != CODER_STRING;
    if (json && (allowed & CODER_STRING) && !(allowed & type))
        json = false;
    if (!json && type == CODER_STRING && !(allowed & CODER_STRING))
        json = true; /* a string where none may be: as it is */
    if (!json)
        return json_put_string(out, text, len);
    return word ? buf_adds(out, word) : buf_add(out, text, len);
}
