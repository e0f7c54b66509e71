/* The worker as a daemon: from settings to a server that runs until it is told to stop. */
#ifndef WORKER_SERVE_H
#define WORKER_SERVE_H

#include "worker/settings.h"

/* Returns after SIGTERM or SIGINT: the first drains, a second stops at once. */
enum status serve_run(const struct worker_settings *settings, struct error *err);

#endif
