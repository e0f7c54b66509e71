/*
 * Qwen3-Coder's templates: Qwen's turns, with tools and calls as tags around plain text. A call is
 * <function=NAME>, a <parameter=NAME> for each argument with its value on lines of its own, and
 * </function>. Values that are no strings stand there as Python shows them. The first template
 * writes lists of names in its own way, and knows fewer members of a schema.
 */
#include "base/json.h"
#include "worker/chat_private.h"

static const char about[] =
    "\n\nIf you choose to call a function ONLY reply in the following format with NO suffix:\n\n"
    "<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>\nvalue_1\n"
    "</parameter>\n<parameter=example_parameter_2>\nThis is the value for the second parameter\n"
    "that can span\nmultiple lines\n</parameter>\n</function>\n</tool_call>\n\n<IMPORTANT>\n"
    "Reminder:\n- Function calls MUST follow the specified format: an inner "
    "<function=...></function> block must be nested within <tool_call></tool_call> XML tags\n"
    "- Required parameters MUST be specified\n- You may provide optional reasoning for your "
    "function call in natural language BEFORE the function call, but NOT after\n- If there is no "
    "function call available, answer the question like normal with your current knowledge and do "
    "not tell the user about function calls\n</IMPORTANT>";

static bool is_object(const char *text)
{
    return text[strspn(text, " \t\r\n")] == '{';
}

/* str.strip() of what stands between a string's quotes. */
static void put_stripped(struct prompt *p, const struct chat_member *m)
{
    struct prompt inner; /* of its text alone */
    size_t len;
    prompt_begin(&inner, p->tokenizer, NULL);
    prompt_inside(&inner, m->value + 1, m->value_len - 2);
    const char *text = inner.status == OK ? buf_cstr(&inner.plain) : NULL;
    if (text) {
        text = chat_trim(text, &len);
        prompt_words_n(p, text, len);
    } else if (p->status == OK) {
        p->status = NOMEM;
    }
    buf_done(&inner.plain);
}

/* ---- schemas as tags ---- */

/* The first template leaves out "$" and writes "_" for "-" and spaces. */
static void put_name(struct prompt *p, const struct chat_member *m, bool first)
{
    for (size_t i = 0; first && i < m->key_len; i++) {
        char c = m->key[i] == '-' || m->key[i] == ' ' ? '_' : m->key[i];
        if (c != '$')
            prompt_words_n(p, &c, 1);
    }
    if (!first)
        prompt_inside(p, m->key, m->key_len);
}

static void put_member(struct prompt *p, const struct chat_member *m, bool first)
{
    prompt_words(p, "\n<");
    put_name(p, m, first);
    prompt_words(p, ">");
    if (*m->value == '{')
        prompt_json_n(p, m->value, m->value_len);
    else
        prompt_python(p, m->value, m->value_len);
    prompt_words(p, "</");
    put_name(p, m, first);
    prompt_words(p, ">");
}

static void put_members(struct prompt *p, const char *object, const char *const *handled,
                        bool first)
{
    struct chat_member m;
    while (chat_member_next(&object, &m)) {
        bool skip = false;
        for (int i = 0; handled[i]; i++)
            skip = skip || chat_member_is(&m, handled[i]);
        if (!skip)
            put_member(p, &m, first);
    }
}

/* [`a`, `b`], the first template's. */
static void put_list(struct prompt *p, const char *object, const char *key)
{
    struct chat_member m;
    if (!chat_member_find(object, key, &m) || *m.value != '[')
        return;
    const char *at = m.value;
    size_t len, count = 0;
    for (; chat_item_next(&at, &len); at += len) {
        prompt_words(p, count++ ? ", " : "\n<");
        if (count == 1) {
            prompt_words(p, key);
            prompt_words(p, ">[");
        }
        prompt_words(p, *at == '"' ? "`" : "");
        prompt_python(p, at, len);
        prompt_words(p, *at == '"' ? "`" : "");
    }
    if (!count)
        return;
    prompt_words(p, "]</");
    prompt_words(p, key);
    prompt_words(p, ">");
}

static void put_property(struct prompt *p, const struct chat_member *property, bool first)
{
    static const char *const handled_first[] = {"type", "description", "enum", "required", NULL};
    static const char *const handled[] = {"name", "type", "description", NULL};
    struct chat_member m;
    const char *fields = *property->value == '{' ? property->value : "{}";
    prompt_words(p, "\n<parameter>\n<name>");
    prompt_inside(p, property->key, property->key_len);
    prompt_words(p, "</name>");
    if (chat_member_find(fields, "type", &m)) {
        prompt_words(p, "\n<type>");
        prompt_python(p, m.value, m.value_len);
        prompt_words(p, "</type>");
    }
    if (chat_member_find(fields, "description", &m) && *m.value == '"') {
        prompt_words(p, "\n<description>");
        put_stripped(p, &m);
        prompt_words(p, "</description>");
    }
    if (first)
        put_list(p, fields, "enum");
    put_members(p, fields, first ? handled_first : handled, first);
    if (first)
        put_list(p, fields, "required");
    prompt_words(p, "\n</parameter>");
}

static void put_tool(struct prompt *p, const struct tool *tool, bool first)
{
    static const char *const handled[] = {"type", "properties", NULL};
    const char *schema = is_object(tool->parameters) ? tool->parameters : "{}";
    struct chat_member m;
    size_t len;
    prompt_words(p, "\n<function>\n<name>");
    prompt_words(p, tool->name);
    prompt_words(p, "</name>");
    if (first || *tool->description) {
        const char *text = chat_trim(tool->description, &len);
        prompt_words(p, "\n<description>");
        prompt_words_n(p, text, len);
        prompt_words(p, "</description>");
    }
    prompt_words(p, "\n<parameters>");
    if (chat_member_find(schema, "properties", &m) && *m.value == '{')
        for (const char *at = m.value; chat_member_next(&at, &m);)
            put_property(p, &m, first);
    if (first)
        put_list(p, schema, "required");
    else
        put_members(p, schema, handled, false);
    prompt_words(p, "\n</parameters>\n</function>");
}

static void put_system(const struct chat_request *in, struct prompt *p, bool first)
{
    bool given = chat_is(&in->messages[0], "system");
    if (!given && !in->tool_count)
        return;
    prompt_literal(p, "<|im_start|>system\n");
    prompt_words(p, given ? in->messages[0].content
                          : "You are Qwen, a helpful AI assistant that can interact with a "
                            "computer to solve tasks.");
    if (in->tool_count) {
        prompt_words(p, "\n\nYou have access to the following functions:\n\n<tools>");
        for (int i = 0; i < in->tool_count; i++)
            put_tool(p, &in->tools[i], first);
        prompt_words(p, "\n</tools>");
        prompt_literal(p, about);
    }
    prompt_literal(p, "<|im_end|>\n");
}

/* ---- messages ---- */

static void put_call(struct prompt *p, const struct tool_call *call, bool first)
{
    struct chat_member m;
    prompt_literal(p, "\n<tool_call>\n");
    prompt_words(p, "<function=");
    prompt_words(p, call->name);
    prompt_words(p, ">\n");
    for (const char *at = call->arguments; chat_member_next(&at, &m);) {
        prompt_words(p, "<parameter=");
        prompt_inside(p, m.key, m.key_len);
        prompt_words(p, ">\n");
        if (*m.value == '{' && !first)
            prompt_json_n(p, m.value, m.value_len);
        else
            prompt_python(p, m.value, m.value_len);
        prompt_words(p, "\n</parameter>\n");
    }
    prompt_words(p, "</function>\n");
    prompt_literal(p, "</tool_call>");
}

static void put_calls(struct prompt *p, const struct chat_message *m, bool first)
{
    size_t len;
    const char *text = chat_trim(m->content, &len);
    prompt_literal(p, "<|im_start|>assistant");
    if (len) {
        prompt_words(p, "\n");
        prompt_words_n(p, text, len);
        prompt_words(p, "\n");
    }
    for (int i = 0; i < m->tool_call_count; i++)
        put_call(p, &m->tool_calls[i], first);
    prompt_literal(p, "<|im_end|>\n");
}

/* The results that follow each other share a turn of the user. */
static void put_result(const struct chat_request *in, struct prompt *p, int at)
{
    if (at > 0 && !chat_is(&in->messages[at - 1], "tool"))
        prompt_literal(p, "<|im_start|>user\n");
    prompt_literal(p, "<tool_response>\n");
    prompt_words(p, in->messages[at].content);
    prompt_literal(p, "\n</tool_response>\n");
    if (at + 1 == in->count || !chat_is(&in->messages[at + 1], "tool"))
        prompt_literal(p, "<|im_end|>\n");
}

static void put_turn(struct prompt *p, const struct chat_message *m)
{
    prompt_literal(p, "<|im_start|>");
    prompt_words(p, m->role);
    prompt_words(p, "\n");
    prompt_words(p, m->content);
    if (!m->prefix)
        prompt_literal(p, "<|im_end|>\n");
}

static enum status check_arguments(const struct chat_request *in, struct error *err)
{
    for (int i = 0; i < in->count; i++)
        for (int k = 0; k < in->messages[i].tool_call_count; k++) {
            const char *text = in->messages[i].tool_calls[k].arguments;
            if (!is_object(text) || json_guard(text, strlen(text), NULL, NULL) != OK)
                return error_set(err, INVALID,
                                 "messages[%d].tool_calls[%d].function.arguments: not a JSON "
                                 "object",
                                 i, k);
        }
    for (int i = 0; i < in->tool_count; i++) {
        const char *text = in->tools[i].parameters;
        if (*text && json_guard(text, strlen(text), NULL, NULL) != OK)
            return error_set(err, INVALID, "tools[%d].function.parameters: not JSON", i);
    }
    return OK;
}

static enum status render(const struct chat_request *in, struct prompt *p, bool first,
                          struct error *err)
{
    enum status st = check_arguments(in, err);
    if (st != OK)
        return st;
    put_system(in, p, first);
    for (int i = chat_is(&in->messages[0], "system"); i < in->count; i++) {
        const struct chat_message *m = &in->messages[i];
        if (chat_is(m, "tool"))
            put_result(in, p, i);
        else if (m->tool_call_count)
            put_calls(p, m, first);
        else
            put_turn(p, m);
    }
    if (!chat_prefix(in))
        prompt_literal(p, "<|im_start|>assistant\n");
    return OK;
}

static enum status render_coder(const struct chat_request *in, struct prompt *p, struct error *err)
{
    return render(in, p, false, err);
}

static enum status render_coder_first(const struct chat_request *in, struct prompt *p,
                                      struct error *err)
{
    return render(in, p, true, err);
}

#define OVERHEAD                                                                                   \
    {                                                                                              \
        .prompt = 128, .message = 24, .tools = 1200, .tool = 600                                   \
    }

const struct chat_kind chat_qwen3_coder = {
    .name = "Qwen3-Coder",
    .has = {"<|im_start|>", "You have access to the following functions:", "<function=",
            "render_extra_keys(param_fields, handled_keys)",
            "| tojson | safe if args_value is "
            "mapping else args_value | string"},
    .has_not = {"think"},
    .needs = {"<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"},
    .ends = {"<|im_end|>", "<|endoftext|>"},
    .tools = TOOLS_QWEN_CODER,
    .render = render_coder,
    .overhead = OVERHEAD,
};

const struct chat_kind chat_qwen3_coder_first = {
    .name = "Qwen3-Coder (first)",
    .has = {"<|im_start|>", "You have access to the following functions:", "<function=",
            "render_item_list(param_fields.enum, 'enum')"},
    .has_not = {"think"},
    .needs = {"<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"},
    .ends = {"<|im_end|>", "<|endoftext|>"},
    .tools = TOOLS_QWEN_CODER,
    .render = render_coder_first,
    .overhead = OVERHEAD,
};
