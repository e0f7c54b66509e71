/*
 * From code points to bytes: each state of a deterministic automaton becomes a node, and the ranges
 * of characters that lead on become small trees of UTF-8 bytes. What two trees have in common from
 * some byte on is made once.
 */
#include <assert.h>

#include "worker/grammar/regex.h"

struct span { /* code points, or what is left of them below a lead byte */
    uint32_t lo, hi, to;
};

struct memo { /* a tree made before, by what it reads */
    uint32_t bits, node;
    uint32_t first, count; /* spans */
};

struct emit {
    struct automaton *a;
    struct memo *memos;
    uint32_t memo_count, memo_size;
    uint32_t *slots; /* memo + 1, by hash */
    uint32_t slot_count;
    struct span *spans;
    uint32_t span_count, span_size;
};

enum { MEMOS_MAX = 1 << 16 };

static bool keep_spans(struct emit *e, const struct span *spans, uint32_t count)
{
    if (e->span_count + count > e->span_size) {
        uint32_t size = 2 * e->span_size + count + 256;
        struct span *moved = realloc(e->spans, size * sizeof *moved);
        if (!moved) {
            e->a->status = NOMEM;
            return false;
        }
        e->spans = moved;
        e->span_size = size;
    }
    memcpy(e->spans + e->span_count, spans, count * sizeof *spans);
    e->span_count += count;
    return true;
}

static uint32_t hash_spans(uint32_t bits, const struct span *spans, uint32_t count)
{
    uint32_t h = 2166136261u ^ bits;
    for (uint32_t i = 0; i < count; i++) {
        h = (h ^ spans[i].lo) * 16777619u;
        h = (h ^ spans[i].hi) * 16777619u;
        h = (h ^ spans[i].to) * 16777619u;
    }
    return h ^ h >> 15;
}

/* The slot of such a tree, free if there is none. */
static uint32_t *slot(struct emit *e, uint32_t bits, const struct span *spans, uint32_t count)
{
    uint32_t at = hash_spans(bits, spans, count) % e->slot_count;
    for (; e->slots[at]; at = (at + 1) % e->slot_count) {
        const struct memo *m = &e->memos[e->slots[at] - 1];
        if (m->bits == bits && m->count == count &&
            memcmp(e->spans + m->first, spans, count * sizeof *spans) == 0)
            break;
    }
    return &e->slots[at];
}

/* The part of the spans in [lo, lo + 2^bits), relative to lo. Room for `count` in out. */
static uint32_t cut(const struct span *spans, uint32_t count, uint32_t lo, uint32_t bits,
                    struct span *out)
{
    uint32_t hi = lo + (1u << bits) - 1, n = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (spans[i].hi < lo || spans[i].lo > hi)
            continue;
        uint32_t from = spans[i].lo > lo ? spans[i].lo - lo : 0;
        uint32_t to = spans[i].hi < hi ? spans[i].hi - lo : hi - lo;
        out[n++] = (struct span){from, to, spans[i].to};
    }
    return n;
}

static uint32_t tree(struct emit *e, const struct span *spans, uint32_t count, uint32_t bits);

/* Edges from a node over lead bytes first.., each for 2^bits code points from `base` on. */
static void leads(struct emit *e, uint32_t node, const struct span *spans, uint32_t count,
                  uint32_t bits)
{
    struct span *part = malloc(count * sizeof *part);
    if (!part) {
        e->a->status = NOMEM;
        return;
    }
    uint32_t from = 0, to = GRAMMAR_NONE; /* lead bytes that go on alike */
    for (uint32_t lead = 0; lead <= 64 && e->a->status == OK; lead++) {
        uint32_t n = lead < 64 ? cut(spans, count, lead << bits, bits, part) : 0;
        uint32_t next = n ? tree(e, part, n, bits) : GRAMMAR_NONE;
        if (lead < 64 && next == to)
            continue;
        if (to != GRAMMAR_NONE)
            automaton_edge(e->a, node, (uint8_t)(0x80 + from), (uint8_t)(0x80 + lead - 1), to);
        from = lead;
        to = next;
    }
    free(part);
}

/* A node that reads the last bytes of characters: 6 bits each. */
static uint32_t tree(struct emit *e, const struct span *spans, uint32_t count, uint32_t bits)
{
    uint32_t *known = slot(e, bits, spans, count);
    if (*known)
        return e->memos[*known - 1].node;
    if (e->memo_count == e->memo_size || !automaton_work(e->a, 16 + count)) {
        e->a->status = e->a->status == OK ? LIMITED : e->a->status;
        return 0;
    }
    uint32_t node = automaton_node(e->a), first = e->span_count;
    if (!keep_spans(e, spans, count))
        return 0;
    e->memos[e->memo_count++] = (struct memo){bits, node, first, count};
    *known = e->memo_count;
    if (bits == 6)
        for (uint32_t i = 0; i < count; i++)
            automaton_edge(e->a, node, (uint8_t)(0x80 + spans[i].lo), (uint8_t)(0x80 + spans[i].hi),
                           spans[i].to);
    else
        leads(e, node, spans, count, bits - 6);
    return node;
}

/* A character below 0x80. Those that JSON escapes get a backslash. */
static void ascii(struct emit *e, uint32_t node, uint32_t lo, uint32_t hi, uint32_t to)
{
    static const char hex[] = "0123456789abcdef";
    for (uint32_t c = lo; c <= hi && c < 0x20; c++) {
        static const char names[] = "btn.fr"; /* from \b on; \v has none */
        bool brief = c >= 8 && c <= 13 && c != 11;
        const char text[] = {'\\', 'u', '0', '0', (char)('0' + c / 16)};
        uint32_t from = automaton_branch(e->a, node, text, brief ? 1 : 5);
        uint8_t last = (uint8_t)(brief ? names[c - 8] : hex[c % 16]);
        automaton_edge(e->a, from, last, last, to);
    }
    for (uint32_t c = lo > 0x20 ? lo : 0x20; c <= hi && c < 0x80;) {
        if (c == '"' || c == '\\') {
            uint32_t from = automaton_branch(e->a, node, "\\", 1);
            automaton_edge(e->a, from, (uint8_t)c, (uint8_t)c, to);
            c++;
            continue;
        }
        uint32_t end = c < '"' ? '"' : c < '\\' ? '\\' : 0x80;
        end = end > hi ? hi + 1 : end;
        automaton_edge(e->a, node, (uint8_t)c, (uint8_t)(end - 1), to);
        c = end;
    }
}

/* Characters of `more` bytes behind a lead byte. */
static void multi(struct emit *e, uint32_t node, const struct span *spans, uint32_t count, int more)
{
    static const uint32_t lowest[] = {0, 0x80, 0x800, 0x10000, 0x110000};
    static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};
    struct span *part = malloc(count * sizeof *part);
    if (!part) {
        e->a->status = NOMEM;
        return;
    }
    uint32_t bits = 6 * (uint32_t)more, from = lowest[more] >> bits;
    uint32_t end = ((lowest[more + 1] - 1) >> bits) + 1, to = GRAMMAR_NONE;
    for (uint32_t i = from; i <= end && e->a->status == OK; i++) {
        uint32_t n = 0;
        if (i < end) {
            uint32_t base = i << bits;
            n = cut(spans, count, base, bits, part);
            /* No overlong forms: what is below the least of this length is not cut here. */
            uint32_t least = base < lowest[more] ? lowest[more] - base : 0, kept = 0;
            for (uint32_t k = 0; k < n; k++) {
                if (part[k].hi < least)
                    continue;
                part[k].lo = part[k].lo < least ? least : part[k].lo;
                part[kept++] = part[k];
            }
            n = kept;
        }
        uint32_t next = n ? tree(e, part, n, bits) : GRAMMAR_NONE;
        if (i < end && next == to)
            continue;
        if (to != GRAMMAR_NONE)
            automaton_edge(e->a, node, (uint8_t)(lead[more] + from), (uint8_t)(lead[more] + i - 1),
                           to);
        from = i;
        to = next;
    }
    free(part);
}

/* The ways out of a state as spans; neighbours that lead to the same one are joined. */
static uint32_t spans_of(const struct dfa *d, uint32_t state, const uint32_t *nodes,
                         struct span *out)
{
    uint32_t n = 0;
    for (uint32_t c = 0; c < d->class_count; c++) {
        uint32_t to = d->next[(size_t)state * d->class_count + c];
        if (to == DFA_DEAD)
            continue;
        struct span s = {d->classes[c], d->classes[c + 1] - 1, nodes[to]};
        if (n && out[n - 1].to == s.to && out[n - 1].hi + 1 == s.lo)
            out[n - 1].hi = s.hi;
        else
            out[n++] = s;
    }
    return n;
}

static void emit_states(struct emit *e, const struct dfa *d, const uint32_t *nodes, uint32_t end)
{
    struct span *spans = malloc(d->class_count * sizeof *spans);
    if (!spans)
        e->a->status = NOMEM;
    for (uint32_t i = 0; i < d->count && e->a->status == OK; i++) {
        uint32_t n = spans_of(d, i, nodes, spans);
        automaton_work(e->a, d->class_count / 4 + 8);
        if (d->accept[i])
            automaton_edge(e->a, nodes[i], '"', '"', end);
        for (uint32_t k = 0; k < n; k++)
            if (spans[k].lo < 0x80)
                ascii(e, nodes[i], spans[k].lo, spans[k].hi, spans[k].to);
        for (int more = 1; more <= 3 && n && spans[n - 1].hi >= 0x80; more++)
            multi(e, nodes[i], spans, n, more);
    }
    free(spans);
}

static bool emit_init(struct emit *e, struct automaton *a)
{
    *e = (struct emit){.a = a, .memo_size = MEMOS_MAX, .slot_count = 2 * MEMOS_MAX};
    e->memos = malloc(e->memo_size * sizeof *e->memos);
    e->slots = calloc(e->slot_count, sizeof *e->slots);
    return e->memos && e->slots;
}

uint32_t dfa_rule(const struct dfa *d, struct automaton *a, const char *place)
{
    uint32_t rule = automaton_rule(a, place), first = a->node_count - 1;
    uint32_t *nodes = malloc((d->count + 1) * sizeof *nodes);
    struct emit e;
    if (!emit_init(&e, a) || !nodes)
        a->status = a->status == OK ? NOMEM : a->status;
    uint32_t end = automaton_node(a);
    automaton_flag(a, end, NODE_ACCEPT);
    for (uint32_t i = 0; i < d->count && a->status == OK; i++) {
        nodes[i] = automaton_node(a);
        automaton_flag(a, nodes[i], NODE_CHAR);
    }
    if (a->status == OK) {
        automaton_edge(a, automaton_start(a, rule), '"', '"', nodes[0]);
        emit_states(&e, d, nodes, end);
    }
    for (uint32_t i = first; a->status == OK && i < a->node_count; i++)
        automaton_flag(a, i, NODE_STRING);
    free(nodes);
    free(e.memos);
    free(e.slots);
    free(e.spans);
    return rule;
}
