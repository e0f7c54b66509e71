#include "worker/engine.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "worker/job_wire.h"

enum {
    COMMANDS_MAX = 32768,
    SUBMITS_MAX = 16384,        /* the rest of the queue is for cancel and pause */
    BATCH_BYTES_MAX = 64 << 20, /* events not yet taken by the loop; the engine waits past half */
    MESSAGE_MAX = 1024,
    JOB_BYTES_MAX = 64 << 20, /* what a request becomes beside its frame */
};

enum command_kind { COMMAND_SUBMIT, COMMAND_CANCEL, COMMAND_PAUSE, COMMAND_RESUME };

struct command {
    enum command_kind kind;
    uint64_t job;
    Wire__Request *request; /* of a submit; owned */
};

enum event_kind { EVENT_TOKENS, EVENT_FINISH, EVENT_FAIL };

/* One event in a batch; its texts follow it, then padding to 8 bytes. */
struct event {
    enum event_kind kind;
    int code; /* enum job_error, or job_end: of the job, or the choice */
    uint64_t job;
    struct counts counts;
    uint32_t choice;
    uint32_t len[DELTA_PARTS]; /* of EVENT_FAIL: message, param (without NULs) */
};

struct engine {
    struct loop *loop;
    struct backend *backend;
    struct engine_events events;
    struct sink sink;
    bool started;
    pthread_t thread;

    /* Engine thread. */
    struct buf batch; /* events of the step under way */
    struct command *work;

    /* Loop thread. */
    struct buf taken; /* events being told */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;  /* of the engine: commands, room for events, stop */
    struct command *commands;
    int command_count, submit_count;
    struct buf ready; /* events for the loop */
    bool posted, woken, stop;
    struct backend_load load;

    _Atomic int64_t busy_since_ms; /* 0: idle */
    _Atomic int64_t last_step_ms;
    _Atomic uint64_t steps;
};

static size_t text_bytes(const struct event *v)
{
    size_t bytes = 0;
    for (int i = 0; i < DELTA_PARTS; i++)
        bytes += v->len[i];
    return bytes;
}

static size_t padding(size_t bytes)
{
    return (8 - bytes % 8) % 8;
}

/* texts: as many as lengths in the event that are not 0. */
static void add_event(struct engine *e, const struct event *event, const void *const *texts)
{
    static const char zeros[8];
    size_t total = sizeof *event + text_bytes(event);
    /* The engine waits for the loop long before the cap; what remains is memory itself, and a
     * worker that cannot tell what it made cannot account for it. */
    enum status st = buf_reserve(&e->batch, total + padding(total));
    if (st != OK)
        abort();
    buf_add(&e->batch, event, sizeof *event);
    for (int i = 0; i < DELTA_PARTS; i++)
        if (event->len[i])
            buf_add(&e->batch, texts[i], event->len[i]);
    buf_add(&e->batch, zeros, padding(total));
}

static void sink_tokens(void *arg, uint64_t job, uint32_t choice, const struct delta_view *made,
                        const struct counts *counts)
{
    struct engine *e = arg;
    if (e->backend->immediate) {
        e->events.tokens(e->events.arg, job, choice, made, counts);
        return;
    }
    struct event event = {.kind = EVENT_TOKENS,
                          .code = (int)made->end,
                          .job = job,
                          .counts = *counts,
                          .choice = choice};
    const void *texts[DELTA_PARTS];
    for (int i = 0; i < DELTA_PARTS; i++) {
        texts[i] = made->data[i];
        event.len[i] = (uint32_t)made->len[i];
    }
    add_event(e, &event, texts);
}

static void sink_finish(void *arg, uint64_t job, enum job_end end, const struct counts *counts)
{
    struct engine *e = arg;
    if (e->backend->immediate) {
        e->events.finish(e->events.arg, job, end, counts);
        return;
    }
    struct event event = {.kind = EVENT_FINISH, .code = (int)end, .job = job, .counts = *counts};
    add_event(e, &event, NULL);
}

static void sink_fail(void *arg, uint64_t job, enum job_error code, const char *message,
                      const char *param, const struct counts *counts)
{
    struct engine *e = arg;
    if (e->backend->immediate) {
        e->events.fail(e->events.arg, job, code, message, param, counts);
        return;
    }
    struct event event = {.kind = EVENT_FAIL,
                          .code = (int)code,
                          .job = job,
                          .counts = *counts,
                          .len = {(uint32_t)strnlen(message, MESSAGE_MAX),
                                  param ? (uint32_t)strnlen(param, MESSAGE_MAX) : 0}};
    add_event(e, &event, (const void *const[]){message, param, NULL, NULL});
}

static void sink_wake(void *arg)
{
    struct engine *e = arg;
    pthread_mutex_lock(&e->lock);
    e->woken = true;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
}

struct engine *engine_new(struct loop *loop, struct error *err)
{
    struct engine *e = calloc(1, sizeof *e);
    if (!e) {
        error_set(err, NOMEM, "out of memory for the engine");
        return NULL;
    }
    e->loop = loop;
    e->sink = (struct sink){sink_tokens, sink_finish, sink_fail, sink_wake, e};
    buf_init(&e->batch, BATCH_BYTES_MAX);
    buf_init(&e->taken, BATCH_BYTES_MAX);
    buf_init(&e->ready, BATCH_BYTES_MAX);
    pthread_mutex_init(&e->lock, NULL);
    pthread_condattr_t clock; /* deadlines do not move when the wall's time is set */
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&e->wake, &clock);
    pthread_condattr_destroy(&clock);
    e->commands = calloc(COMMANDS_MAX, sizeof *e->commands);
    e->work = calloc(COMMANDS_MAX, sizeof *e->work);
    if (!e->commands || !e->work) {
        error_set(err, NOMEM, "out of memory for the engine");
        engine_free(e);
        return NULL;
    }
    return e;
}

const struct sink *engine_sink(struct engine *e)
{
    return &e->sink;
}

const struct backend *engine_backend(const struct engine *e)
{
    return e->backend;
}

static void tell_tokens(const struct engine_events *to, const struct event *v, const uint8_t *text)
{
    struct delta_view made = {.end = (enum job_end)v->code};
    for (int i = 0; i < DELTA_PARTS; i++) {
        made.data[i] = text;
        made.len[i] = v->len[i];
        text += v->len[i];
    }
    to->tokens(to->arg, v->job, v->choice, &made, &v->counts);
}

static void tell_fail(const struct engine_events *to, const struct event *v, const uint8_t *text)
{
    char message[MESSAGE_MAX + 1], param[MESSAGE_MAX + 1];
    memcpy(message, text, v->len[0]);
    message[v->len[0]] = 0;
    memcpy(param, text + v->len[0], v->len[1]);
    param[v->len[1]] = 0;
    to->fail(to->arg, v->job, (enum job_error)v->code, message, v->len[1] ? param : NULL,
             &v->counts);
}

static void tell(struct engine *e, const struct event *v, const uint8_t *text)
{
    const struct engine_events *to = &e->events;
    switch (v->kind) {
    case EVENT_TOKENS:
        tell_tokens(to, v, text);
        break;
    case EVENT_FINISH:
        to->finish(to->arg, v->job, (enum job_end)v->code, &v->counts);
        break;
    case EVENT_FAIL:
        tell_fail(to, v, text);
        break;
    }
}

/* On the loop. */
static void take_events(void *arg)
{
    struct engine *e = arg;
    pthread_mutex_lock(&e->lock);
    struct buf ready = e->ready;
    e->ready = e->taken;
    e->taken = ready;
    e->posted = false;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
    while (buf_len(&e->taken) > 0) {
        struct event v;
        memcpy(&v, buf_head(&e->taken), sizeof v);
        size_t total = sizeof v + text_bytes(&v);
        tell(e, &v, buf_head(&e->taken) + sizeof v);
        buf_eat(&e->taken, total + padding(total));
    }
}

/* With the lock, until woken or the time has come (on clock_mono_us). */
static void wait_until(struct engine *e, int64_t us)
{
    struct timespec until = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    pthread_cond_timedwait(&e->wake, &e->lock, &until);
}

/* Hands the step's events over. */
static void give_events(struct engine *e)
{
    e->backend->ops->load(e->backend, &e->load);
    if (buf_len(&e->batch) == 0)
        return;
    while (buf_len(&e->ready) > 0 && !e->stop &&
           buf_len(&e->ready) + buf_len(&e->batch) > BATCH_BYTES_MAX / 2)
        pthread_cond_wait(&e->wake, &e->lock);
    if (e->stop)
        return;
    if (buf_len(&e->ready) == 0) {
        struct buf empty = e->ready;
        e->ready = e->batch;
        e->batch = empty;
    } else if (buf_add(&e->ready, buf_head(&e->batch), buf_len(&e->batch)) != OK) {
        abort(); /* see add_event */
    }
    buf_clear(&e->batch);
    while (!e->posted && !e->stop) {
        e->posted = loop_post(e->loop, take_events, e) == OK;
        /* The loop has 65,536 posts waiting, or memory is out: it is alive, so wait. */
        if (!e->posted)
            wait_until(e, clock_mono_us() + 1000);
    }
}

static void refuse(struct engine *e, uint64_t id, enum status st, const struct job_fault *fault)
{
    static const struct counts zero;
    if (st == INVALID)
        e->sink.fail(e, id, JOB_INVALID, fault->error.text, fault->param, &zero);
    else
        e->sink.fail(e, id, JOB_OVERLOADED, "the worker is out of memory", NULL, &zero);
}

static void submit_now(struct engine *e, uint64_t id, Wire__Request *r)
{
    struct arena *arena = arena_new(JOB_BYTES_MAX);
    struct job job;
    struct job_fault fault;
    enum status st = arena ? job_from_wire(r, arena, &job, &fault) : NOMEM;
    if (st == OK) {
        job.id = id;
        e->backend->ops->submit(e->backend, &job);
    } else {
        refuse(e, id, st, &fault);
    }
    arena_free(arena);
    wire__request__free_unpacked(r, NULL);
}

static void run_command(struct engine *e, const struct command *c)
{
    struct backend *b = e->backend;
    switch (c->kind) {
    case COMMAND_SUBMIT:
        submit_now(e, c->job, c->request);
        break;
    case COMMAND_CANCEL:
        b->ops->cancel(b, c->job);
        break;
    case COMMAND_PAUSE:
        b->ops->set_paused(b, c->job, true);
        break;
    case COMMAND_RESUME:
        b->ops->set_paused(b, c->job, false);
        break;
    }
}

static void step_done(struct engine *e, bool worked)
{
    int64_t now = clock_mono_ms();
    if (worked) {
        atomic_store(&e->last_step_ms, now);
        atomic_fetch_add(&e->steps, 1);
        atomic_store(&e->busy_since_ms, now);
    } else {
        atomic_store(&e->busy_since_ms, 0);
    }
}

/* With the lock: for a command, a wake, stop, or the time at which the backend has work again. */
static void wait_idle(struct engine *e, int64_t due_us)
{
    while (e->command_count == 0 && !e->woken && !e->stop) {
        if (!due_us)
            pthread_cond_wait(&e->wake, &e->lock);
        else if (clock_mono_us() < due_us)
            wait_until(e, due_us);
        else
            return;
    }
}

/* Waits for commands when there is nothing to do. false: stop. */
static bool next_commands(struct engine *e, bool idle, int *count)
{
    int64_t due_us = idle ? e->backend->ops->due_us(e->backend) : 0;
    pthread_mutex_lock(&e->lock);
    give_events(e);
    if (idle)
        wait_idle(e, due_us);
    e->woken = false;
    bool stop = e->stop;
    *count = stop ? 0 : e->command_count;
    if (*count > 0) {
        struct command *c = e->work;
        e->work = e->commands;
        e->commands = c;
        e->command_count = e->submit_count = 0;
    }
    pthread_mutex_unlock(&e->lock);
    return !stop;
}

static void *run(void *arg)
{
    struct engine *e = arg;
    bool idle = true;
    int count;
    while (next_commands(e, idle, &count)) {
        if (idle)
            atomic_store(&e->busy_since_ms, clock_mono_ms());
        for (int i = 0; i < count; i++)
            run_command(e, &e->work[i]);
        bool worked = e->backend->ops->step(e->backend);
        step_done(e, worked);
        idle = !worked;
    }
    return NULL;
}

void engine_adopt(struct engine *e, struct backend *backend)
{
    assert(!e->backend);
    e->backend = backend;
}

enum status engine_start(struct engine *e, const struct engine_events *events, struct error *err)
{
    assert(e->backend);
    e->events = *events;
    if (e->backend->immediate)
        return OK;
    int rc = pthread_create(&e->thread, NULL, run, e);
    if (rc != 0)
        return error_errno(err, rc, "cannot start the engine's thread");
    e->started = true;
    return OK;
}

void engine_free(struct engine *e)
{
    if (!e)
        return;
    if (e->started) {
        pthread_mutex_lock(&e->lock);
        e->stop = true;
        pthread_cond_signal(&e->wake);
        pthread_mutex_unlock(&e->lock);
        pthread_join(e->thread, NULL);
    }
    for (int i = 0; i < e->command_count; i++)
        if (e->commands[i].kind == COMMAND_SUBMIT)
            wire__request__free_unpacked(e->commands[i].request, NULL);
    if (e->backend)
        e->backend->ops->free(e->backend);
    buf_done(&e->batch);
    buf_done(&e->taken);
    buf_done(&e->ready);
    free(e->commands);
    free(e->work);
    pthread_cond_destroy(&e->wake);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

static enum status push(struct engine *e, const struct command *c)
{
    if (e->backend->immediate) {
        run_command(e, c);
        return OK;
    }
    enum status st = OK;
    pthread_mutex_lock(&e->lock);
    if (e->command_count == COMMANDS_MAX ||
        (c->kind == COMMAND_SUBMIT && e->submit_count == SUBMITS_MAX)) {
        st = LIMITED;
    } else {
        e->commands[e->command_count++] = *c;
        e->submit_count += c->kind == COMMAND_SUBMIT;
        if (e->command_count == 1)
            pthread_cond_signal(&e->wake);
    }
    pthread_mutex_unlock(&e->lock);
    return st;
}

enum status engine_submit(struct engine *e, uint64_t job, Wire__Request *request)
{
    enum status st = push(e, &(struct command){COMMAND_SUBMIT, job, request});
    if (st != OK)
        wire__request__free_unpacked(request, NULL);
    return st;
}

enum status engine_cancel(struct engine *e, uint64_t job)
{
    return push(e, &(struct command){COMMAND_CANCEL, job, NULL});
}

enum status engine_set_paused(struct engine *e, uint64_t job, bool paused)
{
    return push(e, &(struct command){paused ? COMMAND_PAUSE : COMMAND_RESUME, job, NULL});
}

void engine_turn(struct engine *e)
{
    struct backend *b = e->backend;
    if (!b->immediate)
        return;
    bool worked = b->ops->step(b);
    step_done(e, worked);
    if (worked)
        loop_again(e->loop);
}

void engine_load(struct engine *e, struct engine_load *out)
{
    if (e->backend->immediate) {
        e->backend->ops->load(e->backend, &out->backend);
    } else {
        pthread_mutex_lock(&e->lock);
        out->backend = e->load;
        out->backend.waiting += (uint32_t)e->submit_count;
        pthread_mutex_unlock(&e->lock);
    }
    int64_t since = atomic_load(&e->busy_since_ms);
    int64_t age = since ? clock_mono_ms() - since : 0;
    out->step_age_ms = age > 0 ? age : 0;
    out->last_step_ms = atomic_load(&e->last_step_ms);
    out->steps = atomic_load(&e->steps);
}
