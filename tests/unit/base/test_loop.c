#include "base/loop.h"

#include <pthread.h>

#include "tests/unit/check.h"

static struct loop *loop;
static int posts, hooks[LOOP_PHASES], order_broken;

static void posted(void *arg)
{
    if (++posts == 1000)
        loop_stop(loop);
}

static void hook(void *arg)
{
    int phase = (int)(intptr_t)arg;
    if (phase > 0 && hooks[phase - 1] != hooks[phase] + 1)
        order_broken = 1;
    hooks[phase]++;
}

static void *other_thread(void *arg)
{
    for (int i = 0; i < 1000; i++)
        if (loop_post(loop, posted, NULL) != OK)
            abort();
    return NULL;
}

static int timer_runs;

static void timer_due(void *arg)
{
    timer_runs++;
}

int main(void)
{
    struct error err;
    loop = loop_new(&err);
    CHECK_FATAL(loop);
    for (int p = 0; p < LOOP_PHASES; p++)
        loop_hook(loop, (enum loop_phase)p, hook, (void *)(intptr_t)p);
    struct loop_timer *t = loop_timer_new(loop, timer_due, NULL);
    loop_timer_start(t, 0);
    struct loop_timer *never = loop_timer_new(loop, timer_due, NULL);
    loop_timer_start(never, 3600 * 1000);
    pthread_t thread;
    pthread_create(&thread, NULL, other_thread, NULL);
    loop_run(loop);
    pthread_join(thread, NULL);
    CHECK_INT(posts, 1000);
    CHECK_INT(timer_runs, 1);
    CHECK_INT(order_broken, 0);
    CHECK(hooks[LOOP_PHASE_REAP] > 0);
    loop_timer_free(t);
    loop_timer_free(never);
    loop_free(loop);
    return check_done();
}
