#include "worker/cpu/store.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { CHUNK_BYTES = 16 << 20, HUGE_PAGE_BYTES = 2 << 20 };

struct chunk {
    struct chunk *next;
    uint8_t *at;
    size_t bytes, used;
};

struct store {
    struct chunk *chunks; /* the first one has room */
};

struct store *store_new(void)
{
    return calloc(1, sizeof(struct store));
}

void store_free(struct store *s)
{
    if (!s)
        return;
    while (s->chunks) {
        struct chunk *c = s->chunks;
        s->chunks = c->next;
        munmap(c->at, c->bytes);
        free(c);
    }
    free(s);
}

static struct chunk *chunk_new(size_t bytes)
{
    struct chunk *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->bytes = (bytes + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    void *at = mmap(NULL, c->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
        free(c);
        return NULL;
    }
    madvise(at, c->bytes, MADV_HUGEPAGE);
    c->at = at;
    return c;
}

void *store_alloc(struct store *s, size_t bytes)
{
    bytes = (bytes + 63) / 64 * 64;
    struct chunk *c = s->chunks;
    if (!c || c->bytes - c->used < bytes) {
        c = chunk_new(bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES);
        if (!c)
            return NULL;
        c->next = s->chunks;
        s->chunks = c;
    }
    void *at = c->at + c->used;
    c->used += bytes;
    return at;
}
