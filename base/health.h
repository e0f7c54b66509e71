/*
 * The operator's listener of a daemon, in the clear (loopback or a Unix socket):
 *
 *     GET /livez     200, or 503 and the reason
 *     GET /readyz    200, or 503 and the reason
 *     GET /metrics   Prometheus text
 *
 * On a loop that is given, or on a thread of its own, so that it answers while the others work.
 */
#ifndef BASE_HEALTH_H
#define BASE_HEALTH_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/loop.h"
#include "base/metrics.h"

struct health;

struct health_options {
    const char *listen;      /* see http_options */
    struct metrics *metrics; /* NULL: /metrics is empty */
    /* False: not ready, and `why` says so. On the listener's thread. NULL: always ready. */
    bool (*ready)(struct buf *why, void *arg);
    void *arg;
    /* False: the process hangs and had better be restarted. NULL: it is enough that the loop of
     * this listener turns, which says nothing of other threads. */
    bool (*alive)(struct buf *why, void *arg);
};

/* loop NULL: a thread of its own. NULL: err says why. */
struct health *health_new(struct loop *loop, const struct health_options *options,
                          struct error *err);
int health_port(const struct health *h);
/* On the loop's thread, or after its loop_run has returned. NULL is fine. */
void health_free(struct health *h);

#endif
