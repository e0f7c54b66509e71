/*
 * What this process knows of request ids, so that a worker's USAGE can be told apart: running on
 * some loop, settled, or left open by the process before (recovered). Bounded: settled ids are
 * forgotten oldest first. Any thread; one short lock.
 */
#ifndef GATEWAY_REGISTRY_H
#define GATEWAY_REGISTRY_H

#include <stdbool.h>

#include "base/error.h"
#include "base/id.h"

enum registry_state { REGISTRY_UNKNOWN, REGISTRY_RUNNING, REGISTRY_SETTLED, REGISTRY_OPEN };

struct registry;

struct registry *registry_new(int settled_max); /* NULL: out of memory */
void registry_free(struct registry *r);         /* NULL is fine */
/* NOMEM, or LIMITED: nothing was noted. The loop's number is kept for RUNNING. */
enum status registry_set(struct registry *r, const struct uuid *id, enum registry_state state,
                         int loop);
/* *loop is set for REGISTRY_RUNNING. */
enum registry_state registry_get(struct registry *r, const struct uuid *id, int *loop);
/* OPEN or unknown becomes RUNNING on this loop; false: it is neither. */
bool registry_claim(struct registry *r, const struct uuid *id, int loop);
void registry_remove(struct registry *r, const struct uuid *id);

#endif
