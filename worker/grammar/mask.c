#include "worker/grammar/mask.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum {
    EXITS_MAX = 256, /* more of them are merged by what follows, if that is not too much */
    REST_MAX = 16384,
    CHARACTERS_NONE = 255,
};

struct collect {
    const struct automaton *automaton;
    const struct trie *vocab;
    bool counts; /* the node is in a string */
    struct trie_item *items;
    struct mask_exit *exits;
    uint32_t item_count, item_size, exit_count, exit_size;
    uint64_t rest; /* tokens behind the exits */
    bool failed;
};

static bool room(void *array, uint32_t count, uint32_t *size, size_t each)
{
    if (count < *size)
        return true;
    uint32_t next = *size ? 2 * *size : 64;
    void *moved = realloc(*(void **)array, next * each);
    if (!moved)
        return false;
    *(void **)array = moved;
    *size = next;
    return true;
}

/* The tokens that end at a node of the vocabulary's trie. */
static void add_items(struct collect *c, uint32_t node, uint32_t characters)
{
    uint32_t from = c->vocab->nodes[node].entry, to = c->vocab->nodes[node + 1].entry;
    for (; from < to; from++) {
        if (!room(&c->items, c->item_count, &c->item_size, sizeof *c->items)) {
            c->failed = true;
            return;
        }
        c->items[c->item_count++] = (struct trie_item){c->vocab->items[from].token, characters};
    }
}

static void add_exit(struct collect *c, uint32_t node, uint32_t characters)
{
    if (!room(&c->exits, c->exit_count, &c->exit_size, sizeof *c->exits)) {
        c->failed = true;
        return;
    }
    c->exits[c->exit_count++] = (struct mask_exit){node, characters};
    const struct trie_node *n = &c->vocab->nodes[node];
    c->rest += c->vocab->nodes[n->skip].entry - n->entry;
}

static void visit_vocab(void *arg, uint32_t node, const struct set *set)
{
    struct collect *c = arg;
    if (set->ended)
        add_exit(c, node, 0);
    if (set->count)
        add_items(c, node, 0);
}

/* Strings are deterministic and call nothing: a walk of their own, with a table of 256 ways for
 * each node, is several times faster than that of a set of threads. */
enum { TABLES = 64, WAY_NONE = UINT32_MAX };

struct string_walk {
    const struct automaton *a;
    uint32_t owner[TABLES]; /* the node that a table is of */
    uint32_t ways[TABLES][256];
};

static uint32_t string_way(struct string_walk *w, uint32_t node, uint8_t byte)
{
    uint32_t table = node % TABLES;
    if (w->owner[table] != node) {
        w->owner[table] = node;
        memset(w->ways[table], 0xff, sizeof w->ways[table]);
        const struct node *n = &w->a->nodes[node];
        for (uint32_t i = 0; i < n->edges; i++) {
            const struct edge *e = &w->a->edges[n->edge + i];
            for (int b = e->lo; w->a->nodes[e->to].cost != GRAMMAR_COST_INF && b <= e->hi; b++)
                w->ways[table][b] = e->to;
        }
    }
    return w->ways[table][byte];
}

static void collect_string(struct collect *c, uint32_t start)
{
    struct string_walk *w = malloc(sizeof *w);
    struct place {
        uint32_t node, characters;
    } *path = malloc((c->vocab->depth_max + 1) * sizeof *path);
    c->failed = !w || !path;
    if (!c->failed) {
        w->a = c->automaton;
        memset(w->owner, 0xff, sizeof w->owner);
        path[0] = (struct place){start, 0};
    }
    for (uint32_t i = 1; !c->failed && i < c->vocab->node_count;) {
        const struct trie_node *n = &c->vocab->nodes[i];
        struct place at = path[n->depth - 1];
        uint32_t to = string_way(w, at.node, n->byte);
        if (to == WAY_NONE) {
            i = n->skip;
            continue;
        }
        const struct node *node = &c->automaton->nodes[to];
        at.characters += c->automaton->nodes[at.node].flags & NODE_CHAR && n->byte != '"';
        at.node = to;
        path[n->depth] = at;
        if (node->flags & NODE_ACCEPT)
            add_exit(c, i, at.characters);
        else
            add_items(c, i, at.characters + node->need);
        i = node->flags & NODE_ACCEPT ? n->skip : i + 1;
    }
    free(w);
    free(path);
}

static bool make_bits(struct mask_entry *e, const struct collect *c, uint32_t words)
{
    e->bits = calloc(words, sizeof *e->bits);
    e->characters = c->counts ? malloc((size_t)words * 32) : NULL;
    if (!e->bits || (c->counts && !e->characters))
        return false;
    e->bytes += words * sizeof *e->bits + (c->counts ? (size_t)words * 32 : 0);
    if (c->counts)
        memset(e->characters, CHARACTERS_NONE, (size_t)words * 32);
    for (uint32_t i = 0; i < c->item_count; i++) {
        uint32_t token = (uint32_t)c->items[i].token, n = c->items[i].characters;
        e->bits[token / 32] |= 1u << token % 32;
        if (c->counts)
            e->characters[token] = (uint8_t)(n < CHARACTERS_NONE ? n : CHARACTERS_NONE);
    }
    return true;
}

/* Bytes from the root to a node, by the path that leads down to it. */
static bool make_rest(struct mask_entry *e, const struct collect *c, const struct trie *vocab)
{
    struct trie_entry *entries = malloc((c->rest + 1) * sizeof *entries);
    uint8_t *bytes = malloc(c->rest * vocab->depth_max + 1), *at = bytes;
    uint8_t *path = malloc(vocab->depth_max + 1);
    uint32_t count = 0;
    bool ok = entries && bytes && path;
    for (uint32_t i = 0; ok && i < c->exit_count; i++) {
        uint32_t top = c->exits[i].node, top_depth = vocab->nodes[top].depth;
        for (uint32_t n = top; n < vocab->nodes[top].skip; n++) {
            uint32_t depth = vocab->nodes[n].depth - top_depth;
            if (n != top)
                path[depth - 1] = vocab->nodes[n].byte;
            for (uint32_t j = vocab->nodes[n].entry; j < vocab->nodes[n + 1].entry; j++) {
                memcpy(at, path, depth);
                entries[count++] =
                    (struct trie_entry){at, depth, vocab->items[j].token, c->exits[i].characters};
                at += depth;
            }
        }
    }
    ok = ok && trie_build(&e->rest, entries, count);
    free(entries);
    free(bytes);
    free(path);
    e->bytes += ok ? trie_bytes(&e->rest) : 0;
    return ok;
}

static bool make_entry(struct mask_entry *e, struct collect *c, uint32_t words)
{
    for (uint32_t i = 0; i < c->item_count; i++)
        if (c->items[i].characters > e->most)
            e->most = c->items[i].characters;
    if (c->item_count > words) {
        if (!make_bits(e, c, words))
            return false;
    } else if (c->item_count) {
        e->items = malloc(c->item_count * sizeof *e->items);
        if (!e->items)
            return false;
        memcpy(e->items, c->items, c->item_count * sizeof *e->items);
        e->item_count = c->item_count;
        e->bytes += c->item_count * sizeof *e->items;
    }
    if (!c->exit_count)
        return true;
    if (c->rest <= REST_MAX || c->exit_count > EXITS_MAX)
        return make_rest(e, c, c->vocab);
    e->exits = malloc(c->exit_count * sizeof *e->exits);
    if (!e->exits)
        return false;
    memcpy(e->exits, c->exits, c->exit_count * sizeof *e->exits);
    e->exit_count = c->exit_count;
    e->bytes += c->exit_count * sizeof *e->exits;
    return true;
}

static void collect_any(struct collect *c, uint32_t node, uint32_t depth)
{
    struct machine m;
    if (!machine_init(&m, c->automaton, c->vocab->depth_max + 1)) {
        c->failed = true;
        return;
    }
    struct set start = {.first = 0, .count = 1};
    m.depth_max = depth;
    m.threads[0] = (struct thread){node, MACHINE_BOTTOM, 0, 0};
    m.thread_count = 1;
    machine_walk(&m, c->vocab, 0, start, (struct machine_visit){visit_vocab, c});
    c->failed |= m.failed;
    machine_done(&m);
}

struct mask_entry *mask_entry_new(const struct automaton *a, const struct trie *vocab,
                                  uint32_t words, uint32_t node, uint32_t depth)
{
    struct collect c = {
        .automaton = a, .vocab = vocab, .counts = a->nodes[node].flags & NODE_STRING};
    if (c.counts)
        collect_string(&c, node);
    else
        collect_any(&c, node, depth);
    struct mask_entry *e = calloc(1, sizeof *e);
    if (e)
        e->bytes = sizeof *e;
    if (e && (c.failed || !make_entry(e, &c, words))) {
        mask_entry_free(e);
        e = NULL;
    }
    free(c.items);
    free(c.exits);
    return e;
}

struct mask_entry *mask_entry_of(const uint32_t *mask, uint32_t words)
{
    struct mask_entry *e = calloc(1, sizeof *e);
    if (!e || !(e->bits = malloc(words * sizeof *e->bits))) {
        free(e);
        return NULL;
    }
    memcpy(e->bits, mask, words * sizeof *e->bits);
    e->bytes = sizeof *e + words * sizeof *e->bits;
    return e;
}

void mask_entry_free(struct mask_entry *e)
{
    if (!e)
        return;
    free(e->bits);
    free(e->characters);
    free(e->items);
    free(e->exits);
    trie_done(&e->rest);
    free(e);
}

/* Bits of the tokens with at most `most` characters. */
static void add_counted(const uint8_t *characters, uint32_t most, uint32_t *mask, uint32_t words)
{
    uint8_t limit = (uint8_t)(most < CHARACTERS_NONE ? most : CHARACTERS_NONE - 1);
#ifdef __SSE2__
    const __m128i top = _mm_set1_epi8((char)limit);
    for (uint32_t w = 0; w < words; w++) {
        __m128i a = _mm_loadu_si128((const __m128i *)(characters + 32 * (size_t)w));
        __m128i b = _mm_loadu_si128((const __m128i *)(characters + 32 * (size_t)w + 16));
        uint32_t low = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(a, top), a));
        uint32_t high = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(b, top), b));
        mask[w] |= low | high << 16;
    }
#else
    for (uint32_t w = 0; w < words; w++)
        for (uint32_t i = 0; i < 32; i++)
            mask[w] |= (uint32_t)(characters[32 * (size_t)w + i] <= limit) << i;
#endif
}

static void set_bit(uint32_t *mask, int32_t token)
{
    mask[(uint32_t)token / 32] |= 1u << (uint32_t)token % 32;
}

struct apply {
    const struct trie *trie;
    uint32_t least, most; /* of an item's characters */
    uint32_t *mask;
};

static void set_items(const struct apply *a, uint32_t node)
{
    for (uint32_t i = a->trie->nodes[node].entry; i < a->trie->nodes[node + 1].entry; i++) {
        const struct trie_item *item = &a->trie->items[i];
        if (item->characters >= a->least && item->characters <= a->most)
            set_bit(a->mask, item->token);
    }
}

static void visit_rest(void *arg, uint32_t node, const struct set *set)
{
    set_items(arg, node);
}

static void apply_ends(const struct mask_entry *e, struct machine *m, const struct trie *vocab,
                       struct thread t, uint32_t *mask)
{
    bool counts = m->automaton->nodes[t.node].flags & NODE_STRING;
    uint32_t most = counts ? t.most : UINT32_MAX, least = counts ? t.least : 0;
    uint32_t threads = m->thread_count, frames = m->frame_count;
    struct set back = machine_return(m, t.stack);
    if (e->rest.node_count) {
        struct apply a = {&e->rest, least, most, mask};
        set_items(&a, 0);
        machine_walk(m, &e->rest, 0, back, (struct machine_visit){visit_rest, &a});
    }
    struct apply all = {vocab, 0, UINT32_MAX, mask};
    for (uint32_t i = 0; i < e->exit_count && !machine_spent(m); i++) {
        if (e->exits[i].characters < least || e->exits[i].characters > most)
            continue;
        set_items(&all, e->exits[i].node);
        machine_walk(m, vocab, e->exits[i].node, back, (struct machine_visit){visit_rest, &all});
    }
    m->thread_count = threads;
    m->frame_count = frames;
}

void mask_entry_apply(const struct mask_entry *e, struct machine *m, const struct trie *vocab,
                      struct thread t, uint32_t *mask, uint32_t words)
{
    bool counts = m->automaton->nodes[t.node].flags & NODE_STRING;
    uint32_t most = counts ? t.most : UINT32_MAX;
    bool by_count = e->bits && e->most > most;
    m->work += e->item_count / 4 + (by_count ? words / 2 : e->bits ? words / 16 : 0);
    if (by_count)
        add_counted(e->characters, most, mask, words);
    else if (e->bits)
        for (uint32_t w = 0; w < words; w++)
            mask[w] |= e->bits[w];
    for (uint32_t i = 0; i < e->item_count; i++)
        if (e->items[i].characters <= most)
            set_bit(mask, e->items[i].token);
    if ((e->rest.node_count || e->exit_count) && !machine_spent(m))
        apply_ends(e, m, vocab, t, mask);
}
