/*
 * The metering journal: append-only segment files of one loop, records with CRC-32C. What is
 * written survives the death of the process; what is durable survives the loss of power.
 * Appending is memory only; journal_flush (from a hook of LOOP_PHASE_JOURNAL that the owner of
 * the loop adds) makes one write() of a turn's records; a syncer thread does fdatasync for all
 * journals of the process, group by group. After any write or sync error the journal is failed
 * for good: stop admitting billable work. A disk too full for the next segment refuses admits
 * but still takes settles into space set aside; that state ends by itself when there is room.
 * A journal belongs to its loop's thread; the syncer may be shared by all.
 */
#ifndef BILLING_JOURNAL_H
#define BILLING_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/id.h"
#include "base/loop.h"
#include "billing/pricebook.h"

enum { MODEL_NAME_MAX = 128 };

/* What is fixed at admission. Travels through the worker as Request.billing too. */
struct meter_context {
    struct uuid request_id, tenant_id, project_id, key_id;
    int64_t admitted_wall_ms;
    struct price price;
    char currency[4];
    char model[MODEL_NAME_MAX];
    bool prepaid;
    int64_t hold_nano, hold_tokens;
};

enum meter_outcome {
    METER_FINISHED = 1, /* charged */
    METER_CANCELLED,    /* by the client: charged for what was done */
    METER_FAILED,       /* on our side: recorded, not charged */
};

struct meter_settle {
    struct meter_context context; /* whole, so that a SETTLE needs no ADMIT beside it */
    struct token_counts counts;
    enum meter_outcome outcome;
    uint32_t attempt;
    int64_t settled_wall_ms;
    money_pico cost_pico; /* price_rate of the counts, or 0 when not charged */
};

/* Packs into at most 512 bytes; the same encoding in the journal and in Request.billing. */
enum status meter_context_pack(const struct meter_context *c, uint8_t *out, size_t size,
                               size_t *len);
enum status meter_context_unpack(const uint8_t *data, size_t len, struct meter_context *out);

struct journal;
struct journal_syncer; /* the thread; one a process */

struct journal_options {
    const char *dir;       /* of the gateway's journals; made if absent, mode 0700 */
    int shard;             /* the loop's number: journals never share a file */
    int64_t segment_bytes; /* 64 MiB */
    int64_t reserve_bytes; /* disk space set aside, so that what is admitted can be settled */
    struct journal_syncer *syncer;
    /* Names the journal for billing, which settles restored holds under it: the gateway's id.
     * NULL: an id of the folder's own (file journal.id). */
    const struct uuid *gateway_id;
    /* Called on the loop when more is durable, or the journal has failed. */
    struct loop *loop;
    loop_fn *on_durable;
    void *arg;
};

/* interval_ms 0: a sync begins as soon as something was written and the last one is done. */
struct journal_syncer *journal_syncer_new(int64_t interval_ms, struct error *err);
void journal_syncer_free(struct journal_syncer *s); /* syncs, joins */

/* Opens after recovery of what is there: a torn tail is cut; a flipped record is reported (err,
 * CORRUPT) and never skipped silently. CONFLICT: another process has this journal open. A new
 * segment is begun. */
enum status journal_open(const struct journal_options *options, struct journal **out,
                         struct error *err);
void journal_close(struct journal *j); /* flushes; NULL is fine */
/* The position behind the record: compare with journal_written and journal_durable. 0: failed. */
int64_t journal_admit(struct journal *j, const struct meter_context *context);
int64_t journal_settle(struct journal *j, const struct meter_settle *settle);
enum status journal_flush(struct journal *j);
int64_t journal_written(const struct journal *j);
int64_t journal_durable(const struct journal *j);
/* True: admit nothing; err says why. journal_settle may still work (it says so itself). */
bool journal_failed(const struct journal *j, struct error *err);

/* At start, over all journals of a folder, before they are opened: each ADMIT without a SETTLE,
 * and each SETTLE (settle NULL for the former). Segments that billing has shipped and deleted are
 * not seen, but one that holds the ADMIT of an open request is never deleted. Cuts torn tails, so
 * nobody may have the journals open. A folder that is not there is empty. CORRUPT: err names file
 * and offset; fn may have been called for records before it. */
typedef void journal_recover_fn(const struct meter_context *admit,
                                const struct meter_settle *settle, void *arg);
enum status journal_recover(const char *dir, journal_recover_fn *fn, void *arg, struct error *err);

#endif
