/* What operators see of a worker: /livez, /readyz (the age of the engine's step, not an open port)
 * and /metrics, on the server's loop. */
#ifndef WORKER_STATUS_H
#define WORKER_STATUS_H

#include "worker/server.h"

struct status_page;

struct status_options {
    const char *listen;        /* unix:/path or host:port */
    int64_t ready_step_age_ms; /* a longer step is not ready */
};

enum status status_new(struct loop *loop, const struct server *server, struct engine *engine,
                       const struct status_options *options, struct status_page **out,
                       struct error *err);
void status_free(struct status_page *p); /* NULL is fine; before the server and the engine */

#endif
