/*
 * Which tokens may follow one node of an automaton, whatever the stack below it holds: the tokens
 * that stay in the node's rule (or in what it calls) are known once and for all; of a token in
 * whose middle the rule ends, the rest is kept, to be read from where the stack returns to. In
 * strings each token has its count of characters, so that one entry serves every length.
 */
#ifndef WORKER_GRAMMAR_MASK_H
#define WORKER_GRAMMAR_MASK_H

#include "worker/grammar/machine.h"

struct mask_entry {
    uint32_t *bits;          /* the tokens, if they are many */
    uint8_t *characters;     /* with bits, in strings: by token; 255: more, or not allowed */
    struct trie_item *items; /* the tokens, if they are few */
    uint32_t item_count;
    uint32_t most;     /* the largest count of characters of a token */
    struct mask_exit { /* nodes of the vocabulary's trie where the rule ends, if they are few */
        uint32_t node, characters;
    } * exits;
    uint32_t exit_count;
    struct trie rest; /* what tokens have behind such ends, otherwise */
    size_t bytes;     /* memory held */
    /* Of mask_store.c. */
    uint64_t key;
    uint32_t taken; /* times, not yet given back */
    struct mask_entry *newer, *older, *chain;
};

/* depth: frames that may lie above the node. NULL: out of memory. */
struct mask_entry *mask_entry_new(const struct automaton *a, const struct trie *vocab,
                                  uint32_t words, uint32_t node, uint32_t depth);
/* A mask as it is. NULL: out of memory. */
struct mask_entry *mask_entry_of(const uint32_t *mask, uint32_t words);
void mask_entry_free(struct mask_entry *e); /* NULL is fine */

/* Adds to a mask the tokens that a thread allows. The machine holds the thread's stack. The work is
 * counted with the machine's: past its limit the mask is not complete. */
void mask_entry_apply(const struct mask_entry *e, struct machine *m, const struct trie *vocab,
                      struct thread t, uint32_t *mask, uint32_t words);

#endif
