/* Rotary positions, with frequencies stretched evenly, as YaRN does it, or as Llama 3 does.
 * Immutable after init: any thread. */
#ifndef WORKER_MODEL_ROPE_H
#define WORKER_MODEL_ROPE_H

#include "worker/model/config.h"

struct rope {
    int pairs;
    bool halves;       /* as in struct rope_config */
    double *frequency; /* radians per position, [pairs] */
    double magnitude;
};

enum status rope_init(struct rope *r, const struct rope_config *c, struct error *err);
void rope_done(struct rope *r);
/* out: 2 x pairs floats for rope_turn at a position. */
void rope_angles(const struct rope *r, int position, float *out);
/* Rotates x, 2 x pairs floats, in place. */
void rope_turn(const struct rope *r, float *x, const float *angles);

#endif
