/* The head of a segment file, as journal_segment.h draws it. Private to the journal. */
#ifndef BILLING_JOURNAL_HEAD_H
#define BILLING_JOURNAL_HEAD_H

#include "billing/journal_segment.h"

#define SEGMENT_MAGIC "TGJRNL\r\n"
enum { SEGMENT_VERSION = 1 };

struct segment_head {
    uint32_t version;
    struct segment_name name;
    int64_t created_wall_ms;
    struct uuid source; /* of the gateway that wrote it */
};

void segment_head_put(const struct segment_head *h, uint8_t out[SEGMENT_HEAD_BYTES]);
enum status segment_head_read(const uint8_t data[SEGMENT_HEAD_BYTES], struct segment_head *out);

#endif
