/* What the files of the chat templates share; nobody else includes this. */
#ifndef WORKER_CHAT_PRIVATE_H
#define WORKER_CHAT_PRIVATE_H

#include "base/buf.h"
#include "worker/chat.h"

/* A prompt being written. Plain text is gathered and encoded between tokens as one piece, as the
 * publishers' programs do. After a failure the calls do nothing. */
struct prompt {
    const struct tokenizer *tokenizer;
    struct token_list *out;
    struct buf plain;
    enum status status;
};

void prompt_begin(struct prompt *p, const struct tokenizer *t, struct token_list *out);
enum status prompt_end(struct prompt *p); /* frees what it holds */
/* Words of others: never tokens of the template. */
void prompt_words(struct prompt *p, const char *text);
void prompt_words_n(struct prompt *p, const char *text, size_t len);
/* The template's own text; the added tokens in it are tokens. */
void prompt_literal(struct prompt *p, const char *text);
/* JSON text as Python's json.dumps writes it (ensure_ascii off); indent 0: on one line. What is not
 * JSON stays as it is. */
void prompt_json(struct prompt *p, const char *json, int indent);
/* The same of a text that json_guard has passed, on one line. */
void prompt_json_n(struct prompt *p, const char *json, size_t len);
/* Such a text as Python's str() shows the value: True, None, ['a', 1.0]; a string as it is. */
void prompt_python(struct prompt *p, const char *json, size_t len);
/* What stands between a JSON string's quotes, without its escapes. */
void prompt_inside(struct prompt *p, const char *inside, size_t len);

/* A member of an object's text, which json_guard has passed. */
struct chat_member {
    const char *key, *value; /* the key without its quotes; keys are compared without escapes */
    size_t key_len, value_len;
};
/* *at: the object's text, later what the last call left; false: there are no more. */
bool chat_member_next(const char **at, struct chat_member *out);
bool chat_member_is(const struct chat_member *m, const char *key);
/* The items of an array's text: *at is its text, later behind the last item; then at the next. */
bool chat_item_next(const char **at, size_t *len);
bool chat_member_find(const char *object, const char *key, struct chat_member *out);

/* {"type": "function", "function": {"name": ..., "description": ..., "parameters": ...}}, or the
 * inner object alone. */
void prompt_tool(struct prompt *p, const struct tool *tool, int indent, bool inner);

/* Python's str.strip() of a text: where it begins, and how long it is. */
const char *chat_trim(const char *text, size_t *len);
bool chat_is(const struct chat_message *m, const char *role);
/* The last message, if the answer is to continue it. */
const struct chat_message *chat_prefix(const struct chat_request *in);
/* What is behind the first or the last </think>, or all. */
const char *chat_after_first_think(const char *content);
const char *chat_after_last_think(const char *content);
/* All system messages with "\n\n" between them. *any: there was text. */
void chat_systems(const struct chat_request *in, struct prompt *p, bool *any);

enum { CHAT_TEXTS_MAX = 16 };

/* A template whose text we know. */
struct chat_kind {
    const char *name;
    const char *has[CHAT_TEXTS_MAX];         /* its text holds all of these ... */
    const char *has_not[CHAT_TEXTS_MAX];     /* ... and none of these */
    const char *needs[CHAT_TEXTS_MAX];       /* added tokens */
    const char *tool_tokens[CHAT_TEXTS_MAX]; /* more of them; without one there are no tools */
    const char *ends[CHAT_TEXTS_MAX]; /* tokens that end an answer, where the model has them */
    enum tool_form tools;
    bool opens_thinking; /* see chat_markers */
    bool single_calls;   /* a message has one call at most */
    /* The roles are known, prefix is in place. INVALID: err says why. */
    enum status (*render)(const struct chat_request *in, struct prompt *p, struct error *err);
    bool (*starts_in_reasoning)(const struct chat_request *in);
    struct chat_overhead overhead;
};

extern const struct chat_kind chat_deepseek_v2, chat_deepseek_v3, chat_deepseek_v3_0324,
    chat_deepseek_r1, chat_deepseek_r1_free, chat_deepseek_distill, chat_deepseek_distill_free,
    chat_deepseek_r1_0528, chat_deepseek_v31, chat_deepseek_terminus;
extern const struct chat_kind chat_qwen15, chat_qwen2, chat_qwen25, chat_qwen25_first,
    chat_qwq_preview, chat_qwq, chat_qwen3, chat_qwen3_thinking, chat_qwen3_instruct,
    chat_qwen3_coder, chat_qwen3_coder_first;
extern const struct chat_kind chat_llama2, chat_llama3, chat_llama31, chat_llama32, chat_mixtral,
    chat_mixtral_first, chat_mistral_first, chat_mistral_v3, chat_mistral_nemo, chat_mixtral_8x22b;

/* Which of them a template's text is; NULL: none. */
const struct chat_kind *chat_kind_of(const char *text);
/* All of them. */
extern const struct chat_kind *const chat_kinds[];
extern const int chat_kind_count;

#endif
