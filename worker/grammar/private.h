/* What the files of the grammar share; nobody else includes this. */
#ifndef WORKER_GRAMMAR_PRIVATE_H
#define WORKER_GRAMMAR_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "worker/grammar/core.h"
#include "worker/grammar/mask.h"
#include "worker/grammar/state.h"

enum {
    GRAMMAR_LOOKAHEAD = 8,             /* containers that one token may open, at least */
    GRAMMAR_MASK_BYTES_MAX = 32 << 20, /* of one grammar's masks */
};

struct grammar_vocab {
    const struct tokenizer *tokenizer;
    struct trie trie;
    uint32_t words; /* of a mask */
    int32_t *end_ids;
    size_t end_count;
    struct automaton core;
    struct mask_entry **core_masks; /* by node of the core */
    size_t core_bytes;
};

struct grammar {
    atomic_int refs;
    struct automaton automaton;
    uint32_t root;                     /* rule */
    pthread_mutex_t lock;              /* of what follows */
    const struct grammar_vocab *vocab; /* that the masks are for; NULL: none yet */
    struct mask_table *masks;
};

/* How many frames may lie above a thread's node, as far as that makes a difference to its mask. */
uint32_t grammar_room(const struct automaton *a, uint32_t node, uint32_t free_frames);
/* The entry for a node, made if need be. The grammar's lock is held. NULL: out of memory. */
const struct mask_entry *grammar_entry(struct grammar *g, const struct grammar_vocab *v,
                                       uint32_t node, uint32_t free_frames);

/* Compiles a schema into a rule of the automaton. */
struct schema_source {
    const char *text;
    size_t len;
    bool strict;
    const char *place;
};
enum status schema_compile(struct automaton *a, const struct schema_source *source, uint32_t *rule,
                           struct error *err);

#endif
