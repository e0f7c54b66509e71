/* The layout of usage.table: private to worker/usage*.c. Little-endian machines of one kind. */
#ifndef WORKER_USAGE_FILE_H
#define WORKER_USAGE_FILE_H

#include <stdatomic.h>

#include "worker/usage.h"

enum { USAGE_HEADER_BYTES = 4096, USAGE_VERSION = 1 };

enum usage_state { USAGE_FREE, USAGE_RUNNING, USAGE_FINAL, USAGE_ACKED };

struct usage_header {
    char magic[8]; /* "TGUSAGE" and a NUL */
    uint32_t version, slot_bytes;
    _Atomic uint32_t slot_count; /* raised after the file has grown */
};

struct usage_slot {
    _Atomic uint8_t state; /* enum usage_state; published last */
    uint8_t outcome;       /* Wire__Outcome; valid from FINAL on */
    uint16_t billing_len;
    uint32_t attempt;
    uint8_t request_id[16];
    _Atomic uint64_t input;  /* prompt << 32 | cached */
    _Atomic uint64_t output; /* completion << 32 | reasoning */
    int64_t begun_wall_ms, finished_wall_ms;
    uint64_t order; /* of begin or acknowledgement: what is oldest */
    char gateway_id[40];
    char model[USAGE_MODEL_SIZE];
    uint8_t billing[USAGE_BILLING_MAX];
    uint8_t reserved[24];
};

_Static_assert(sizeof(struct usage_slot) == 768, "the file's layout is fixed");
_Static_assert(sizeof(_Atomic uint64_t) == 8 && ATOMIC_LLONG_LOCK_FREE == 2, "lock-free");

static inline enum usage_state usage_slot_state(const struct usage_slot *s)
{
    return (enum usage_state)atomic_load_explicit(&((struct usage_slot *)s)->state,
                                                  memory_order_acquire);
}

void usage_slot_copy(const struct usage_slot *s, struct usage_record *out);
/* Size and words of the header against this version. */
enum status usage_check_header(const struct usage_header *h, int64_t file_bytes, const char *path,
                               struct error *err);

#endif
