/* links: tg_gateway */
/* Any body is either a whole chat request within its limits, or refused with an error that can be
 * written down. */
#include <assert.h>

#include "gateway/api/chat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_tools(const struct chat_request *c, const struct chat_limits *limits)
{
    assert(c->tool_count <= (size_t)limits->tools_max);
    for (size_t i = 0; i < c->tool_count; i++)
        assert(*c->tools[i]->name && strlen(c->tools[i]->name) <= 64);
    assert(c->tool_choice.kind != WIRE__TOOL_CHOICE__KIND__REQUIRED || c->tool_count > 0);
    assert(c->tool_choice.kind != WIRE__TOOL_CHOICE__KIND__NAMED || *c->tool_choice.name);
    assert(c->format.kind != WIRE__FORMAT__KIND__JSON_SCHEMA || *c->format.schema == '{');
}

static int64_t message_bytes(const Wire__ChatMessage *m)
{
    size_t bytes = strlen(m->content) + strlen(m->reasoning_content) + strlen(m->name) +
                   strlen(m->tool_call_id);
    for (size_t i = 0; i < m->n_tool_calls; i++)
        bytes += strlen(m->tool_calls[i]->name) + strlen(m->tool_calls[i]->arguments);
    return (int64_t)bytes;
}

static void check_accepted(const struct chat_request *c, const struct chat_limits *limits)
{
    const Wire__Sampling *s = c->sampling;
    assert(c->model && *c->model);
    assert(c->message_count <= (size_t)limits->messages_max);
    assert(c->message_count >= 1 || (c->completion && c->prompt));
    assert(c->stop_count <= (size_t)limits->stop_max);
    assert(c->choices >= 1 && c->choices <= (uint32_t)limits->choices_max);
    assert(s->temperature >= 0 && s->temperature <= 2 && s->top_p > 0 && s->top_p <= 1);
    assert(s->min_p >= 0 && s->min_p <= 1 && s->top_logprobs <= 20);
    assert(s->n_logit_bias <= CHAT_BIASES_MAX);
    assert(c->max_tokens >= 0 && c->user && strlen(c->user) <= 512);
    assert(!c->include_usage || c->stream);
    check_tools(c, limits);
    int64_t bytes = 0;
    for (size_t i = 0; i < c->message_count; i++) {
        assert(*c->messages[i]->role);
        bytes += message_bytes(c->messages[i]);
    }
    assert(bytes <= c->prompt_bytes);
}

static void check_refused(const struct api_error *e)
{
    struct buf out;
    struct json *answer;
    struct error err;
    buf_init(&out, 1 << 14);
    assert(e->status == 400 || e->status == 503);
    assert(api_error_body(&out, e) == OK);
    assert(json_parse((const char *)buf_head(&out), buf_len(&out), NULL, &answer, &err) == OK);
    json_free(answer);
    buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct chat_limits limits = {
        .messages_max = 8, .stop_max = 4, .tools_max = 4, .choices_max = 8};
    struct json *body;
    struct error err;
    if (json_parse((const char *)data, len, NULL, &body, &err) != OK)
        return 0;
    struct arena *arena = arena_new(1 << 20);
    struct chat_request c;
    struct api_error e;
    bool completion = json_get(body, "prompt") != NULL;
    bool ok = arena && (completion ? completion_parse(body, &limits, arena, &c, &e)
                                   : chat_parse(body, &limits, arena, &c, &e));
    if (ok)
        check_accepted(&c, &limits);
    else if (arena)
        check_refused(&e);
    arena_free(arena);
    json_free(body);
    return 0;
}
