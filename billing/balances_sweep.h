/* Holds in Redis that their gateway will not settle. Private to billing/balances.c. */
#ifndef BILLING_BALANCES_SWEEP_H
#define BILLING_BALANCES_SWEEP_H

#include "billing/balances.h"

struct sweep {
    struct balance *redis;
    struct pg *pg;
    bool release; /* also give back old holds that no journal has admitted */
    struct balances_status *status;
};

/* Settles the holds of requests that are usage events already; with release, also gives back the
 * old ones that no journal has admitted: their gateway died between Redis and its journal. Only
 * holds of gateways whose journals are shipped here. Settling is idempotent, so that it does not
 * matter who comes first. */
enum status balances_sweep(const struct sweep *sweep, struct error *err);

#endif
