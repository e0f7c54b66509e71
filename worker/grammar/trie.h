/* Byte strings with numbers, as a tree in preorder. Unchanging once made. */
#ifndef WORKER_GRAMMAR_TRIE_H
#define WORKER_GRAMMAR_TRIE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct trie_entry {
    const uint8_t *bytes;
    uint32_t len;
    int32_t token;
    uint32_t characters; /* that were counted before these bytes */
};

struct trie_node {
    uint32_t skip;  /* the node behind this one's subtree */
    uint32_t entry; /* its first entry; those of node i end where those of i + 1 begin */
    uint16_t depth; /* bytes from the root */
    uint8_t byte;   /* that leads here */
};

struct trie {
    struct trie_node *nodes; /* nodes[0] is the root, nodes[node_count] closes the list */
    struct trie_item {
        int32_t token;
        uint32_t characters;
    } * items; /* by node, then by characters */
    uint32_t node_count, item_count;
    uint32_t depth_max;
};

/* Sorts the entries. Each is at most UINT16_MAX bytes. False: out of memory. */
bool trie_build(struct trie *t, struct trie_entry *entries, uint32_t count);
void trie_done(struct trie *t);
size_t trie_bytes(const struct trie *t);

#endif
