#include "worker/prefix.h"

#include <assert.h>

#include "base/crypto.h"

enum { NONE = -1 };

struct entry {
    struct prefix_key key;
    int32_t block;
    int32_t next;         /* in its bucket, or of the unused entries */
    int32_t newer, older; /* by last use */
};

/* There is at most one entry a block. */
struct prefix {
    struct kv *kv;
    struct entry *entries;
    int32_t *of_block; /* the block's entry, or NONE */
    int32_t *buckets;
    uint32_t bucket_mask;
    int32_t unused, newest, oldest;
    int count;
};

struct prefix *prefix_new(struct kv *kv)
{
    struct prefix *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    int total = kv_total(kv);
    uint32_t buckets = 16;
    while (buckets < (uint32_t)total)
        buckets *= 2;
    p->kv = kv;
    p->bucket_mask = buckets - 1;
    p->newest = p->oldest = p->unused = NONE;
    p->entries = calloc((size_t)total, sizeof *p->entries);
    p->of_block = calloc((size_t)total, sizeof *p->of_block);
    p->buckets = calloc(buckets, sizeof *p->buckets);
    if (!p->entries || !p->of_block || !p->buckets) {
        prefix_free(p);
        return NULL;
    }
    for (uint32_t i = 0; i < buckets; i++)
        p->buckets[i] = NONE;
    for (int32_t i = total - 1; i >= 0; i--) {
        p->entries[i].next = p->unused;
        p->unused = i;
        p->of_block[i] = NONE;
    }
    return p;
}

void prefix_begin(const uint8_t *salt, uint32_t salt_len, struct prefix_key *out)
{
    crypto_sha256(salt, salt_len, out->bytes);
}

void prefix_advance(struct prefix_key *key, const int32_t *tokens)
{
    struct {
        struct prefix_key key;
        int32_t tokens[KV_BLOCK_TOKENS];
    } input;
    _Static_assert(sizeof input == PREFIX_KEY_BYTES + KV_BLOCK_TOKENS * 4, "no padding");
    input.key = *key;
    memcpy(input.tokens, tokens, sizeof input.tokens);
    crypto_sha256(&input, sizeof input, key->bytes);
}

static int32_t *bucket_of(const struct prefix *p, const struct prefix_key *key)
{
    uint32_t hash;
    memcpy(&hash, key->bytes, sizeof hash);
    return &p->buckets[hash & p->bucket_mask];
}

/* The link that points to the key's entry, or to NONE at the end of its bucket. */
static int32_t *find(const struct prefix *p, const struct prefix_key *key)
{
    int32_t *at = bucket_of(p, key);
    while (*at != NONE && memcmp(&p->entries[*at].key, key, sizeof *key) != 0)
        at = &p->entries[*at].next;
    return at;
}

static void unlink_use(struct prefix *p, int32_t i)
{
    struct entry *e = &p->entries[i];
    *(e->newer == NONE ? &p->newest : &p->entries[e->newer].older) = e->older;
    *(e->older == NONE ? &p->oldest : &p->entries[e->older].newer) = e->newer;
}

static void link_newest(struct prefix *p, int32_t i)
{
    struct entry *e = &p->entries[i];
    e->newer = NONE;
    e->older = p->newest;
    *(p->newest == NONE ? &p->oldest : &p->entries[p->newest].newer) = i;
    p->newest = i;
}

int32_t prefix_take(struct prefix *p, const struct prefix_key *key)
{
    int32_t i = *find(p, key);
    if (i == NONE)
        return NONE;
    kv_ref(p->kv, p->entries[i].block);
    return p->entries[i].block;
}

void prefix_add(struct prefix *p, const struct prefix_key *key, int32_t block)
{
    int32_t *at = find(p, key);
    if (*at != NONE)
        return;
    int32_t i = p->unused;
    assert(i != NONE);
    p->unused = p->entries[i].next;
    p->entries[i] = (struct entry){.key = *key, .block = block, .next = NONE};
    assert(p->of_block[block] == NONE);
    p->of_block[block] = i;
    *at = i;
    link_newest(p, i);
    kv_ref(p->kv, block);
    p->count++;
}

void prefix_touch(struct prefix *p, int32_t block)
{
    int32_t i = p->of_block[block];
    if (i == NONE)
        return;
    unlink_use(p, i);
    link_newest(p, i);
}

static void drop(struct prefix *p, int32_t i)
{
    struct entry *e = &p->entries[i];
    int32_t *at = find(p, &e->key);
    assert(*at == i);
    *at = e->next;
    unlink_use(p, i);
    p->of_block[e->block] = NONE;
    kv_unref(p->kv, e->block);
    e->next = p->unused;
    p->unused = i;
    p->count--;
}

void prefix_make_room(struct prefix *p, int blocks)
{
    int32_t i = p->oldest;
    while (i != NONE && kv_free_count(p->kv) < blocks) {
        int32_t newer = p->entries[i].newer;
        if (kv_references_of(p->kv, p->entries[i].block) == 1)
            drop(p, i);
        i = newer;
    }
}

int prefix_count(const struct prefix *p)
{
    return p->count;
}

int prefix_unused(const struct prefix *p)
{
    int count = 0;
    for (int32_t i = p->oldest; i != NONE; i = p->entries[i].newer)
        count += kv_references_of(p->kv, p->entries[i].block) == 1;
    return count;
}

void prefix_free(struct prefix *p)
{
    if (!p)
        return;
    while (p->oldest != NONE && p->entries)
        drop(p, p->oldest);
    free(p->entries);
    free(p->of_block);
    free(p->buckets);
    free(p);
}
