/*
 * Frames of the worker protocol (base/wire.proto) over a byte stream. No I/O here: the reader
 * is fed bytes, the writer appends to a buf. One owner, no locking.
 */
#ifndef BASE_WIRE_H
#define BASE_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/wire.pb-c.h"

enum { WIRE_VERSION = 1, WIRE_OLDEST = 1, WIRE_HEADER_BYTES = 12, WIRE_PAYLOAD_MAX = 16 << 20 };

struct wire_frame {
    Wire__FrameType type; /* may be a value this version does not know: skip it */
    uint32_t stream;
    const uint8_t *payload; /* inside the input buffer: valid until it is eaten or grown */
    size_t payload_len;
};

/* Looks at the front of `in`. OK: a whole frame, *used bytes long, which the caller eats when it
 * is done with it. NOT_FOUND: more bytes are needed. INVALID: malformed, close the link. */
enum status wire_next(const struct buf *in, struct wire_frame *out, size_t *used,
                      struct error *err);

/* Appends a frame. message may be NULL for an empty payload. */
enum status wire_put(struct buf *out, Wire__FrameType type, uint32_t stream,
                     const ProtobufCMessage *message);

/* Unpacks into memory that *_free_unpacked frees; NULL: malformed. */
#define wire_unpack(kind, frame)                                                                   \
    wire__##kind##__unpack(NULL, (frame)->payload_len, (frame)->payload)

#endif
