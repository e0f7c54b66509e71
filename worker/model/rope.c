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

/* Waves longer than a share of the original context are slowed, those shorter than a smaller share
 * are not, and in between the change is smooth. */
static double llama3_share(const struct rope_config *c, double frequency)
{
    double turns = c->original_tokens * frequency / (2 * M_PI);
    double kept = (turns - c->low_factor) / (c->high_factor - c->low_factor);
    return 1 - fmin(fmax(kept, 0), 1);
}

enum status rope_init(struct rope *r, const struct rope_config *c, struct error *err)
{
    int pairs = c->dims / 2;
    double *frequency = calloc((size_t)pairs, sizeof *frequency);
    if (!frequency)
        return error_set(err, NOMEM, "out of memory");
    for (int i = 0; i < pairs; i++) {
        frequency[i] = pow(c->theta, -2.0 * i / c->dims);
        if (c->stretch == ROPE_PLAIN)
            continue;
        double share = c->stretch == ROPE_LINEAR ? 1
                       : c->stretch == ROPE_YARN ? yarn_share(c, i)
                                                 : llama3_share(c, frequency[i]);
        frequency[i] *= share / c->factor + (1 - share);
    }
    *r = (struct rope){pairs, c->halves, frequency, c->magnitude};
    return OK;
}

void rope_done(struct rope *r)
{
    free(r->frequency);
    r->frequency = NULL;
}

/* Neighbours: (cosine, sine) by pair; halves: all cosines, then all sines. */
void rope_angles(const struct rope *r, int position, float *out)
{
    int step = r->halves ? 1 : 2, sines = r->halves ? r->pairs : 1;
    for (int i = 0; i < r->pairs; i++) {
        double angle = position * r->frequency[i];
        out[i * step] = (float)(cos(angle) * r->magnitude);
        out[i * step + sines] = (float)(sin(angle) * r->magnitude);
    }
}

static void turn_halves(float *x, const float *angles, int pairs)
{
    float *y = x + pairs;
    for (int i = 0; i < pairs; i++) {
        float a = x[i], b = y[i], c = angles[i], s = angles[pairs + i];
        x[i] = a * c - b * s;
        y[i] = a * s + b * c;
    }
}

static void turn_neighbours(float *x, const float *angles, int pairs)
{
    for (int i = 0; i < pairs; i++) {
        float a = x[2 * i], b = x[2 * i + 1], c = angles[2 * i], s = angles[2 * i + 1];
        x[2 * i] = a * c - b * s;
        x[2 * i + 1] = a * s + b * c;
    }
}

void rope_turn(const struct rope *r, float *x, const float *angles)
{
    if (r->halves)
        turn_halves(x, angles, r->pairs);
    else
        turn_neighbours(x, angles, r->pairs);
}
