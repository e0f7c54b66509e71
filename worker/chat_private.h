/* What the files of the chat templates share; nobody else includes this. */
#ifndef WORKER_CHAT_PRIVATE_H
#define WORKER_CHAT_PRIVATE_H

#include "worker/chat.h"

enum chat_token {
    CHAT_BOS,
    CHAT_EOS,
    CHAT_USER,
    CHAT_ASSISTANT,
    CHAT_THINK_BEGIN,
    CHAT_THINK_END,
    CHAT_TOOL_OUTPUT_BEGIN,
    CHAT_TOOL_OUTPUT_END,
    CHAT_TOKEN_COUNT,
};

struct chat_template {
    const struct tokenizer *tokenizer;
    const struct chat_kind *kind;
    int32_t ids[CHAT_TOKEN_COUNT];
    struct chat_markers markers;
};

/* What a renderer gets. */
struct chat_input {
    const struct chat_template *c;
    const struct chat_message *messages;
    int count;
    bool thinking;
};

/* A template whose text we know. */
struct chat_kind {
    const char *name;
    const char *sha256;                   /* of the template's text, lower-case hex */
    const char *tokens[CHAT_TOKEN_COUNT]; /* NULL: not used; all others must be there */
    enum status (*render)(const struct chat_input *in, struct token_list *out, struct error *err);
    bool (*starts_in_reasoning)(const struct chat_input *in);
    uint32_t prompt_overhead, message_overhead;
};

extern const struct chat_kind chat_deepseek_v31;

#endif
