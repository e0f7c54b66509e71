/* Two hash tables with open addressing, filled once, then read by any thread. */
#ifndef WORKER_TOKENIZER_TABLE_H
#define WORKER_TOKENIZER_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct byte_slot {
    const uint8_t *data; /* the caller's; must outlive the table. NULL: a free slot */
    uint32_t len;
    int32_t id;
};
struct byte_table {
    struct byte_slot *slots;
    size_t mask;
};

enum status byte_table_init(struct byte_table *t, size_t entries); /* room for so many */
void byte_table_done(struct byte_table *t);
/* CONFLICT: these bytes are there already. */
enum status byte_table_add(struct byte_table *t, const uint8_t *data, size_t len, int32_t id);
int32_t byte_table_get(const struct byte_table *t, const uint8_t *data, size_t len); /* -1: none */

struct pair_slot {
    int32_t left, right; /* left -1: a free slot */
    uint32_t rank;
    int32_t merged;
};
struct pair_table {
    struct pair_slot *slots;
    size_t mask;
};

enum status pair_table_init(struct pair_table *t, size_t entries);
void pair_table_done(struct pair_table *t);
/* A pair that is there already keeps its first, lower rank. */
void pair_table_add(struct pair_table *t, const struct pair_slot *entry);
const struct pair_slot *pair_table_get(const struct pair_table *t, int32_t left, int32_t right);

#endif
