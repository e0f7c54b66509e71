/*
 * Continuous batching over one model: token ids in, token ids out. A step decodes one token of
 * every running sequence and fills the rest of the token budget with chunks of prompts. KV blocks
 * for prompt + max_tokens are reserved when a sequence starts, so that a step never fails for
 * memory. One thread owns it and everything below it.
 */
#ifndef WORKER_SCHEDULER_H
#define WORKER_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/backend.h"

struct model; /* worker/model/model.h */
struct scheduler;

struct sched_request {
    uint64_t id;
    const int32_t *prompt; /* copied */
    uint32_t prompt_count;
    uint32_t max_tokens;
    struct sampling sampling;
    /* Sequences with the same salt share the cache of common prefixes. NULL: it shares nothing. */
    const uint8_t *cache_salt; /* copied */
    uint32_t cache_salt_len;
};

enum sched_end { SCHED_STOPPED, SCHED_LENGTH, SCHED_CANCELLED };

struct sched_events {
    /* A token was made; return true to end the sequence (SCHED_STOPPED). cached: prompt tokens
     * that came from the prefix cache. */
    bool (*token)(void *arg, uint64_t id, int32_t token, uint32_t cached);
    void (*ended)(void *arg, uint64_t id, enum sched_end end);
    void *arg;
};

struct sched_options {
    int sequences_max;
    int step_tokens; /* token budget of one step */
    int64_t kv_bytes;
    int queue_max; /* waiting sequences */
};

enum status scheduler_new(struct model *model, const struct sched_options *options,
                          const struct sched_events *events, struct scheduler **out,
                          struct error *err);
void scheduler_free(struct scheduler *s); /* NULL is fine */
/* INVALID: longer than the context; LIMITED: the queue is full. */
enum status scheduler_submit(struct scheduler *s, const struct sched_request *request,
                             struct error *err);
void scheduler_cancel(struct scheduler *s, uint64_t id); /* `ended` follows, at once */
void scheduler_set_paused(struct scheduler *s, uint64_t id, bool paused);
bool scheduler_step(struct scheduler *s); /* false: nothing to do */
void scheduler_load(const struct scheduler *s, struct backend_load *out);

#endif
