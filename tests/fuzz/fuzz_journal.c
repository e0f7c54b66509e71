/* links: tg_billing */
/* Any bytes as the records of a segment: the reader never leaves them, and what it accepts
 * packs again to the same bytes. */
#include <assert.h>
#include <stdint.h>

#include "base/crypto.h"
#include "billing/journal_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_good(const struct record_view *v)
{
    uint8_t out[RECORD_BYTES_MAX];
    struct meter_context c;
    struct meter_settle s;
    if (v->type == RECORD_ADMIT && record_unpack_admit(v, &c) == OK)
        assert(record_put_admit(&c, out) <= RECORD_BYTES_MAX);
    if (v->type == RECORD_SETTLE && record_unpack_settle(v, &s) == OK)
        assert(record_put_settle(&s, out) <= RECORD_BYTES_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct record_view v;
    size_t at = 0;
    while (at < size) {
        enum record_verdict verdict = record_view(data + at, size - at, &v);
        if (verdict != RECORD_GOOD)
            break;
        assert(v.bytes <= size - at);
        check_good(&v);
        at += v.bytes;
    }
    /* The same bytes as payloads, past the checksums that a mutation seldom gets right. */
    if (size > 0 && size <= RECORD_PAYLOAD_MAX) {
        v = (struct record_view){RECORD_ADMIT, 1, data, (uint32_t)size, size};
        check_good(&v);
        v.type = RECORD_SETTLE;
        check_good(&v);
    }
    return 0;
}
