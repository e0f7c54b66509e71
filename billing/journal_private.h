/*
 * What the writer (the loop's thread) and the syncer share of one journal. The lock guards all
 * fields of struct journal_shared; `durable` and `state` are read without it.
 */
#ifndef BILLING_JOURNAL_PRIVATE_H
#define BILLING_JOURNAL_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "billing/journal_segment.h"

enum journal_state {
    JOURNAL_OPEN,
    JOURNAL_FULL,   /* no room for the next segment: settles only */
    JOURNAL_FAILED, /* a write or sync failed: nothing more, for good */
};

/* A segment that was left behind by rotation and is still to be synced and closed. */
struct retired {
    struct retired *next; /* newer */
    int fd;
    int64_t size; /* bytes of the file */
};

struct journal_shared {
    pthread_mutex_t lock;
    char dir[SEGMENT_PATH_MAX];
    int fd;          /* the current segment */
    int64_t written; /* position */
    bool folder_new; /* a segment was made since the folder was synced */
    struct retired *retired, **retired_last;
    struct error why; /* of a state other than OPEN */
    _Atomic(enum journal_state) state;
    _Atomic int64_t durable;
    int wake_fd; /* eventfd that tells the loop; -1: nobody listens */

    /* Guarded by the syncer's lock. */
    struct journal_shared *next;
    bool dirty, busy;
};

/* The first failure stays; FULL may become FAILED, or OPEN again. */
void journal_set_state(struct journal_shared *s, enum journal_state state, const struct error *why);
/* Syncs what is written up to now: retired segments, the folder, the current one. */
void journal_sync_now(struct journal_shared *s);

void journal_syncer_add(struct journal_syncer *y, struct journal_shared *s);
void journal_syncer_remove(struct journal_syncer *y, struct journal_shared *s); /* waits */
void journal_syncer_wake(struct journal_syncer *y, struct journal_shared *s);   /* more to sync */

#endif
