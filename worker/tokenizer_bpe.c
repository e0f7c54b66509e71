/*
 * Byte-pair merging of one piece. The pair with the lowest rank is merged first, the leftmost
 * of equals, until no pair of neighbours has a rank.
 *
 * The symbols stand in an array and form a linked list: merging i with its neighbour keeps i and
 * unlinks the neighbour. Each symbol knows the rank of the pair that it starts. Short pieces scan
 * for the lowest rank; long ones keep the candidates in a binary heap, where an entry is stale
 * when the symbol's pair has another rank by now. So a piece of n bytes takes n log n steps.
 */
#include "worker/tokenizer_private.h"
#include "worker/utf8.h"

enum { SCAN_MAX = 64 }; /* longest piece for the scan */

#define NO_RANK UINT32_MAX

struct symbol {
    int32_t id;
    int32_t prev, next; /* -1: none */
    uint32_t rank;      /* of the pair (this, next); NO_RANK: not to be merged */
};

struct candidate {
    uint32_t rank;
    int32_t at;
};

struct heap {
    struct candidate *items;
    size_t count;
};

static bool before(struct candidate a, struct candidate b)
{
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

static void heap_push(struct heap *h, struct candidate c)
{
    size_t i = h->count++;
    while (i > 0 && before(c, h->items[(i - 1) / 2])) {
        h->items[i] = h->items[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    h->items[i] = c;
}

static struct candidate heap_pop(struct heap *h)
{
    struct candidate top = h->items[0], last = h->items[--h->count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= h->count)
            break;
        if (child + 1 < h->count && before(h->items[child + 1], h->items[child]))
            child++;
        if (!before(h->items[child], last))
            break;
        h->items[i] = h->items[child];
        i = child;
    }
    h->items[i] = last;
    return top;
}

static void update_rank(const struct tokenizer *t, struct symbol *s, int32_t i)
{
    const struct pair_slot *pair =
        s[i].next < 0 ? NULL : pair_table_get(&t->merges, s[i].id, s[s[i].next].id);
    s[i].rank = pair ? pair->rank : NO_RANK;
}

static void merge_at(const struct tokenizer *t, struct symbol *s, int32_t i)
{
    int32_t gone = s[i].next;
    s[i].id = pair_table_get(&t->merges, s[i].id, s[gone].id)->merged;
    s[i].next = s[gone].next;
    s[gone].rank = NO_RANK;
    if (s[i].next >= 0)
        s[s[i].next].prev = i;
    update_rank(t, s, i);
    if (s[i].prev >= 0)
        update_rank(t, s, s[i].prev);
}

static void merge_by_scan(const struct tokenizer *t, struct symbol *s)
{
    for (;;) {
        int32_t best = -1;
        for (int32_t i = 0; i >= 0; i = s[i].next)
            if (s[i].rank != NO_RANK && (best < 0 || s[i].rank < s[best].rank))
                best = i;
        if (best < 0)
            return;
        merge_at(t, s, best);
    }
}

static void push_if_ranked(struct heap *h, const struct symbol *s, int32_t i)
{
    if (i >= 0 && s[i].rank != NO_RANK)
        heap_push(h, (struct candidate){.rank = s[i].rank, .at = i});
}

/* The heap has room for 3n entries: n at the start and two for each of at most n - 1 merges. */
static void merge_by_heap(const struct tokenizer *t, struct symbol *s, int32_t n, struct heap *h)
{
    for (int32_t i = 0; i < n; i++)
        push_if_ranked(h, s, i);
    while (h->count) {
        struct candidate c = heap_pop(h);
        if (s[c.at].rank != c.rank)
            continue;
        merge_at(t, s, c.at);
        push_if_ranked(h, s, c.at);
        push_if_ranked(h, s, s[c.at].prev);
    }
}

static int32_t add_symbol(struct symbol *s, int32_t n, int32_t id)
{
    if (id < 0)
        return n;
    s[n] = (struct symbol){.id = id, .prev = n - 1, .next = n + 1};
    return n + 1;
}

/* The next symbol's bytes and id; -1: its bytes stand for themselves. */
static int32_t character_at(const struct tokenizer *t, const uint8_t *piece, size_t len,
                            size_t *used)
{
    *used = 1;
    if (!t->sentencepiece || utf8_next(piece, len, used) != UTF8_WHOLE)
        return -1;
    return byte_table_get(&t->words, piece, *used);
}

/* Bytes that have no token (UTF-8 never holds them) are left out. Returns the number of symbols. */
static int32_t list_symbols(const struct tokenizer *t, const uint8_t *piece, size_t len,
                            struct symbol *s)
{
    int32_t n = 0;
    size_t used;
    for (size_t i = 0; i < len; i += used) {
        int32_t id = character_at(t, piece + i, len - i, &used);
        n = add_symbol(s, n, id);
        for (size_t k = 0; id < 0 && k < used; k++)
            n = add_symbol(s, n, t->byte_ids[piece[i + k]]);
    }
    if (n > 0)
        s[n - 1].next = -1;
    for (int32_t i = 0; i < n; i++)
        update_rank(t, s, i);
    return n;
}

static enum status emit(const struct symbol *s, int32_t n, struct token_list *out)
{
    enum status st = OK;
    for (int32_t i = n > 0 ? 0 : -1; i >= 0 && st == OK; i = s[i].next)
        st = token_list_add(out, s[i].id);
    return st;
}

static enum status encode_long(const struct tokenizer *t, const uint8_t *piece, size_t len,
                               struct token_list *out)
{
    /* A piece that cannot fit is refused before memory is spent on it. */
    if (len > INT32_MAX / 4 || len / t->longest_token > out->max - out->count)
        return LIMITED;
    struct symbol *s = malloc(len * sizeof *s);
    struct heap heap = {.items = malloc(3 * len * sizeof *heap.items)};
    enum status st = NOMEM;
    if (s && heap.items) {
        int32_t n = list_symbols(t, piece, len, s);
        merge_by_heap(t, s, n, &heap);
        st = emit(s, n, out);
    }
    free(heap.items);
    free(s);
    return st;
}

enum status bpe_encode(const struct tokenizer *t, const uint8_t *piece, size_t len,
                       struct token_list *out)
{
    if (t->ignore_merges || len == 1) {
        int32_t id = byte_table_get(&t->words, piece, len);
        if (id >= 0)
            return token_list_add(out, id);
    }
    if (len > SCAN_MAX)
        return encode_long(t, piece, len, out);
    struct symbol s[SCAN_MAX];
    int32_t n = list_symbols(t, piece, len, s);
    if (n > 0)
        merge_by_scan(t, s);
    return emit(s, n, out);
}
