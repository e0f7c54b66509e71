#include "base/arena.h"

#include <stdint.h>

#include "base/error.h"

enum { ALIGN = 16, BLOCK_BYTES = 8192 };

struct block {
    struct block *next;
    size_t size, used;
    _Alignas(ALIGN) uint8_t data[];
};

struct arena {
    struct block *blocks; /* the newest first */
    size_t used, max;
};

struct arena *arena_new(size_t max_bytes)
{
    struct arena *a = calloc(1, sizeof *a);
    if (a)
        a->max = max_bytes;
    return a;
}

static void free_blocks(struct block *b)
{
    while (b) {
        struct block *next = b->next;
        free(b);
        b = next;
    }
}

void arena_free(struct arena *a)
{
    if (!a)
        return;
    free_blocks(a->blocks);
    free(a);
}

void arena_reset(struct arena *a)
{
    struct block *keep = a->blocks;
    while (keep && keep->next)
        keep = keep->next; /* the oldest is of the ordinary size */
    while (a->blocks != keep) {
        struct block *next = a->blocks->next;
        free(a->blocks);
        a->blocks = next;
    }
    if (keep)
        keep->used = 0;
    a->used = 0;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
    if (bytes > a->max || a->used > a->max - bytes)
        return NULL;
    size_t rounded = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    struct block *b = a->blocks;
    if (!b || b->size - b->used < rounded) {
        size_t size = rounded > BLOCK_BYTES ? rounded : BLOCK_BYTES;
        b = malloc(sizeof *b + size);
        if (!b)
            return NULL;
        *b = (struct block){.next = a->blocks, .size = size};
        a->blocks = b;
    }
    void *out = b->data + b->used;
    b->used += rounded;
    a->used += rounded;
    return out;
}

void *arena_zalloc(struct arena *a, size_t bytes)
{
    void *out = arena_alloc(a, bytes);
    if (out)
        memset(out, 0, bytes);
    return out;
}

char *arena_strndup(struct arena *a, const char *text, size_t len)
{
    char *out = arena_alloc(a, len + 1);
    if (!out)
        return NULL;
    memcpy(out, text, len);
    out[len] = 0;
    return out;
}

char *arena_strdup(struct arena *a, const char *text)
{
    return arena_strndup(a, text, strlen(text));
}

size_t arena_used_bytes(const struct arena *a)
{
    return a->used;
}
