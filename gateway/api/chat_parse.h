/* Shared by chat.c (fields) and chat_messages.c (messages): one parse of one body. */
#ifndef GATEWAY_API_CHAT_PARSE_H
#define GATEWAY_API_CHAT_PARSE_H

#include "gateway/api/chat.h"

struct chat_parse {
    const struct chat_limits *limits;
    struct arena *arena;
    struct chat_request *out;
    struct api_error *e;
    /* Fields that are checked against each other at the end. */
    int64_t max_tokens, max_completion_tokens;
    int thinking; /* -1: not given */
    int effort;   /* -1: not given, 0: none, 1: some */
    bool stream_options;
};

typedef bool chat_field_fn(struct chat_parse *p, const char *name, const struct json *v);

struct chat_field {
    const char *name;
    chat_field_fn *fn;
};

bool chat_no_memory(struct chat_parse *p); /* false, with a 503 in p->e */
bool chat_messages(struct chat_parse *p, const char *name, const struct json *v);

#endif
