#include "worker/cpu/pool.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Turns of the spin loop, 25 to 60 ns each: 0.1 to 0.2 ms at a barrier and between runs. Being
 * woken takes about as long where the processor is a virtual one that halts meanwhile. */
enum { SPINS = 4000 };

/* A counter that threads wait on: spin, then futex. */
struct gate {
    _Alignas(64) atomic_uint value;
    atomic_uint sleepers;
};

struct member {
    struct pool *pool;
    pthread_t thread;
    int index;
};

struct pool {
    struct gate start;  /* the number of runs begun */
    struct gate passed; /* the number of barriers opened */
    _Alignas(64) atomic_uint arrived;
    _Alignas(64) atomic_int ticket;
    _Alignas(64) int threads, started;
    int members_now; /* of the run that goes on */
    atomic_bool stopping;
    void (*run)(void *arg, int member);
    void *arg;
    struct member *members;
};

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

static void gate_wait(struct gate *g, unsigned old)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&g->value, memory_order_acquire) != old)
            return;
        relax();
    }
    atomic_fetch_add(&g->sleepers, 1);
    while (atomic_load(&g->value) == old)
        syscall(SYS_futex, &g->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    atomic_fetch_sub(&g->sleepers, 1);
}

static void gate_open(struct gate *g)
{
    atomic_fetch_add(&g->value, 1);
    if (atomic_load(&g->sleepers))
        syscall(SYS_futex, &g->value, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void pool_barrier(struct pool *p)
{
    if (p->members_now == 1) {
        atomic_store_explicit(&p->ticket, 0, memory_order_relaxed);
        return;
    }
    unsigned turn = atomic_load_explicit(&p->passed.value, memory_order_relaxed);
    if (atomic_fetch_add(&p->arrived, 1) + 1 == (unsigned)p->threads) {
        atomic_store(&p->arrived, 0);
        atomic_store_explicit(&p->ticket, 0, memory_order_relaxed);
        gate_open(&p->passed);
    } else {
        gate_wait(&p->passed, turn);
    }
}

int pool_ticket(struct pool *p)
{
    if (p->members_now == 1) {
        int next = atomic_load_explicit(&p->ticket, memory_order_relaxed);
        atomic_store_explicit(&p->ticket, next + 1, memory_order_relaxed);
        return next;
    }
    return atomic_fetch_add_explicit(&p->ticket, 1, memory_order_relaxed);
}

static void *work(void *arg)
{
    struct member *m = arg;
    struct pool *p = m->pool;
    for (unsigned turn = 0;; turn++) {
        gate_wait(&p->start, turn);
        if (atomic_load(&p->stopping))
            return NULL;
        p->run(p->arg, m->index);
        pool_barrier(p);
    }
}

void pool_run(struct pool *p, bool alone, void (*run)(void *arg, int member), void *arg)
{
    p->members_now = alone ? 1 : p->threads;
    p->run = run;
    p->arg = arg;
    if (p->members_now > 1)
        gate_open(&p->start);
    run(arg, 0);
    pool_barrier(p);
}

struct pool *pool_new(int threads)
{
    assert(threads >= 1 && threads <= POOL_MAX_THREADS);
    struct pool *p = aligned_alloc(64, sizeof *p);
    if (!p)
        return NULL;
    memset(p, 0, sizeof *p);
    p->threads = threads;
    p->members = calloc((size_t)threads, sizeof *p->members);
    if (!p->members) {
        free(p);
        return NULL;
    }
    for (p->started = 1; p->started < threads; p->started++) {
        struct member *m = &p->members[p->started];
        *m = (struct member){.pool = p, .index = p->started};
        if (pthread_create(&m->thread, NULL, work, m) != 0) {
            pool_free(p);
            return NULL;
        }
    }
    return p;
}

void pool_free(struct pool *p)
{
    if (!p)
        return;
    atomic_store(&p->stopping, true);
    gate_open(&p->start);
    for (int i = 1; i < p->started; i++)
        pthread_join(p->members[i].thread, NULL);
    free(p->members);
    free(p);
}

int pool_members(const struct pool *p)
{
    return p->members_now;
}

int pool_threads(const struct pool *p)
{
    return p->threads;
}
