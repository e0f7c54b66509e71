#include "gateway/api/chat.h"

#include "gateway/api/chat_parse.h"

enum { USER_MAX = 512, STOP_BYTES_MAX = 1024, TOKENS_MAX = 1 << 30 };
static const int64_t SEED_MAX = 1LL << 53;

bool chat_no_memory(struct chat_parse *p)
{
    api_error_overloaded(p->e, 1000, "The server is out of memory for this request.");
    return false;
}

static bool unsupported(struct chat_parse *p, const char *name)
{
    return api_error_param(p->e, name, "'%s' is not supported by this server.", name);
}

static bool model(struct chat_parse *p, const char *name, const struct json *v)
{
    const char *text = json_string(v);
    if (!text || !*text)
        return api_error_param(p->e, name, "'model' must be the name of a model.");
    p->out->model = text;
    return true;
}

static bool number(struct chat_parse *p, const char *name, const struct json *v, float *out)
{
    if (!json_is_number(v))
        return api_error_param(p->e, name, "'%s' must be a number.", name);
    *out = (float)json_number(v);
    return true;
}

static bool temperature(struct chat_parse *p, const char *name, const struct json *v)
{
    float *t = &p->out->temperature;
    if (!number(p, name, v, t))
        return false;
    return (*t >= 0 && *t <= 2) ||
           api_error_param(p->e, name, "'temperature' must be between 0 and 2.");
}

static bool top_p(struct chat_parse *p, const char *name, const struct json *v)
{
    float *t = &p->out->top_p;
    if (!number(p, name, v, t))
        return false;
    return (*t > 0 && *t <= 1) ||
           api_error_param(p->e, name, "'top_p' must be above 0 and at most 1.");
}

static bool tokens(struct chat_parse *p, const char *name, const struct json *v)
{
    int64_t *out = strcmp(name, "max_tokens") == 0 ? &p->max_tokens : &p->max_completion_tokens;
    return json_int(v, 1, TOKENS_MAX, out) ||
           api_error_param(p->e, name, "'%s' must be a whole number of at least 1.", name);
}

static bool seed(struct chat_parse *p, const char *name, const struct json *v)
{
    int64_t n;
    if (!json_int(v, -SEED_MAX, SEED_MAX, &n))
        return api_error_param(p->e, name, "'seed' must be a whole number, at most 2^53.");
    p->out->seed = (uint64_t)n;
    p->out->has_seed = true;
    return true;
}

static bool boolean(struct chat_parse *p, const char *name, const struct json *v)
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

static bool stop(struct chat_parse *p, const char *name, const struct json *v)
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

static bool stream_options(struct chat_parse *p, const char *name, const struct json *v)
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
            return unsupported(p, "stream_options.include_obfuscation");
    }
    return true;
}

static bool one(struct chat_parse *p, const char *name, const struct json *v)
{
    int64_t n;
    return json_int(v, 1, 1, &n) ||
           api_error_param(p->e, name, "'n' must be 1: more is not supported by this server.");
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

static bool user(struct chat_parse *p, const char *name, const struct json *v)
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

/* Would change the answer, were it not at its neutral value. */
static bool zero(struct chat_parse *p, const char *name, const struct json *v)
{
    return (json_is_number(v) && json_number(v) == 0) || unsupported(p, name);
}

static bool no(struct chat_parse *p, const char *name, const struct json *v)
{
    return (json_is_bool(v) && !json_bool(v)) || unsupported(p, name);
}

static bool empty(struct chat_parse *p, const char *name, const struct json *v)
{
    return ((json_is_array(v) || json_is_object(v)) && json_count(v) == 0) || unsupported(p, name);
}

static bool text_format(struct chat_parse *p, const char *name, const struct json *v)
{
    const char *type = json_string(json_get(v, "type"));
    return (type && strcmp(type, "text") == 0) || unsupported(p, name);
}

static bool only_text(struct chat_parse *p, const char *name, const struct json *v)
{
    const char *first = json_string(json_first(v));
    return (json_is_array(v) && json_count(v) == 1 && first && strcmp(first, "text") == 0) ||
           unsupported(p, name);
}

static bool word(struct chat_parse *p, const char *name, const struct json *v)
{
    static const char *const neutral[] = {"auto", "default", "none", "medium"};
    const char *text = json_string(v);
    for (int i = 0; text && i < 4; i++)
        if (strcmp(text, neutral[i]) == 0)
            return true;
    return unsupported(p, name);
}

static bool any_string(struct chat_parse *p, const char *name, const struct json *v)
{
    return json_is_string(v) || api_error_param(p->e, name, "'%s' must be a string.", name);
}

static bool any_object(struct chat_parse *p, const char *name, const struct json *v)
{
    return json_is_object(v) || api_error_param(p->e, name, "'%s' must be an object.", name);
}

static bool never(struct chat_parse *p, const char *name, const struct json *v)
{
    return unsupported(p, name);
}

static const struct chat_field fields[] = {
    {"model", model},
    {"messages", chat_messages},
    {"temperature", temperature},
    {"top_p", top_p},
    {"max_tokens", tokens},
    {"max_completion_tokens", tokens},
    {"stop", stop},
    {"seed", seed},
    {"stream", boolean},
    {"stream_options", stream_options},
    {"n", one},
    {"thinking", thinking},
    {"reasoning_effort", effort},
    {"user", user},
    {"user_id", user},
    /* Cannot change the answer. */
    {"store", boolean},
    {"metadata", any_object},
    {"service_tier", word},
    {"safety_identifier", any_string},
    {"prompt_cache_key", any_string},
    {"parallel_tool_calls", boolean},
    /* Only at the value that means nothing. */
    {"frequency_penalty", zero},
    {"presence_penalty", zero},
    {"top_logprobs", zero},
    {"logprobs", no},
    {"logit_bias", empty},
    {"tools", empty},
    {"functions", empty},
    {"tool_choice", word},
    {"function_call", word},
    {"response_format", text_format},
    {"modalities", only_text},
    {"verbosity", word},
    /* Known elsewhere: told apart from a slip of the pen. */
    {"audio", never},
    {"prediction", never},
    {"web_search_options", never},
    {"top_k", never},
    {"min_p", never},
    {"repetition_penalty", never},
    {"guided_json", never},
};

static bool member(struct chat_parse *p, const struct json *m)
{
    const char *name = json_key(m);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (strcmp(fields[i].name, name) == 0)
            return json_is_null(m) || fields[i].fn(p, fields[i].name, m);
    char shown[100];
    snprintf(shown, sizeof shown, "%s", name);
    return api_error_param(p->e, shown, "'%s' is not a field of this request.", shown);
}

static bool together(struct chat_parse *p)
{
    struct chat_request *out = p->out;
    if (!out->model)
        return api_error_param(p->e, "model", "'model' is required.");
    if (!out->messages)
        return api_error_param(p->e, "messages", "'messages' is required.");
    if (p->max_tokens && p->max_completion_tokens && p->max_tokens != p->max_completion_tokens)
        return api_error_param(p->e, "max_tokens",
                               "'max_tokens' and 'max_completion_tokens' differ.");
    if (p->stream_options && !out->stream)
        return api_error_param(p->e, "stream_options",
                               "'stream_options' is allowed only with \"stream\": true.");
    out->max_tokens = p->max_completion_tokens ? p->max_completion_tokens : p->max_tokens;
    out->thinking = p->thinking >= 0 ? p->thinking : p->effort > 0;
    return true;
}

bool chat_parse(const struct json *body, const struct chat_limits *limits, struct arena *arena,
                struct chat_request *out, struct api_error *e)
{
    *out = (struct chat_request){.user = "", .temperature = 1, .top_p = 1};
    struct chat_parse p = {
        .limits = limits, .arena = arena, .out = out, .e = e, .thinking = -1, .effort = -1};
    if (!json_is_object(body)) {
        api_error_set(e, 400, "invalid_value", "The body must be a JSON object.");
        return false;
    }
    for (const struct json *m = json_first(body); m; m = json_next(m))
        if (!member(&p, m))
            return false;
    return together(&p);
}
