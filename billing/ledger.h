/*
 * The ledger: double entry, append-only, in PostgreSQL, which refuses transactions that do not
 * sum to zero. Shipping posts usage; here are credits and balances. A change of a prepaid balance
 * is also an operation for Redis (table balance_ops), written in the same transaction; the leader
 * of tollgate-billing carries it out. Blocking; a connection has one owner.
 */
#ifndef BILLING_LEDGER_H
#define BILLING_LEDGER_H

#include "base/money.h"
#include "base/pg.h"

enum credit_kind { CREDIT_GRANTED, CREDIT_PAID };

struct tenant_balance {
    char currency[4];
    money_pico granted, paid; /* left of the credits */
    money_pico receivable;    /* used beyond them */
    money_pico available;     /* granted + paid - receivable */
    int64_t holds;            /* requests admitted and not settled, as far as shipped */
    money_pico held;
};

/* amount > 0. A reference that is not empty may be used once for a tenant and kind: CONFLICT
 * tells that this credit was given before. NOT_FOUND: no such tenant. */
enum status ledger_credit(struct pg *pg, const struct uuid *tenant_id, enum credit_kind kind,
                          money_pico amount, const char *reference, int64_t *transaction_id,
                          struct error *err);
/* Whether Redis has seen the credit. */
enum status ledger_credit_applied(struct pg *pg, int64_t transaction_id, bool *applied,
                                  struct error *err);
enum status ledger_balance(struct pg *pg, const struct uuid *tenant_id, struct tenant_balance *out,
                           struct error *err);

struct ledger_line {
    int64_t transaction_id;
    const char *kind;    /* usage, grant, payment, invoice_payment */
    const char *account; /* granted, paid, receivable, revenue, promotion, cash */
    const char *reference, *project;
    money_pico amount; /* debits positive, credits negative */
    int64_t at_wall_ms;
};
typedef void ledger_fn(const struct ledger_line *line, void *arg);
/* The newest `limit` transactions of a tenant, newest first, with all their entries. */
enum status ledger_history(struct pg *pg, const struct uuid *tenant_id, int limit, ledger_fn *fn,
                           void *arg, struct error *err);

#endif
