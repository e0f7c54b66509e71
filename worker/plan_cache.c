#include "worker/plan_cache.h"

#include <pthread.h>

enum { WARM_QUEUE_MAX = 64, WARM_US = 200000 };

struct entry {
    uint8_t key[SHA256_BYTES];
    struct grammar *grammar;
    uint64_t used; /* 0: free */
};

struct plan_cache {
    const struct grammar_vocab *vocab;
    struct entry entries[PLAN_CACHE_ENTRIES];
    uint64_t clock;

    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t wake;
    struct grammar *queue[WARM_QUEUE_MAX];
    int count;
    bool stop;
};

static void *warm(void *arg)
{
    struct plan_cache *c = arg;
    pthread_mutex_lock(&c->lock);
    while (!c->stop) {
        if (!c->count) {
            pthread_cond_wait(&c->wake, &c->lock);
            continue;
        }
        struct grammar *g = c->queue[--c->count];
        pthread_mutex_unlock(&c->lock);
        grammar_warm(g, c->vocab, WARM_US);
        grammar_unref(g);
        pthread_mutex_lock(&c->lock);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

struct plan_cache *plan_cache_new(const struct grammar_vocab *v, struct error *err)
{
    struct plan_cache *c = calloc(1, sizeof *c);
    if (!c) {
        error_set(err, NOMEM, "out of memory");
        return NULL;
    }
    c->vocab = v;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->wake, NULL);
    int rc = pthread_create(&c->thread, NULL, warm, c);
    c->started = rc == 0;
    if (rc != 0) {
        error_errno(err, rc, "cannot start the thread for masks");
        plan_cache_free(c);
        return NULL;
    }
    return c;
}

void plan_cache_free(struct plan_cache *c)
{
    if (!c)
        return;
    if (c->started) {
        pthread_mutex_lock(&c->lock);
        c->stop = true;
        pthread_cond_signal(&c->wake);
        pthread_mutex_unlock(&c->lock);
        pthread_join(c->thread, NULL);
    }
    for (int i = 0; i < c->count; i++)
        grammar_unref(c->queue[i]);
    for (int i = 0; i < PLAN_CACHE_ENTRIES; i++)
        grammar_unref(c->entries[i].grammar);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

struct grammar *plan_cache_find(struct plan_cache *c, const uint8_t key[SHA256_BYTES])
{
    for (int i = 0; i < PLAN_CACHE_ENTRIES; i++) {
        struct entry *e = &c->entries[i];
        if (e->used && memcmp(e->key, key, SHA256_BYTES) == 0) {
            e->used = ++c->clock;
            return grammar_ref(e->grammar);
        }
    }
    return NULL;
}

static struct entry *oldest(struct plan_cache *c, bool free_ones)
{
    struct entry *old = NULL;
    for (int i = 0; i < PLAN_CACHE_ENTRIES; i++) {
        struct entry *e = &c->entries[i];
        if ((e->used || free_ones) && (!old || e->used < old->used))
            old = e;
    }
    return old;
}

static void drop(struct entry *e)
{
    grammar_unref(e->grammar);
    *e = (struct entry){.used = 0};
}

/* Masks grow after a grammar was added, so all are counted each time. */
static size_t bytes_held(const struct plan_cache *c)
{
    size_t bytes = 0;
    for (int i = 0; i < PLAN_CACHE_ENTRIES; i++)
        if (c->entries[i].used)
            bytes += grammar_bytes(c->entries[i].grammar);
    return bytes;
}

void plan_cache_add(struct plan_cache *c, const uint8_t key[SHA256_BYTES], struct grammar *g)
{
    while (bytes_held(c) > PLAN_CACHE_BYTES)
        drop(oldest(c, false));
    struct entry *e = oldest(c, true);
    drop(e);
    memcpy(e->key, key, SHA256_BYTES);
    e->grammar = grammar_ref(g);
    e->used = ++c->clock;
}

void plan_cache_warm(struct plan_cache *c, struct grammar *g)
{
    pthread_mutex_lock(&c->lock);
    if (c->count < WARM_QUEUE_MAX) {
        c->queue[c->count++] = grammar_ref(g);
        pthread_cond_signal(&c->wake);
    }
    pthread_mutex_unlock(&c->lock);
}
