/*
 * Continuous batching over one model: token ids in, token ids out. A step decodes one token of
 * every running sequence and fills the rest of the token budget with chunks of prompts, shared
 * evenly among tenants. KV blocks for everything a request may need are reserved when it begins,
 * so that a step never fails for memory. One thread owns it and everything below it.
 *
 * Which waiting request begins next: the one with the highest priority; among those, one of the
 * tenant with the fewest tokens in flight (prompts and max_tokens of what it has running); among
 * those, the one that came first. Priority stands above fairness: it is the operator's word. A
 * request that does not fit yet may be overtaken by smaller ones of the same or a lower priority
 * SCHED_OVERTAKEN_MAX times; then they wait until it has begun.
 *
 * A request with several choices computes its prompt once; the choices share its blocks.
 */
#ifndef WORKER_SCHEDULER_H
#define WORKER_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/backend.h"
#include "worker/sampler.h"

struct model; /* worker/model/model.h */
struct scheduler;

enum {
    SCHED_OVERTAKEN_MAX = 16,
    SCHED_CHOICES_MAX = 128,
    SCHED_DRAFTS_MAX = 4,
};

/* Whether a model that has a layer for multi-token prediction guesses ahead with it. What is made
 * is the same either way (see scheduler_draft.c). */
enum sched_speculation {
    SPECULATE_OFF,
    SPECULATE_AUTO, /* where it pays (worker/speculate.h), if the model has such a layer */
    SPECULATE_ON,   /* always; scheduler_new refuses a model without */
};

struct sched_request {
    uint64_t id;
    const int32_t *prompt; /* copied */
    uint32_t prompt_count;
    uint32_t max_tokens;      /* of each choice */
    struct sampling sampling; /* the bias is copied; choice i draws by sampler_choice_seed(.., i) */
    uint32_t choices;         /* 0 is 1 */
    const char *tenant;       /* copied; NULL is "" */
    int priority;             /* higher begins first */
    int64_t deadline_ms;      /* from now: what has not begun by then ends, EXPIRED; 0: none */
    /* Sequences with the same salt share the cache of common prefixes. NULL: it shares nothing. */
    const uint8_t *cache_salt; /* copied */
    uint32_t cache_salt_len;
    bool held; /* it waits, without being in the others' way, until scheduler_release */
};

enum sched_end {
    SCHED_STOPPED, /* the listener said so */
    SCHED_LENGTH,  /* max_tokens */
    SCHED_CANCELLED,
    SCHED_EXPIRED, /* before any work was done */
    SCHED_BLOCKED, /* no token could be picked: the mask allowed none, or no logit was a number */
};

struct sched_token {
    uint64_t id;
    uint32_t choice; /* 0 .. choices - 1 */
    int32_t token;
    uint32_t cached;                       /* prompt tokens that came from the prefix cache */
    const struct token_logprobs *logprobs; /* NULL: not asked for */
};

/* Called from inside scheduler_step() and scheduler_cancel(). A listener may submit, cancel and
 * pause, but not step. */
struct sched_events {
    /* A token was made; return true to end the choice (SCHED_STOPPED). */
    bool (*token)(void *arg, const struct sched_token *token);
    /* Once for every choice of a request that was accepted. */
    void (*ended)(void *arg, uint64_t id, uint32_t choice, enum sched_end end);
    /* Which tokens may come next (see sampler_input.mask), given all that `token` has told. The
     * words must stay as they are until the next call. NULL, here or as the answer: any may. */
    const uint32_t *(*mask)(void *arg, uint64_t id, uint32_t choice);
    /* Whether `mask` answers at once. If not, the choice makes no token in this step, and is asked
     * again in the next. NULL: always. */
    bool (*ready)(void *arg, uint64_t id, uint32_t choice);
    void *arg;
};

struct sched_options {
    int sequences_max;
    int step_tokens; /* token budget of one step */
    int64_t kv_bytes;
    int queue_max; /* waiting requests */
    enum sched_speculation speculate;
    int drafts; /* guesses of a sequence in one step, at most SCHED_DRAFTS_MAX; 0 is 1 */
    int64_t (*now_us)(void *); /* for deadlines and AUTO; NULL: clock_mono_us */
    void *now_arg;
};

enum status scheduler_new(struct model *model, const struct sched_options *options,
                          const struct sched_events *events, struct scheduler **out,
                          struct error *err);
void scheduler_free(struct scheduler *s); /* NULL is fine */
/* INVALID: it could never run; LIMITED: the queue is full. */
enum status scheduler_submit(struct scheduler *s, const struct sched_request *request,
                             struct error *err);
void scheduler_release(struct scheduler *s, uint64_t id); /* a held request may begin */
void scheduler_cancel(struct scheduler *s, uint64_t id);  /* `ended` follows, at once */
void scheduler_set_paused(struct scheduler *s, uint64_t id, bool paused); /* all its choices */
/* False: nothing can be done before a command comes or a choice gets ready. */
bool scheduler_step(struct scheduler *s);
/* The earliest deadline of what waits, on the scheduler's clock; 0: none. */
int64_t scheduler_due_us(const struct scheduler *s);
void scheduler_load(const struct scheduler *s, struct backend_load *out);
/* Asserts that no block is lost and none counted twice; walks over all of them. */
void scheduler_check(const struct scheduler *s);

#endif
