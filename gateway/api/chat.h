/*
 * POST /v1/chat/completions and /v1/completions: what a client may ask for. A field that is not
 * known, or that would change the answer in a way this server cannot, is refused by name; a few
 * that cannot change it are taken and ignored. null counts as absent.
 *
 * Thinking is off unless asked for: thinking {"type": "enabled"}, or a reasoning_effort of low or
 * more when `thinking` is absent. Role `developer` is `system`. Whether a JSON Schema can be
 * followed is the worker's to say.
 */
#ifndef GATEWAY_API_CHAT_H
#define GATEWAY_API_CHAT_H

#include "base/arena.h"
#include "base/json.h"
#include "base/wire.h"
#include "gateway/api/errors.h"

enum { CHAT_CHOICES_MAX = 8, CHAT_TOOLS_MAX = 128, CHAT_BIASES_MAX = 1024 };

struct chat_limits {
    int64_t messages_max, stop_max, tools_max, choices_max;
};

struct chat_request {
    const char *model;
    Wire__ChatMessage **messages;
    size_t message_count;
    char *prompt, *suffix; /* of a completion, instead of messages; suffix NULL: none */
    char **stop;
    size_t stop_count;
    const char *user;     /* "" when none */
    int64_t max_tokens;   /* of each choice; 0: none given */
    int64_t prompt_bytes; /* UTF-8 bytes of all that comes into the prompt */
    int64_t tool_parts;   /* tools, and calls in messages */
    uint32_t choices;     /* at least 1 */
    Wire__Sampling *sampling;
    Wire__Tool **tools;
    size_t tool_count;
    Wire__ToolChoice tool_choice;
    Wire__Format format;
    bool stream, include_usage, thinking;
    bool completion; /* the answer is a text, not a message */
};

/* Strings stay inside the document or the arena: both must outlive *out. false: e says why. */
bool chat_parse(const struct json *body, const struct chat_limits *limits, struct arena *arena,
                struct chat_request *out, struct api_error *e);
/* The same for a completion: `prompt` and, to fill in the middle, `suffix`. */
bool completion_parse(const struct json *body, const struct chat_limits *limits,
                      struct arena *arena, struct chat_request *out, struct api_error *e);
/* With 16 as the default of max_tokens, which clients of /v1/completions know. */
bool completion_parse_short(const struct json *body, const struct chat_limits *limits,
                            struct arena *arena, struct chat_request *out, struct api_error *e);

#endif
