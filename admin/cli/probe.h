/* One blocking HTTP GET to a daemon's admin listener (in the clear, on this machine). */
#ifndef ADMIN_CLI_PROBE_H
#define ADMIN_CLI_PROBE_H

#include <stdint.h>

#include "base/address.h"

struct probe_answer {
    int status;
    char body[512]; /* its beginning */
};

/* UNAVAILABLE: nobody listens; TIMED_OUT; CORRUPT: no HTTP. */
enum status probe_get(const struct address *to, const char *path, int64_t timeout_ms,
                      struct probe_answer *out, struct error *err);

/* A connected blocking socket with that timeout for each send and receive; -1: err says why. */
int probe_connect(const struct address *to, int64_t timeout_ms, struct error *err);

#endif
