#include "worker/model/pace.h"

#include "tests/unit/check.h"

/* Steps of one size, with these times; returns how many ran alone. */
static int run(struct pace *p, double work, int64_t alone_us, int64_t team_us, int steps)
{
    int alone = 0;
    for (int i = 0; i < steps; i++) {
        bool now = pace_alone(p, work);
        alone += now;
        pace_note(p, work, now, now ? alone_us : team_us);
    }
    return alone;
}

int main(void)
{
    struct pace p = {0};
    CHECK_INT(run(&p, 1e6, 1000, 1, 500), 500);  /* too small to share */
    CHECK_INT(run(&p, 1e12, 1, 1000, 500), 0);   /* too large not to */
    CHECK(run(&p, 2e7, 400, 220, 640) <= 11);    /* sharing pays: alone only to try */
    CHECK(run(&p, 2e7, 400, 3000, 640) >= 550);  /* the machine became busy */
    CHECK(run(&p, 2e7, 400, 220, 6400) <= 1200); /* and free again */
    CHECK(run(&p, 2e8, 4000, 2200, 640) <= 11);  /* sizes are apart */
    CHECK(run(&p, 5e7, 1000, 950, 640) >= 620);  /* not worth two processors */
    return check_done();
}
