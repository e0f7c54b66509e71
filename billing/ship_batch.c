#include "billing/ship_batch.h"

#include <assert.h>

enum { PLACES = 4 * SHIP_BATCH_MAX };

void ship_batch_clear(struct ship_batch *b)
{
    b->admit_count = b->settle_count = 0;
    memset(b->places, 0, sizeof b->places);
}

bool ship_batch_full(const struct ship_batch *b)
{
    return b->admit_count == SHIP_BATCH_MAX || b->settle_count == SHIP_BATCH_MAX;
}

bool ship_batch_empty(const struct ship_batch *b)
{
    return b->admit_count == 0 && b->settle_count == 0;
}

/* The slot of the id's ADMIT, or the free one where it belongs. */
static uint32_t *place_of(struct ship_batch *b, const struct uuid *id)
{
    uint64_t hash;
    memcpy(&hash, id->bytes + 8, sizeof hash); /* the random half */
    for (size_t i = hash % PLACES;; i = (i + 1) % PLACES) {
        uint32_t *p = &b->places[i];
        if (*p == 0 || uuid_equal(&b->admits[*p - 1].context.request_id, id))
            return p;
    }
}

void ship_batch_add_admit(struct ship_batch *b, const struct meter_context *c, int64_t seq)
{
    assert(b->admit_count < SHIP_BATCH_MAX);
    uint32_t *place = place_of(b, &c->request_id);
    if (*place)
        return; /* the same ADMIT twice says nothing new */
    b->admits[b->admit_count++] = (struct ship_admit){*c, seq, false};
    *place = (uint32_t)b->admit_count;
}

void ship_batch_add_settle(struct ship_batch *b, const struct meter_settle *s)
{
    assert(b->settle_count < SHIP_BATCH_MAX);
    b->settles[b->settle_count++] = *s;
    uint32_t *place = place_of(b, &s->context.request_id);
    if (*place)
        b->admits[*place - 1].cancelled = true;
}

int64_t ship_day(const struct uuid *request_id)
{
    return uuid_v7_wall_ms(request_id) / (24 * 3600 * 1000);
}

static void widen(int64_t day, int64_t *first, int64_t *last)
{
    if (day < *first)
        *first = day;
    if (day > *last)
        *last = day;
}

bool ship_batch_days(const struct ship_batch *b, int64_t *first, int64_t *last)
{
    *first = INT64_MAX;
    *last = INT64_MIN;
    for (size_t i = 0; i < b->admit_count; i++)
        widen(ship_day(&b->admits[i].context.request_id), first, last);
    for (size_t i = 0; i < b->settle_count; i++)
        widen(ship_day(&b->settles[i].context.request_id), first, last);
    return *first <= *last;
}
