/*
 * From a REQUEST of the worker protocol to a job. What contradicts itself is refused with the
 * name of the field, as a client of the HTTP surface knows it. Any thread.
 */
#ifndef WORKER_JOB_WIRE_H
#define WORKER_JOB_WIRE_H

#include "base/arena.h"
#include "base/error.h"
#include "base/wire.pb-c.h"
#include "worker/job.h"

enum { JOB_CHOICES_MAX = 8, JOB_TOOLS_MAX = 128, JOB_BIASES_MAX = 1024 };

struct job_fault {
    struct error error; /* one line for the client */
    char param[96];     /* "tools[2].function.name" */
};

/* The request has passed wire_check_request. Lists are made in the arena, strings stay the
 * request's: the job is valid as long as both. job.id is left to the caller. INVALID: see *fault;
 * NOMEM, LIMITED: the arena is full. */
enum status job_from_wire(const Wire__Request *m, struct arena *arena, struct job *out,
                          struct job_fault *fault);

#endif
