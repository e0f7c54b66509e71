/*
 * UUIDs. The id of a request, tenant, project, key, ... is a UUIDv7 (RFC 9562): 48 bits of wall
 * time in ms, then random bits; ids made by one process are strictly increasing within a thread.
 */
#ifndef BASE_ID_H
#define BASE_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct uuid {
    uint8_t bytes[16];
};

enum { UUID_TEXT_SIZE = 37 };

struct uuid uuid_v7(int64_t wall_ms); /* random bits from the system; any thread */
int64_t uuid_v7_wall_ms(const struct uuid *id);
void uuid_format(const struct uuid *id, char out[UUID_TEXT_SIZE]);
/* Exactly 36 characters, hex of either case, dashes in place. */
bool uuid_parse(const char *text, size_t len, struct uuid *out);
bool uuid_equal(const struct uuid *a, const struct uuid *b);
bool uuid_is_nil(const struct uuid *id);

#endif
