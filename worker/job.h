/*
 * What a backend is asked: a request of the worker protocol in plain values. All pointers are the
 * caller's; strings are never NULL unless said.
 */
#ifndef WORKER_JOB_H
#define WORKER_JOB_H

#include <stdbool.h>
#include <stdint.h>

struct chat_message {
    const char *role; /* system, user, assistant, tool */
    const char *content, *reasoning_content, *name, *tool_call_id; /* never NULL */
    bool prefix;
    const struct tool_call *tool_calls; /* of an assistant */
    int tool_call_count;
};

struct tool_call {
    const char *id, *name;
    const char *arguments; /* JSON text */
};

struct tool {
    const char *name, *description;
    const char *parameters; /* JSON Schema text; "": none */
    bool strict;
};

enum tool_choice { TOOL_AUTO, TOOL_NEVER, TOOL_REQUIRED, TOOL_NAMED };

enum answer_format { FORMAT_TEXT, FORMAT_JSON_OBJECT, FORMAT_JSON_SCHEMA };

struct logit_bias {
    int32_t token;
    float bias;
};

struct sampling {
    float temperature; /* 0: greedy */
    float top_p;       /* 1: off */
    uint64_t seed;
    bool has_seed;
    uint32_t top_k;           /* 0: off */
    float min_p;              /* 0: off */
    float frequency_penalty;  /* 0: off */
    float presence_penalty;   /* 0: off */
    float repetition_penalty; /* 0 and 1: off */
    const struct logit_bias *bias;
    int bias_count;
    bool logprobs;
    int top_logprobs; /* 0 .. 20 */
};

struct counts {
    uint32_t prompt, cached, completion, reasoning;
};

struct job {     /* everything is copied by submit as far as it is needed later */
    uint64_t id; /* the server's own; unique for the life of the process */
    const struct chat_message *messages;
    int message_count;
    uint32_t max_tokens; /* 0: the model's max_output_tokens */
    struct sampling sampling;
    const char *const *stop;
    int stop_count;
    bool thinking;
    const uint8_t *cache_salt;
    uint32_t cache_salt_len;
    int choices; /* answers to the same prompt, at least 1 */
    const struct tool *tools;
    int tool_count;
    enum tool_choice tool_choice;
    const char *tool_name; /* of TOOL_NAMED */
    bool one_call;         /* at most one tool call */
    enum answer_format format;
    const char *schema;  /* JSON Schema text, of FORMAT_JSON_SCHEMA */
    const char *prompt;  /* instead of messages: plain text to go on from; NULL: messages */
    const char *suffix;  /* with prompt: fill in the middle; NULL: none */
    const char *tenant;  /* whose share of the worker this is */
    int priority;        /* higher runs first */
    int64_t deadline_ms; /* from now: what has not begun by then is refused; 0: none */
};

/* Of a choice or a job. JOB_TOOL_CALLS: the choice ended on calls that the client is to make. */
enum job_end { JOB_GOES_ON, JOB_STOP, JOB_LENGTH, JOB_CANCELLED, JOB_TOOL_CALLS };

enum job_error { JOB_INTERNAL, JOB_INVALID, JOB_CONTEXT_LENGTH, JOB_OVERLOADED };

#endif
