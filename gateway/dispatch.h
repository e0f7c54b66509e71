/*
 * Which worker runs a request: of those that serve the model and have a place, the one with the
 * fewest outstanding tokens. While all are full, requests wait in a bounded queue per model:
 * those of a higher priority before the others, then first come, first served. Part of a
 * gateway_loop; loop thread only.
 */
#ifndef GATEWAY_DISPATCH_H
#define GATEWAY_DISPATCH_H

#include "gateway/link.h"
#include "gateway/list.h"

enum { DISPATCH_MODELS_MAX = 256 };

struct gateway_loop;
struct request;

struct dispatch_view { /* of one worker */
    bool room;
    bool avoid; /* it failed this request before: only if there is no other */
    uint64_t outstanding;
};

/* The index of the best one; -1: none has room. */
int dispatch_best(const struct dispatch_view *views, int count);

struct dispatch_queue {
    char model[WIRE_MODEL_NAME_MAX + 1];
    struct list waiting; /* of struct request, by its `fifo`: the next to go first */
    int count;
    int64_t unserved_ms; /* since when no worker serves the model; 0: one does */
};

struct dispatch {
    struct dispatch_queue queues[DISPATCH_MODELS_MAX];
    int count;
    int waiting; /* over all queues */
};

/* Where a request goes among those that wait: behind those of a higher priority, and behind its
 * own (`front`: before them). */
void dispatch_place(struct list *waiting, struct request *r, bool front);
/* The widest bounds over all workers of the model. false: no worker serves it now. */
bool dispatch_model(const struct gateway_loop *gl, const char *name, struct link_model *out);
/* Sends the request to a worker, or queues it. LIMITED: the queue is full. Owns neither. */
enum status dispatch_submit(struct gateway_loop *gl, struct request *r);
/* Queued ahead of the others of its priority, since it has waited its turn before; given up after
 * wait_ms. */
enum status dispatch_again(struct gateway_loop *gl, struct request *r, int64_t wait_ms);
/* A worker other than that one serves its model. */
bool dispatch_other(const struct gateway_loop *gl, const struct request *r, const struct link *l);
void dispatch_remove(struct gateway_loop *gl, struct request *r); /* it must be queued */
/* At the end of a turn, ahead of the journal: what waits and now has a place. */
void dispatch_turn(struct gateway_loop *gl);
void dispatch_tick(struct gateway_loop *gl, int64_t now_ms); /* who waited too long */

#endif
