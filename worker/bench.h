/*
 * How fast a model is here, beside what the machine can do. A case goes through the scheduler as
 * requests do. Its limit is the slower of two times: reading the weights and the cache it needs
 * once per step, and doing its arithmetic; the share is the limit's time over the time taken.
 */
#ifndef WORKER_BENCH_H
#define WORKER_BENCH_H

#include <stdio.h>

#include "worker/cpu/limits.h"
#include "worker/model/model.h"

struct bench_case {
    const char *name;  /* of the command line */
    const char *title; /* of a table */
    int sequences;
    int prompt; /* tokens of each */
    int made;   /* tokens of each behind the first; 0: the prompt is what is timed */
};

enum { BENCH_CASES = 3 };
extern const struct bench_case bench_cases[BENCH_CASES];

struct bench_limit {
    double tokens_per_s;
    bool by_reading; /* else by arithmetic */
};

/* What all threads of the model can do now, reading as much memory as the model's weights take (at
 * most 512 MB: more is not read slower, and less may stay in the caches from one step to the
 * next). */
enum status bench_machine(const struct model *m, struct limits *out, struct error *err);
/* The tokens/s that a machine so measured allows at the most. */
void bench_limit(const struct model *m, const struct bench_case *c, const struct limits *machine,
                 struct bench_limit *out);

/* Of a run: the machine is measured before and behind it, and the better of the two counts. */
struct bench_run {
    double tokens_per_s;
    struct bench_limit limit;
    struct limits machine;
};

/* Of the runs that fit into a few seconds, at least one, the one with the median share of its
 * limit; the first is not counted when there are more. */
enum status bench_time(struct model *m, const struct bench_case *c, struct bench_run *out,
                       struct error *err);

#endif
