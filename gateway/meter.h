/*
 * From a request's last word to the durable record: SETTLE is appended, written at the end of the
 * turn, and only then the client gets its last bytes and Redis the exact amount; when the record
 * is on disk the worker is told that it may forget. Loop thread only.
 */
#ifndef GATEWAY_METER_H
#define GATEWAY_METER_H

#include "gateway/request.h"

/* Appends ADMIT; false: the journal takes no more. */
bool meter_admit(struct request *r);
/* LOOP_PHASE_JOURNAL: writes the turn's records, then completes what depended on them. */
void meter_turn(struct gateway_loop *gl);
/* More is on disk, or the journal has failed. */
void meter_durable(struct gateway_loop *gl);
void meter_describe(struct gateway_loop *gl); /* its part of gl->stats */

#endif
