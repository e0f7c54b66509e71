/*
 * One record of the journal, as bytes. All numbers are little-endian.
 *
 *     0  uint16 mark, 0x4754
 *     2  uint8  type (enum record_type)
 *     3  uint8  version of the payload; a newer one only adds fields behind the known ones
 *     4  uint32 payload bytes, at most RECORD_PAYLOAD_MAX
 *     8  uint32 CRC-32C of bytes 0..7
 *    12  uint32 CRC-32C of bytes 0..7 and the payload
 *    16  payload
 *
 * The head has a checksum of its own, so that a flipped length is told from a record that was
 * cut off: writes go to the end of the file, so a torn one leaves a prefix of a record, or a
 * record whose tail is zeros to the end of the file, and nothing behind it.
 *
 * Context (payload of ADMIT): uint8 version, uint8 flags (1: prepaid), uuids of request, tenant,
 * project and key, int64 admitted_wall_ms, price_id, input_miss_pico, input_hit_pico,
 * output_pico, hold_nano, hold_tokens, 3 letters of currency, uint8 model bytes, model.
 * SETTLE: uint16 context bytes, context, int64 prompt, cached, completion, reasoning, uint8
 * outcome, uint32 attempt, int64 settled_wall_ms, int128 cost_pico.
 *
 * Pure functions, any thread.
 */
#ifndef BILLING_JOURNAL_RECORD_H
#define BILLING_JOURNAL_RECORD_H

#include "billing/journal.h"

enum {
    RECORD_HEAD_BYTES = 16,
    RECORD_PAYLOAD_MAX = 64 * 1024,
    RECORD_BYTES_MAX = 512, /* of the records this version writes, whole */
    METER_CONTEXT_BYTES_MAX = 384,
};

enum record_type { RECORD_ADMIT = 1, RECORD_SETTLE = 2 };

enum record_verdict {
    RECORD_GOOD,
    RECORD_SHORT, /* the bytes end before the record does */
    RECORD_BAD_HEAD,
    RECORD_BAD_PAYLOAD, /* view->bytes is set */
};

struct record_view {
    uint8_t type, version;
    const uint8_t *payload; /* inside the data given */
    uint32_t payload_bytes;
    size_t bytes; /* of the whole record */
};

enum record_verdict record_view(const uint8_t *data, size_t len, struct record_view *out);
/* Bytes of the whole record, put into out (RECORD_BYTES_MAX). */
size_t record_put_admit(const struct meter_context *c, uint8_t *out);
size_t record_put_settle(const struct meter_settle *s, uint8_t *out);
/* CORRUPT: the checksums are right but the payload makes no sense. */
enum status record_unpack_admit(const struct record_view *v, struct meter_context *out);
enum status record_unpack_settle(const struct record_view *v, struct meter_settle *out);

#endif
