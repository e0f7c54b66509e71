#include "worker/tokenizer_table.h"

#include <assert.h>

/* At most half of the slots are used, so every search ends. */
static size_t slots_for(size_t entries)
{
    size_t size = 16;
    while (size < entries * 2 + 2)
        size *= 2;
    return size;
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ (x >> 32);
}

static uint64_t hash_bytes(const uint8_t *data, size_t len)
{
    uint64_t h = len;
    while (len >= 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        h = mix(h ^ word);
        data += 8;
        len -= 8;
    }
    uint64_t rest = 0;
    memcpy(&rest, data, len);
    return mix(h ^ rest);
}

enum status byte_table_init(struct byte_table *t, size_t entries)
{
    size_t size = slots_for(entries);
    struct byte_slot *slots = calloc(size, sizeof *slots);
    if (!slots)
        return NOMEM;
    t->slots = slots;
    t->mask = size - 1;
    return OK;
}

void byte_table_done(struct byte_table *t)
{
    free(t->slots);
    *t = (struct byte_table){0};
}

static struct byte_slot *find_bytes(const struct byte_table *t, const uint8_t *data, size_t len)
{
    size_t i = hash_bytes(data, len) & t->mask;
    for (;; i = (i + 1) & t->mask) {
        struct byte_slot *slot = &t->slots[i];
        if (!slot->data || (slot->len == len && memcmp(slot->data, data, len) == 0))
            return slot;
    }
}

enum status byte_table_add(struct byte_table *t, const uint8_t *data, size_t len, int32_t id)
{
    assert(data && len <= UINT32_MAX);
    struct byte_slot *slot = find_bytes(t, data, len);
    if (slot->data)
        return CONFLICT;
    *slot = (struct byte_slot){.data = data, .len = (uint32_t)len, .id = id};
    return OK;
}

int32_t byte_table_get(const struct byte_table *t, const uint8_t *data, size_t len)
{
    const struct byte_slot *slot = find_bytes(t, data, len);
    return slot->data ? slot->id : -1;
}

enum status pair_table_init(struct pair_table *t, size_t entries)
{
    size_t size = slots_for(entries);
    struct pair_slot *slots = malloc(size * sizeof *slots);
    if (!slots)
        return NOMEM;
    for (size_t i = 0; i < size; i++)
        slots[i].left = -1;
    t->slots = slots;
    t->mask = size - 1;
    return OK;
}

void pair_table_done(struct pair_table *t)
{
    free(t->slots);
    *t = (struct pair_table){0};
}

static struct pair_slot *find_pair(const struct pair_table *t, int32_t left, int32_t right)
{
    size_t i = mix((uint64_t)(uint32_t)left << 32 | (uint32_t)right) & t->mask;
    for (;; i = (i + 1) & t->mask) {
        struct pair_slot *slot = &t->slots[i];
        if (slot->left < 0 || (slot->left == left && slot->right == right))
            return slot;
    }
}

void pair_table_add(struct pair_table *t, const struct pair_slot *entry)
{
    assert(entry->left >= 0);
    struct pair_slot *slot = find_pair(t, entry->left, entry->right);
    if (slot->left < 0)
        *slot = *entry;
}

const struct pair_slot *pair_table_get(const struct pair_table *t, int32_t left, int32_t right)
{
    const struct pair_slot *slot = find_pair(t, left, right);
    return slot->left < 0 ? NULL : slot;
}
