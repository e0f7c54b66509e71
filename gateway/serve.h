/*
 * A request at a worker: sending it, turning the worker's frames into the client's answer,
 * credit, retries, cancels. The handlers of links and exchanges end up here. Loop thread only.
 */
#ifndef GATEWAY_SERVE_H
#define GATEWAY_SERVE_H

#include "gateway/request.h"

/* Admitted and reserved: finds it a worker, or a place in the queue, or refuses it. */
void serve_admitted(struct request *r);
/* Sends REQUEST; the first time ADMIT is appended in front. Not OK: nothing happened. */
enum status serve_send(struct request *r, struct link *l);
/* Text bytes a worker may send ahead. */
int64_t serve_credit(const struct request *r);
/* It waited in the queue too long; takes it out. */
void serve_gave_up(struct request *r);

void serve_client_gone(struct request *r);
void serve_drained(struct request *r);              /* the client has read on */
void serve_tick(struct request *r, int64_t now_ms); /* keep-alives, the end of GRACE */
/* The worker's final counts of this request, from its usage table. */
void serve_usage(struct request *r, const struct token_counts *counts, Wire__Outcome outcome,
                 uint32_t attempt, int worker);

extern const struct link_handlers serve_link_handlers; /* tokens, finish, error, lost */

#endif
