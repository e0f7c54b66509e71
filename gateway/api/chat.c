#include "gateway/api/chat.h"

#include "gateway/api/chat_parse.h"

enum { USER_MAX = 512, STOP_BYTES_MAX = 1024, TOKENS_MAX = 1 << 30 };

bool chat_no_memory(struct chat_parse *p)
{
    api_error_overloaded(p->e, 1000, "The server is out of memory for this request.");
    return false;
}

bool chat_unsupported(struct chat_parse *p, const char *name)
{
    return api_error_param(p->e, name, "'%s' is not supported by this server.", name);
}

bool chat_model(struct chat_parse *p, const char *name, const struct json *v)
{
    const char *text = json_string(v);
    if (!text || !*text)
        return api_error_param(p->e, name, "'model' must be the name of a model.");
    p->out->model = text;
    return true;
}

bool chat_tokens(struct chat_parse *p, const char *name, const struct json *v)
{
    int64_t *out = strcmp(name, "max_tokens") == 0 ? &p->max_tokens : &p->max_completion_tokens;
    return json_int(v, 1, TOKENS_MAX, out) ||
           api_error_param(p->e, name, "'%s' must be a whole number of at least 1.", name);
}

bool chat_boolean(struct chat_parse *p, const char *name, const struct json *v)
{
    if (!json_is_bool(v))
        return api_error_param(p->e, name, "'%s' must be true or false.", name);
    if (strcmp(name, "stream") == 0)
        p->out->stream = json_bool(v);
    return true;
}

static bool add_stop(struct chat_parse *p, const char *name, const struct json *v)
{
    const char *text = json_string(v);
    if (!text || !*text || strlen(text) > STOP_BYTES_MAX)
        return api_error_param(p->e, name,
                               "'stop' must be a string of 1 to %d bytes, or an array of them.",
                               STOP_BYTES_MAX);
    p->out->stop[p->out->stop_count++] = (char *)text; /* protobuf-c knows no const; only read */
    return true;
}

bool chat_stop(struct chat_parse *p, const char *name, const struct json *v)
{
    int count = json_is_array(v) ? json_count(v) : 1;
    if (count > p->limits->stop_max)
        return api_error_param(p->e, name, "'stop' may have at most %d strings.",
                               (int)p->limits->stop_max);
    p->out->stop = arena_alloc(p->arena, sizeof *p->out->stop * (size_t)(count + 1));
    if (!p->out->stop)
        return chat_no_memory(p);
    if (!json_is_array(v))
        return add_stop(p, name, v);
    for (const struct json *item = json_first(v); item; item = json_next(item))
        if (!add_stop(p, name, item))
            return false;
    return true;
}

bool chat_stream_options(struct chat_parse *p, const char *name, const struct json *v)
{
    if (!json_is_object(v))
        return api_error_param(p->e, name, "'stream_options' must be an object.");
    p->stream_options = true;
    for (const struct json *m = json_first(v); m; m = json_next(m)) {
        bool usage = strcmp(json_key(m), "include_usage") == 0;
        if (!usage && strcmp(json_key(m), "include_obfuscation") != 0)
            return api_error_param(p->e, name, "'stream_options.%.40s' is not known.", json_key(m));
        if (!json_is_bool(m) && !json_is_null(m))
            return api_error_param(p->e, name, "'stream_options.%s' must be true or false.",
                                   json_key(m));
        if (usage)
            p->out->include_usage = json_bool(m);
        else if (json_bool(m))
            return chat_unsupported(p, "stream_options.include_obfuscation");
    }
    return true;
}

static bool thinking(struct chat_parse *p, const char *name, const struct json *v)
{
    const char *type = json_string(json_get(v, "type"));
    if (type && strcmp(type, "enabled") == 0)
        p->thinking = 1;
    else if (type && strcmp(type, "disabled") == 0)
        p->thinking = 0;
    else
        return api_error_param(p->e, name,
                               "'thinking' must be {\"type\": \"enabled\"} or {\"type\": "
                               "\"disabled\"}.");
    return json_count(v) == 1 ||
           api_error_param(p->e, name, "'thinking' has a member beside 'type'.");
}

static bool effort(struct chat_parse *p, const char *name, const struct json *v)
{
    static const char *const levels[] = {"none", "low", "medium", "high"};
    const char *text = json_string(v);
    for (int i = 0; text && i < 4; i++)
        if (strcmp(text, levels[i]) == 0) {
            p->effort = i > 0;
            return true;
        }
    return api_error_param(p->e, name, "'reasoning_effort' must be none, low, medium or high.");
}

bool chat_user(struct chat_parse *p, const char *name, const struct json *v)
{
    const char *text = json_string(v);
    size_t len = text ? strlen(text) : 0;
    bool good = len >= 1 && len <= USER_MAX;
    for (size_t i = 0; good && i < len; i++) {
        char c = text[i];
        good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '_' || c == '-';
    }
    if (!good)
        return api_error_param(p->e, name, "'%s' must be 1 to %d letters, digits, '_' or '-'.",
                               name, USER_MAX);
    if (*p->out->user && strcmp(p->out->user, text) != 0)
        return api_error_param(p->e, name, "'user' and 'user_id' differ.");
    p->out->user = text;
    return true;
}

static bool only_text(struct chat_parse *p, const char *name, const struct json *v)
{
    const char *first = json_string(json_first(v));
    return (json_is_array(v) && json_count(v) == 1 && first && strcmp(first, "text") == 0) ||
           chat_unsupported(p, name);
}

bool chat_word(struct chat_parse *p, const char *name, const struct json *v)
{
    static const char *const neutral[] = {"auto", "default", "none", "medium"};
    const char *text = json_string(v);
    for (int i = 0; text && i < 4; i++)
        if (strcmp(text, neutral[i]) == 0)
            return true;
    return chat_unsupported(p, name);
}

bool chat_any_string(struct chat_parse *p, const char *name, const struct json *v)
{
    return json_is_string(v) || api_error_param(p->e, name, "'%s' must be a string.", name);
}

bool chat_any_object(struct chat_parse *p, const char *name, const struct json *v)
{
    return json_is_object(v) || api_error_param(p->e, name, "'%s' must be an object.", name);
}

bool chat_never(struct chat_parse *p, const char *name, const struct json *v)
{
    return chat_unsupported(p, name);
}

/* Deprecated names of tools and tool_choice. */
static bool old_tools(struct chat_parse *p, const char *name, const struct json *v)
{
    return (json_is_array(v) && json_count(v) == 0) || chat_unsupported(p, name);
}

static const struct chat_field fields[] = {
    {"model", chat_model},
    {"messages", chat_messages},
    {"temperature", chat_ratio},
    {"top_p", chat_ratio},
    {"max_tokens", chat_tokens},
    {"max_completion_tokens", chat_tokens},
    {"stop", chat_stop},
    {"seed", chat_seed},
    {"stream", chat_boolean},
    {"stream_options", chat_stream_options},
    {"n", chat_choices},
    {"thinking", thinking},
    {"reasoning_effort", effort},
    {"user", chat_user},
    {"user_id", chat_user},
    {"tools", chat_tools},
    {"tool_choice", chat_tool_choice},
    {"parallel_tool_calls", chat_parallel},
    {"response_format", chat_response_format},
    {"frequency_penalty", chat_ratio},
    {"presence_penalty", chat_ratio},
    {"logit_bias", chat_logit_bias},
    {"logprobs", chat_logprobs},
    {"top_logprobs", chat_top_logprobs},
    /* Of vLLM and its kin. */
    {"top_k", chat_top_k},
    {"min_p", chat_ratio},
    {"repetition_penalty", chat_ratio},
    /* Cannot change the answer. */
    {"store", chat_boolean},
    {"metadata", chat_any_object},
    {"service_tier", chat_word},
    {"safety_identifier", chat_any_string},
    {"prompt_cache_key", chat_any_string},
    /* Only at the value that means nothing. */
    {"functions", old_tools},
    {"function_call", chat_word},
    {"modalities", only_text},
    {"verbosity", chat_word},
    /* Known elsewhere: told apart from a slip of the pen. */
    {"audio", chat_never},
    {"prediction", chat_never},
    {"web_search_options", chat_never},
    {"guided_json", chat_never},
};

static bool member(struct chat_parse *p, const struct json *m, const struct chat_field *list,
                   size_t count)
{
    const char *name = json_key(m);
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i].name, name) == 0)
            return json_is_null(m) || list[i].fn(p, list[i].name, m);
    char shown[100];
    snprintf(shown, sizeof shown, "%s", name);
    return api_error_param(p->e, shown, "'%s' is not a field of this request.", shown);
}

bool chat_fields(struct chat_parse *p, const struct json *body, const struct chat_field *list,
                 size_t count)
{
    for (const struct json *m = json_first(body); m; m = json_next(m))
        if (!member(p, m, list, count))
            return false;
    return true;
}

bool chat_begin(struct chat_parse *p, const struct json *body)
{
    struct chat_request *out = p->out;
    *out = (struct chat_request){.user = "", .choices = 1};
    wire__tool_choice__init(&out->tool_choice);
    wire__format__init(&out->format);
    p->thinking = p->effort = -1;
    if (!json_is_object(body)) {
        api_error_set(p->e, 400, "invalid_value", "The body must be a JSON object.");
        return false;
    }
    out->sampling = arena_alloc(p->arena, sizeof *out->sampling);
    if (!out->sampling)
        return chat_no_memory(p);
    wire__sampling__init(out->sampling);
    out->sampling->temperature = out->sampling->top_p = 1;
    return true;
}

bool chat_together(struct chat_parse *p)
{
    struct chat_request *out = p->out;
    if (!out->model)
        return api_error_param(p->e, "model", "'model' is required.");
    if (p->max_tokens && p->max_completion_tokens && p->max_tokens != p->max_completion_tokens)
        return api_error_param(p->e, "max_tokens",
                               "'max_tokens' and 'max_completion_tokens' differ.");
    if (p->stream_options && !out->stream)
        return api_error_param(p->e, "stream_options",
                               "'stream_options' is allowed only with \"stream\": true.");
    if (out->sampling->top_logprobs && !out->sampling->logprobs)
        return api_error_param(p->e, "top_logprobs",
                               "'top_logprobs' is allowed only with \"logprobs\": true.");
    out->max_tokens = p->max_completion_tokens ? p->max_completion_tokens : p->max_tokens;
    out->thinking = p->thinking >= 0 ? p->thinking : p->effort > 0;
    return true;
}

bool chat_parse(const struct json *body, const struct chat_limits *limits, struct arena *arena,
                struct chat_request *out, struct api_error *e)
{
    struct chat_parse p = {.limits = limits, .arena = arena, .out = out, .e = e};
    if (!chat_begin(&p, body) || !chat_fields(&p, body, fields, sizeof fields / sizeof *fields))
        return false;
    if (!out->messages && out->model)
        return api_error_param(e, "messages", "'messages' is required.");
    return chat_together(&p) && chat_tools_together(&p);
}
