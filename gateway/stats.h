/*
 * Counts of one loop, for /metrics. Its loop thread alone writes; any thread reads: so plain
 * relaxed atomics, and no line is shared by two writers.
 */
#ifndef GATEWAY_STATS_H
#define GATEWAY_STATS_H

#include <stdatomic.h>
#include <stdint.h>

#include "auth/admission.h"
#include "base/buf.h"

enum { STATS_BUCKETS = 16, STATS_CLASSES = 6 };

#define stat_count _Atomic uint64_t

struct stats_histogram {
    stat_count bucket[STATS_BUCKETS + 1]; /* the last: above all bounds */
    stat_count sum_ms;
};

struct stats {
    _Alignas(64) stat_count responses[STATS_CLASSES]; /* [2]: 2xx, ...; [0]: the client left */
    stat_count admissions[ADMIT_UNAVAILABLE + 1];
    stat_count prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens;
    stat_count outcomes[4]; /* by enum meter_outcome */
    stat_count retries, auth_failures, journal_records, over_hold;
    stat_count in_flight, queued, unsettled, recovering, links_up; /* of this moment */
    stat_count journal_lag_bytes;                                  /* written, not yet durable */
    struct stats_histogram total, first_token;
};

static inline void stat_add(stat_count *c, uint64_t n)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline void stat_set(stat_count *c, uint64_t n)
{
    atomic_store_explicit(c, n, memory_order_relaxed);
}

static inline uint64_t stat_get(const stat_count *c)
{
    return atomic_load_explicit((stat_count *)c, memory_order_relaxed);
}

void stats_observe(struct stats_histogram *h, int64_t ms);
/* Prometheus text of the sums over all loops. */
enum status stats_put(struct buf *out, const struct stats *const *loops, int count);

#endif
