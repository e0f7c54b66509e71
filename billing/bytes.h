/*
 * Little-endian fields in and out of a byte range, with one check at the end: after an overrun
 * `bad` is set and nothing more is read or written. For the fixed encodings of the journal.
 */
#ifndef BILLING_BYTES_H
#define BILLING_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes_out {
    uint8_t *at, *end;
    bool bad;
};

struct bytes_in {
    const uint8_t *at, *end;
    bool bad;
};

static inline void bytes_put(struct bytes_out *o, const void *data, size_t len)
{
    if (o->bad || (size_t)(o->end - o->at) < len) {
        o->bad = true;
        return;
    }
    memcpy(o->at, data, len);
    o->at += len;
}

static inline void bytes_put_number(struct bytes_out *o, uint64_t value, size_t width)
{
    uint8_t raw[8];
    for (size_t i = 0; i < width; i++)
        raw[i] = (uint8_t)(value >> 8 * i);
    bytes_put(o, raw, width);
}

/* NULL when there are not so many bytes left. */
static inline const uint8_t *bytes_take(struct bytes_in *in, size_t len)
{
    if (in->bad || (size_t)(in->end - in->at) < len) {
        in->bad = true;
        return NULL;
    }
    const uint8_t *p = in->at;
    in->at += len;
    return p;
}

static inline uint64_t bytes_take_number(struct bytes_in *in, size_t width)
{
    const uint8_t *p = bytes_take(in, width);
    uint64_t value = 0;
    for (size_t i = 0; p && i < width; i++)
        value |= (uint64_t)p[i] << 8 * i;
    return value;
}

#endif
