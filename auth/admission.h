/*
 * Admission: one atomic script call checks and reserves, for key, project and tenant at once,
 * requests/min, tokens/min, concurrent requests and the prepaid balance; a hold records what was
 * reserved; settling it turns the hold into the exact amount. Calls of one loop turn travel
 * together. The interface is asynchronous throughout, so that a lease may one day answer
 * admission_ask without a round trip. State lives in Redis (see auth/admit.lua). Loop
 * thread only.
 *
 * Redis keys: tg:a:k:KEY, tg:a:p:PROJECT, tg:a:t:TENANT (state of a subject), tg:b:TENANT (prepaid
 * balance), tg:h:GATEWAY (holds by request id), tg:d:TENANT (costs while the balance is being
 * rebuilt), tg:f:INSTANCE (fence); ids as text, request ids as 16 bytes.
 *
 * While Redis is away, requests are admitted on a local share of each limit; prepaid tenants are
 * refused with ADMIT_UNAVAILABLE.
 */
#ifndef AUTH_ADMISSION_H
#define AUTH_ADMISSION_H

#include <stdbool.h>
#include <stdint.h>

#include "auth/key_record.h"
#include "base/id.h"
#include "base/loop.h"
#include "base/redis.h"

struct admission;

struct admit_request {
    struct uuid request_id;
    const struct key_record *key; /* copied */
    int64_t tokens;               /* prompt estimate + max output; below 2^53 */
    int64_t hold_nano;            /* its price, rounded up; 0 for tenants that are not prepaid */
};

enum admit_verdict {
    ADMIT_OK,
    ADMIT_RATE_REQUESTS, /* 429, retry after retry_ms */
    ADMIT_RATE_TOKENS,
    ADMIT_CONCURRENCY,
    ADMIT_BALANCE,     /* 402 */
    ADMIT_UNAVAILABLE, /* 503: the balance is being rebuilt, or Redis is away */
};

struct admit_result {
    enum admit_verdict verdict;
    enum limit_subject subject; /* whose limit refused */
    int64_t retry_ms;
    /* Of the tightest subject that has the limit; limit 0: none has one. */
    int64_t requests_limit, requests_remaining, requests_reset_ms;
    int64_t tokens_limit, tokens_remaining, tokens_reset_ms;
    bool held;  /* a hold stands, in Redis or here, and must be settled */
    bool local; /* Redis is away: admitted on the local share of the limits */
};

typedef void admit_fn(const struct admit_result *result, void *arg);

struct settle_request {
    struct uuid request_id;
    struct uuid key_id, project_id, tenant_id;
    int64_t tokens;    /* used */
    int64_t cost_nano; /* exact, rounded up; 0 when not charged */
};

/* gateway_id names the hash of this gateway's holds. */
struct admission *admission_new(struct loop *loop, struct redis *redis,
                                const struct uuid *gateway_id, struct error *err);
/* Before or after redis_free. Asks not yet answered get ADMIT_UNAVAILABLE. NULL is fine. */
void admission_free(struct admission *a);
/* While Redis is away each loop admits up to 1/divisor of each limit; 4 at first. */
void admission_set_share(struct admission *a, int divisor);
/* Calls fn exactly once, maybe at once. */
void admission_ask(struct admission *a, const struct admit_request *request, admit_fn *fn,
                   void *arg);
/* Settling is idempotent by the hold: a second settle of an id changes nothing. Kept and sent
 * again until Redis has answered (bounded; past the bound, and for a lost hold, the balance is
 * mended by the rebuild from the ledger). */
void admission_settle(struct admission *a, const struct settle_request *request);
int admission_pending(const struct admission *a); /* settles not yet answered */

#endif
