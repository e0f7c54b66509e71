#include "worker/utf8.h"

struct lead {
    size_t bytes;        /* of the character; 0: no character starts so */
    uint8_t least, most; /* of the second byte */
};

static struct lead lead_of(uint8_t c)
{
    if (c >= 0xc2 && c <= 0xdf)
        return (struct lead){2, 0x80, 0xbf};
    if (c >= 0xe0 && c <= 0xef)
        return (struct lead){3, c == 0xe0 ? 0xa0 : 0x80, c == 0xed ? 0x9f : 0xbf};
    if (c >= 0xf0 && c <= 0xf4)
        return (struct lead){4, c == 0xf0 ? 0x90 : 0x80, c == 0xf4 ? 0x8f : 0xbf};
    return (struct lead){0, 0, 0};
}

enum utf8_state utf8_next(const uint8_t *data, size_t len, size_t *used)
{
    *used = 1;
    if (data[0] < 0x80)
        return UTF8_WHOLE;
    struct lead lead = lead_of(data[0]);
    if (!lead.bytes)
        return UTF8_BAD;
    for (size_t i = 1; i < lead.bytes; i++) {
        *used = i;
        if (i == len)
            return UTF8_CUT;
        uint8_t least = i == 1 ? lead.least : 0x80, most = i == 1 ? lead.most : 0xbf;
        if (data[i] < least || data[i] > most)
            return UTF8_BAD;
    }
    *used = lead.bytes;
    return UTF8_WHOLE;
}

bool utf8_valid(const uint8_t *data, size_t len)
{
    size_t used;
    for (size_t i = 0; i < len; i += used)
        if (utf8_next(data + i, len - i, &used) != UTF8_WHOLE)
            return false;
    return true;
}
