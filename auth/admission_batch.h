/* What goes into and comes out of auth/admit.lua and auth/settle.lua. Private to admission. */
#ifndef AUTH_ADMISSION_BATCH_H
#define AUTH_ADMISSION_BATCH_H

#include "auth/admission.h"

enum { ADMIT_BATCH_MAX = 256, SETTLE_BATCH_MAX = 512, BUCKET_MS = 60000 };

/* One request, with what admission needs of its key. */
struct ask {
    struct uuid request_id;
    struct uuid subject_id[SUBJECTS];
    struct limits limits[SUBJECTS];
    int64_t tokens, hold_nano;
    bool prepaid;
    admit_fn *fn;
    void *arg;
};

void ask_init(struct ask *ask, const struct admit_request *request, admit_fn *fn, void *arg);
bool ask_is_limited(const struct ask *ask, int subject);
bool ask_needs_redis(const struct ask *ask);

/* A subject of a batch, once however many requests have it. */
struct batch_subject {
    struct uuid id;
    int kind; /* enum limit_subject */
    struct limits limits;
};

struct admit_batch {
    struct admission *owner;         /* NULL: gone meanwhile */
    struct admit_batch *next, *prev; /* of the owner's batches under way */
    int count, subject_count;
    struct ask asks[ADMIT_BATCH_MAX];
    int16_t place[ADMIT_BATCH_MAX][SUBJECTS]; /* in subjects; -1: none */
    struct batch_subject subjects[SUBJECTS * ADMIT_BATCH_MAX];
};

/* Where a batch is encoded: large, and of use to one batch after another. */
struct admit_scratch;
struct admit_scratch *admit_scratch_new(void);
void admit_scratch_free(struct admit_scratch *s);

/* Where a gateway's admissions go. */
struct admit_target {
    struct redis *redis;
    struct redis_script *admit, *settle;
    char holds_key[64], fence_key[64];
    int64_t fence; /* see auth/admit.lua */
};

/* Fills subjects and place, and sends the batch. */
void admit_batch_send(struct admit_batch *b, struct admit_scratch *scratch,
                      const struct admit_target *target, redis_fn *fn);
/* Calls every fn with its result. false: the reply is not one of ours, and nothing was called. */
bool admit_batch_answer(struct admit_batch *b, const char *reply, size_t len);

/* The state of a subject as the script keeps it. */
struct subject_state {
    double requests_full_ms, tokens_full_ms, running;
};
/* What a client is told: verdict and the tightest subject that has a limit, from the states at
 * the time now_ms. states[i] NULL: that subject has no limit. */
void admit_result_fill(const struct ask *ask, int verdict, double now_ms,
                       const struct subject_state *const states[SUBJECTS],
                       struct admit_result *out);

struct settle_item {
    struct uuid request_id;
    int64_t tokens, cost_nano;
};
void settle_batch_send(const struct admit_target *target, const struct settle_item *items,
                       int count, redis_fn *fn, void *arg);

#endif
