/*
 * The working thread of tollgate-billing: becomes the leader of the database when it can, then in
 * each round ships the journals and keeps the balances. It logs what changes; status and metrics
 * may be read from any thread.
 */
#ifndef BILLING_WORK_H
#define BILLING_WORK_H

#include "base/metrics.h"
#include "billing/balances.h"
#include "billing/settings.h"
#include "billing/shipper.h"

enum work_state {
    WORK_CONNECTING, /* PostgreSQL is away, or its schema is not ours */
    WORK_STANDBY,    /* another process leads */
    WORK_LEADING,
};

struct work_status {
    enum work_state state;
    int64_t round_mono_ms; /* the end of the last round that succeeded; 0: none has */
    struct shipper_status ship;
    struct balances_status balances;
    struct error why;          /* of CONNECTING */
    struct error balances_why; /* empty: the last round of the balances succeeded */
};

struct work;

/* The settings and the metrics must outlive it. NULL: err says why. */
struct work *work_start(const struct billing_settings *settings, struct metrics *metrics,
                        struct error *err);
/* Ends after a last round, so that what is in the journals is shipped. NULL is fine. */
void work_stop(struct work *w);
void work_read(struct work *w, struct work_status *out);
/* For /readyz: arg is the struct work. */
bool work_ready(struct buf *why, void *arg);

#endif
