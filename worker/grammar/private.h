/* What the files of the grammar share; nobody else includes this. */
#ifndef WORKER_GRAMMAR_PRIVATE_H
#define WORKER_GRAMMAR_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "worker/grammar/core.h"
#include "worker/grammar/machine.h"
#include "worker/grammar/mask_store.h"
#include "worker/grammar/state.h"

enum {
    GRAMMAR_LOOKAHEAD = 8,                  /* containers that one token may open, at least */
    GRAMMAR_MASK_BYTES_MAX = 32 << 20,      /* of one grammar's masks */
    GRAMMAR_ALL_MASKS_BYTES_MAX = 96 << 20, /* of all grammars' of a vocabulary */
    GRAMMAR_HISTORY = GRAMMAR_ROLLBACK_MAX + 1,
    GRAMMAR_QUICK_WORK = 5000, /* of the machine's, for a mask that its owner waits for */
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
    struct mask_store *store; /* of all other masks */
};

struct grammar {
    atomic_int refs;
    struct automaton automaton;
    uint32_t root;                     /* rule */
    pthread_mutex_t lock;              /* of what follows */
    const struct grammar_vocab *vocab; /* that the masks are for; NULL: none yet */
    struct mask_shelf *masks;
    uint32_t warmed; /* the node that grammar_warm_next looks at next */
    bool warm_asked;
};

struct grammar_state {
    struct grammar *grammar;
    const struct grammar_vocab *vocab;
    struct mask_shelf *shelf; /* the grammar's */
    struct machine machine;
    struct set sets[GRAMMAR_HISTORY + 1]; /* after the last accepted tokens, the newest last */
    uint32_t set_count;
    uint32_t *mask;
    bool made;                          /* the mask is that of the newest set */
    int32_t pending;                    /* a token to be accepted first; -1: none */
    uint32_t frames_kept;               /* after the last look */
    uint64_t keys[MACHINE_THREADS_MAX]; /* scratch: of the masks of a set's threads */
    struct mask_entry *entries[MACHINE_THREADS_MAX];
    /* Of maker.c. */
    enum { STATE_OWNED, STATE_ASKED, STATE_AT_WORK } place;
    bool failed, dropped;
    struct grammar_state *behind;
};

/* The masks' place of a grammar, with one user more. NULL: out of memory. */
struct mask_shelf *grammar_open(struct grammar *g, const struct grammar_vocab *v);
/* How many frames may lie above a thread's node, as far as that makes a difference to its mask. */
uint32_t grammar_room(const struct automaton *a, uint32_t node, uint32_t free_frames);
/* The mask of a node: one that all grammars share, or NULL and the key in the grammar's shelf. */
struct mask_entry *grammar_shared_mask(const struct grammar *g, const struct grammar_vocab *v,
                                       uint32_t node, uint32_t free_frames, uint64_t *key);
/* One that the shelf has not: made, added, taken. NULL: out of memory. */
struct mask_entry *grammar_make_mask(const struct grammar *g, const struct grammar_vocab *v,
                                     struct mask_shelf *shelf, uint64_t key);

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
