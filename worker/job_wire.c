#include "worker/job_wire.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

struct convert {
    const Wire__Request *m;
    struct arena *arena;
    struct job *out;
    struct job_fault *fault;
};

static enum status bad(struct convert *c, const char *param, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static enum status bad(struct convert *c, const char *param, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(c->fault->param, sizeof c->fault->param, "%s", param);
    return error_set(&c->fault->error, INVALID, "%s", text);
}

static enum status convert_calls(struct convert *c, const Wire__ChatMessage *m,
                                 struct chat_message *out)
{
    if (!m->n_tool_calls)
        return OK;
    struct tool_call *calls = arena_alloc(c->arena, m->n_tool_calls * sizeof *calls);
    if (!calls)
        return NOMEM;
    for (size_t i = 0; i < m->n_tool_calls; i++) {
        const Wire__ToolCall *t = m->tool_calls[i];
        calls[i] = (struct tool_call){t->id, t->name, t->arguments};
    }
    out->tool_calls = calls;
    out->tool_call_count = (int)m->n_tool_calls;
    return OK;
}

static enum status convert_messages(struct convert *c)
{
    const Wire__Request *m = c->m;
    struct chat_message *messages = arena_alloc(c->arena, m->n_messages * sizeof *messages + 1);
    if (!messages)
        return NOMEM;
    enum status st = OK;
    for (size_t i = 0; i < m->n_messages && st == OK; i++) {
        const Wire__ChatMessage *w = m->messages[i];
        messages[i] = (struct chat_message){.role = w->role,
                                            .content = w->content,
                                            .reasoning_content = w->reasoning_content,
                                            .name = w->name,
                                            .tool_call_id = w->tool_call_id,
                                            .prefix = w->prefix};
        st = convert_calls(c, w, &messages[i]);
        if (st == OK && w->n_tool_calls && strcmp(w->role, "assistant") != 0) {
            char param[64];
            snprintf(param, sizeof param, "messages[%zu].tool_calls", i);
            st = bad(c, param, "messages[%zu]: only an assistant has tool_calls", i);
        }
    }
    c->out->messages = messages;
    c->out->message_count = (int)m->n_messages;
    return st;
}

/* Either messages, or a prompt that may have a suffix. */
static enum status convert_prompt(struct convert *c)
{
    const Wire__Request *m = c->m;
    bool fill_in = m->fill_in || *m->suffix;
    if (m->n_messages) {
        if (*m->prompt)
            return bad(c, "prompt", "prompt does not go with messages");
        if (fill_in)
            return bad(c, "suffix", "suffix goes with prompt, not with messages");
        return OK;
    }
    if (!*m->prompt && !fill_in)
        return bad(c, "messages", "there are neither messages nor a prompt");
    if (m->n_tools)
        return bad(c, "tools", "tools go with messages, not with prompt");
    c->out->prompt = m->prompt;
    c->out->suffix = fill_in ? m->suffix : NULL;
    return OK;
}

static bool is_name(const char *name)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
    return len >= 1 && len <= 64 && !name[len];
}

static enum status convert_tool(struct convert *c, struct tool *tools, int at)
{
    const Wire__Tool *w = c->m->tools[at];
    char param[64];
    snprintf(param, sizeof param, "tools[%d].function.name", at);
    if (!is_name(w->name))
        return bad(c, param, "the name of a function is 1 to 64 of a-z, A-Z, 0-9, _ and -");
    for (int i = 0; i < at; i++)
        if (strcmp(tools[i].name, w->name) == 0)
            return bad(c, param, "two functions have the name \"%s\"", w->name);
    tools[at] = (struct tool){w->name, w->description, w->parameters, w->strict};
    return OK;
}

static enum status convert_tools(struct convert *c)
{
    const Wire__Request *m = c->m;
    if (m->n_tools > JOB_TOOLS_MAX)
        return bad(c, "tools", "there are %zu tools; %d are allowed", m->n_tools, JOB_TOOLS_MAX);
    struct tool *tools = arena_alloc(c->arena, m->n_tools * sizeof *tools + 1);
    if (!tools)
        return NOMEM;
    enum status st = OK;
    for (int i = 0; i < (int)m->n_tools && st == OK; i++)
        st = convert_tool(c, tools, i);
    c->out->tools = tools;
    c->out->tool_count = (int)m->n_tools;
    return st;
}

static enum status convert_tool_choice(struct convert *c)
{
    const Wire__ToolChoice *w = c->m->tool_choice;
    struct job *out = c->out;
    out->tool_name = "";
    if (!w)
        return OK;
    out->one_call = w->one_call;
    switch (w->kind) {
    case WIRE__TOOL_CHOICE__KIND__AUTO:
        return OK;
    case WIRE__TOOL_CHOICE__KIND__NEVER:
        out->tool_choice = TOOL_NEVER;
        return OK;
    case WIRE__TOOL_CHOICE__KIND__REQUIRED:
        out->tool_choice = TOOL_REQUIRED;
        return out->tool_count ? OK : bad(c, "tool_choice", "tool_choice needs tools");
    case WIRE__TOOL_CHOICE__KIND__NAMED:
        out->tool_choice = TOOL_NAMED;
        out->tool_name = w->name;
        for (int i = 0; i < out->tool_count; i++)
            if (strcmp(out->tools[i].name, w->name) == 0)
                return OK;
        return bad(c, "tool_choice", "tool_choice names \"%.80s\", which is none of the tools",
                   w->name);
    default:
        return bad(c, "tool_choice", "unknown tool_choice %d", (int)w->kind);
    }
}

static enum status convert_format(struct convert *c)
{
    const Wire__Format *w = c->m->format;
    c->out->schema = "";
    if (!w)
        return OK;
    switch (w->kind) {
    case WIRE__FORMAT__KIND__TEXT:
        return OK;
    case WIRE__FORMAT__KIND__JSON_OBJECT:
        c->out->format = FORMAT_JSON_OBJECT;
        return OK;
    case WIRE__FORMAT__KIND__JSON_SCHEMA:
        c->out->format = FORMAT_JSON_SCHEMA;
        c->out->schema = w->schema;
        return *w->schema ? OK
                          : bad(c, "response_format.json_schema.schema", "the schema is missing");
    default:
        return bad(c, "response_format", "unknown response_format %d", (int)w->kind);
    }
}

static enum status convert_bias(struct convert *c, struct sampling *out)
{
    const Wire__Sampling *w = c->m->sampling;
    if (w->n_logit_bias > JOB_BIASES_MAX)
        return bad(c, "logit_bias", "logit_bias has %zu entries; %d are allowed", w->n_logit_bias,
                   JOB_BIASES_MAX);
    struct logit_bias *bias = arena_alloc(c->arena, w->n_logit_bias * sizeof *bias + 1);
    if (!bias)
        return NOMEM;
    for (size_t i = 0; i < w->n_logit_bias; i++) {
        const Wire__LogitBias *b = w->logit_bias[i];
        if (b->token > INT32_MAX || !(b->bias >= -100 && b->bias <= 100))
            return bad(c, "logit_bias", "logit_bias: token %u, bias %g is out of range", b->token,
                       (double)b->bias);
        bias[i] = (struct logit_bias){(int32_t)b->token, b->bias};
    }
    out->bias = bias;
    out->bias_count = (int)w->n_logit_bias;
    return OK;
}

struct range {
    const char *name;
    float value, least, most;
};

static enum status convert_sampling(struct convert *c)
{
    const Wire__Sampling *w = c->m->sampling;
    struct sampling *out = &c->out->sampling;
    *out = (struct sampling){.temperature = 1, .top_p = 1};
    if (!w)
        return OK;
    const struct range ranges[] = {{"min_p", w->min_p, 0, 1},
                                   {"frequency_penalty", w->frequency_penalty, -2, 2},
                                   {"presence_penalty", w->presence_penalty, -2, 2},
                                   {"repetition_penalty", w->repetition_penalty, 0, 100},
                                   {"top_logprobs", (float)w->top_logprobs, 0, 20}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        const struct range *r = &ranges[i];
        if (!(r->value >= r->least && r->value <= r->most))
            return bad(c, r->name, "%s is not between %g and %g", r->name, (double)r->least,
                       (double)r->most);
    }
    if (w->top_logprobs && !w->logprobs)
        return bad(c, "top_logprobs", "top_logprobs needs logprobs");
    *out = (struct sampling){.temperature = w->temperature,
                             .top_p = w->top_p,
                             .seed = w->seed,
                             .has_seed = w->has_seed,
                             .top_k = w->top_k,
                             .min_p = w->min_p,
                             .frequency_penalty = w->frequency_penalty,
                             .presence_penalty = w->presence_penalty,
                             .repetition_penalty = w->repetition_penalty,
                             .logprobs = w->logprobs,
                             .top_logprobs = (int)w->top_logprobs};
    return convert_bias(c, out);
}

/* The caches of a tenant's users are apart: the user becomes part of the salt. */
static enum status convert_salt(struct convert *c)
{
    const Wire__Request *m = c->m;
    size_t salt = m->cache_salt.len, user = strlen(m->user);
    c->out->cache_salt = m->cache_salt.data;
    c->out->cache_salt_len = (uint32_t)salt;
    if (!salt || !user)
        return OK;
    uint8_t *joined = arena_alloc(c->arena, salt + 1 + user);
    if (!joined)
        return NOMEM;
    memcpy(joined, m->cache_salt.data, salt);
    joined[salt] = 0;
    memcpy(joined + salt + 1, m->user, user);
    c->out->cache_salt = joined;
    c->out->cache_salt_len = (uint32_t)(salt + 1 + user);
    return OK;
}

static enum status convert_rest(struct convert *c)
{
    const Wire__Request *m = c->m;
    struct job *out = c->out;
    if (m->choices > JOB_CHOICES_MAX)
        return bad(c, "n", "n is %u; at most %d", m->choices, JOB_CHOICES_MAX);
    for (size_t i = 0; i < m->n_stop; i++)
        if (!*m->stop[i])
            return bad(c, "stop", "a stop string is empty");
    if (m->deadline_ms > INT64_MAX / 2)
        return bad(c, "deadline_ms", "deadline_ms is too large");
    out->choices = m->choices ? (int)m->choices : 1;
    out->stop = (const char *const *)m->stop;
    out->stop_count = (int)m->n_stop;
    out->max_tokens = m->max_tokens;
    out->thinking = m->thinking;
    out->tenant = m->tenant;
    out->priority = m->priority;
    out->deadline_ms = (int64_t)m->deadline_ms;
    return OK;
}

enum status job_from_wire(const Wire__Request *m, struct arena *arena, struct job *out,
                          struct job_fault *fault)
{
    static enum status (*const steps[])(struct convert *) = {
        convert_prompt, convert_messages, convert_tools, convert_tool_choice,
        convert_format, convert_sampling, convert_salt,  convert_rest};
    struct convert c = {.m = m, .arena = arena, .out = out, .fault = fault};
    *out = (struct job){.id = 0};
    enum status st = OK;
    for (size_t i = 0; i < sizeof steps / sizeof *steps && st == OK; i++)
        st = steps[i](&c);
    return st;
}
