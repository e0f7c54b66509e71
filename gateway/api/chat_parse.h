/* Shared by the files that read bodies: one parse of one body. */
#ifndef GATEWAY_API_CHAT_PARSE_H
#define GATEWAY_API_CHAT_PARSE_H

#include "gateway/api/chat.h"

enum { SHORT_TEXT_MAX = 512 };

struct chat_parse {
    const struct chat_limits *limits;
    struct arena *arena;
    struct chat_request *out;
    struct api_error *e;
    /* Fields that are checked against each other at the end. */
    int64_t max_tokens, max_completion_tokens;
    int thinking; /* -1: not given */
    int effort;   /* -1: not given, 0: none, 1: some */
    bool stream_options, tool_choice;
};

typedef bool chat_field_fn(struct chat_parse *p, const char *name, const struct json *v);

struct chat_field {
    const char *name;
    chat_field_fn *fn;
};

/* All members of an object, each by its field. */
bool chat_fields(struct chat_parse *p, const struct json *body, const struct chat_field *fields,
                 size_t count);
bool chat_begin(struct chat_parse *p, const struct json *body);
/* What goes for chat and completions alike, when all fields are read. */
bool chat_together(struct chat_parse *p);

bool chat_no_memory(struct chat_parse *p); /* false, with a 503 in p->e */
bool chat_unsupported(struct chat_parse *p, const char *name);
/* 1 to 64 of a-z, A-Z, 0-9, _ and -: the name of a function or a schema. */
bool chat_is_name(const char *text);
/* The value as JSON text in the arena, counted as part of the prompt; NULL: no memory. */
char *chat_json_text(struct chat_parse *p, const struct json *v);

/* Fields of chat.c. */
chat_field_fn chat_model, chat_tokens, chat_boolean, chat_stop, chat_stream_options, chat_user,
    chat_any_string, chat_any_object, chat_word, chat_never;
/* chat_sampling.c */
chat_field_fn chat_ratio, chat_top_k, chat_seed, chat_choices, chat_logit_bias, chat_logprobs,
    chat_top_logprobs;
/* chat_tools.c */
chat_field_fn chat_tools, chat_tool_choice, chat_parallel, chat_response_format;
bool chat_tool_calls(struct chat_parse *p, int index, const struct json *v, Wire__ChatMessage *m);
bool chat_tools_together(struct chat_parse *p);
/* chat_messages.c */
chat_field_fn chat_messages;

#endif
