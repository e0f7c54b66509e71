#include "gateway/registry.h"

#include <assert.h>
#include <pthread.h>

/* Open addressing with linear probing; the table is never more than half full. */
struct entry {
    struct uuid id;
    uint8_t state; /* enum registry_state; UNKNOWN: the slot is free */
    int16_t loop;
};

struct registry {
    pthread_mutex_t lock;
    struct entry *table;
    size_t size, used;    /* size: a power of two */
    struct uuid *settled; /* a ring, oldest first */
    size_t settled_max, settled_first, settled_count;
};

/* The end of a UUIDv7 is random. */
static size_t slot_of(const struct registry *r, const struct uuid *id)
{
    uint64_t h;
    memcpy(&h, id->bytes + 8, sizeof h);
    h *= 0x9e3779b97f4a7c15u;
    return (size_t)(h >> 20) & (r->size - 1);
}

struct registry *registry_new(int settled_max)
{
    struct registry *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->settled_max = (size_t)settled_max;
    r->size = 1024;
    while (r->size < 4 * r->settled_max)
        r->size *= 2;
    r->table = calloc(r->size, sizeof *r->table);
    r->settled = malloc(r->settled_max * sizeof *r->settled);
    pthread_mutex_init(&r->lock, NULL);
    if (r->table && r->settled)
        return r;
    registry_free(r);
    return NULL;
}

void registry_free(struct registry *r)
{
    if (!r)
        return;
    pthread_mutex_destroy(&r->lock);
    free(r->table);
    free(r->settled);
    free(r);
}

/* The id's entry, or the free slot where it belongs. */
static struct entry *find(struct registry *r, const struct uuid *id)
{
    size_t i = slot_of(r, id);
    while (r->table[i].state != REGISTRY_UNKNOWN && !uuid_equal(&r->table[i].id, id))
        i = (i + 1) & (r->size - 1);
    return &r->table[i];
}

/* Closes the gap, so that probing needs no tombstones. */
static void take_out(struct registry *r, struct entry *e)
{
    if (e->state == REGISTRY_UNKNOWN)
        return;
    size_t gap = (size_t)(e - r->table), i = gap;
    r->table[gap].state = REGISTRY_UNKNOWN;
    r->used--;
    for (;;) {
        i = (i + 1) & (r->size - 1);
        if (r->table[i].state == REGISTRY_UNKNOWN)
            return;
        size_t home = slot_of(r, &r->table[i].id);
        if (((i - home) & (r->size - 1)) < ((i - gap) & (r->size - 1)))
            continue;
        r->table[gap] = r->table[i];
        r->table[i].state = REGISTRY_UNKNOWN;
        gap = i;
    }
}

static void note_settled(struct registry *r, const struct uuid *id)
{
    if (r->settled_count == r->settled_max) {
        struct entry *old = find(r, &r->settled[r->settled_first]);
        if (old->state == REGISTRY_SETTLED)
            take_out(r, old);
        r->settled_first = (r->settled_first + 1) % r->settled_max;
        r->settled_count--;
    }
    r->settled[(r->settled_first + r->settled_count++) % r->settled_max] = *id;
}

enum status registry_set(struct registry *r, const struct uuid *id, enum registry_state state,
                         int loop)
{
    assert(state != REGISTRY_UNKNOWN);
    enum status st = OK;
    pthread_mutex_lock(&r->lock);
    struct entry *e = find(r, id);
    bool again = e->state == REGISTRY_SETTLED && state == REGISTRY_SETTLED;
    if (state == REGISTRY_SETTLED && !again) {
        note_settled(r, id);
        e = find(r, id); /* making room may have moved it */
    }
    if (e->state == REGISTRY_UNKNOWN && r->used >= r->size / 2) {
        st = LIMITED;
    } else {
        if (e->state == REGISTRY_UNKNOWN)
            r->used++;
        *e = (struct entry){.id = *id, .state = (uint8_t)state, .loop = (int16_t)loop};
    }
    pthread_mutex_unlock(&r->lock);
    return st;
}

enum registry_state registry_get(struct registry *r, const struct uuid *id, int *loop)
{
    pthread_mutex_lock(&r->lock);
    struct entry *e = find(r, id);
    enum registry_state state = e->state;
    *loop = e->loop;
    pthread_mutex_unlock(&r->lock);
    return state;
}

bool registry_claim(struct registry *r, const struct uuid *id, int loop)
{
    pthread_mutex_lock(&r->lock);
    struct entry *e = find(r, id);
    bool free_slot = e->state == REGISTRY_UNKNOWN;
    bool ours = e->state == REGISTRY_OPEN || (free_slot && r->used < r->size / 2);
    if (ours) {
        r->used += free_slot;
        *e = (struct entry){.id = *id, .state = REGISTRY_RUNNING, .loop = (int16_t)loop};
    }
    pthread_mutex_unlock(&r->lock);
    return ours;
}

void registry_remove(struct registry *r, const struct uuid *id)
{
    pthread_mutex_lock(&r->lock);
    take_out(r, find(r, id));
    pthread_mutex_unlock(&r->lock);
}
