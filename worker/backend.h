/*
 * What the worker's server needs of a backend: a table of operations, called on one thread (the
 * engine thread; the server's own for a backend that is `immediate`). A backend answers through
 * the sink, from inside step() or submit(), on that same thread.
 */
#ifndef WORKER_BACKEND_H
#define WORKER_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

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
    const char *schema; /* JSON Schema text, of FORMAT_JSON_SCHEMA */
    const char *prompt; /* instead of messages: plain text to go on from; NULL: messages */
    const char *suffix; /* with prompt: fill in the middle; NULL: none */
    const char *tenant; /* whose share of the worker this is */
    int priority;       /* higher runs first */
    int64_t deadline_ms; /* from now: what has not begun by then is refused; 0: none */
};

enum job_end { JOB_STOP, JOB_LENGTH, JOB_CANCELLED };

enum job_error { JOB_INTERNAL, JOB_INVALID, JOB_CONTEXT_LENGTH, JOB_OVERLOADED };

struct sink {
    /* Text made in this step; whole UTF-8 characters. counts are cumulative. */
    void (*tokens)(void *arg, uint64_t job, const char *content, size_t content_len,
                   const char *reasoning, size_t reasoning_len, const struct counts *counts);
    void (*finish)(void *arg, uint64_t job, enum job_end end, const struct counts *counts);
    /* The last word on a job that failed; param may be NULL. */
    void (*fail)(void *arg, uint64_t job, enum job_error code, const char *message,
                 const char *param, const struct counts *counts);
    void *arg;
};

struct backend_model {
    char name[128];
    uint8_t tokenizer_hash[32];
    uint32_t context_tokens, max_output_tokens;
    uint32_t prompt_overhead_tokens, message_overhead_tokens;
};

struct backend_load {
    uint32_t running, waiting;
    uint64_t outstanding_tokens;
};

struct backend {
    const struct backend_ops *ops;
    struct backend_model model;
    uint32_t capacity_sequences;
    bool immediate; /* submit() and step() never take long: no thread of its own */
};

struct backend_ops {
    /* Bad jobs are answered through sink.fail. */
    void (*submit)(struct backend *b, const struct job *job);
    void (*cancel)(struct backend *b, uint64_t job); /* answers with finish(JOB_CANCELLED) */
    /* A paused job makes no tokens but keeps its place. */
    void (*set_paused)(struct backend *b, uint64_t job, bool paused);
    bool (*step)(struct backend *b); /* one engine step; false: nothing to do */
    void (*load)(struct backend *b, struct backend_load *out);
    void (*free)(struct backend *b);
};

/* Answers each request at once with a fixed text of max_tokens tokens (at most 16 when none is
 * given): for measuring the gateway, and for tests. */
struct backend *backend_echo_new(const char *model_name, const struct sink *sink,
                                 struct error *err);

struct cpu_options {
    const char *model_dir;
    const char *model_name; /* NULL: the folder's name */
    int threads;            /* 0: the number of processors */
    int sequences_max;      /* 16 at least */
    int64_t kv_bytes;       /* of the KV cache */
    int step_tokens;        /* the token budget of a step */
    int default_output_tokens;
};

struct backend *backend_cpu_new(const struct cpu_options *options, const struct sink *sink,
                                struct error *err);

#endif
