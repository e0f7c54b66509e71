/*
 * Keeps the masks of all grammars of one vocabulary, within a cap of bytes. Each grammar has a
 * shelf with a cap of its own. When all together are too many, the shelf that was used least
 * recently and that nobody uses now gives its masks up first, the least recently used of them
 * first; when every other shelf is in use, the one that wants more does. A mask that was taken
 * stays until it is given back. Any thread: one lock, which is held for moments.
 */
#ifndef WORKER_GRAMMAR_MASK_STORE_H
#define WORKER_GRAMMAR_MASK_STORE_H

#include "worker/grammar/mask.h"

struct mask_store;
struct mask_shelf; /* key -> mask, of one grammar */

struct mask_store *mask_store_new(size_t bytes_max, size_t shelf_bytes_max); /* NULL: no memory */
void mask_store_free(struct mask_store *s); /* NULL is fine; all shelves are gone */
size_t mask_store_bytes(struct mask_store *s);

/* masks: about how many there may be. NULL: out of memory. */
struct mask_shelf *mask_shelf_new(struct mask_store *s, uint32_t masks);
void mask_shelf_free(struct mask_shelf *f); /* NULL is fine; unused */
/* While somebody uses a shelf its masks do not go for the sake of others. */
void mask_shelf_use(struct mask_shelf *f);
void mask_shelf_leave(struct mask_shelf *f);
size_t mask_shelf_bytes(struct mask_shelf *f);
bool mask_shelf_has_room(struct mask_shelf *f); /* one mask more drops none that is of use */

enum { MASK_KEY_NONE = -1 }; /* as (uint64_t): the place in `out` is filled already */
/* All of them, or none and false. */
bool mask_shelf_take(struct mask_shelf *f, const uint64_t *keys, uint32_t count,
                     struct mask_entry **out);
void mask_shelf_give_back(struct mask_shelf *f, const uint64_t *keys, uint32_t count,
                          struct mask_entry *const *entries);
/* Takes the mask over and returns it, or the one that was there already, as mask_shelf_take does.
 * NULL: out of memory. */
struct mask_entry *mask_shelf_add(struct mask_shelf *f, uint64_t key, struct mask_entry *e);

#endif
