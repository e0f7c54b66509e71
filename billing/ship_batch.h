/*
 * Records of one shard, read from its segments and on their way into one transaction. An ADMIT
 * whose SETTLE is in the same batch cancels against it and is not kept. One owner.
 */
#ifndef BILLING_SHIP_BATCH_H
#define BILLING_SHIP_BATCH_H

#include "base/buf.h"
#include "base/pg.h"
#include "billing/journal.h"

enum { SHIP_BATCH_MAX = 8192 }; /* records of each kind */

struct ship_position {
    int64_t seq, offset; /* segment, and bytes into its file */
};

struct ship_admit {
    struct meter_context context;
    int64_t seq;    /* of its segment */
    bool cancelled; /* its SETTLE is here too */
};

struct ship_batch {
    struct uuid source;
    int shard;
    struct ship_position from, to;
    size_t admit_count, settle_count;
    struct ship_admit admits[SHIP_BATCH_MAX];
    struct meter_settle settles[SHIP_BATCH_MAX];
    uint32_t places[4 * SHIP_BATCH_MAX]; /* of ADMITs by request id; 0: none, else index + 1 */
};

void ship_batch_clear(struct ship_batch *b);
bool ship_batch_full(const struct ship_batch *b);
bool ship_batch_empty(const struct ship_batch *b);
void ship_batch_add_admit(struct ship_batch *b, const struct meter_context *c, int64_t seq);
void ship_batch_add_settle(struct ship_batch *b, const struct meter_settle *s);

/* The UTC day of the request's id, in days since 1970. */
int64_t ship_day(const struct uuid *request_id);
/* First and last of the batch; false: the batch has no records. */
bool ship_batch_days(const struct ship_batch *b, int64_t *first, int64_t *last);

struct ship_counts {
    int64_t admits, settles; /* records shipped */
    int64_t events;          /* new usage events */
    int64_t conflicts;       /* rows added to usage_conflicts */
};

/* The one transaction: events, ledger, holds and cursor. Adds to *counts. CLOSED: the cursor in
 * the database is not batch->from (another leader, or a commit that was in doubt): read it again.
 * UNAVAILABLE: try again after reading the cursor again; the commit may have happened. */
enum status ship_batch_store(struct ship_batch *b, struct pg *pg, struct ship_counts *counts,
                             struct error *err);
/* Partitions for the days from first to last, made if absent; outside a transaction. */
enum status ship_make_partitions(struct pg *pg, int64_t first, int64_t last, struct error *err);

#endif
