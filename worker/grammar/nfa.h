/*
 * Between an expression's text and its deterministic automaton: the tree that the parser builds,
 * and the construction of subsets over it. Of regex.c alone.
 */
#ifndef WORKER_GRAMMAR_NFA_H
#define WORKER_GRAMMAR_NFA_H

#include "worker/grammar/regex.h"

enum {
    TREE_NONE = UINT32_MAX,
    TREE_RANGES_MAX = 256, /* of a set */
};

enum tree_kind { TREE_SET, TREE_SEQUENCE, TREE_CHOICE, TREE_REPEAT, TREE_BEGIN, TREE_END };

struct tree_range {
    uint32_t lo, hi;
};

struct tree_set { /* of code points, in any order until negated */
    struct tree_range ranges[TREE_RANGES_MAX];
    uint32_t count;
    bool full; /* some did not fit */
};

struct tree_node {
    enum tree_kind kind;
    uint32_t first, last; /* children; of a set its ranges: first, and behind the last */
    uint32_t sibling;
    uint32_t least, most; /* of REPEAT; TREE_NONE: without end */
};

struct tree {
    struct tree_node *nodes;
    struct tree_range *ranges;
    uint32_t count, range_count;
};

void tree_set_add(struct tree_set *s, uint32_t lo, uint32_t hi);
void tree_set_negate(struct tree_set *s);

bool tree_init(struct tree *t); /* false: out of memory */
void tree_done(struct tree *t);
/* Each: TREE_NONE when the tree is full. */
uint32_t tree_node(struct tree *t, enum tree_kind kind);
uint32_t tree_set_node(struct tree *t, const struct tree_set *s);
uint32_t tree_repeat(struct tree *t, uint32_t what, uint32_t least, uint32_t most);
void tree_append(struct tree *t, uint32_t parent, uint32_t child);

/* The automaton of texts that hold a match somewhere. */
enum status nfa_determine(const struct tree *t, uint32_t root, struct automaton *budget,
                          struct dfa *out, struct error *err);

#endif
