/*
 * Reading usage events: one request by its id, and sums by day, project, model or key. Days are
 * UTC. Blocking, for command-line tools and the admin API.
 */
#ifndef BILLING_USAGE_H
#define BILLING_USAGE_H

#include <stdint.h>

#include "base/error.h"
#include "base/money.h"
#include "base/pg.h"

enum { USAGE_NAME_MAX = 128, USAGE_TIME_SIZE = 40 };

struct usage_event {
    char id[UUID_TEXT_SIZE];
    char tenant[USAGE_NAME_MAX], project[USAGE_NAME_MAX], key[USAGE_NAME_MAX];
    char model[USAGE_NAME_MAX];
    char outcome[16]; /* finished, cancelled, failed */
    char currency[4];
    int64_t prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens;
    int64_t input_miss_pico, input_hit_pico, output_pico; /* its price, per token */
    money_pico cost_pico;
    char admitted_at[USAGE_TIME_SIZE], settled_at[USAGE_TIME_SIZE]; /* ISO 8601, UTC */
};

/* INVALID: not an id. NOT_FOUND: not recorded (yet). */
enum status usage_find(struct pg *pg, const char *request_id, struct usage_event *out,
                       struct error *err);

enum usage_group { USAGE_BY_DAY, USAGE_BY_PROJECT, USAGE_BY_MODEL, USAGE_BY_KEY };

struct usage_query {
    const char *tenant;    /* name or id */
    const char *from, *to; /* days, "2026-11-01"; `to` is the day after. NULL: open */
    enum usage_group by;
};

struct usage_sum {
    const char *bucket; /* the day, or the name; valid during the callback */
    const char *currency;
    int64_t requests;
    int64_t prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens;
    money_pico cost_pico;
};

typedef void usage_sum_fn(const struct usage_sum *sum, void *arg);

/* NOT_FOUND: no such tenant. INVALID: not a day. */
enum status usage_sums(struct pg *pg, const struct usage_query *query, usage_sum_fn *fn, void *arg,
                       struct error *err);

#endif
