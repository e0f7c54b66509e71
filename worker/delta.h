/*
 * What one choice of a job has made since it was last told: text, pieces of tool calls, log
 * probabilities, and how it ended. A delta owns its parts and grows by being added to; a view
 * points into one, or into a copy of its bytes (the parts hold no pointers, so they can be copied
 * to another thread and joined). One owner, no locking.
 */
#ifndef WORKER_DELTA_H
#define WORKER_DELTA_H

#include "base/buf.h"
#include "worker/job.h"

enum delta_part {
    DELTA_CONTENT,   /* whole UTF-8 characters without NULs */
    DELTA_REASONING, /* as content */
    DELTA_CALLS,     /* records: delta_next_call */
    DELTA_LOGPROBS,  /* records: delta_next_logprob */
    DELTA_PARTS,
};

struct delta {
    struct buf parts[DELTA_PARTS];
    size_t last_call; /* bytes from the last record of DELTA_CALLS to its end */
    enum job_end end; /* JOB_GOES_ON: not yet */
};

struct delta_view {
    const uint8_t *data[DELTA_PARTS];
    size_t len[DELTA_PARTS];
    enum job_end end;
};

/* The first delta of a call brings id and name, which are "" later. */
struct delta_call {
    uint32_t index;
    const char *id, *name;
    const char *arguments; /* a piece, UTF-8, maybe "" */
};

struct delta_candidate {
    const uint8_t *bytes; /* of the token, maybe part of a character */
    uint32_t len;
    float logprob;
};

enum { DELTA_TOP_MAX = 20 };

struct delta_logprob {
    struct delta_candidate token;
    struct delta_candidate top[DELTA_TOP_MAX]; /* likeliest first */
    int top_count;
};

/* max_bytes: of each part; adding past it is LIMITED. */
void delta_init(struct delta *d, size_t max_bytes);
void delta_done(struct delta *d);
void delta_clear(struct delta *d);
/* A call's piece joins the piece before it when that is of the same call. */
enum status delta_add_call(struct delta *d, const struct delta_call *call);
enum status delta_add_logprob(struct delta *d, const struct delta_logprob *l);
enum status delta_merge(struct delta *d, const struct delta_view *more);
void delta_see(const struct delta *d, struct delta_view *out);

bool delta_is_empty(const struct delta_view *v);
/* What credit counts: content, reasoning, and the ids, names and arguments of calls. */
size_t delta_text_bytes(const struct delta_view *v);
/* Walk the records from *at (0 at first); false: there are no more. The strings and bytes lie in
 * the view. */
bool delta_next_call(const struct delta_view *v, size_t *at, struct delta_call *out);
bool delta_next_logprob(const struct delta_view *v, size_t *at, struct delta_logprob *out);

#endif
