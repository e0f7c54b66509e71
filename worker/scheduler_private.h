/*
 * Inside the scheduler: its state, and what its files ask of each other. Private to
 * worker/scheduler*.c.
 */
#ifndef WORKER_SCHEDULER_PRIVATE_H
#define WORKER_SCHEDULER_PRIVATE_H

#include "worker/model/model.h"
#include "worker/prefix.h"
#include "worker/scheduler.h"
#include "worker/scheduler_request.h"
#include "worker/speculate.h"

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
    float *logits;          /* [rows that want them][vocabulary] */
    /* Of speculation; none of it is there when `depth` is 0. */
    int depth;     /* guesses in a row, at most */
    bool drafting; /* in this step */
    struct speculate pace;
    uint64_t drafted, accepted;
    struct batch_row *draft_rows; /* [step_tokens] */
    struct sequence **drafters;   /* [sequences_max], scratch */
    float *hidden;                /* [step_tokens][hidden]: of this step's rows */
    float *draft_hidden;          /* [2][sequences_max][hidden] */
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

/* scheduler_draft.c: guessing ahead. */

enum status draft_init(struct scheduler *s, struct error *err);
void draft_done(struct scheduler *s);
/* Whether a request that begins now is guessed for. */
bool draft_chosen(struct scheduler *s, const struct request *r);
/* Before the rows of a step are shared out. */
void draft_begin(struct scheduler *s);
/* The step took so long. */
void draft_note(struct scheduler *s, int64_t us);
/* Where the final hidden state of a row of the batch goes; NULL: nobody wants it. */
float *draft_hidden_row(const struct scheduler *s, int row);
/* The guessing layer reads what the step read of prompts; before their tokens are made. */
void draft_read(struct scheduler *s);
/* Guesses for the next step; after this one's tokens were told. */
void draft_guess(struct scheduler *s);

/* scheduler.c */

/* Whether a sequence that waited may go on. */
bool sequence_is_ready(struct scheduler *s, const struct sequence *q);
/* The token after what q made and its drafts; -1: none. */
int32_t sequence_pick(struct scheduler *s, const struct sequence *q, const float *logits,
                      bool is_guess);

void request_free(struct scheduler *s, struct request *r);
void sequence_end(struct scheduler *s, struct sequence *q, enum sched_end how);
/* Ends all choices of a waiting request that has left the queue, and frees it. */
void request_end(struct scheduler *s, struct request *r, enum sched_end how);

#endif
