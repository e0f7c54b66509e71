/* runs: thread */
#include "worker/cpu/pool.h"

#include <dirent.h>
#include <stdatomic.h>
#include <time.h>

#include "tests/unit/check.h"

enum { THREADS = 4, PHASES = 50, RUNS = 200, ITEMS = 64 };

struct work {
    struct pool *pool;
    int sums[PHASES + 1]; /* written between barriers by one member, read behind them by all */
    atomic_int taken[ITEMS];
    atomic_int wrong;
};

static void walk(void *arg, int member)
{
    struct work *w = arg;
    for (int i = 0; i < PHASES; i++) {
        if (member == i % pool_threads(w->pool))
            w->sums[i + 1] = w->sums[i] + 1;
        pool_barrier(w->pool);
        if (w->sums[i + 1] != i + 1)
            atomic_fetch_add(&w->wrong, 1);
    }
    for (int t = pool_ticket(w->pool); t < ITEMS; t = pool_ticket(w->pool))
        atomic_fetch_add(&w->taken[t], 1);
}

static void test_phases(int threads)
{
    struct work w = {.pool = pool_new(threads)};
    CHECK_FATAL(w.pool != NULL);
    for (int run = 0; run < RUNS; run++) {
        memset(w.sums, 0, sizeof w.sums);
        pool_run(w.pool, false, walk, &w);
        CHECK_INT(w.sums[PHASES], PHASES);
    }
    CHECK_INT(w.wrong, 0);
    for (int i = 0; i < ITEMS; i++)
        CHECK_INT(w.taken[i], RUNS);
    pool_free(w.pool);
}

/* How many threads of this process run or want to. */
static int awake(void)
{
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    CHECK_FATAL(tasks != NULL);
    for (struct dirent *d; (d = readdir(tasks));) {
        char path[300], line[512] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/stat", d->d_name);
        FILE *f = d->d_name[0] == '.' ? NULL : fopen(path, "re");
        if (!f)
            continue;
        const char *name_end = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
        count += name_end && name_end[2] == 'R';
        fclose(f);
    }
    closedir(tasks);
    return count;
}

/* Members that wait do not spin for ever: all but this thread come to sleep. */
static void test_idle(void)
{
    struct work w = {.pool = pool_new(THREADS)};
    CHECK_FATAL(w.pool != NULL);
    pool_run(w.pool, false, walk, &w);
    int turns = 0;
    while (awake() > 1 && turns < 10000) {
        turns++;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    CHECK(turns < 10000);
    pool_free(w.pool);
}

int main(void)
{
    test_phases(1);
    test_phases(2);
    test_phases(THREADS);
    test_idle();
    pool_free(NULL);
    return check_done();
}
