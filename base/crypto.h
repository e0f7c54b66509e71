/* The few primitives used outside TLS. OpenSSL behind it. Any thread. */
#ifndef BASE_CRYPTO_H
#define BASE_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHA256_BYTES = 32, SHA1_BYTES = 20 };

void crypto_random(void *out, size_t bytes); /* aborts if the system has no randomness */
/* SHA-1, for names that others define by it alone (Redis scripts): never for security. */
void crypto_sha1(const void *data, size_t len, uint8_t out[SHA1_BYTES]);
void crypto_sha256(const void *data, size_t len, uint8_t out[SHA256_BYTES]);
bool crypto_equal(const void *a, const void *b, size_t len);        /* constant time */
void crypto_wipe(void *data, size_t len);                           /* not optimised away */
uint32_t crypto_crc32c(uint32_t crc, const void *data, size_t len); /* start with 0; RFC 3720 */

#endif
