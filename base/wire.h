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

/* Unpacks into memory that wire__KIND__free_unpacked(message, NULL) frees. NULL: malformed, or
 * its parts would take more memory than a message of that length needs (a few bytes on the wire
 * can stand for a struct and a pointer). */
#define wire_unpack(kind, frame)                                                                   \
    wire__##kind##__unpack(&(ProtobufCAllocator){wire_alloc, wire_dealloc,                         \
                                                 &(size_t){wire_budget((frame)->payload_len)}},    \
                           (frame)->payload_len, (frame)->payload)

/* Most of what a message may hold; past it the check below fails. */
enum {
    WIRE_MODEL_NAME_MAX = 127,
    WIRE_MODELS_MAX = 64,
    WIRE_MESSAGES_MAX = 16384,
    WIRE_STOPS_MAX = 16,
    WIRE_BILLING_MAX = 512,
    WIRE_SALT_MAX = 64,
    WIRE_SHORT_TEXT_MAX = 512, /* role, name, user, software, param, ... */
    WIRE_USAGES_MAX = 4096,    /* of a UsageList or UsageAck */
};

/* Counts, lengths and ranges of an unpacked message. INVALID: err names the field. */
enum status wire_check_hello(const Wire__Hello *m, struct error *err);
enum status wire_check_request(const Wire__Request *m, struct error *err);
enum status wire_check_usage(const Wire__UsageList *m, struct error *err);
enum status wire_check_ack(const Wire__UsageAck *m, struct error *err);

/* "TOKENS", or "frame 99". The text is static, or in `buffer`. */
const char *wire_type_name(Wire__FrameType type, char buffer[24]);

/* For wire_unpack. */
size_t wire_budget(size_t payload_len);
void *wire_alloc(void *budget, size_t size);
void wire_dealloc(void *budget, void *data);

#endif
