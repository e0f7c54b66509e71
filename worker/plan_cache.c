#include "worker/plan_cache.h"

#include <assert.h>
#include <pthread.h>

enum { HEADS = 1024 };

struct kept {
    uint8_t key[SHA256_BYTES];
    struct grammar *grammar;
    size_t bytes;
    struct kept *chain, *newer, *older;
};

struct plan_cache {
    pthread_mutex_t lock; /* of all */
    struct kept *heads[HEADS];
    struct kept *newest, *oldest;
    int count;
    size_t bytes;
};

struct plan_cache *plan_cache_new(void)
{
    struct plan_cache *c = calloc(1, sizeof *c);
    if (c)
        pthread_mutex_init(&c->lock, NULL);
    return c;
}

static struct kept **place(struct plan_cache *c, const uint8_t key[SHA256_BYTES])
{
    struct kept **at = &c->heads[(key[0] | key[1] << 8) % HEADS];
    while (*at && memcmp((*at)->key, key, SHA256_BYTES) != 0)
        at = &(*at)->chain;
    return at;
}

static void link_newest(struct plan_cache *c, struct kept *k)
{
    k->newer = NULL;
    k->older = c->newest;
    *(k->older ? &k->older->newer : &c->oldest) = k;
    c->newest = k;
}

static void unlink_kept(struct plan_cache *c, struct kept *k)
{
    *(k->newer ? &k->newer->older : &c->newest) = k->older;
    *(k->older ? &k->older->newer : &c->oldest) = k->newer;
}

static void drop(struct plan_cache *c, struct kept *k)
{
    *place(c, k->key) = k->chain;
    unlink_kept(c, k);
    c->count--;
    c->bytes -= k->bytes;
    grammar_unref(k->grammar);
    free(k);
}

void plan_cache_free(struct plan_cache *c)
{
    if (!c)
        return;
    while (c->oldest)
        drop(c, c->oldest);
    assert(c->count == 0 && c->bytes == 0);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

struct grammar *plan_cache_find(struct plan_cache *c, const uint8_t key[SHA256_BYTES])
{
    pthread_mutex_lock(&c->lock);
    struct kept *k = *place(c, key);
    if (k) {
        unlink_kept(c, k);
        link_newest(c, k);
    }
    struct grammar *g = k ? grammar_ref(k->grammar) : NULL;
    pthread_mutex_unlock(&c->lock);
    return g;
}

/* Nobody can begin to use a grammar that only the cache holds, while its lock is held. */
static bool make_room(struct plan_cache *c, size_t bytes)
{
    for (struct kept *k = c->oldest;
         k && (c->count == PLAN_CACHE_ENTRIES || c->bytes + bytes > PLAN_CACHE_BYTES);) {
        struct kept *next = k->newer;
        if (!grammar_is_shared(k->grammar))
            drop(c, k);
        k = next;
    }
    return c->count < PLAN_CACHE_ENTRIES && c->bytes + bytes <= PLAN_CACHE_BYTES;
}

enum status plan_cache_add(struct plan_cache *c, const uint8_t key[SHA256_BYTES], struct grammar *g)
{
    size_t bytes = grammar_automaton_bytes(g);
    struct kept *made = calloc(1, sizeof *made);
    if (!made)
        return NOMEM;
    memcpy(made->key, key, SHA256_BYTES);
    made->bytes = bytes;
    enum status st = OK;
    pthread_mutex_lock(&c->lock);
    if (*place(c, key)) { /* another thread was faster */
        free(made);
    } else if (!make_room(c, bytes)) {
        free(made);
        st = LIMITED;
    } else {
        made->grammar = grammar_ref(g);
        *place(c, key) = made;
        link_newest(c, made);
        c->count++;
        c->bytes += bytes;
    }
    pthread_mutex_unlock(&c->lock);
    return st;
}

size_t plan_cache_bytes(struct plan_cache *c)
{
    pthread_mutex_lock(&c->lock);
    size_t bytes = c->bytes;
    pthread_mutex_unlock(&c->lock);
    return bytes;
}
