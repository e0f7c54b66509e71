/*
 * Whether a step is shared among the threads or run by one. Sharing pays when there is much to
 * do and processors are free; on a busy machine a team waits at every barrier for the member that
 * lost its processor, and one thread is faster. So both ways are timed, by size of step, and the
 * faster is taken; the other is tried now and then. One thread owns it.
 */
#ifndef WORKER_MODEL_PACE_H
#define WORKER_MODEL_PACE_H

#include <stdbool.h>
#include <stdint.h>

enum { PACE_SIZES = 8, PACE_TRY_EVERY = 64 };

struct pace {
    struct {
        double alone_us, team_us; /* moving means; 0: not tried yet */
        unsigned turn;
    } of[PACE_SIZES];
};

/* work: multiply-adds of the step. */
bool pace_alone(struct pace *p, double work);
void pace_note(struct pace *p, double work, bool alone, int64_t us);

#endif
