/*
 * Which tokens one choice may make next, by its request's plan (worker/plan.h). Reasoning is free,
 * but does not end an answer of which more is asked. Content follows the format's grammar, or is
 * free until the model opens a call; from there on the call's marks, name and arguments are held to
 * the tools. A call that must be made is opened by force. One a choice; the engine thread owns it.
 */
#ifndef WORKER_CONSTRAINT_H
#define WORKER_CONSTRAINT_H

#include "worker/plan.h"

struct constraint;

/* The plan outlives it. NULL: out of memory. */
struct constraint *constraint_new(const struct plan *plan);
void constraint_free(struct constraint *c); /* NULL is fine */
/* Whether constraint_mask now answers at once. If not, the mask is being made on the thread of the
 * plan's maker; nothing else but this and constraint_free may be called meanwhile. */
bool constraint_ready(struct constraint *c);
/* A bit a token of the model's vocabulary; valid until the next call. *mask NULL: any may come. */
enum status constraint_mask(struct constraint *c, const uint32_t **mask);
/* The token was made. */
enum status constraint_accept(struct constraint *c, int32_t token);

#endif
