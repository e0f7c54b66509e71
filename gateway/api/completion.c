/* POST /v1/completions: a text to go on from, or a gap to fill. */
#include "gateway/api/chat_parse.h"

enum { DEFAULT_TOKENS = 16 };

static bool text_field(struct chat_parse *p, const char *name, const struct json *v, char **out)
{
    const char *text = json_string(v);
    if (!text)
        return api_error_param(p->e, name, "'%s' must be a string.", name);
    *out = (char *)text; /* protobuf-c knows no const; it is only read */
    p->out->prompt_bytes += (int64_t)strlen(text);
    return true;
}

/* A list of one text is what some clients make of a text. */
static bool prompt(struct chat_parse *p, const char *name, const struct json *v)
{
    if (json_is_array(v) && json_count(v) == 1)
        v = json_first(v);
    return text_field(p, name, v, &p->out->prompt);
}

static bool suffix(struct chat_parse *p, const char *name, const struct json *v)
{
    return text_field(p, name, v, &p->out->suffix);
}

static bool no(struct chat_parse *p, const char *name, const struct json *v)
{
    return (json_is_bool(v) && !json_bool(v)) || chat_unsupported(p, name);
}

/* More would be made than is given, and billed. */
static bool best_of(struct chat_parse *p, const char *name, const struct json *v)
{
    int64_t n;
    return json_int(v, 1, 1, &n) || chat_unsupported(p, name);
}

static const struct chat_field fields[] = {
    {"model", chat_model},
    {"prompt", prompt},
    {"suffix", suffix},
    {"max_tokens", chat_tokens},
    {"temperature", chat_ratio},
    {"top_p", chat_ratio},
    {"n", chat_choices},
    {"stream", chat_boolean},
    {"stream_options", chat_stream_options},
    {"logprobs", chat_logprobs},
    {"echo", no},
    {"stop", chat_stop},
    {"presence_penalty", chat_ratio},
    {"frequency_penalty", chat_ratio},
    {"best_of", best_of},
    {"logit_bias", chat_logit_bias},
    {"seed", chat_seed},
    {"user", chat_user},
    {"user_id", chat_user},
    {"top_k", chat_top_k},
    {"min_p", chat_ratio},
    {"repetition_penalty", chat_ratio},
};

bool completion_parse(const struct json *body, const struct chat_limits *limits,
                      struct arena *arena, struct chat_request *out, struct api_error *e)
{
    struct chat_parse p = {.limits = limits, .arena = arena, .out = out, .e = e};
    if (!chat_begin(&p, body))
        return false;
    out->completion = true;
    if (!chat_fields(&p, body, fields, sizeof fields / sizeof *fields))
        return false;
    if (!out->prompt)
        return api_error_param(e, "prompt", "'prompt' is required.");
    if (!*out->prompt && !out->suffix)
        return api_error_param(e, "prompt", "'prompt' is empty: there is nothing to go on from.");
    return chat_together(&p);
}

bool completion_parse_short(const struct json *body, const struct chat_limits *limits,
                            struct arena *arena, struct chat_request *out, struct api_error *e)
{
    if (!completion_parse(body, limits, arena, out, e))
        return false;
    if (!out->max_tokens)
        out->max_tokens = DEFAULT_TOKENS;
    return true;
}
