/*
 * The worker's own account of what it did: one slot for each request, in a file mapped MAP_SHARED
 * (usage.table in the state folder), so that a kill -9 at any instruction leaves it readable.
 *
 *     FREE -> RUNNING -> FINAL -> ACKED -> (reused, oldest first)
 *               \-> FREE, when nothing was done
 *
 * A slot's other fields are written before the state byte that publishes them; completion and
 * reasoning tokens are one atomic store. Opening turns what a dead worker left RUNNING into FINAL
 * with outcome FAILED. A lock on the file keeps a second worker out. One thread.
 */
#ifndef WORKER_USAGE_H
#define WORKER_USAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "base/wire.pb-c.h"
#include "worker/backend.h"

enum {
    USAGE_MODEL_SIZE = 128,
    USAGE_NODE_SIZE = 37,
    USAGE_BILLING_MAX = 512,
    USAGE_SLOTS_MAX = 1 << 20,
};

struct usage_table;

struct usage_begin {
    const uint8_t *request_id; /* 16 bytes */
    uint32_t attempt;
    const char *model, *gateway_id;
    const uint8_t *billing;
    size_t billing_len;
    int64_t wall_ms;
};

/* A copy of a slot. */
struct usage_record {
    uint8_t request_id[16];
    uint32_t attempt;
    char model[USAGE_MODEL_SIZE];
    char gateway_id[USAGE_NODE_SIZE];
    uint8_t billing[USAGE_BILLING_MAX];
    size_t billing_len;
    struct counts counts;
    Wire__Outcome outcome;
    int64_t begun_wall_ms, finished_wall_ms;
};

/* Makes the file, or takes over what is there. It grows to `slots` and never shrinks. CONFLICT:
 * another process has it; CORRUPT: not a usage table of this version. */
enum status usage_open(const char *path, uint32_t slots, int64_t wall_ms, struct usage_table **out,
                       struct error *err);
void usage_close(struct usage_table *t); /* NULL is fine */
uint32_t usage_slots(const struct usage_table *t);

/* A slot in state RUNNING. CONFLICT: that request and attempt has one already; LIMITED: every slot
 * is running or not yet acknowledged. */
enum status usage_begin(struct usage_table *t, const struct usage_begin *b, uint32_t *slot);
/* Counts only rise. */
void usage_count(struct usage_table *t, uint32_t slot, const struct counts *counts);
/* RUNNING to FINAL, with the counts as they stand. */
void usage_finish(struct usage_table *t, uint32_t slot, Wire__Outcome outcome, int64_t wall_ms);
/* RUNNING to FREE: nothing was done for it. */
void usage_undo(struct usage_table *t, uint32_t slot);
/* FINAL to ACKED. NOT_FOUND: no such request; CONFLICT: it still runs. *slot may be NULL. */
enum status usage_ack(struct usage_table *t, const uint8_t *request_id, uint32_t attempt,
                      uint32_t *slot);

bool usage_find(const struct usage_table *t, const uint8_t *request_id, uint32_t attempt,
                uint32_t *slot);
void usage_read(const struct usage_table *t, uint32_t slot, struct usage_record *out);
bool usage_is_final(const struct usage_table *t, uint32_t slot); /* and not yet acknowledged */
const char *usage_gateway(const struct usage_table *t, uint32_t slot);
/* The slots in state FINAL, in no order; i < usage_unacked_count. */
uint32_t usage_unacked_count(const struct usage_table *t);
uint32_t usage_unacked(const struct usage_table *t, uint32_t i);

/* Prints a table file as JSON lines, oldest begun first; a live worker's too. */
enum status usage_print(const char *path, FILE *out, struct error *err);

#endif
