/*
 * Ships journals to PostgreSQL exactly once: reads each shard behind its cursor, stores events,
 * ledger entries, holds and the new cursor in one transaction (ship_batch.h), deletes segments
 * that are shipped. A shard with a damaged record stops there, alone, and says so until the file
 * is mended. Only one shipper may work on a database: hold the leader's lock (shipper_lead).
 * Blocking; one owner.
 */
#ifndef BILLING_SHIPPER_H
#define BILLING_SHIPPER_H

#include "billing/ship_batch.h"

struct shipper;

struct shipper_options {
    const char *const *dirs; /* journal folders; copied. One that is not there yet is empty. */
    int dir_count;
    int keep_segments; /* shipped segments left in place for each shard */
};

struct shipper_status {
    struct ship_counts total; /* since the shipper was made */
    int64_t batches_total, segments_deleted_total;
    int stopped;          /* shards that stand still because of an error of theirs */
    struct error why;     /* of the first of them */
    int64_t behind_bytes; /* written but not shipped, at the last run */
};

struct shipper *shipper_new(const struct shipper_options *options, struct error *err);
void shipper_free(struct shipper *s); /* NULL is fine */

/* The advisory lock of the one leader, held by this connection for as long as it lives. LIMITED:
 * another has it. */
enum status shipper_lead(struct pg *pg, struct error *err);
/* Ships what there is, up to the present end of each journal. OK also when a shard is stopped
 * (see shipper_status). UNAVAILABLE, TIMED_OUT: the database is away; call again with a new
 * connection. CLOSED: another shipper was at work; call again. */
enum status shipper_run(struct shipper *s, struct pg *pg, struct error *err);
const struct shipper_status *shipper_status(const struct shipper *s);

#endif
