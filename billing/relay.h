/*
 * The thread of tollgate-billing that passes PostgreSQL's messages about changed keys on to Redis,
 * so that a revocation reaches every gateway also when whoever made it died before saying so.
 * After a connection was lost it looks for copies in Redis that are out of date. Each process
 * does it, leader or not: telling twice does no harm.
 */
#ifndef BILLING_RELAY_H
#define BILLING_RELAY_H

#include "base/metrics.h"
#include "billing/settings.h"

struct relay;

/* The settings and the metrics must outlive it. NULL: err says why. */
struct relay *relay_start(const struct billing_settings *settings, struct metrics *metrics,
                          struct error *err);
void relay_stop(struct relay *r); /* NULL is fine */

#endif
