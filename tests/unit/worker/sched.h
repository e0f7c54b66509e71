/* A listener that writes down what a scheduler tells, for the tests of the scheduler. */
#ifndef TESTS_UNIT_WORKER_SCHED_H
#define TESTS_UNIT_WORKER_SCHED_H

#include "tests/unit/worker/golden.h"
#include "worker/scheduler.h"

enum { SEEN_IDS = 256, SEEN_CHOICES = 4, SEEN_TOKENS = 80 };

struct seen_choice {
    int32_t ids[SEEN_TOKENS];
    int count;
    bool ended;
    enum sched_end how;
};

struct seen_request {
    struct seen_choice choice[SEEN_CHOICES];
    uint32_t cached;
    int stop_at; /* every choice stops itself after so many tokens; 0: never */
    bool begun;
};

struct seen {
    struct seen_request of[SEEN_IDS];
    int ends;                 /* of choices */
    uint64_t begun[SEEN_IDS]; /* ids in order of their first token */
    int begun_count;
    int64_t now_ms; /* the scheduler's clock */
    int told;       /* tokens, since the test last set it */
};

static inline bool seen_token(void *arg, const struct sched_token *t)
{
    struct seen *s = arg;
    CHECK_FATAL(t->id < SEEN_IDS && t->choice < SEEN_CHOICES);
    struct seen_request *r = &s->of[t->id];
    struct seen_choice *c = &r->choice[t->choice];
    CHECK_FATAL(c->count < SEEN_TOKENS && !c->ended);
    if (!r->begun)
        s->begun[s->begun_count++] = t->id;
    r->begun = true;
    c->ids[c->count++] = t->token;
    r->cached = t->cached;
    s->told++;
    return c->count == r->stop_at;
}

static inline void seen_end(void *arg, uint64_t id, uint32_t choice, enum sched_end how)
{
    struct seen *s = arg;
    CHECK_FATAL(id < SEEN_IDS && choice < SEEN_CHOICES && !s->of[id].choice[choice].ended);
    s->of[id].choice[choice].ended = true;
    s->of[id].choice[choice].how = how;
    s->ends++;
}

static inline int64_t seen_clock(void *arg)
{
    return ((struct seen *)arg)->now_ms * 1000;
}

struct sched_sizes {
    int sequences, step_tokens, blocks;
    enum sched_speculation speculate;
    int drafts;
};

/* Forgets what was seen before; events->arg is the same `seen`. */
static inline struct scheduler *sched_open_with(struct model *m, const struct sched_sizes *sizes,
                                                const struct sched_events *events)
{
    struct seen *seen = events->arg;
    struct kv_shape shape;
    struct scheduler *s = NULL;
    struct error err = {""};
    memset(seen, 0, sizeof *seen);
    model_kv_shape(m, &shape);
    struct sched_options o = {.sequences_max = sizes->sequences,
                              .step_tokens = sizes->step_tokens,
                              .kv_bytes = (int64_t)kv_block_bytes(&shape) * sizes->blocks,
                              .queue_max = SEEN_IDS,
                              .speculate = sizes->speculate,
                              .drafts = sizes->drafts,
                              .now_us = seen_clock,
                              .now_arg = seen};
    enum status st = scheduler_new(m, &o, events, &s, &err);
    if (st != OK)
        fprintf(stderr, "%s\n", err.text);
    CHECK_FATAL(st == OK);
    return s;
}

static inline struct scheduler *sched_open(struct model *m, struct seen *seen,
                                           const struct sched_sizes *sizes)
{
    struct sched_events e = {.token = seen_token, .ended = seen_end, .arg = seen};
    return sched_open_with(m, sizes, &e);
}

static inline void sched_submit(struct scheduler *s, const struct sched_request *r)
{
    struct error err = {""};
    enum status st = scheduler_submit(s, r, &err);
    if (st != OK)
        fprintf(stderr, "%s\n", err.text);
    CHECK_FATAL(st == OK);
}

static inline void sched_finish(struct scheduler *s)
{
    while (scheduler_step(s))
        ;
}

/* Nothing runs, nothing waits, no block is lost. */
static inline void sched_close(struct scheduler *s)
{
    struct backend_load load;
    scheduler_load(s, &load);
    CHECK_INT(load.running + load.waiting, 0);
    CHECK_INT(load.outstanding_tokens, 0);
    scheduler_check(s);
    scheduler_free(s);
}

static inline uint32_t sched_draw(uint64_t *state, uint32_t below)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33) % below;
}

#endif
