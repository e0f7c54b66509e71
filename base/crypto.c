#include "base/crypto.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <pthread.h>
#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

#include "base/error.h"

void crypto_random(void *out, size_t bytes)
{
    /* A pool per thread: one call to the generator serves many ids. */
    static _Thread_local uint8_t pool[1024];
    static _Thread_local size_t left;
    if (bytes > 64) {
        if (RAND_bytes(out, (int)bytes) != 1)
            abort();
        return;
    }
    if (left < bytes) {
        if (RAND_bytes(pool, sizeof pool) != 1)
            abort();
        left = sizeof pool;
    }
    left -= bytes;
    memcpy(out, pool + left, bytes);
    OPENSSL_cleanse(pool + left, bytes);
}

static pthread_once_t digest_once = PTHREAD_ONCE_INIT;
static EVP_MD *sha256;
static pthread_key_t digest_key; /* frees a thread's context at its end */

static void free_digest(void *ctx)
{
    EVP_MD_CTX_free(ctx);
}

static void fetch_digest(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL); /* once: OpenSSL 3 locks on implicit fetches */
    if (!sha256 || pthread_key_create(&digest_key, free_digest) != 0)
        abort();
}

void crypto_sha256(const void *data, size_t len, uint8_t out[SHA256_BYTES])
{
    pthread_once(&digest_once, fetch_digest);
    static _Thread_local EVP_MD_CTX *ctx; /* one a thread, for the life of the thread */
    if (!ctx) {
        ctx = EVP_MD_CTX_new();
        pthread_setspecific(digest_key, ctx);
    }
    if (!ctx || EVP_DigestInit_ex2(ctx, sha256, NULL) != 1 ||
        EVP_DigestUpdate(ctx, data, len) != 1 || EVP_DigestFinal_ex(ctx, out, NULL) != 1)
        abort();
}

void crypto_sha1(const void *data, size_t len, uint8_t out[SHA1_BYTES])
{
    if (EVP_Digest(data, len, out, NULL, EVP_sha1(), NULL) != 1)
        abort();
}

bool crypto_equal(const void *a, const void *b, size_t len)
{
    return CRYPTO_memcmp(a, b, len) == 0;
}

void crypto_wipe(void *data, size_t len)
{
    OPENSSL_cleanse(data, len);
}

static uint32_t crc_table[256];

static void crc_init(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++)
            c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
        crc_table[i] = c;
    }
}

static uint32_t crc_portable(uint32_t c, const uint8_t *p, size_t len)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, crc_init);
    while (len--)
        c = crc_table[(c ^ *p++) & 0xff] ^ c >> 8;
    return c;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_sse(uint32_t c, const uint8_t *p, size_t len)
{
    uint64_t wide = c;
    for (; len >= 8; len -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        wide = _mm_crc32_u64(wide, word);
    }
    c = (uint32_t)wide;
    while (len--)
        c = _mm_crc32_u8(c, *p++);
    return c;
}
#endif

uint32_t crypto_crc32c(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *p = data;
    uint32_t c = ~crc;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2"))
        return ~crc_sse(c, p, len);
#endif
    return ~crc_portable(c, p, len);
}
