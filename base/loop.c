#include "base/loop.h"

#include <assert.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"

enum { HOOKS_MAX = 16, SIGNALS_MAX = 8, POSTS_MAX = 65536 };

struct hook {
    loop_fn *fn;
    void *arg;
};

struct post {
    struct post *next;
    loop_fn *fn;
    void *arg;
};

struct loop {
    struct event_base *base;
    struct hook hooks[LOOP_PHASES][HOOKS_MAX];
    int hook_count[LOOP_PHASES];
    struct event *signals[SIGNALS_MAX];
    struct hook signal_hooks[SIGNALS_MAX];
    int signal_count;
    bool again, stopped; /* stopped: loop thread only, set through a post */

    pthread_mutex_t lock; /* guards the post list */
    struct post *first, **last;
    int posts;
    int wake_fd;
    struct loop_io *wake;
};

struct loop_io {
    struct event event;
    struct loop *loop;
    loop_io_fn *fn;
    void *arg;
    int interest;
};

struct loop_timer {
    struct event event;
    loop_fn *fn;
    void *arg;
};

static void run_posts(int fd, int ready, void *arg)
{
    struct loop *loop = arg;
    uint64_t count;
    ssize_t got = read(fd, &count, sizeof count);
    (void)got; /* the eventfd only wakes us */
    pthread_mutex_lock(&loop->lock);
    struct post *p = loop->first;
    loop->first = NULL;
    loop->last = &loop->first;
    loop->posts = 0;
    pthread_mutex_unlock(&loop->lock);
    while (p) {
        struct post *next = p->next;
        p->fn(p->arg);
        free(p);
        p = next;
    }
}

struct loop *loop_new(struct error *err)
{
    struct loop *loop = calloc(1, sizeof *loop);
    if (!loop) {
        error_set(err, NOMEM, "out of memory for an event loop");
        return NULL;
    }
    pthread_mutex_init(&loop->lock, NULL);
    loop->last = &loop->first;
    loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    struct event_config *config = event_config_new();
    if (config) {
        event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
        loop->base = event_base_new_with_config(config);
        event_config_free(config);
    }
    if (loop->wake_fd >= 0 && loop->base)
        loop->wake = loop_io_new(loop, loop->wake_fd, run_posts, loop);
    if (!loop->wake) {
        error_set(err, IO_FAILED, "cannot make an event loop (file descriptors or memory are out)");
        loop_free(loop);
        return NULL;
    }
    loop_io_want(loop->wake, LOOP_READ);
    return loop;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    for (struct post *p = loop->first; p;) {
        struct post *next = p->next;
        free(p);
        p = next;
    }
    for (int i = 0; i < loop->signal_count; i++)
        event_free(loop->signals[i]);
    loop_io_free(loop->wake);
    if (loop->base)
        event_base_free(loop->base);
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

static void run_hooks(struct loop *loop)
{
    for (int phase = 0; phase < LOOP_PHASES; phase++)
        for (int i = 0; i < loop->hook_count[phase]; i++)
            if (loop->hooks[phase][i].fn)
                loop->hooks[phase][i].fn(loop->hooks[phase][i].arg);
}

void loop_run(struct loop *loop)
{
    loop->stopped = false;
    while (!loop->stopped) {
        int flags = EVLOOP_ONCE | (loop->again ? EVLOOP_NONBLOCK : 0);
        loop->again = false;
        if (event_base_loop(loop->base, flags) < 0)
            break;
        run_hooks(loop);
    }
}

static void set_stopped(void *arg)
{
    struct loop *loop = arg;
    loop->stopped = true;
}

void loop_stop(struct loop *loop)
{
    enum status st = loop_post(loop, set_stopped, loop);
    assert(st == OK);
}

int64_t loop_now_ms(const struct loop *loop)
{
    (void)loop;
    return clock_mono_ms(); /* from the vdso; a cached value would be stale after a wait */
}

enum status loop_post(struct loop *loop, loop_fn *fn, void *arg)
{
    struct post *p = malloc(sizeof *p);
    if (!p)
        return NOMEM;
    *p = (struct post){.fn = fn, .arg = arg};
    pthread_mutex_lock(&loop->lock);
    bool full = loop->posts >= POSTS_MAX;
    bool wake = loop->posts == 0;
    if (!full) {
        *loop->last = p;
        loop->last = &p->next;
        loop->posts++;
    }
    pthread_mutex_unlock(&loop->lock);
    if (full) {
        free(p);
        return LIMITED;
    }
    if (wake) {
        uint64_t one = 1;
        ssize_t put = write(loop->wake_fd, &one, sizeof one);
        (void)put; /* fails only when the counter is full, and then the loop is awake */
    }
    return OK;
}

void loop_hook(struct loop *loop, enum loop_phase phase, loop_fn *fn, void *arg)
{
    int count = loop->hook_count[phase];
    while (count > 0 && !loop->hooks[phase][count - 1].fn)
        count--; /* taken away at the end: the order of the others stays */
    assert(count < HOOKS_MAX);
    loop->hooks[phase][count] = (struct hook){fn, arg};
    loop->hook_count[phase] = count + 1;
}

void loop_unhook(struct loop *loop, enum loop_phase phase, loop_fn *fn, void *arg)
{
    for (int i = 0; i < loop->hook_count[phase]; i++) {
        struct hook *h = &loop->hooks[phase][i];
        if (h->fn == fn && h->arg == arg) {
            h->fn = NULL; /* the slot stays: a run over the hooks may be under way */
            return;
        }
    }
}

void loop_again(struct loop *loop)
{
    loop->again = true;
}

static void io_ready(evutil_socket_t fd, short what, void *arg)
{
    struct loop_io *io = arg;
    io->fn(fd, (what & EV_READ ? LOOP_READ : 0) | (what & EV_WRITE ? LOOP_WRITE : 0), io->arg);
}

struct loop_io *loop_io_new(struct loop *loop, int fd, loop_io_fn *fn, void *arg)
{
    struct loop_io *io = calloc(1, sizeof *io);
    if (!io)
        return NULL;
    io->loop = loop;
    io->fn = fn;
    io->arg = arg;
    event_assign(&io->event, loop->base, fd, EV_PERSIST, io_ready, io);
    return io;
}

void loop_io_want(struct loop_io *io, int interest)
{
    if (io->interest == interest)
        return;
    int fd = event_get_fd(&io->event);
    if (io->interest)
        event_del(&io->event);
    io->interest = interest;
    if (!interest)
        return;
    short what = EV_PERSIST;
    if (interest & LOOP_READ)
        what |= EV_READ;
    if (interest & LOOP_WRITE)
        what |= EV_WRITE;
    event_assign(&io->event, io->loop->base, fd, what, io_ready, io);
    event_add(&io->event, NULL);
}

void loop_io_free(struct loop_io *io)
{
    if (!io)
        return;
    if (io->interest)
        event_del(&io->event);
    free(io);
}

static void timer_due(evutil_socket_t fd, short what, void *arg)
{
    struct loop_timer *t = arg;
    t->fn(t->arg);
}

struct loop_timer *loop_timer_new(struct loop *loop, loop_fn *fn, void *arg)
{
    struct loop_timer *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->fn = fn;
    t->arg = arg;
    event_assign(&t->event, loop->base, -1, 0, timer_due, t);
    return t;
}

void loop_timer_start(struct loop_timer *t, int64_t delay_ms)
{
    if (delay_ms < 0)
        delay_ms = 0;
    struct timeval delay = {.tv_sec = delay_ms / 1000, .tv_usec = delay_ms % 1000 * 1000};
    event_add(&t->event, &delay);
}

void loop_timer_stop(struct loop_timer *t)
{
    event_del(&t->event);
}

void loop_timer_free(struct loop_timer *t)
{
    if (!t)
        return;
    event_del(&t->event);
    free(t);
}

static void signal_arrived(evutil_socket_t signum, short what, void *arg)
{
    struct hook *hook = arg;
    hook->fn(hook->arg);
}

enum status loop_signal(struct loop *loop, int signum, loop_fn *fn, void *arg)
{
    if (loop->signal_count >= SIGNALS_MAX)
        return LIMITED;
    struct hook *hook = &loop->signal_hooks[loop->signal_count];
    *hook = (struct hook){fn, arg};
    struct event *e = evsignal_new(loop->base, signum, signal_arrived, hook);
    if (!e)
        return NOMEM;
    loop->signals[loop->signal_count++] = e;
    return event_add(e, NULL) == 0 ? OK : IO_FAILED;
}

struct event_base *loop_event_base(struct loop *loop)
{
    return loop->base;
}
