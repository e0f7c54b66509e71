#include "auth/key_text.h"

#include "base/error.h"

enum { RANDOM_CHARACTERS = 43, CHECK_CHARACTERS = 6 };

static const char base62[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
static const char *const marks[] = {[KEY_API] = "sk-tg-", [KEY_ADMIN] = "sk-tgadm-"};

/* 62 of 64 values are taken, the others drawn again, so that all characters are as likely. */
static char random_character(void)
{
    uint8_t byte;
    do
        crypto_random(&byte, 1);
    while ((byte & 63) >= 62);
    return base62[byte & 63];
}

static void put_checksum(const char *text, size_t len, char out[CHECK_CHARACTERS])
{
    uint32_t crc = crypto_crc32c(0, text, len);
    for (int i = CHECK_CHARACTERS - 1; i >= 0; i--) {
        out[i] = base62[crc % 62];
        crc /= 62;
    }
}

void key_text_make(enum key_kind kind, struct secret *out)
{
    size_t len = strlen(marks[kind]);
    memcpy(out->text, marks[kind], len);
    for (int i = 0; i < RANDOM_CHARACTERS; i++)
        out->text[len++] = random_character();
    put_checksum(out->text, len, out->text + len);
    out->text[len + CHECK_CHARACTERS] = 0;
}

bool key_text_valid(enum key_kind kind, const char *key, size_t len)
{
    size_t mark = strlen(marks[kind]);
    size_t body = mark + RANDOM_CHARACTERS;
    if (len != body + CHECK_CHARACTERS || memcmp(key, marks[kind], mark) != 0)
        return false;
    for (size_t i = mark; i < len; i++)
        if (!key[i] || !strchr(base62, key[i]))
            return false;
    char check[CHECK_CHARACTERS];
    put_checksum(key, body, check);
    return memcmp(check, key + body, CHECK_CHARACTERS) == 0;
}

void key_text_prefix(const struct secret *key, char out[KEY_PREFIX_SIZE])
{
    const char *end = strrchr(key->text, '-');
    snprintf(out, KEY_PREFIX_SIZE, "%.*s", (int)(end - key->text) + 1 + 4, key->text);
}

void key_text_hash_hex(const char *key, size_t len, char out[2 * SHA256_BYTES + 1])
{
    static const char hex[] = "0123456789abcdef";
    uint8_t hash[SHA256_BYTES];
    crypto_sha256(key, len, hash);
    for (int i = 0; i < SHA256_BYTES; i++) {
        out[2 * i] = hex[hash[i] >> 4];
        out[2 * i + 1] = hex[hash[i] & 15];
    }
    out[2 * SHA256_BYTES] = 0;
}
