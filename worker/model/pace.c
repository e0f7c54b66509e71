#include "worker/model/pace.h"

#include <math.h>

/* Below: about 100 microseconds of work, always alone. Above: always shared. */
static const double LEAST = 4e6, MOST = LEAST * (1 << PACE_SIZES);

static int size_of(double work)
{
    int size = (int)log2(work / LEAST);
    return size < 0 ? 0 : size >= PACE_SIZES ? PACE_SIZES - 1 : size;
}

/* The team must be worth its processors. */
static bool team_is_slow(const struct pace *p, int size)
{
    return p->of[size].alone_us < p->of[size].team_us * 1.1;
}

bool pace_alone(struct pace *p, double work)
{
    if (work < LEAST || work >= MOST)
        return work < LEAST;
    int size = size_of(work);
    if (p->of[size].alone_us <= 0 || p->of[size].team_us <= 0)
        return p->of[size].team_us > 0;
    bool try = p->of[size].turn++ % PACE_TRY_EVERY == PACE_TRY_EVERY - 1;
    return team_is_slow(p, size) != try;
}

void pace_note(struct pace *p, double work, bool alone, int64_t us)
{
    if (work < LEAST || work >= MOST)
        return;
    int size = size_of(work);
    double *mean = alone ? &p->of[size].alone_us : &p->of[size].team_us;
    /* Times of one size differ by its work: they are compared as if it were the least. */
    double scaled = ((double)us + 0.5) * LEAST * (1 << size) / work;
    /* The way not taken is seen rarely: what is seen of it counts more. */
    bool tried =
        p->of[size].alone_us > 0 && p->of[size].team_us > 0 && alone != team_is_slow(p, size);
    *mean = *mean > 0 ? *mean + (scaled - *mean) / (tried ? 2 : 8) : scaled;
}
