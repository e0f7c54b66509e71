/*
 * An event loop: one per thread, libevent behind it. Everything registered on a loop is called
 * on its thread. Only loop_post and loop_stop may be called from another thread.
 *
 * A turn of the loop is: wait, call what is ready, then run the end-of-turn hooks in the order
 * of their phases. Modules gather work during the turn and do it once in their phase: one Redis
 * call, one journal write, one flush for each socket. A hook that makes more work for an
 * earlier phase calls loop_again.
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum loop_phase {
    LOOP_PHASE_CALLS,   /* send the batched Redis scripts */
    LOOP_PHASE_JOURNAL, /* write what the turn appended to the journal */
    LOOP_PHASE_LINKS,   /* send the frames gathered for workers */
    LOOP_PHASE_OUTPUT,  /* send the bytes gathered for clients */
    LOOP_PHASE_REAP,    /* free what was marked for it */
    LOOP_PHASES
};

enum { LOOP_READ = 1, LOOP_WRITE = 2 };

struct loop;
struct loop_io;
struct loop_timer;
struct event_base;

typedef void loop_fn(void *arg);
typedef void loop_io_fn(int fd, int ready, void *arg); /* ready: LOOP_READ | LOOP_WRITE */

struct loop *loop_new(struct error *err);     /* NULL: err says why */
void loop_free(struct loop *loop);            /* NULL is fine; after loop_run has returned */
void loop_run(struct loop *loop);             /* until loop_stop */
void loop_stop(struct loop *loop);            /* any thread */
int64_t loop_now_ms(const struct loop *loop); /* monotonic */

/* Runs fn(arg) on the loop's thread. Any thread. LIMITED: 65,536 posts are waiting. */
enum status loop_post(struct loop *loop, loop_fn *fn, void *arg);

/* Hooks are called each turn, for ever, in the order added within a phase. 16 a phase. */
void loop_hook(struct loop *loop, enum loop_phase phase, loop_fn *fn, void *arg);
/* Takes a hook away again; allowed inside hooks. */
void loop_unhook(struct loop *loop, enum loop_phase phase, loop_fn *fn, void *arg);
/* From a hook: another turn follows without waiting. */
void loop_again(struct loop *loop);

/* The fd stays the caller's. interest may be 0. NULL: out of memory. */
struct loop_io *loop_io_new(struct loop *loop, int fd, loop_io_fn *fn, void *arg);
void loop_io_want(struct loop_io *io, int interest);
void loop_io_free(struct loop_io *io); /* NULL is fine; allowed in its own callback */

struct loop_timer *loop_timer_new(struct loop *loop, loop_fn *fn, void *arg);
void loop_timer_start(struct loop_timer *t, int64_t delay_ms); /* once; restarts */
void loop_timer_stop(struct loop_timer *t);
void loop_timer_free(struct loop_timer *t); /* NULL is fine; allowed in its own */

/* Signals arrive on this loop as calls of fn(arg). */
enum status loop_signal(struct loop *loop, int signum, loop_fn *fn, void *arg);

/* For adapters inside base/ alone (hiredis). */
struct event_base *loop_event_base(struct loop *loop);

#endif
