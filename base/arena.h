/*
 * Memory of one lifetime (a request, a connection, a parse): many allocations, one free.
 * Aligned to 16 bytes. Past the cap, and when memory is out, NULL. One owner, no locking.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

struct arena;

struct arena *arena_new(size_t max_bytes);        /* NULL: out of memory */
void arena_free(struct arena *a);                 /* NULL is fine */
void arena_reset(struct arena *a);                /* forgets all, keeps one block for reuse */
void *arena_alloc(struct arena *a, size_t bytes); /* not zeroed */
void *arena_zalloc(struct arena *a, size_t bytes);
char *arena_strndup(struct arena *a, const char *text, size_t len);
char *arena_strdup(struct arena *a, const char *text);
size_t arena_used_bytes(const struct arena *a);

#endif
