#include "worker/grammar/mask_store.h"

#include <assert.h>

#include "worker/grammar/background.h"

enum { HEADS_LEAST = 64, HEADS_MOST = 1 << 16 };

struct mask_shelf {
    struct mask_store *store;
    struct mask_entry **heads; /* chains by key; `size` is a power of two */
    size_t size, count, bytes;
    struct mask_entry *newest, *oldest;
    int users;
    struct mask_shelf *newer, *older;
};

struct mask_store {
    pthread_mutex_t lock;
    size_t bytes, bytes_max, shelf_bytes_max;
    struct mask_shelf *newest, *oldest;
};

struct mask_store *mask_store_new(size_t bytes_max, size_t shelf_bytes_max)
{
    struct mask_store *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->bytes_max = bytes_max;
    s->shelf_bytes_max = shelf_bytes_max;
    background_mutex_init(&s->lock);
    return s;
}

void mask_store_free(struct mask_store *s)
{
    if (!s)
        return;
    assert(!s->newest && s->bytes == 0);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

size_t mask_store_bytes(struct mask_store *s)
{
    pthread_mutex_lock(&s->lock);
    size_t bytes = s->bytes;
    pthread_mutex_unlock(&s->lock);
    return bytes;
}

/* ---- lists, newest first ---- */

static void shelf_link(struct mask_shelf *f)
{
    struct mask_store *s = f->store;
    f->newer = NULL;
    f->older = s->newest;
    *(f->older ? &f->older->newer : &s->oldest) = f;
    s->newest = f;
}

static void shelf_unlink(struct mask_shelf *f)
{
    struct mask_store *s = f->store;
    *(f->newer ? &f->newer->older : &s->newest) = f->older;
    *(f->older ? &f->older->newer : &s->oldest) = f->newer;
}

static void entry_link(struct mask_shelf *f, struct mask_entry *e)
{
    e->newer = NULL;
    e->older = f->newest;
    *(e->older ? &e->older->newer : &f->oldest) = e;
    f->newest = e;
}

static void entry_unlink(struct mask_shelf *f, struct mask_entry *e)
{
    *(e->newer ? &e->newer->older : &f->newest) = e->older;
    *(e->older ? &e->older->newer : &f->oldest) = e->newer;
}

/* ---- shelves ---- */

/* As many chains as will be needed: to spread them again would take long, with the lock. */
struct mask_shelf *mask_shelf_new(struct mask_store *s, uint32_t masks)
{
    struct mask_shelf *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->size = HEADS_LEAST;
    while (f->size < masks && f->size < HEADS_MOST)
        f->size *= 2;
    f->heads = calloc(f->size, sizeof *f->heads);
    if (!f->heads) {
        free(f);
        return NULL;
    }
    f->store = s;
    pthread_mutex_lock(&s->lock);
    shelf_link(f);
    pthread_mutex_unlock(&s->lock);
    return f;
}

void mask_shelf_free(struct mask_shelf *f)
{
    if (!f)
        return;
    assert(f->users == 0);
    pthread_mutex_lock(&f->store->lock);
    shelf_unlink(f);
    f->store->bytes -= f->bytes;
    pthread_mutex_unlock(&f->store->lock);
    while (f->oldest) {
        struct mask_entry *e = f->oldest;
        assert(e->taken == 0);
        entry_unlink(f, e);
        mask_entry_free(e);
    }
    free(f->heads);
    free(f);
}

void mask_shelf_use(struct mask_shelf *f)
{
    pthread_mutex_lock(&f->store->lock);
    f->users++;
    shelf_unlink(f);
    shelf_link(f);
    pthread_mutex_unlock(&f->store->lock);
}

void mask_shelf_leave(struct mask_shelf *f)
{
    pthread_mutex_lock(&f->store->lock);
    assert(f->users > 0);
    f->users--;
    pthread_mutex_unlock(&f->store->lock);
}

size_t mask_shelf_bytes(struct mask_shelf *f)
{
    pthread_mutex_lock(&f->store->lock);
    size_t bytes = sizeof *f + f->size * sizeof *f->heads + f->bytes;
    pthread_mutex_unlock(&f->store->lock);
    return bytes;
}

static struct mask_entry **place(struct mask_shelf *f, uint64_t key)
{
    struct mask_entry **at = &f->heads[(key * 0x9e3779b97f4a7c15u) >> 32 & (f->size - 1)];
    while (*at && (*at)->key != key)
        at = &(*at)->chain;
    return at;
}

/* ---- masks ---- */

/* Takes the oldest that nobody holds off a shelf, into the list of those to be freed. */
static bool give_up(struct mask_shelf *f, struct mask_entry **gone)
{
    struct mask_entry *e = f->oldest;
    while (e && e->taken)
        e = e->newer;
    if (!e)
        return false;
    *place(f, e->key) = e->chain;
    entry_unlink(f, e);
    f->count--;
    f->bytes -= e->bytes;
    f->store->bytes -= e->bytes;
    e->chain = *gone;
    *gone = e;
    return true;
}

static struct mask_shelf *unused(const struct mask_shelf *f)
{
    struct mask_shelf *other = f->store->oldest;
    while (other && (other == f || other->users || !other->count))
        other = other->newer;
    return other;
}

static void make_room(struct mask_shelf *f, size_t bytes, struct mask_entry **gone)
{
    struct mask_store *s = f->store;
    while (f->bytes + bytes > s->shelf_bytes_max && give_up(f, gone))
        ;
    while (s->bytes + bytes > s->bytes_max) {
        struct mask_shelf *other = unused(f);
        if (!(other && give_up(other, gone)) && !give_up(f, gone))
            return;
    }
}

static void touch(struct mask_shelf *f, struct mask_entry *e)
{
    if (f->newest == e)
        return;
    entry_unlink(f, e);
    entry_link(f, e);
}

static void put_back(const uint64_t *keys, uint32_t count, struct mask_entry *const *entries)
{
    for (uint32_t i = 0; i < count; i++)
        if (keys[i] != (uint64_t)MASK_KEY_NONE) {
            assert(entries[i]->taken > 0);
            entries[i]->taken--;
        }
}

bool mask_shelf_take(struct mask_shelf *f, const uint64_t *keys, uint32_t count,
                     struct mask_entry **out)
{
    uint32_t i = 0;
    pthread_mutex_lock(&f->store->lock);
    for (; i < count; i++) {
        if (keys[i] == (uint64_t)MASK_KEY_NONE)
            continue;
        struct mask_entry *e = *place(f, keys[i]);
        if (!e)
            break;
        e->taken++;
        touch(f, e);
        out[i] = e;
    }
    if (i < count)
        put_back(keys, i, out);
    pthread_mutex_unlock(&f->store->lock);
    return i == count;
}

void mask_shelf_give_back(struct mask_shelf *f, const uint64_t *keys, uint32_t count,
                          struct mask_entry *const *entries)
{
    pthread_mutex_lock(&f->store->lock);
    put_back(keys, count, entries);
    pthread_mutex_unlock(&f->store->lock);
}

struct mask_entry *mask_shelf_add(struct mask_shelf *f, uint64_t key, struct mask_entry *e)
{
    struct mask_entry *gone = NULL;
    pthread_mutex_lock(&f->store->lock);
    struct mask_entry **at = place(f, key);
    if (*at) { /* another thread was faster */
        e->chain = NULL;
        gone = e;
        e = *at;
    } else {
        make_room(f, e->bytes, &gone);
        at = place(f, key);
        e->key = key;
        e->chain = NULL;
        *at = e;
        entry_link(f, e);
        f->count++;
        f->bytes += e->bytes;
        f->store->bytes += e->bytes;
    }
    e->taken++;
    pthread_mutex_unlock(&f->store->lock);
    while (gone) {
        struct mask_entry *next = gone->chain;
        mask_entry_free(gone);
        gone = next;
    }
    return e;
}

bool mask_shelf_has_room(struct mask_shelf *f)
{
    const struct mask_store *s = f->store;
    pthread_mutex_lock(&f->store->lock);
    bool room = f->bytes <= s->shelf_bytes_max - s->shelf_bytes_max / 8 &&
                (s->bytes <= s->bytes_max - s->bytes_max / 8 || unused(f));
    pthread_mutex_unlock(&f->store->lock);
    return room;
}
