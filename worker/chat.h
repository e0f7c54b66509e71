/*
 * Chat templates: messages to prompt ids. A template is recognised by its text in
 * tokenizer_config.json; one that is not known is an error at load. The words of users are
 * encoded without added tokens, so nobody can speak as the template. Immutable: any thread.
 */
#ifndef WORKER_CHAT_H
#define WORKER_CHAT_H

#include "worker/backend.h"
#include "worker/tokenizer.h"

struct chat_template;

enum status chat_load(const char *dir, const struct tokenizer *t, struct chat_template **out,
                      struct error *err);
void chat_free(struct chat_template *c); /* NULL is fine */
/* INVALID: err says which message and why (unknown role, an empty list, ...). */
enum status chat_render(const struct chat_template *c, const struct chat_message *messages,
                        int count, bool thinking, struct token_list *out, struct error *err);
/* Whether the answer to these messages starts inside the reasoning. */
bool chat_starts_in_reasoning(const struct chat_template *c, const struct chat_message *messages,
                              int count, bool thinking);
/* A prompt has at most (bytes of all contents and reasoning contents) + *prompt + messages x
 * *message tokens. */
void chat_overhead(const struct chat_template *c, uint32_t *prompt, uint32_t *message);
/* How the answer's ids are split. -1: the model has no such token. */
struct chat_markers {
    int32_t think_begin, think_end;
    int32_t stop_ids[8];
    int stop_count;
    bool starts_in_reasoning; /* when thinking: the prompt ends inside the reasoning */
};
void chat_markers(const struct chat_template *c, struct chat_markers *out);

#endif
