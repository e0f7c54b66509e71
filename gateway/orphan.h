/*
 * Requests whose gateway process died under them. At start the journals are read: an ADMIT without
 * a SETTLE is open. A worker that ran one offers its counts; then it is settled as failed: the
 * client saw a broken answer, so it is recorded and not charged. What no worker offers within
 * recover_wait_ms is settled with counts of zero. Either way its hold is released.
 *
 * A worker's offer for a request that this process runs or has settled ends up here as well:
 * it goes to the request, on whichever loop that is, or is acknowledged.
 */
#ifndef GATEWAY_ORPHAN_H
#define GATEWAY_ORPHAN_H

#include "gateway/loop.h"

struct recovery;

/* Before any journal is opened. Notes open and settled ids in the registry. */
enum status recovery_read(struct gateway *g, struct recovery **out, struct error *err);
void recovery_free(struct recovery *r); /* NULL is fine */
/* Loop 0, once, when it has begun: settles again in Redis what was settled last, since the
 * process may have died between the journal and Redis. */
void recovery_begin(struct gateway_loop *gl);
/* Loop 0, each tick. */
void recovery_tick(struct gateway_loop *gl, int64_t now_ms);

/* A worker's offer: the `usage` of the link's handlers, arg is the loop. */
void orphan_usage(struct link *l, const Wire__UsageList *m, void *arg);
/* Each tick: settles those whose other attempts have had time to be offered too. */
void orphan_tick(struct gateway_loop *gl, int64_t now_ms);
/* More is on disk. */
void orphan_durable(struct gateway_loop *gl);
/* Sets stats.recovering: how many there are. Each tick, and when one comes. */
void orphan_describe(struct gateway_loop *gl);
void orphan_done(struct gateway_loop *gl);

#endif
