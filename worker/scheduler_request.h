/*
 * What the scheduler knows of a request: its sequences (one a choice) and its tenant. Private to
 * worker/scheduler*.c.
 */
#ifndef WORKER_SCHEDULER_REQUEST_H
#define WORKER_SCHEDULER_REQUEST_H

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
    /* of this step's batch */
    int rows, first_row;
    bool judges; /* it has guesses in it */
    bool waits;  /* its next token could not be made, for it was not ready */
    /* Guesses: tokens behind those that were made, to be judged by the next step. */
    int drafts;
    /* Rows of this step's batch, from fresh_row on, whose next token it made, the first of them at
     * position fresh_at. */
    int fresh, fresh_row;
    uint32_t fresh_at;
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
    int64_t deadline_us; /* on the scheduler's clock; 0: none */
    bool paused, held;
    struct sampling sampling; /* the bias is its own */
    uint32_t prompt, max_tokens, choices;
    uint32_t cached; /* prompt tokens found in the cache */
    bool salted;     /* its blocks may be shared */
    bool guesses;    /* ahead, from its prompt on */
    uint32_t overtaken;
    bool tried; /* did not fit, in this turn */
    uint32_t running;
    struct sequence *sequences;     /* [choices] */
    struct request *ahead, *behind; /* in the queue */
};

#endif
