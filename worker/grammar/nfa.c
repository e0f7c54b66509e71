#include "worker/grammar/nfa.h"

#include <assert.h>

enum {
    TREE_NODES_MAX = 16384,
    TREE_RANGES_ALL = 32768,
    NFA_MAX = 8192,
    DFA_MAX = 8192,
    BOUNDS_MAX = 4096,
};

void tree_set_add(struct tree_set *s, uint32_t lo, uint32_t hi)
{
    if (s->count == TREE_RANGES_MAX) {
        s->full = true;
        return;
    }
    s->ranges[s->count++] = (struct tree_range){lo, hi};
}

static int by_lo(const void *x, const void *y)
{
    const struct tree_range *a = x, *b = y;
    return a->lo < b->lo ? -1 : a->lo > b->lo;
}

void tree_set_negate(struct tree_set *s)
{
    struct tree_set all = *s;
    uint32_t from = 0;
    s->count = 0;
    qsort(all.ranges, all.count, sizeof *all.ranges, by_lo);
    for (uint32_t i = 0; i < all.count; i++) {
        if (all.ranges[i].lo > from)
            tree_set_add(s, from, all.ranges[i].lo - 1);
        if (all.ranges[i].hi + 1 > from)
            from = all.ranges[i].hi + 1;
    }
    if (from <= 0x10ffff)
        tree_set_add(s, from, 0x10ffff);
}

bool tree_init(struct tree *t)
{
    *t = (struct tree){0};
    t->nodes = malloc(TREE_NODES_MAX * sizeof *t->nodes);
    t->ranges = malloc(TREE_RANGES_ALL * sizeof *t->ranges);
    if (t->nodes && t->ranges)
        return true;
    tree_done(t);
    return false;
}

void tree_done(struct tree *t)
{
    free(t->nodes);
    free(t->ranges);
    *t = (struct tree){0};
}

uint32_t tree_node(struct tree *t, enum tree_kind kind)
{
    if (t->count == TREE_NODES_MAX)
        return TREE_NONE;
    t->nodes[t->count] = (struct tree_node){
        .kind = kind, .first = TREE_NONE, .last = TREE_NONE, .sibling = TREE_NONE};
    return t->count++;
}

uint32_t tree_set_node(struct tree *t, const struct tree_set *s)
{
    uint32_t node = tree_node(t, TREE_SET);
    if (node == TREE_NONE || t->range_count + s->count > TREE_RANGES_ALL)
        return TREE_NONE;
    t->nodes[node].first = t->range_count;
    for (uint32_t i = 0; i < s->count; i++)
        t->ranges[t->range_count++] = s->ranges[i];
    t->nodes[node].last = t->range_count;
    return node;
}

void tree_append(struct tree *t, uint32_t parent, uint32_t child)
{
    struct tree_node *p = &t->nodes[parent];
    if (p->first == TREE_NONE)
        p->first = child;
    else
        t->nodes[p->last].sibling = child;
    p->last = child;
}

uint32_t tree_repeat(struct tree *t, uint32_t what, uint32_t least, uint32_t most)
{
    uint32_t node = tree_node(t, TREE_REPEAT);
    if (node == TREE_NONE)
        return TREE_NONE;
    tree_append(t, node, what);
    t->nodes[node].least = least;
    t->nodes[node].most = most;
    return node;
}

/* A state of the automaton that is not deterministic: a set to read, or up to two ways on. */
struct nfa_state {
    enum { STATE_SET, STATE_SPLIT, STATE_BEGIN, STATE_END, STATE_MATCH } kind;
    uint32_t a, b; /* next states; b only of SPLIT */
    uint32_t node; /* SET: of the tree; TREE_NONE: any code point */
};

struct nfa {
    const struct tree *tree;
    struct nfa_state *states;
    uint32_t count;
    bool full, no_memory;
};

static uint32_t state(struct nfa *n, struct nfa_state s)
{
    if (n->count == NFA_MAX) {
        n->full = true;
        return 0;
    }
    n->states[n->count] = s;
    return n->count++;
}

static uint32_t build(struct nfa *n, uint32_t node, uint32_t then);

static uint32_t build_repeat(struct nfa *n, const struct tree_node *t, uint32_t then)
{
    if (t->most == TREE_NONE) {
        uint32_t loop = state(n, (struct nfa_state){STATE_SPLIT, 0, then, 0});
        uint32_t body = build(n, t->first, loop);
        n->states[loop].a = body;
        then = loop;
    } else {
        uint32_t out = then;
        for (uint32_t i = t->least; i < t->most && !n->full; i++)
            then = state(n, (struct nfa_state){STATE_SPLIT, build(n, t->first, then), out, 0});
    }
    for (uint32_t i = 0; i < t->least && !n->full; i++)
        then = build(n, t->first, then);
    return then;
}

/* Sequences are built from their end: each child needs to know what follows it. */
static uint32_t build_sequence(struct nfa *n, uint32_t child, uint32_t then)
{
    uint32_t count = 0;
    for (uint32_t c = child; c != TREE_NONE; c = n->tree->nodes[c].sibling)
        count++;
    uint32_t *children = malloc((count + 1) * sizeof *children);
    if (!children) {
        n->full = n->no_memory = true;
        return 0;
    }
    count = 0;
    for (uint32_t c = child; c != TREE_NONE; c = n->tree->nodes[c].sibling)
        children[count++] = c;
    while (count > 0 && !n->full)
        then = build(n, children[--count], then);
    free(children);
    return then;
}

/* The state where reading the node begins, with `then` behind it. */
static uint32_t build(struct nfa *n, uint32_t node, uint32_t then)
{
    const struct tree_node *t = &n->tree->nodes[node];
    uint32_t at;
    switch (t->kind) {
    case TREE_SET:
        return state(n, (struct nfa_state){STATE_SET, then, 0, node});
    case TREE_BEGIN:
        return state(n, (struct nfa_state){STATE_BEGIN, then, 0, 0});
    case TREE_END:
        return state(n, (struct nfa_state){STATE_END, then, 0, 0});
    case TREE_SEQUENCE:
        return build_sequence(n, t->first, then);
    case TREE_REPEAT:
        return build_repeat(n, t, then);
    case TREE_CHOICE:
        at = build(n, t->first, then);
        for (uint32_t c = n->tree->nodes[t->first].sibling; c != TREE_NONE && !n->full;
             c = n->tree->nodes[c].sibling)
            at = state(n, (struct nfa_state){STATE_SPLIT, at, build(n, c, then), 0});
        return at;
    }
    return 0;
}

/* Sets of states that are one state of the deterministic automaton. */
struct subsets {
    struct nfa *nfa;
    struct automaton *budget;
    struct dfa *dfa;
    uint32_t *items; /* all sets, one after the other */
    uint32_t item_count, item_size;
    uint32_t first[DFA_MAX + 1];
    uint32_t hash[4 * DFA_MAX]; /* set number + 1 */
    uint32_t set[NFA_MAX], set_count;
    uint32_t stack[NFA_MAX];
    bool seen[NFA_MAX];
    uint32_t match; /* the state that accepts whatever follows */
};

/* Adds the states that a state leads to without reading. */
static void closure(struct subsets *s, uint32_t from, bool begin, bool end)
{
    uint32_t depth = 0;
    if (!s->seen[from]) {
        s->seen[from] = true;
        s->stack[depth++] = from;
    }
    while (depth) {
        uint32_t at = s->stack[--depth];
        const struct nfa_state *n = &s->nfa->states[at];
        uint32_t ways[2] = {n->a, n->b};
        int count = n->kind == STATE_SPLIT                                               ? 2
                    : (n->kind == STATE_BEGIN && begin) || (n->kind == STATE_END && end) ? 1
                                                                                         : 0;
        if (n->kind == STATE_SET || n->kind == STATE_MATCH || n->kind == STATE_END)
            s->set[s->set_count++] = at;
        for (int i = 0; i < count; i++) {
            if (s->seen[ways[i]])
                continue;
            s->seen[ways[i]] = true;
            s->stack[depth++] = ways[i];
        }
    }
}

static int by_number(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    return a < b ? -1 : a > b;
}

/* Ends a set: sorted; alone with the state that accepts everything, if that is in it. */
static void settle(struct subsets *s)
{
    if (s->seen[s->match]) {
        s->set[0] = s->match;
        s->set_count = 1;
    }
    memset(s->seen, 0, s->nfa->count * sizeof *s->seen);
    if (s->set_count)
        qsort(s->set, s->set_count, sizeof *s->set, by_number);
}

static bool set_accepts(struct subsets *s, bool begin)
{
    uint32_t count = s->set_count;
    if (count == 1 && s->set[0] == s->match)
        return true;
    for (uint32_t i = 0; i < count; i++) {
        const struct nfa_state *n = &s->nfa->states[s->set[i]];
        if (n->kind == STATE_END)
            closure(s, n->a, begin, true);
    }
    bool accepts = s->seen[s->match];
    memset(s->seen, 0, s->nfa->count * sizeof *s->seen);
    s->set_count = count;
    return accepts;
}

static bool keep_items(struct subsets *s)
{
    if (s->item_count + s->set_count > s->item_size) {
        uint32_t size = 2 * s->item_size + s->set_count + 1024;
        uint32_t *items = realloc(s->items, size * sizeof *items);
        if (!items)
            return false;
        s->items = items;
        s->item_size = size;
    }
    if (s->set_count)
        memcpy(s->items + s->item_count, s->set, s->set_count * sizeof *s->set);
    s->item_count += s->set_count;
    return true;
}

/* The number of the set at hand, which is added if it is new; DFA_DEAD: empty, or no room. */
static uint32_t intern(struct subsets *s, bool begin)
{
    if (!s->set_count || !automaton_work(s->budget, s->set_count))
        return DFA_DEAD;
    uint32_t h = 2166136261u;
    for (uint32_t i = 0; i < s->set_count; i++)
        h = (h ^ s->set[i]) * 16777619u;
    uint32_t slots = sizeof s->hash / sizeof *s->hash, at = h % slots;
    for (; s->hash[at]; at = (at + 1) % slots) {
        uint32_t other = s->hash[at] - 1, from = s->first[other];
        if (s->first[other + 1] - from == s->set_count &&
            memcmp(s->items + from, s->set, s->set_count * sizeof *s->set) == 0)
            return other;
    }
    uint32_t number = s->dfa->count;
    bool full = number == DFA_MAX || dfa_full(s->dfa);
    if (full || !keep_items(s) || dfa_add(s->dfa) == DFA_DEAD) {
        s->budget->status = full ? LIMITED : NOMEM;
        return DFA_DEAD;
    }
    s->first[number + 1] = s->item_count;
    s->hash[at] = number + 1;
    s->dfa->accept[number] = set_accepts(s, begin);
    return number;
}

static bool reads(const struct nfa *n, const struct nfa_state *s, uint32_t c)
{
    if (s->kind != STATE_SET)
        return false;
    if (s->node == TREE_NONE)
        return true;
    const struct tree_node *set = &n->tree->nodes[s->node];
    for (uint32_t i = set->first; i < set->last; i++)
        if (c >= n->tree->ranges[i].lo && c <= n->tree->ranges[i].hi)
            return true;
    return false;
}

static void step(struct subsets *s, uint32_t from, uint32_t class)
{
    uint32_t to = DFA_DEAD, c = s->dfa->classes[class];
    if (!dfa_never(s->dfa, class)) {
        s->set_count = 0;
        uint32_t end = s->first[from + 1];
        automaton_work(s->budget, (end - s->first[from]) / 4 + 1);
        for (uint32_t i = s->first[from]; i < end; i++) {
            const struct nfa_state *n = &s->nfa->states[s->items[i]];
            if (s->items[i] == s->match)
                closure(s, s->match, false, false);
            else if (reads(s->nfa, n, c))
                closure(s, n->a, false, false);
        }
        settle(s);
        to = intern(s, false);
    }
    s->dfa->next[(size_t)from * s->dfa->class_count + class] = to;
}

static void run(struct subsets *s, uint32_t start)
{
    s->set_count = 0;
    closure(s, start, true, false);
    settle(s);
    if (intern(s, true) == DFA_DEAD)
        return;
    for (uint32_t i = 0; i < s->dfa->count && s->budget->status == OK; i++)
        for (uint32_t c = 0; c < s->dfa->class_count && s->budget->status == OK; c++)
            step(s, i, c);
}

static bool make_classes(const struct tree *t, struct dfa *d, enum status *status)
{
    uint32_t count = 2 * t->range_count;
    *status = NOMEM;
    if (count > BOUNDS_MAX) {
        *status = LIMITED;
        return false;
    }
    uint32_t *bounds = malloc((count + 1) * sizeof *bounds);
    if (!bounds)
        return false;
    for (uint32_t i = 0; i < t->range_count; i++) {
        bounds[2 * i] = t->ranges[i].lo;
        bounds[2 * i + 1] = t->ranges[i].hi + 1;
    }
    bool ok = dfa_init(d, bounds, count);
    free(bounds);
    return ok;
}

/* Around the expression: anything before it, anything behind it. */
static uint32_t build_whole(struct nfa *n, uint32_t root, uint32_t *match)
{
    *match = state(n, (struct nfa_state){STATE_MATCH, 0, 0, 0});
    uint32_t body = build(n, root, *match);
    uint32_t any = state(n, (struct nfa_state){STATE_SET, 0, 0, TREE_NONE});
    uint32_t start = state(n, (struct nfa_state){STATE_SPLIT, any, body, 0});
    n->states[any].a = start;
    return start;
}

enum status nfa_determine(const struct tree *t, uint32_t root, struct automaton *budget,
                          struct dfa *out, struct error *err)
{
    struct nfa n = {.tree = t, .states = malloc(NFA_MAX * sizeof *n.states)};
    struct subsets *s = calloc(1, sizeof *s);
    struct dfa d = {0};
    enum status st = n.states && s ? OK : NOMEM;
    if (st == OK && make_classes(t, &d, &st)) {
        st = OK;
        s->nfa = &n;
        s->budget = budget;
        s->dfa = &d;
        uint32_t start = build_whole(&n, root, &s->match);
        if (n.full)
            st = n.no_memory ? NOMEM : LIMITED;
        else
            run(s, start);
    }
    if (st == OK)
        st = budget->status;
    if (st == OK && !d.count)
        st = INVALID;
    if (s)
        free(s->items);
    free(s);
    free(n.states);
    if (st == OK) {
        *out = d;
        return OK;
    }
    dfa_done(&d);
    return error_set(err, st,
                     st == NOMEM     ? "out of memory"
                     : st == INVALID ? "nothing matches it"
                                     : "too complex");
}
