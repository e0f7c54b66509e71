/*
 * Inside the scheduler: requests, their sequences (one a choice), and what its files ask of each
 * other. Private to worker/scheduler*.c.
 */
#ifndef WORKER_SCHEDULER_PRIVATE_H
#define WORKER_SCHEDULER_PRIVATE_H

#include "worker/model/model.h"
#include "worker/prefix.h"
#include "worker/scheduler.h"

enum sequence_state {
    SEQUENCE_WAITING, /* in the queue: has no blocks */
    SEQUENCE_PREFILL, /* has blocks; its prompt is not yet in them */
    SEQUENCE_FORK,    /* has blocks; waits for choice 0 to read the prompt */
    SEQUENCE_DECODE,
    SEQUENCE_ENDED, /* its end was told; freed when the step is over */
};

struct sequence {
    struct request *request;
    uint32_t choice;
    enum sequence_state state;
    uint64_t seed;
    int32_t *tokens; /* the prompt, then what was made */
    uint32_t made;
    uint32_t done; /* how many of tokens are in the cache */
    /* It holds a reference to blocks[first_block .. block_count - 1]. */
    int32_t *blocks;
    int first_block, block_count;
    struct prefix_key key; /* behind the `keyed` first blocks */
    uint32_t keyed;
    int rows; /* of this step's batch */
};

struct tenant {
    char *name;
    int64_t in_flight; /* tokens of its running requests: prompts and max_tokens */
    int requests;      /* waiting and running; it goes with the last one */
    /* of this step's budget */
    int hungry; /* prompts that want more rows */
    int share;
    struct tenant *next;
};

struct request {
    uint64_t id, arrival;
    struct tenant *tenant;
    int priority;
    int64_t deadline_ms; /* on the scheduler's clock; 0: none */
    bool paused;
    struct sampling sampling; /* the bias is its own */
    uint32_t prompt, max_tokens, choices;
    uint32_t cached; /* prompt tokens found in the cache */
    bool salted;     /* its blocks may be shared */
    uint32_t overtaken;
    bool tried; /* did not fit, in this turn */
    uint32_t running;
    struct sequence *sequences;     /* [choices] */
    struct request *ahead, *behind; /* in the queue */
};

struct scheduler {
    struct model *model;
    struct sched_options options;
    struct sched_events events;
    struct kv *kv;
    struct prefix *prefix;
    struct sampler *sampler;
    struct sequence **running; /* in order of admission */
    struct sequence **readers; /* [sequences_max], scratch */
    int running_count;
    struct request *queue_head, *queue_tail; /* in order of arrival */
    int queue_count;
    uint64_t arrivals;
    struct request *blocked; /* the one whose turn it was when it did not fit */
    bool changed;            /* since the queue was last looked through: a request may fit now */
    struct tenant *tenants;
    bool in_step;
    struct batch_row *rows; /* [step_tokens] */
    float *logits;          /* [sequences_max][vocabulary] */
};

/* scheduler_admit.c: who waits and who begins. */

/* The tenant of that name, with one request more; NULL: out of memory. */
struct tenant *tenant_enter(struct scheduler *s, const char *name);
void tenant_leave(struct scheduler *s, struct tenant *t); /* one request fewer */
void queue_push(struct scheduler *s, struct request *r);
void queue_remove(struct scheduler *s, struct request *r);
/* Ends those whose deadline has passed. */
void queue_expire(struct scheduler *s);
/* Begins the requests whose turn it is and that fit. */
void queue_admit(struct scheduler *s);

/* scheduler_blocks.c: which blocks hold a request's tokens. */

/* What a request takes when nothing of it is cached. */
int64_t blocks_needed(uint32_t prompt, uint32_t max_tokens, uint32_t choices);
/* All blocks that the request may ever need, or none (false). */
bool blocks_reserve(struct scheduler *s, struct request *r);
void blocks_drop(struct scheduler *s, struct sequence *q);
/* The blocks that have become full may be shared from now on. */
void blocks_share(struct scheduler *s, struct sequence *q);
/* Takes over what others with the same beginning have computed since. */
void blocks_catch_up(struct scheduler *s, struct sequence *q);
/* The other choices go on from choice 0's prompt. */
void blocks_fork(struct scheduler *s, struct request *r);

/* scheduler_budget.c */

/* Sets `rows` of every running sequence. */
void budget_share(struct scheduler *s);

/* scheduler.c */

void request_free(struct scheduler *s, struct request *r);
void sequence_end(struct scheduler *s, struct sequence *q, enum sched_end how);
/* Ends all choices of a waiting request that has left the queue, and frees it. */
void request_end(struct scheduler *s, struct request *r, enum sched_end how);

#endif
