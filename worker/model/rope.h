/* Rotary positions, with YaRN's stretched frequencies. Immutable after init: any thread. */
#ifndef WORKER_MODEL_ROPE_H
#define WORKER_MODEL_ROPE_H

#include "worker/model/config.h"

struct rope {
    int pairs;
    double *frequency; /* radians per position, [pairs] */
    double magnitude;
};

enum status rope_init(struct rope *r, const struct rope_config *c, struct error *err);
void rope_done(struct rope *r);
/* out: [pairs] of (cosine, sine) at a position. */
void rope_angles(const struct rope *r, int position, float *out);
/* Rotates neighbouring pairs of x in place. */
void rope_turn(float *x, const float *angles, int pairs);

#endif
