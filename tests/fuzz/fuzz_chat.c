/* links: tg_gateway */
/* Any body is either a whole chat request within its limits, or refused with an error that can be
 * written down. */
#include <assert.h>

#include "gateway/api/chat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_accepted(const struct chat_request *c, const struct chat_limits *limits)
{
    assert(c->model && *c->model);
    assert(c->message_count >= 1 && c->message_count <= (size_t)limits->messages_max);
    assert(c->stop_count <= (size_t)limits->stop_max);
    assert(c->temperature >= 0 && c->temperature <= 2 && c->top_p > 0 && c->top_p <= 1);
    assert(c->max_tokens >= 0 && c->user && strlen(c->user) <= 512);
    assert(!c->include_usage || c->stream);
    int64_t bytes = 0;
    for (size_t i = 0; i < c->message_count; i++) {
        const Wire__ChatMessage *m = c->messages[i];
        assert(*m->role);
        bytes += (int64_t)(strlen(m->content) + strlen(m->reasoning_content) + strlen(m->name) +
                           strlen(m->tool_call_id));
    }
    assert(bytes <= c->prompt_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct chat_limits limits = {.messages_max = 8, .stop_max = 4};
    struct json *body;
    struct error err;
    if (json_parse((const char *)data, len, NULL, &body, &err) != OK)
        return 0;
    struct arena *arena = arena_new(1 << 20);
    struct chat_request c;
    struct api_error e;
    if (!arena || chat_parse(body, &limits, arena, &c, &e)) {
        if (arena)
            check_accepted(&c, &limits);
    } else {
        struct buf out;
        struct json *answer;
        buf_init(&out, 1 << 14);
        assert(e.status == 400 || e.status == 503);
        assert(api_error_body(&out, &e) == OK);
        assert(json_parse((const char *)buf_head(&out), buf_len(&out), NULL, &answer, &err) == OK);
        json_free(answer);
        buf_done(&out);
    }
    arena_free(arena);
    json_free(body);
    return 0;
}
