/*
 * Chat templates: messages to prompt ids. A template is recognised by what its text holds
 * (chat_template.jinja, or tokenizer_config.json) and by the added tokens that it needs; one that
 * is not known is an error at load. A model without any takes no messages, only texts to go on
 * from. The words of users are encoded without added tokens, so nobody can speak as the template.
 * Immutable: any thread.
 */
#ifndef WORKER_CHAT_H
#define WORKER_CHAT_H

#include "worker/job.h"
#include "worker/tokenizer.h"

struct chat_template;

enum status chat_load(const char *dir, const struct tokenizer *t, struct chat_template **out,
                      struct error *err);
void chat_free(struct chat_template *c); /* NULL is fine */
const char *chat_name(const struct chat_template *c);
/* Whether there is a template: without one only chat_complete, chat_overhead and chat_markers may
 * be called. */
bool chat_converses(const struct chat_template *c);

struct chat_request {
    const struct chat_message *messages;
    int count;
    const struct tool *tools; /* as the model is to see them */
    int tool_count;
    bool thinking;
    int64_t wall_s; /* some templates tell the model the date */
};

/* INVALID: err says which message and why (unknown role, an empty list, ...). */
enum status chat_render(const struct chat_template *c, const struct chat_request *in,
                        struct token_list *out, struct error *err);
/* Whether the answer starts inside the reasoning. */
bool chat_starts_in_reasoning(const struct chat_template *c, const struct chat_request *in);
/* prompt, or the text between prompt and suffix (NULL: none). INVALID: the model has no tokens to
 * fill in the middle, or a text is not UTF-8. */
enum status chat_complete(const struct chat_template *c, const char *prompt, const char *suffix,
                          struct token_list *out, struct error *err);

/* A prompt has at most so many tokens more than its texts have bytes; texts are contents,
 * reasoning, and tools and calls as JSON with a space behind each comma and colon. */
struct chat_overhead {
    uint32_t prompt, message;
    uint32_t tools; /* when there are tools or calls */
    uint32_t tool;  /* for each tool, and each call of a message */
};
void chat_overhead(const struct chat_template *c, struct chat_overhead *out);

/* How a model writes tool calls. */
enum tool_form {
    TOOLS_NONE,
    TOOLS_DEEPSEEK,    /* begin, call_begin, kind, sep, NAME, a fence, ARGS, the fence, call_end,
                          ... end */
    TOOLS_DEEPSEEK_31, /* begin, call_begin, NAME, sep, ARGS, call_end, ... end */
    TOOLS_QWEN,        /* call_begin, {"name": NAME, "arguments": ARGS}, call_end, ... */
    TOOLS_QWEN_CODER,  /* call_begin, <function=NAME>, <parameter=NAME> VALUE </parameter> ...,
                          </function>, call_end, ... */
    TOOLS_MISTRAL,     /* calls_begin, [{"name": NAME, "arguments": ARGS}, ...] */
    TOOLS_LLAMA,       /* {"name": NAME, "parameters": ARGS} is the whole answer */
};

/* How the answer's ids are split. -1: the model has no such token. */
struct chat_markers {
    int32_t think_begin, think_end;
    int32_t stop_ids[8];
    int stop_count;
    bool opens_thinking; /* when it is to think and the prompt does not begin the reasoning, the
                            model does so itself */
    enum tool_form tools;
    int32_t calls_begin, calls_end, call_begin, call_end, call_sep;
};
void chat_markers(const struct chat_template *c, struct chat_markers *out);

#endif
