#include "worker/grammar/trie.h"

#include <assert.h>

static int by_bytes(const void *x, const void *y)
{
    const struct trie_entry *a = x, *b = y;
    int order = memcmp(a->bytes, b->bytes, a->len < b->len ? a->len : b->len);
    if (order)
        return order;
    if (a->len != b->len)
        return a->len < b->len ? -1 : 1;
    if (a->characters != b->characters)
        return a->characters < b->characters ? -1 : 1;
    return a->token < b->token ? -1 : a->token > b->token;
}

static uint32_t shared_bytes(const struct trie_entry *a, const struct trie_entry *b)
{
    uint32_t n = 0;
    while (n < a->len && n < b->len && a->bytes[n] == b->bytes[n])
        n++;
    return n;
}

static uint64_t count_nodes(const struct trie_entry *e, uint32_t count)
{
    uint64_t nodes = 1;
    for (uint32_t i = 0; i < count; i++)
        nodes += e[i].len - (i ? shared_bytes(&e[i - 1], &e[i]) : 0);
    return nodes;
}

/* Ends the subtrees of the path's nodes below a depth. */
static void leave(struct trie *t, const uint32_t *path, uint32_t from, uint32_t down_to)
{
    for (uint32_t d = from; d > down_to; d--)
        t->nodes[path[d]].skip = t->node_count;
}

static void fill(struct trie *t, const struct trie_entry *e, uint32_t count, uint32_t *path)
{
    uint32_t depth = 0;
    t->nodes[t->node_count++] = (struct trie_node){0};
    path[0] = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t keep = i ? shared_bytes(&e[i - 1], &e[i]) : 0;
        leave(t, path, depth, keep);
        for (depth = keep; depth < e[i].len; depth++) {
            path[depth + 1] = t->node_count;
            t->nodes[t->node_count++] =
                (struct trie_node){0, t->item_count, (uint16_t)(depth + 1), e[i].bytes[depth]};
        }
        t->items[t->item_count].token = e[i].token;
        t->items[t->item_count++].characters = e[i].characters;
    }
    leave(t, path, depth, 0);
    t->nodes[0].skip = t->node_count;
    t->nodes[t->node_count] = (struct trie_node){t->node_count, t->item_count, 0, 0};
}

bool trie_build(struct trie *t, struct trie_entry *entries, uint32_t count)
{
    *t = (struct trie){0};
    if (count)
        qsort(entries, count, sizeof *entries, by_bytes);
    for (uint32_t i = 0; i < count; i++) {
        assert(entries[i].len <= UINT16_MAX);
        if (entries[i].len > t->depth_max)
            t->depth_max = entries[i].len;
    }
    uint64_t nodes = count_nodes(entries, count) + 1;
    uint32_t *path = malloc((t->depth_max + 1) * sizeof *path);
    if (nodes < UINT32_MAX)
        t->nodes = malloc(nodes * sizeof *t->nodes);
    t->items = malloc((count + 1) * sizeof *t->items);
    bool ok = path && t->nodes && t->items;
    if (ok)
        fill(t, entries, count, path);
    else
        trie_done(t);
    free(path);
    return ok;
}

void trie_done(struct trie *t)
{
    free(t->nodes);
    free(t->items);
    *t = (struct trie){0};
}

size_t trie_bytes(const struct trie *t)
{
    return (t->node_count + 1) * sizeof *t->nodes + t->item_count * sizeof *t->items;
}
