#include "base/json_keys.h"

#include <assert.h>
#include <pthread.h>

#include "base/crypto.h"

enum {
    ALONE_MAX = 12,       /* keys of an object that are compared one by one */
    ALONE_BYTES_MAX = 64, /* of such a key */
    NOT_HASHED = UINT32_MAX,
};

static uint64_t process_seed[2];

static void draw_seed(void)
{
    crypto_random(process_seed, sizeof process_seed);
}

void json_keys_init(struct json_keys *k)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, draw_seed);
    memcpy(k->seed, process_seed, sizeof k->seed);
    k->entries = k->fixed_entries;
    k->slots = k->fixed_slots;
    k->slots_ready = false;
    k->count = 0;
    k->size = KEYS_FIXED;
}

void json_keys_done(struct json_keys *k)
{
    if (k->entries != k->fixed_entries) {
        free(k->entries);
        free(k->slots);
    }
}

struct sip {
    uint64_t a, b, c, d;
};

static inline uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static inline void sip_round(struct sip *s)
{
    s->a += s->b;
    s->b = rotate(s->b, 13) ^ s->a;
    s->a = rotate(s->a, 32);
    s->c += s->d;
    s->d = rotate(s->d, 16) ^ s->c;
    s->a += s->d;
    s->d = rotate(s->d, 21) ^ s->a;
    s->c += s->b;
    s->b = rotate(s->b, 17) ^ s->c;
    s->c = rotate(s->c, 32);
}

static inline void sip_word(struct sip *s, uint64_t word)
{
    s->d ^= word;
    sip_round(s);
    s->a ^= word;
}

static int hex_value(uint8_t c)
{
    return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

static uint32_t read_hex4(const uint8_t *text)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++)
        value = value * 16 + (uint32_t)hex_value(text[i]);
    return value;
}

/* UTF-8 of a code point that needs two to four bytes, or of an ASCII one. */
static int put_utf8(uint32_t code, uint8_t out[4])
{
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    int n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const uint8_t first[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (int i = n - 1; i > 0; i--, code >>= 6)
        out[i] = (uint8_t)(0x80 | (code & 0x3f));
    out[0] = (uint8_t)(first[n] | code);
    return n;
}

/* Unescapes one character of a text that the guard has checked; gives the bytes taken. */
static size_t unescape(const uint8_t *text, uint8_t out[4], int *n)
{
    *n = 1;
    out[0] = text[0];
    if (text[0] != '\\')
        return 1;
    switch (text[1]) {
    case 'b':
        out[0] = '\b';
        return 2;
    case 'f':
        out[0] = '\f';
        return 2;
    case 'n':
        out[0] = '\n';
        return 2;
    case 'r':
        out[0] = '\r';
        return 2;
    case 't':
        out[0] = '\t';
        return 2;
    case 'u':
        break;
    default:
        out[0] = text[1];
        return 2;
    }
    uint32_t code = read_hex4(text + 2);
    if (code < 0xd800 || code > 0xdfff) {
        *n = put_utf8(code, out);
        return 6;
    }
    *n = put_utf8(0x10000 + ((code - 0xd800) << 10) + (read_hex4(text + 8) - 0xdc00), out);
    return 12;
}

/* The bytes of a key as it reads, one by one. */
struct reader {
    const uint8_t *at, *end;
    uint8_t out[4];
    int have, next;
};

static int next_byte(struct reader *r)
{
    if (r->next == r->have) {
        if (r->at == r->end)
            return -1;
        r->next = 0;
        r->at += unescape(r->at, r->out, &r->have);
    }
    return r->out[r->next++];
}

static struct reader read_key(const struct json_key *key)
{
    return (struct reader){.at = key->text, .end = key->text + key->len};
}

static uint64_t sip_end(struct sip *s, uint64_t last)
{
    sip_word(s, last);
    s->c ^= 0xff;
    sip_round(s);
    sip_round(s);
    sip_round(s);
    return s->a ^ s->b ^ s->c ^ s->d;
}

static uint64_t hash_escaped(struct sip *s, const struct json_key *key)
{
    struct reader r = read_key(key);
    uint64_t word = 0;
    size_t len = 0;
    for (int c; (c = next_byte(&r)) >= 0;) {
        word |= (uint64_t)c << (len % 8 * 8);
        if (++len % 8 == 0) {
            sip_word(s, word);
            word = 0;
        }
    }
    return sip_end(s, word | (uint64_t)len << 56);
}

static uint64_t hash_key(const struct json_keys *k, const struct json_key *key)
{
    struct sip s = {k->seed[0] ^ 0x736f6d6570736575, k->seed[1] ^ 0x646f72616e646f6d,
                    k->seed[0] ^ 0x6c7967656e657261, k->seed[1] ^ 0x7465646279746573};
    sip_word(&s, key->object);
    if (key->escaped)
        return hash_escaped(&s, key);
    size_t at = 0;
    uint64_t word;
    for (; key->len - at >= 8; at += 8) {
        memcpy(&word, key->text + at, 8);
        sip_word(&s, word);
    }
    word = 0;
    for (size_t i = at; i < key->len; i++)
        word |= (uint64_t)key->text[i] << ((i - at) * 8);
    return sip_end(&s, word | (uint64_t)key->len << 56);
}

static bool same_key(const struct json_key *a, const struct json_key *b)
{
    if (a->object != b->object)
        return false;
    if (!a->escaped && !b->escaped)
        return a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
    struct reader x = read_key(a), y = read_key(b);
    for (int c; (c = next_byte(&x)) == next_byte(&y);)
        if (c < 0)
            return true;
    return false;
}

/* Puts entry i into the table; CONFLICT if an equal key is there. */
static enum status hash_entry(struct json_keys *k, uint32_t i)
{
    struct entry *e = &k->entries[i];
    uint32_t mask = k->size * 2 - 1, slot = (uint32_t)e->hash & mask;
    for (; k->slots[slot]; slot = (slot + 1) & mask) {
        const struct entry *other = &k->entries[k->slots[slot] - 1];
        if (other->hash == e->hash && same_key(&other->key, &e->key))
            return CONFLICT;
    }
    k->slots[slot] = i + 1;
    e->slot = slot;
    return OK;
}

static enum status grow(struct json_keys *k)
{
    if (k->size > 1u << 28)
        return NOMEM;
    uint32_t size = k->size * 2;
    struct entry *entries = malloc(size * sizeof *entries);
    uint32_t *slots = calloc(size * 2, sizeof *slots);
    if (!entries || !slots) {
        free(entries);
        free(slots);
        return NOMEM;
    }
    memcpy(entries, k->entries, k->count * sizeof *entries);
    json_keys_done(k);
    k->entries = entries;
    k->slots = slots;
    k->slots_ready = true;
    k->size = size;
    /* In the order of arrival, so that the last keys in can still leave first. */
    for (uint32_t i = 0; i < k->count; i++)
        if (entries[i].slot != NOT_HASHED)
            hash_entry(k, i);
    return OK;
}

/* Compares the newest key with the others of its object, none of which is in the table. */
static enum status compare_each(const struct json_keys *k, uint32_t newest)
{
    const struct json_key *key = &k->entries[newest].key;
    for (uint32_t i = key->object; i < newest; i++) {
        const struct json_key *other = &k->entries[i].key;
        if (other->len == key->len && memcmp(other->text, key->text, key->len) == 0)
            return CONFLICT;
    }
    return OK;
}

/* Puts the object's keys from `first` to the newest into the table. */
static enum status hash_from(struct json_keys *k, uint32_t first, uint32_t newest)
{
    if (!k->slots_ready) {
        memset(k->fixed_slots, 0, sizeof k->fixed_slots);
        k->slots_ready = true;
    }
    enum status st = OK;
    for (uint32_t i = first; i <= newest && st == OK; i++) {
        k->entries[i].hash = hash_key(k, &k->entries[i].key);
        st = hash_entry(k, i);
    }
    return st;
}

enum status json_keys_add(struct json_keys *k, const struct json_key *key)
{
    if (k->count == k->size) {
        enum status st = grow(k);
        if (st != OK)
            return st;
    }
    uint32_t newest = k->count, first = key->object;
    k->entries[newest].key = *key;
    k->entries[newest].slot = NOT_HASHED;
    bool hashed = newest > first && k->entries[first].slot != NOT_HASHED;
    bool small = newest - first < ALONE_MAX && !key->escaped && key->len <= ALONE_BYTES_MAX;
    enum status st = hashed  ? hash_from(k, newest, newest)
                     : small ? compare_each(k, newest)
                             : hash_from(k, first, newest);
    if (st == OK)
        k->count++;
    return st;
}

/* The last key in leaves first: then no probe of an older key ever ran over its slot. */
void json_keys_cut(struct json_keys *k, uint32_t count)
{
    assert(count <= k->count);
    while (k->count > count) {
        uint32_t slot = k->entries[--k->count].slot;
        if (slot != NOT_HASHED)
            k->slots[slot] = 0;
    }
}
