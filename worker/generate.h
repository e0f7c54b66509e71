/* One answer of a model without a server: for trying it out, and for checks. */
#ifndef WORKER_GENERATE_H
#define WORKER_GENERATE_H

#include <stdio.h>

#include "worker/backend.h"

struct generate_options {
    const char *prompt; /* the user's message */
    int tokens;         /* at most; 0: the model's default */
    bool thinking;      /* the reasoning is shown between <think> and </think> */
    float temperature;
};

/* Streams the answer to `out` as it is made. INVALID: the backend refused it. */
enum status generate_run(const struct cpu_options *cpu, const struct generate_options *options,
                         FILE *out, struct error *err);

#endif
