/*
 * Prepaid balances in Redis, as tollgate-billing keeps them: set from the ledger when they are
 * missing, changed by credits, and holds that nobody settles settled. Gateways only ever move a
 * balance through admission (auth/admit.lua, auth/settle.lua); a missing one refuses admission.
 *
 *     tg:b:<tenant>   balance in nano-units    tg:d:<tenant>   settled while it was missing
 *     tg:o:<tenant>   last credit applied      tg:h:<gateway>  holds
 *     tg:mark         which Redis process the balances are of, and which leader keeps them
 *
 * Blocking; one owner. Only the leader may use it.
 */
#ifndef AUTH_BALANCE_H
#define AUTH_BALANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/id.h"
#include "base/redis.h"

struct balance;

/* The connection stays the caller's. */
struct balance *balance_new(struct redis_sync *redis, struct error *err);
void balance_free(struct balance *b); /* NULL is fine */

/* Makes this leader the keeper, if Redis is still the process that the last keeper saw. *kept
 * false: it has started anew or failed over, what it holds is of unknown age: drop the balances,
 * then call balance_take. */
enum status balance_keep(struct balance *b, const struct uuid *leader, bool *kept,
                         struct error *err);
enum status balance_take(struct balance *b, struct error *err);
/* missing[i]: the tenant has no balance in Redis. */
enum status balance_missing(struct balance *b, const struct uuid *tenants, int count, bool *missing,
                            struct error *err);
/* Makes balances missing: admission of the tenants stops until they are set. */
enum status balance_drop(struct balance *b, const struct uuid *tenants, int count,
                         struct error *err);

struct balance_hold {
    struct uuid gateway_id, request_id;
    int64_t tokens, hold_nano;
};

/* The ids of requests of the tenant that were settled in Redis while the balance was missing. */
typedef void balance_id_fn(const struct uuid *gateway_id, const struct uuid *request_id, void *arg);
enum status balance_settled_meanwhile(struct balance *b, const struct uuid *tenant,
                                      balance_id_fn *fn, void *arg, struct error *err);
/* All holds of all gateways. */
enum status balance_each_hold(struct balance *b, balance_id_fn *fn, void *arg, struct error *err);

struct balance_state {
    struct uuid tenant;
    int64_t nano;                 /* by the ledger, with all credits up to last_credit */
    int64_t last_credit;          /* its number; 0: none */
    const struct uuid *in_ledger; /* of the ids of balance_settled_meanwhile, those it has */
    size_t in_ledger_count;
    const struct balance_hold *holds; /* admitted and not settled, as far as the journals tell */
    size_t hold_count;
};

/* Sets a missing balance: nano, less what was settled meanwhile and is not in the ledger yet, less
 * all holds of the tenant; holds that Redis has lost are put back. *set false: it was not missing.
 * CLOSED: another leader keeps the balances. */
enum status balance_set(struct balance *b, const struct balance_state *state, bool *set,
                        struct error *err);

struct balance_credit {
    struct uuid tenant;
    int64_t number; /* those of a tenant only grow */
    int64_t delta_nano;
};
/* Adds a credit, once. *applied false: the balance is missing. */
enum status balance_apply(struct balance *b, const struct balance_credit *credit, bool *applied,
                          struct error *err);

enum { BALANCE_SETTLE_MAX = 256 };
struct balance_settle {
    struct uuid request_id;
    int64_t tokens, cost_nano;
};
struct balance_settles {
    struct uuid gateway_id;
    const struct balance_settle *items;
    int count; /* at most BALANCE_SETTLE_MAX */
};
/* Settles holds of one gateway as admission_settle does: those already settled stay as they are.
 * *claimed grows. */
enum status balance_settle(struct balance *b, const struct balance_settles *settles,
                           int64_t *claimed, struct error *err);

#endif
