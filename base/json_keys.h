/*
 * The keys of all objects that are open at one point of a JSON text, to find duplicates. Keys
 * are kept as places in the text, compared as they read once unescaped; those of an object
 * leave when it closes. A few short keys are compared one by one; an object with more goes into
 * one hash table for the whole text. Memory: some 50 bytes a key, none from the heap for the
 * first KEYS_FIXED. The hash has a secret of the process (SipHash-1-3), so no sender can choose
 * keys that collide. One owner.
 */
#ifndef BASE_JSON_KEYS_H
#define BASE_JSON_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { KEYS_FIXED = 64 };

struct json_key {
    const uint8_t *text; /* behind the opening quote */
    size_t len;          /* up to the closing quote */
    uint32_t object;     /* how many keys there were before its object's first one */
    bool escaped;        /* there is a backslash in it */
};

struct json_keys {
    struct entry {
        struct json_key key;
        uint64_t hash; /* where slot is not NOT_HASHED */
        uint32_t slot;
    } * entries;
    uint32_t *slots; /* 0: empty, else 1 + index of the entry; twice as many as `size` */
    uint32_t count, size;
    bool slots_ready; /* the fixed slots are cleared when first needed */
    uint64_t seed[2];
    struct entry fixed_entries[KEYS_FIXED];
    uint32_t fixed_slots[2 * KEYS_FIXED];
};

void json_keys_init(struct json_keys *k);
void json_keys_done(struct json_keys *k);
/* CONFLICT: that object has the key already; the set is of no more use then. NOMEM. */
enum status json_keys_add(struct json_keys *k, const struct json_key *key);
/* Forgets all but the first `count` keys. */
void json_keys_cut(struct json_keys *k, uint32_t count);

#endif
