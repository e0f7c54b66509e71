/*
 * Failed attempts to authenticate, by address: past so many a minute the address is turned away
 * without a look at its key, unless it shows one that was good a short while ago (an office
 * behind one address must not be locked out by one bad client). A fixed table: when it is full
 * the emptiest entry of its row gives way. Loop thread only.
 */
#ifndef GATEWAY_FAILURES_H
#define GATEWAY_FAILURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct failures;

struct failures *failures_new(void);    /* NULL: out of memory */
void failures_free(struct failures *f); /* NULL is fine */
/* per_min 0: never. *retry_ms is set when true. */
bool failures_over(struct failures *f, const char *address, int64_t per_min, int64_t now_ms,
                   int64_t *retry_ms);
void failures_note(struct failures *f, const char *address, int64_t per_min, int64_t now_ms);
/* Keys that were good, by a keyed hash alone. */
void failures_good_key(struct failures *f, const char *key, size_t len);
bool failures_was_good(const struct failures *f, const char *key, size_t len);

#endif
