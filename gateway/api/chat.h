/*
 * POST /v1/chat/completions: what a client may ask for. A field that is not known, or that would
 * change the answer in a way this server cannot, is refused by name; a few that cannot change it
 * are taken and ignored. null counts as absent.
 *
 * Thinking is off unless asked for: thinking {"type": "enabled"}, or a reasoning_effort of low or
 * more when `thinking` is absent. Role `developer` is `system`.
 */
#ifndef GATEWAY_API_CHAT_H
#define GATEWAY_API_CHAT_H

#include "base/arena.h"
#include "base/json.h"
#include "base/wire.h"
#include "gateway/api/errors.h"

struct chat_limits {
    int64_t messages_max, stop_max;
};

struct chat_request {
    const char *model;
    Wire__ChatMessage **messages;
    size_t message_count;
    char **stop;
    size_t stop_count;
    const char *user;     /* "" when none */
    int64_t max_tokens;   /* 0: none given */
    int64_t prompt_bytes; /* UTF-8 bytes of all strings of all messages */
    float temperature, top_p;
    uint64_t seed;
    bool has_seed, stream, include_usage, thinking;
};

/* Strings stay inside the document or the arena: both must outlive *out. false: e says why. */
bool chat_parse(const struct json *body, const struct chat_limits *limits, struct arena *arena,
                struct chat_request *out, struct api_error *e);

#endif
