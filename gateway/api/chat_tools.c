/* Functions the model may call, calls it made, and the form of its answer. */
#include "gateway/api/chat_parse.h"

enum { JSON_TEXT_MAX = 16 << 20, NAME_MAX_BYTES = 64 };

/* "tools[2].function.name" */
struct place {
    char text[112];
};

static struct place at(const char *list, int index, const char *member)
{
    struct place p;
    snprintf(p.text, sizeof p.text, "%.40s[%d]%s%.50s", list, index, *member ? "." : "", member);
    return p;
}

bool chat_is_name(const char *text)
{
    size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
    return len >= 1 && len <= NAME_MAX_BYTES && !text[len];
}

/* Templates may print a text as a JSON string, with its quotes. */
static void count_text(struct chat_parse *p, const char *text)
{
    int64_t bytes = 2;
    for (; *text; text++)
        bytes += (uint8_t)*text < 0x20 ? 6 : *text == '"' || *text == '\\' ? 2 : 1;
    p->out->prompt_bytes += bytes;
}

/* Some templates print JSON with a line for each part: tokens of line breaks and indents, which a
 * bracket or a comma of the text stands for here. */
static int64_t count_json(const char *text, size_t len)
{
    int64_t bytes = (int64_t)len;
    for (; *text; text++)
        bytes += *text == '{' || *text == '[' ? 6 : *text == ',' ? 2 : 0;
    return bytes;
}

char *chat_json_text(struct chat_parse *p, const struct json *v)
{
    struct buf out;
    buf_init(&out, JSON_TEXT_MAX);
    char *copy = NULL;
    if (json_put(&out, v) == OK) {
        size_t len = buf_len(&out);
        copy = arena_alloc(p->arena, len + 1);
        if (copy) {
            memcpy(copy, buf_head(&out), len);
            copy[len] = 0;
            p->out->prompt_bytes += count_json(copy, len);
        }
    }
    buf_done(&out);
    return copy;
}

/* --- tools --- */

static bool function_member(struct chat_parse *p, struct place where, const struct json *m,
                            Wire__Tool *tool)
{
    const char *key = json_key(m), *text = json_string(m);
    if (strcmp(key, "name") == 0) {
        if (!text || !chat_is_name(text))
            return api_error_param(p->e, where.text,
                                   "The name of a function must be 1 to 64 letters, digits, '_' "
                                   "or '-'.");
        tool->name = (char *)text; /* protobuf-c knows no const; only read, like all below */
        return true;
    }
    if (json_is_null(m))
        return true;
    if (strcmp(key, "description") == 0) {
        tool->description = (char *)text;
        return text || api_error_param(p->e, where.text, "A 'description' must be a string.");
    }
    if (strcmp(key, "parameters") == 0) {
        if (!json_is_object(m))
            return api_error_param(p->e, where.text,
                                   "'parameters' must be a JSON Schema: an object.");
        tool->parameters = chat_json_text(p, m);
        return tool->parameters || chat_no_memory(p);
    }
    if (strcmp(key, "strict") == 0) {
        tool->strict = json_bool(m);
        return json_is_bool(m) ||
               api_error_param(p->e, where.text, "'strict' must be true or false.");
    }
    return api_error_param(p->e, where.text, "'%.60s' is not a member of a function.", key);
}

static bool tool_function(struct chat_parse *p, int index, const struct json *v, Wire__Tool *tool)
{
    for (const struct json *m = json_first(v); m; m = json_next(m)) {
        char member[60];
        snprintf(member, sizeof member, "function.%.40s", json_key(m));
        if (!function_member(p, at("tools", index, member), m, tool))
            return false;
    }
    if (!*tool->name)
        return api_error_param(p->e, at("tools", index, "function.name").text,
                               "A function needs a 'name'.");
    count_text(p, tool->name);
    count_text(p, tool->description);
    return true;
}

static bool one_tool(struct chat_parse *p, int index, const struct json *v, Wire__Tool *tool)
{
    const char *type = json_string(json_get(v, "type"));
    const struct json *function = json_get(v, "function");
    wire__tool__init(tool);
    if (!json_is_object(v))
        return api_error_param(p->e, at("tools", index, "").text, "A tool must be an object.");
    if (!type || strcmp(type, "function") != 0)
        return api_error_param(p->e, at("tools", index, "type").text,
                               "A tool must be of type 'function'.");
    if (!json_is_object(function))
        return api_error_param(p->e, at("tools", index, "function").text,
                               "A tool of type 'function' needs an object 'function'.");
    for (const struct json *m = json_first(v); m; m = json_next(m))
        if (strcmp(json_key(m), "type") != 0 && strcmp(json_key(m), "function") != 0)
            return api_error_param(p->e, at("tools", index, json_key(m)).text,
                                   "'%.60s' is not a member of a tool.", json_key(m));
    return tool_function(p, index, function, tool);
}

static const Wire__Tool *find_tool(const struct chat_parse *p, const char *name, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(p->out->tools[i]->name, name) == 0)
            return p->out->tools[i];
    return NULL;
}

bool chat_tools(struct chat_parse *p, const char *name, const struct json *v)
{
    struct chat_request *out = p->out;
    int count = json_count(v), i = 0;
    if (!json_is_array(v))
        return api_error_param(p->e, name, "'tools' must be an array.");
    if (count > p->limits->tools_max)
        return api_error_param(p->e, name, "'tools' may have at most %d tools.",
                               (int)p->limits->tools_max);
    Wire__Tool *all = arena_alloc(p->arena, sizeof *all * (size_t)count + 1);
    out->tools = arena_alloc(p->arena, sizeof *out->tools * (size_t)count + 1);
    if (!all || !out->tools)
        return chat_no_memory(p);
    for (const struct json *item = json_first(v); item; item = json_next(item), i++) {
        if (!one_tool(p, i, item, &all[i]))
            return false;
        if (find_tool(p, all[i].name, (size_t)i))
            return api_error_param(p->e, at("tools", i, "function.name").text,
                                   "Two functions have the name '%s'.", all[i].name);
        out->tools[i] = &all[i];
    }
    out->tool_count = (size_t)count;
    out->tool_parts += count;
    return true;
}

/* --- tool_choice --- */

static bool choose_named(struct chat_parse *p, const char *name, const struct json *v)
{
    const char *type = json_string(json_get(v, "type"));
    const char *function = json_string(json_get(json_get(v, "function"), "name"));
    if (!type || strcmp(type, "function") != 0 || !function)
        return api_error_param(p->e, name,
                               "'tool_choice' must be none, auto, required, or {\"type\": "
                               "\"function\", \"function\": {\"name\": \"...\"}}.");
    p->out->tool_choice.kind = WIRE__TOOL_CHOICE__KIND__NAMED;
    p->out->tool_choice.name = (char *)function;
    return true;
}

bool chat_tool_choice(struct chat_parse *p, const char *name, const struct json *v)
{
    static const struct {
        const char *word;
        Wire__ToolChoice__Kind kind;
    } words[] = {{"auto", WIRE__TOOL_CHOICE__KIND__AUTO},
                 {"none", WIRE__TOOL_CHOICE__KIND__NEVER},
                 {"required", WIRE__TOOL_CHOICE__KIND__REQUIRED}};
    const char *text = json_string(v);
    for (int i = 0; text && i < 3; i++)
        if (strcmp(words[i].word, text) == 0) {
            p->out->tool_choice.kind = words[i].kind;
            return true;
        }
    return choose_named(p, name, v);
}

bool chat_parallel(struct chat_parse *p, const char *name, const struct json *v)
{
    if (!json_is_bool(v))
        return api_error_param(p->e, name, "'%s' must be true or false.", name);
    p->out->tool_choice.one_call = !json_bool(v);
    return true;
}

bool chat_tools_together(struct chat_parse *p)
{
    const struct chat_request *out = p->out;
    const Wire__ToolChoice *c = &out->tool_choice;
    bool must =
        c->kind == WIRE__TOOL_CHOICE__KIND__REQUIRED || c->kind == WIRE__TOOL_CHOICE__KIND__NAMED;
    if (must && out->tool_count == 0)
        return api_error_param(p->e, "tool_choice", "'tool_choice' needs 'tools' to choose from.");
    if (c->kind == WIRE__TOOL_CHOICE__KIND__NAMED && !find_tool(p, c->name, out->tool_count))
        return api_error_param(p->e, "tool_choice",
                               "'tool_choice' names '%.64s', which is none of 'tools'.", c->name);
    return true;
}

/* --- the calls of an assistant's message --- */

static const char call_form[] = "A tool call must be {\"id\": \"...\", \"type\": \"function\", "
                                "\"function\": {\"name\": \"...\", \"arguments\": \"...\"}}.";

static bool one_call(struct chat_parse *p, struct place where, const struct json *v,
                     Wire__ToolCall *call)
{
    const char *id = json_string(json_get(v, "id"));
    const char *type = json_string(json_get(v, "type"));
    const struct json *function = json_get(v, "function");
    const char *name = json_string(json_get(function, "name"));
    const char *arguments = json_string(json_get(function, "arguments"));
    wire__tool_call__init(call);
    if (!id || !*id || strlen(id) > SHORT_TEXT_MAX || !type || strcmp(type, "function") != 0 ||
        !name || !chat_is_name(name) || !arguments)
        return api_error_param(p->e, where.text, "%s", call_form);
    call->id = (char *)id;
    call->name = (char *)name;
    call->arguments = (char *)arguments;
    count_text(p, id);
    count_text(p, name);
    count_text(p, arguments);
    for (; *arguments; arguments++) /* printed anew, a space may follow each */
        p->out->prompt_bytes += *arguments == ',' || *arguments == ':';
    return true;
}

bool chat_tool_calls(struct chat_parse *p, int index, const struct json *v, Wire__ChatMessage *m)
{
    char list[40];
    snprintf(list, sizeof list, "messages[%d].tool_calls", index);
    int count = json_count(v), i = 0;
    if (!json_is_array(v) || count > CHAT_TOOLS_MAX)
        return api_error_param(p->e, list, "'tool_calls' must be an array of at most %d calls.",
                               CHAT_TOOLS_MAX);
    Wire__ToolCall *all = arena_alloc(p->arena, sizeof *all * (size_t)count + 1);
    m->tool_calls = arena_alloc(p->arena, sizeof *m->tool_calls * (size_t)count + 1);
    if (!all || !m->tool_calls)
        return chat_no_memory(p);
    for (const struct json *item = json_first(v); item; item = json_next(item), i++) {
        if (!one_call(p, at(list, i, ""), item, &all[i]))
            return false;
        m->tool_calls[i] = &all[i];
    }
    m->n_tool_calls = (size_t)count;
    p->out->tool_parts += count;
    return true;
}

/* --- response_format --- */

static bool json_schema(struct chat_parse *p, const struct json *v)
{
    static const char place[] = "response_format.json_schema";
    static const char schema_place[] = "response_format.json_schema.schema";
    const char *name = json_string(json_get(v, "name"));
    const struct json *schema = json_get(v, "schema"), *strict = json_get(v, "strict");
    const struct json *description = json_get(v, "description");
    if (!json_is_object(v))
        return api_error_param(p->e, place,
                               "'response_format' of type json_schema needs an object "
                               "'json_schema'.");
    if (!name || !chat_is_name(name))
        return api_error_param(p->e, "response_format.json_schema.name",
                               "The name of a schema must be 1 to 64 letters, digits, '_' or "
                               "'-'.");
    if (!json_is_object(schema))
        return api_error_param(p->e, schema_place, "'schema' must be a JSON Schema: an object.");
    if (strict && !json_is_bool(strict) && !json_is_null(strict))
        return api_error_param(p->e, "response_format.json_schema.strict",
                               "'strict' must be true or false.");
    if (description && !json_is_string(description) && !json_is_null(description))
        return api_error_param(p->e, "response_format.json_schema.description",
                               "'description' must be a string.");
    p->out->format.kind = WIRE__FORMAT__KIND__JSON_SCHEMA;
    p->out->format.schema = chat_json_text(p, schema);
    return p->out->format.schema || chat_no_memory(p);
}

bool chat_response_format(struct chat_parse *p, const char *name, const struct json *v)
{
    const char *type = json_string(json_get(v, "type"));
    if (type && strcmp(type, "text") == 0)
        return true;
    if (type && strcmp(type, "json_object") == 0) {
        p->out->format.kind = WIRE__FORMAT__KIND__JSON_OBJECT;
        return true;
    }
    if (type && strcmp(type, "json_schema") == 0)
        return json_schema(p, json_get(v, "json_schema"));
    return api_error_param(p->e, name,
                           "'response_format' must have a 'type' of text, json_object or "
                           "json_schema.");
}
