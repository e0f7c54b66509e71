/*
 * A snapshot of all prices: model x tenant override x currency x time. Immutable once made, so
 * any thread may read it; a new one is loaded and swapped in.
 */
#ifndef BILLING_PRICEBOOK_H
#define BILLING_PRICEBOOK_H

#include <stdint.h>

#include "base/error.h"
#include "base/id.h"
#include "base/money.h"
#include "base/pg.h"

/* Pico-units of the currency per token. */
struct price {
    int64_t price_id; /* of the row in `prices` */
    int64_t input_miss_pico, input_hit_pico, output_pico;
};

struct token_counts {
    int64_t prompt; /* cached included */
    int64_t cached;
    int64_t completion; /* reasoning included */
    int64_t reasoning;
};

struct pricebook;

enum status pricebook_load(struct pg *pg, struct pricebook **out, struct error *err);
void pricebook_free(struct pricebook *b);
/* The tenant's own price if it has one, else the model's. NOT_FOUND: the model has no price in
 * that currency at that time. */
enum status pricebook_find(const struct pricebook *b, const char *model,
                           const struct uuid *tenant_id, const char *currency, int64_t wall_ms,
                           struct price *out);
/* miss x rate + hit x rate + completion x rate. */
money_pico price_rate(const struct price *p, const struct token_counts *counts);

#endif
