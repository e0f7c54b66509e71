#include "worker/model/rope.h"

#include <math.h>

/* The pair whose wave makes `turns` turns within the original context. */
static double pair_of_turns(const struct rope_config *c, double turns)
{
    return c->dims * log(c->original_tokens / (turns * 2 * M_PI)) / (2 * log(c->theta));
}

/* 0: this pair keeps its frequency, 1: it is slowed by the whole factor. */
static double yarn_share(const struct rope_config *c, int pair)
{
    double low = fmax(floor(pair_of_turns(c, c->beta_fast)), 0);
    double high = fmin(ceil(pair_of_turns(c, c->beta_slow)), c->dims - 1);
    if (low == high)
        high += 0.001;
    return fmin(fmax((pair - low) / (high - low), 0), 1);
}

enum status rope_init(struct rope *r, const struct rope_config *c, struct error *err)
{
    int pairs = c->dims / 2;
    double *frequency = calloc((size_t)pairs, sizeof *frequency);
    if (!frequency)
        return error_set(err, NOMEM, "out of memory");
    for (int i = 0; i < pairs; i++) {
        frequency[i] = pow(c->theta, -2.0 * i / c->dims);
        if (c->factor > 0) {
            double share = yarn_share(c, i);
            frequency[i] *= share / c->factor + (1 - share);
        }
    }
    *r = (struct rope){pairs, frequency, c->magnitude};
    return OK;
}

void rope_done(struct rope *r)
{
    free(r->frequency);
    r->frequency = NULL;
}

void rope_angles(const struct rope *r, int position, float *out)
{
    for (int i = 0; i < r->pairs; i++) {
        double angle = position * r->frequency[i];
        out[2 * i] = (float)(cos(angle) * r->magnitude);
        out[2 * i + 1] = (float)(sin(angle) * r->magnitude);
    }
}

void rope_turn(float *x, const float *angles, int pairs)
{
    for (int i = 0; i < pairs; i++) {
        float a = x[2 * i], b = x[2 * i + 1], c = angles[2 * i], s = angles[2 * i + 1];
        x[2 * i] = a * c - b * s;
        x[2 * i + 1] = a * s + b * c;
    }
}
