/*
 * Runs API calls on a few threads, each with its own connection to PostgreSQL and Redis, and
 * brings the answers back to the loop. The queue is bounded: past it, 503 at once.
 */
#ifndef ADMIN_API_POOL_H
#define ADMIN_API_POOL_H

#include "base/error.h"
#include "base/http_server.h"
#include "base/loop.h"

struct api_pool;

struct api_pool_options {
    struct loop *loop;
    const char *database_url, *redis_url;
    const char *redis_password; /* NULL: none */
    int threads, queue_max;
};

/* NULL: err says why. */
struct api_pool *api_pool_new(const struct api_pool_options *options, struct error *err);
void api_pool_free(struct api_pool *p); /* waits for running calls; their answers are dropped */
/* Loop thread. Takes the exchange: answers it, now or later. */
void api_pool_take(struct api_pool *p, struct http_exchange *ex);
/* From the server's `closed`: the exchange is gone, its answer is not wanted any more. */
void api_pool_closed(struct http_exchange *ex);

#endif
