/*
 * API keys as text: `sk-tg-` (or `sk-tgadm-` for administrators), 43 base62 characters of
 * randomness (256 bits), 6 base62 characters of checksum (CRC-32C of all before it). The checksum
 * lets a mistyped key be told from an unknown one without asking anyone; it is no secret. Any
 * thread.
 */
#ifndef AUTH_KEY_TEXT_H
#define AUTH_KEY_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/crypto.h"
#include "base/secret.h"

enum key_kind { KEY_API, KEY_ADMIN };

enum { KEY_PREFIX_SIZE = 16 }; /* of the part that may be shown, NUL included */

void key_text_make(enum key_kind kind, struct secret *out);
bool key_text_valid(enum key_kind kind, const char *key, size_t len);
/* The kind's mark and the first four random characters: enough to recognise a key by. */
void key_text_prefix(const struct secret *key, char out[KEY_PREFIX_SIZE]);
void key_text_hash_hex(const char *key, size_t len, char out[2 * SHA256_BYTES + 1]);

#endif
