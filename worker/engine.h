/*
 * Runs a backend for the server. A backend that is `immediate` is called on the loop's thread, in
 * the same turn; any other gets a thread of its own, which alone touches it. Commands and events
 * travel through bounded queues: the events of one step are handed over with one wake of the loop.
 * When the loop lags, the engine waits; the loop never waits for the engine.
 */
#ifndef WORKER_ENGINE_H
#define WORKER_ENGINE_H

#include "base/loop.h"
#include "base/wire.pb-c.h"
#include "worker/backend.h"

struct engine;

/* What becomes of jobs: called on the loop's thread. */
struct engine_events {
    void (*tokens)(void *arg, uint64_t job, uint32_t choice, const struct delta_view *made,
                   const struct counts *counts);
    void (*finish)(void *arg, uint64_t job, enum job_end end, const struct counts *counts);
    void (*fail)(void *arg, uint64_t job, enum job_error code, const char *message,
                 const char *param, const struct counts *counts);
    void *arg;
};

struct engine_load {
    struct backend_load backend;
    int64_t step_age_ms;  /* since the last completed step; 0 when idle */
    int64_t last_step_ms; /* monotonic; 0: none yet */
    uint64_t steps;
};

struct engine *engine_new(struct loop *loop, struct error *err);
/* For making the backend: valid as long as the engine. */
const struct sink *engine_sink(struct engine *e);
/* Takes the backend over: it is freed with the engine. Once, before engine_start. */
void engine_adopt(struct engine *e, struct backend *backend);
enum status engine_start(struct engine *e, const struct engine_events *events, struct error *err);
/* Joins the thread (after the step it is in) and frees the backend; NULL is fine. No events come
 * any more. The loop must not run at the same time. */
void engine_free(struct engine *e);

const struct backend *engine_backend(const struct engine *e); /* for its constants */

/* Loop thread. The request is the engine's from here on, whatever is returned. LIMITED: the queue
 * is full, nothing was done. */
enum status engine_submit(struct engine *e, uint64_t job, Wire__Request *request);
/* LIMITED: ask again later. Jobs that have ended are ignored. */
enum status engine_cancel(struct engine *e, uint64_t job);
enum status engine_set_paused(struct engine *e, uint64_t job, bool paused);
/* At the end of a turn: runs an immediate backend. */
void engine_turn(struct engine *e);
void engine_load(struct engine *e, struct engine_load *out);

#endif
