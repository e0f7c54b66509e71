/*
 * What the worker's server needs of a backend: a table of operations, called on one thread (the
 * engine thread; the server's own for a backend that is `immediate`). A backend answers through
 * the sink, from inside step() or submit(), on that same thread (but for `wake`).
 */
#ifndef WORKER_BACKEND_H
#define WORKER_BACKEND_H

#include "base/error.h"
#include "worker/delta.h"
#include "worker/job.h"
#include "worker/model/model.h"

struct sink {
    /* What a choice made in this step; the counts are cumulative, of all choices. The last one
     * of a choice says how it ended. */
    void (*tokens)(void *arg, uint64_t job, uint32_t choice, const struct delta_view *made,
                   const struct counts *counts);
    /* After the last choice's end; `end` is that of the first. */
    void (*finish)(void *arg, uint64_t job, enum job_end end, const struct counts *counts);
    /* The last word on a job that failed; param may be NULL. */
    void (*fail)(void *arg, uint64_t job, enum job_error code, const char *message,
                 const char *param, const struct counts *counts);
    /* Any thread: step() has something to do again. NULL: step() is called all the time. */
    void (*wake)(void *arg);
    void *arg;
};

struct backend_model {
    char name[128];
    uint8_t tokenizer_hash[32];
    uint32_t context_tokens, max_output_tokens;
    bool completions_only; /* chats are refused */
    uint32_t prompt_overhead_tokens, message_overhead_tokens;
    uint32_t tools_overhead_tokens, tool_overhead_tokens; /* base/wire.proto, Model */
};

struct backend_load {
    uint32_t running, waiting;
    uint64_t outstanding_tokens;
    uint64_t drafted, accepted; /* tokens guessed ahead so far, and those that were right */
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
    /* After a step that had nothing to do: when the next may have, on clock_mono_us, if nothing
     * is asked before; 0: never. Not asked of an immediate backend. */
    int64_t (*due_us)(struct backend *b);
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
    enum kv_type kv_type;   /* how it stores a value */
    bool deterministic;     /* as model_options */
    enum model_weights weights;
    bool large_pages, rounded; /* as model_options */
    int speculate;             /* enum sched_speculation (worker/scheduler.h) */
    int step_tokens;           /* the token budget of a step */
    int default_output_tokens;
};

struct backend *backend_cpu_new(const struct cpu_options *options, const struct sink *sink,
                                struct error *err);

#endif
