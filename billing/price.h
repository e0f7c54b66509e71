/*
 * The price list in PostgreSQL. A price is a version: rates that never change, for a model, one
 * tenant or all, in one currency, from a time on; setting a new one ends the one before it.
 * Rates are pico-units of the currency per token, which is micro-units per million tokens.
 * Blocking; a connection has one owner.
 */
#ifndef BILLING_PRICE_H
#define BILLING_PRICE_H

#include "base/pg.h"
#include "billing/journal.h"

struct price_version {
    int64_t id;
    char model[MODEL_NAME_MAX];
    bool own; /* of one tenant */
    struct uuid tenant_id;
    char tenant_name[64]; /* own only */
    char currency[4];
    int64_t input_miss_pico, input_hit_pico, output_pico;
    int batch_permille;                  /* thousandths of the rates for batch requests */
    int64_t from_wall_ms, until_wall_ms; /* until 0: open */
};

struct price_change {
    const char *model;
    const struct uuid *tenant_id; /* NULL: for all tenants without an own price */
    const char *currency;
    int64_t input_miss_pico, input_hit_pico, output_pico;
    int batch_permille;   /* 1000: batch requests cost the same */
    int64_t from_wall_ms; /* 0: from now on */
};

/* Sets a price from a time on: until the next one that is already planned, if any. CONFLICT: one
 * begins at that very time, or the change would reach into a past that has a price. */
enum status price_set(struct pg *pg, const struct price_change *change, int64_t *id,
                      struct error *err);

typedef void price_fn(const struct price_version *p, void *arg);
/* All versions, by model, tenant, currency and time. model NULL: of all models; current_only:
 * those valid now. */
enum status price_list(struct pg *pg, const char *model, bool current_only, price_fn *fn, void *arg,
                       struct error *err);

/* "0.28" (units of the currency per million tokens) as pico-units per token. false: not a whole
 * number of them, or negative. */
bool price_parse_rate(const char *per_million, int64_t *pico);

#endif
