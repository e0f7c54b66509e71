/*
 * Keeps the prepaid balances in Redis true to the ledger. A missing balance (Redis was flushed or
 * started anew, or the tenant is new) is set from the ledger and the open requests, after all
 * journals have been shipped to their end; until then admission refuses the tenant. Credits are
 * passed on once. Holds that their gateway did not settle are settled. For the leader, after
 * each round of shipping. Blocking; one owner.
 */
#ifndef BILLING_BALANCES_H
#define BILLING_BALANCES_H

#include "auth/balance.h"
#include "base/pg.h"

struct balances;

struct balances_status {
    int missing; /* balances that are still to be set */
    int64_t rebuilt_total;
    int64_t credits_total;  /* passed on */
    int64_t settled_total;  /* holds of requests that are in the ledger */
    int64_t released_total; /* holds of requests that no journal knows */
};

struct balances *balances_new(struct redis_sync *redis, const struct uuid *leader,
                              struct error *err);
void balances_free(struct balances *b); /* NULL is fine */
/* shipped: the round before has shipped every journal to its end; nothing is rebuilt or released
 * otherwise. *again: ship once more, at once, then call again. UNAVAILABLE, TIMED_OUT: Redis or
 * PostgreSQL is away. CLOSED: another leader keeps the balances. */
enum status balances_round(struct balances *b, struct pg *pg, bool shipped, bool *again,
                           struct error *err);
const struct balances_status *balances_status(const struct balances *b);

#endif
