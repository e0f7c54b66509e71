/*
 * Memory that lives as long as a model: given out piece by piece, freed all at once. One thread
 * at a time.
 */
#ifndef WORKER_CPU_STORE_H
#define WORKER_CPU_STORE_H

#include <stddef.h>

struct store;

struct store *store_new(void);    /* NULL: out of memory */
void store_free(struct store *s); /* NULL is fine */
/* Zeroed, aligned to 64 bytes, in large pages where the system gives them. NULL: out of memory. */
void *store_alloc(struct store *s, size_t bytes);

#endif
