/*
 * A team of threads that run one function together, meeting at barriers. A member spins a short
 * while, then sleeps, both at a barrier and between runs, so an idle team uses no processor time
 * and a member that lost its processor does not make the others burn theirs. The creating thread
 * is member 0; one thread at a time may run a team.
 */
#ifndef WORKER_CPU_POOL_H
#define WORKER_CPU_POOL_H

#include <stdbool.h>

#include "base/error.h"

struct pool;

enum { POOL_MAX_THREADS = 256 };

struct pool *pool_new(int threads); /* NULL: out of memory or threads */
void pool_free(struct pool *p);     /* NULL is fine */
int pool_threads(const struct pool *p);
/* How many take part in the run that goes on. */
int pool_members(const struct pool *p);
/* Calls run(arg, member) on every member; returns when all have. alone: on member 0 only, for
 * work that is too small to share; nobody is woken. */
void pool_run(struct pool *p, bool alone, void (*run)(void *arg, int member), void *arg);
/* Inside run: nobody passes until all are here. Starts the tickets anew. */
void pool_barrier(struct pool *p);
/* Inside run: 0, 1, 2, ... since the last barrier, each to one member. */
int pool_ticket(struct pool *p);

#endif
