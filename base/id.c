#include "base/id.h"

#include "base/crypto.h"
#include "base/error.h"

struct uuid uuid_v7(int64_t wall_ms)
{
    static _Thread_local int64_t last_ms;
    static _Thread_local uint16_t sequence; /* the 12 bits of rand_a */
    struct uuid id;
    crypto_random(id.bytes, sizeof id.bytes);
    if (wall_ms > last_ms) {
        last_ms = wall_ms;
        sequence = (uint16_t)((id.bytes[6] << 8 | id.bytes[7]) & 0x7ff);
    } else if (++sequence > 0xfff) {
        sequence = 0;
        last_ms++;
    }
    for (int i = 0; i < 6; i++)
        id.bytes[i] = (uint8_t)(last_ms >> (40 - 8 * i));
    id.bytes[6] = (uint8_t)(0x70 | sequence >> 8);
    id.bytes[7] = (uint8_t)sequence;
    id.bytes[8] = (uint8_t)(0x80 | (id.bytes[8] & 0x3f));
    return id;
}

int64_t uuid_v7_wall_ms(const struct uuid *id)
{
    int64_t ms = 0;
    for (int i = 0; i < 6; i++)
        ms = ms << 8 | id->bytes[i];
    return ms;
}

void uuid_format(const struct uuid *id, char out[UUID_TEXT_SIZE])
{
    static const char hex[] = "0123456789abcdef";
    char *p = out;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *p++ = '-';
        *p++ = hex[id->bytes[i] >> 4];
        *p++ = hex[id->bytes[i] & 15];
    }
    *p = 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool uuid_parse(const char *text, size_t len, struct uuid *out)
{
    if (len != UUID_TEXT_SIZE - 1)
        return false;
    struct uuid id;
    const char *p = text;
    for (int i = 0; i < 16; i++) {
        if ((i == 4 || i == 6 || i == 8 || i == 10) && *p++ != '-')
            return false;
        int high = hex_digit(p[0]), low = hex_digit(p[1]);
        if (high < 0 || low < 0)
            return false;
        id.bytes[i] = (uint8_t)(high << 4 | low);
        p += 2;
    }
    *out = id;
    return true;
}

bool uuid_equal(const struct uuid *a, const struct uuid *b)
{
    return memcmp(a->bytes, b->bytes, 16) == 0;
}

bool uuid_is_nil(const struct uuid *id)
{
    static const struct uuid nil;
    return uuid_equal(id, &nil);
}
