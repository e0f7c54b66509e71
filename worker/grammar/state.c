#include "worker/grammar/state.h"

#include <assert.h>
#include <time.h>

#include "worker/grammar/private.h"

enum {
    FRAMES_LOOSE = 1024, /* before those of no use are looked for */
    SET_LARGE = 24,      /* threads; what reads a token with more may be put off */
};

static struct set *now(const struct grammar_state *s)
{
    assert(s->pending < 0);
    return (struct set *)&s->sets[s->set_count - 1];
}

static struct grammar_state *allocate(struct grammar *g, const struct grammar_vocab *v)
{
    struct grammar_state *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->vocab = v;
    s->pending = -1;
    s->mask = malloc(v->words * sizeof *s->mask);
    if (!s->mask || !(s->shelf = grammar_open(g, v))) {
        free(s->mask);
        free(s);
        return NULL;
    }
    s->grammar = grammar_ref(g);
    if (!machine_init(&s->machine, &g->automaton, v->trie.depth_max + 1)) {
        grammar_state_free(s);
        return NULL;
    }
    return s;
}

struct grammar_state *grammar_state_new(struct grammar *g, const struct grammar_vocab *v)
{
    struct grammar_state *s = allocate(g, v);
    if (!s)
        return NULL;
    struct thread t = {g->automaton.rules[g->root].start, MACHINE_BOTTOM, 0, UINT32_MAX};
    s->sets[0] = machine_enter(&s->machine, t);
    s->set_count = 1;
    if (s->machine.failed) {
        grammar_state_free(s);
        return NULL;
    }
    return s;
}

static void *duplicate(const void *data, size_t bytes)
{
    void *copy = malloc(bytes);
    if (copy)
        memcpy(copy, data, bytes);
    return copy;
}

struct grammar_state *grammar_state_copy(const struct grammar_state *from)
{
    struct grammar_state *s = allocate(from->grammar, from->vocab);
    if (!s)
        return NULL;
    const struct machine *m = &from->machine;
    struct thread *threads = duplicate(m->threads, m->thread_size * sizeof *threads);
    struct frame *frames = duplicate(m->frames, m->frame_size * sizeof *frames);
    if (!threads || !frames) {
        free(threads);
        free(frames);
        grammar_state_free(s);
        return NULL;
    }
    free(s->machine.threads);
    free(s->machine.frames);
    struct mark *path = s->machine.path;
    s->machine = *m;
    s->machine.path = path;
    s->machine.threads = threads;
    s->machine.frames = frames;
    memcpy(s->sets, from->sets, sizeof s->sets);
    s->set_count = from->set_count;
    s->frames_kept = from->frames_kept;
    return s;
}

void grammar_state_free(struct grammar_state *s)
{
    if (!s)
        return;
    assert(s->place == STATE_OWNED);
    machine_done(&s->machine);
    free(s->mask);
    mask_shelf_leave(s->shelf);
    grammar_unref(s->grammar);
    free(s);
}

/* Forgets the oldest set, and sometimes the frames that only it used. */
static void forget_oldest(struct grammar_state *s)
{
    struct machine *m = &s->machine;
    uint32_t gone = s->sets[1].first;
    memmove(m->threads, m->threads + gone, (m->thread_count - gone) * sizeof *m->threads);
    m->thread_count -= gone;
    memmove(s->sets, s->sets + 1, (s->set_count - 1) * sizeof *s->sets);
    s->set_count--;
    for (uint32_t i = 0; i < s->set_count; i++)
        s->sets[i].first -= gone;
    if (m->frame_count > 2 * s->frames_kept + FRAMES_LOOSE) {
        machine_compact(m);
        s->frames_kept = m->frame_count;
    }
}

/* The set after some bytes, moved to where the array ended; false if they cannot come. */
static bool run(struct machine *m, const struct set *from, const uint8_t *bytes, size_t len,
                struct set *out)
{
    uint32_t threads = m->thread_count, frames = m->frame_count;
    struct set at = *from;
    for (size_t i = 0; i < len; i++) {
        struct set next = machine_step(m, &at, bytes[i]);
        if ((!next.count && !next.ended) || m->failed) {
            m->thread_count = threads;
            m->frame_count = frames;
            m->failed = false;
            return false;
        }
        memmove(m->threads + threads, m->threads + next.first, next.count * sizeof *m->threads);
        next.first = threads;
        m->thread_count = threads + next.count;
        at = next;
    }
    *out = at;
    return true;
}

bool grammar_state_accept_bytes(struct grammar_state *s, const void *bytes, size_t len)
{
    struct set next;
    if (len == 0)
        return true;
    if (!run(&s->machine, now(s), bytes, len, &next))
        return false;
    s->made = false;
    s->sets[s->set_count++] = next;
    if (s->set_count > GRAMMAR_HISTORY)
        forget_oldest(s);
    return true;
}

static bool is_end(const struct grammar_vocab *v, int32_t token)
{
    for (size_t i = 0; i < v->end_count; i++)
        if (v->end_ids[i] == token)
            return true;
    return false;
}

bool grammar_state_accept(struct grammar_state *s, int32_t token)
{
    if (is_end(s->vocab, token))
        return now(s)->ended;
    if (token < 0 || tokenizer_is_added(s->vocab->tokenizer, token))
        return false;
    size_t len;
    const uint8_t *bytes = tokenizer_bytes(s->vocab->tokenizer, token, &len);
    return bytes && len > 0 && grammar_state_accept_bytes(s, bytes, len);
}

bool grammar_state_accept_allowed(struct grammar_state *s, int32_t token)
{
    if (now(s)->count <= SET_LARGE || is_end(s->vocab, token))
        return grammar_state_accept(s, token);
    s->pending = token;
    s->made = false;
    return true;
}

bool grammar_state_rollback(struct grammar_state *s, size_t n)
{
    assert(s->pending < 0);
    if (n >= s->set_count)
        return false;
    s->made = s->made && n == 0;
    s->set_count -= (uint32_t)n;
    s->machine.thread_count = now(s)->first + now(s)->count;
    return true;
}

bool grammar_state_may_end(const struct grammar_state *s)
{
    return now(s)->ended;
}

bool grammar_state_is_done(const struct grammar_state *s)
{
    return now(s)->ended && !now(s)->count;
}

/* The masks that all grammars share, and the keys of the others. */
static struct set look_up(struct grammar_state *s)
{
    const struct machine *m = &s->machine;
    struct set set = *now(s);
    for (uint32_t i = 0; i < set.count; i++) {
        struct thread t = m->threads[set.first + i];
        s->entries[i] = grammar_shared_mask(s->grammar, s->vocab, t.node,
                                            GRAMMAR_DEPTH - m->frames[t.stack].depth, &s->keys[i]);
    }
    return set;
}

static void apply(struct grammar_state *s, const struct set *set, uint32_t i)
{
    mask_entry_apply(s->entries[i], &s->machine, &s->vocab->trie,
                     s->machine.threads[set->first + i], s->mask, s->vocab->words);
}

static void finish_mask(struct grammar_state *s, const struct set *set)
{
    const struct grammar_vocab *v = s->vocab;
    for (size_t i = 0; set->ended && i < v->end_count; i++)
        s->mask[v->end_ids[i] / 32] |= 1u << v->end_ids[i] % 32;
    s->made = true;
}

/* The key of a whole mask: of a set's nodes, what they return to, and the characters of strings. */
static uint64_t set_key(const struct grammar_state *s, const struct set *set)
{
    const struct machine *m = &s->machine;
    uint64_t key = machine_mix(set->ended, set->count);
    for (uint32_t i = 0; i < set->count; i++) {
        const struct thread *t = &m->threads[set->first + i];
        key = machine_mix(key, (uint64_t)t->node << 32 | t->least);
        key = machine_mix(key, m->frames[t->stack].digest ^ t->most);
    }
    return key | (uint64_t)1 << 63; /* apart from those of nodes */
}

/* Masks that were much work to put together are kept whole. */
static bool find_whole(struct grammar_state *s, const struct set *set)
{
    struct mask_entry *e = NULL;
    uint64_t key = set_key(s, set);
    if (!mask_shelf_take(s->shelf, &key, 1, &e))
        return false;
    memcpy(s->mask, e->bits, s->vocab->words * sizeof *s->mask);
    mask_shelf_give_back(s->shelf, &key, 1, &e);
    s->made = true;
    return true;
}

static void keep_whole(struct grammar_state *s, const struct set *set)
{
    if (s->machine.work < GRAMMAR_QUICK_WORK / 2)
        return;
    uint64_t key = set_key(s, set);
    struct mask_entry *e = mask_entry_of(s->mask, s->vocab->words);
    if (e && (e = mask_shelf_add(s->shelf, key, e)))
        mask_shelf_give_back(s->shelf, &key, 1, &e);
}

bool grammar_state_ready(struct grammar_state *s)
{
    assert(s->place == STATE_OWNED);
    if (s->made || s->failed)
        return true;
    if (s->pending >= 0)
        return false;
    struct machine *m = &s->machine;
    if (find_whole(s, now(s)))
        return true;
    struct set set = look_up(s);
    if (!mask_shelf_take(s->shelf, s->keys, set.count, s->entries))
        return false;
    memset(s->mask, 0, s->vocab->words * sizeof *s->mask);
    m->work = 0;
    m->work_max = GRAMMAR_QUICK_WORK;
    for (uint32_t i = 0; i < set.count && !m->failed && !machine_spent(m); i++)
        apply(s, &set, i);
    bool made = !m->failed && !machine_spent(m);
    m->failed = false;
    m->work_max = UINT64_MAX;
    mask_shelf_give_back(s->shelf, s->keys, set.count, s->entries);
    if (made)
        finish_mask(s, &set);
    return made;
}

/* One mask after the other, so that there are never more than the shelf may hold. */
static bool make_and_apply(struct grammar_state *s, const struct set *set, uint32_t i)
{
    const uint64_t *key = &s->keys[i];
    struct mask_entry **e = &s->entries[i];
    if (!mask_shelf_take(s->shelf, key, 1, e) &&
        !(*e = grammar_make_mask(s->grammar, s->vocab, s->shelf, *key)))
        return false;
    apply(s, set, i);
    mask_shelf_give_back(s->shelf, key, 1, e);
    return !s->machine.failed;
}

/* What was put off. */
static bool accept_pending(struct grammar_state *s)
{
    int32_t token = s->pending;
    s->pending = -1;
    return token < 0 || grammar_state_accept(s, token);
}

const uint32_t *grammar_state_mask(struct grammar_state *s)
{
    bool ok = !s->failed && accept_pending(s);
    s->failed = false;
    if (s->made || (ok && find_whole(s, now(s))))
        return s->mask;
    struct set set = look_up(s);
    memset(s->mask, 0, s->vocab->words * sizeof *s->mask);
    s->machine.work = 0;
    for (uint32_t i = 0; i < set.count && ok; i++)
        ok = make_and_apply(s, &set, i);
    s->machine.failed = false;
    if (!ok)
        return NULL;
    finish_mask(s, &set);
    keep_whole(s, &set);
    return s->mask;
}

static uint32_t add_cost(uint32_t a, uint32_t b)
{
    return a > UINT32_MAX - b ? UINT32_MAX : a + b;
}

/* Bytes to the end along the thread that has the fewest. */
static uint32_t distance(const struct machine *m, const struct set *set)
{
    uint32_t least = set->ended ? 0 : UINT32_MAX;
    for (uint32_t i = 0; i < set->count; i++) {
        const struct thread *t = &m->threads[set->first + i];
        const struct node *n = &m->automaton->nodes[t->node];
        uint32_t cost = n->cost;
        if (n->flags & NODE_STRING)
            cost = add_cost(cost, t->least < 1 << 24 ? 16 * t->least : 1 << 28);
        for (uint32_t at = t->stack; at != MACHINE_BOTTOM; at = m->frames[at].parent)
            cost = add_cost(cost, m->automaton->nodes[m->frames[at].ret].cost);
        least = cost < least ? cost : least;
    }
    return least;
}

uint32_t grammar_state_distance(const struct grammar_state *s)
{
    return distance(&s->machine, now(s));
}

/* The byte that leads closest to the end; -1: none comes closer. */
static int best_byte(struct machine *m, const struct set *from, struct set *out)
{
    uint32_t least = distance(m, from), threads = m->thread_count, frames = m->frame_count;
    int best = -1;
    for (int b = 0; b < 256 && least; b++) {
        uint8_t byte = (uint8_t)b;
        struct set next;
        if (run(m, from, &byte, 1, &next)) {
            uint32_t d = distance(m, &next);
            best = d < least ? b : best;
            least = d < least ? d : least;
        }
        m->thread_count = threads;
        m->frame_count = frames;
    }
    uint8_t byte = (uint8_t)best;
    if (best >= 0 && !run(m, from, &byte, 1, out))
        best = -1;
    return best;
}

size_t grammar_state_closing(struct grammar_state *s, char *text, size_t max)
{
    struct machine *m = &s->machine;
    uint32_t threads = m->thread_count, frames = m->frame_count;
    struct set at = *now(s);
    size_t len = 0;
    while (!at.ended && len < max) {
        int byte = best_byte(m, &at, &at);
        if (byte < 0)
            break;
        text[len++] = (char)byte;
    }
    m->thread_count = threads;
    m->frame_count = frames;
    return at.ended ? len : 0;
}

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

enum status grammar_warm_next(struct grammar *g, const struct grammar_vocab *v)
{
    const struct automaton *a = &g->automaton;
    struct mask_shelf *shelf = grammar_open(g, v);
    if (!shelf)
        return NOMEM;
    pthread_mutex_lock(&g->lock);
    uint32_t node = g->warmed > v->core.node_count ? g->warmed : v->core.node_count;
    while (node < a->node_count &&
           (a->nodes[node].cost == GRAMMAR_COST_INF || !a->nodes[node].edges))
        node++;
    g->warmed = node + 1;
    pthread_mutex_unlock(&g->lock);
    enum status st = node < a->node_count ? OK : NOT_FOUND;
    if (st == OK && !mask_shelf_has_room(shelf))
        st = LIMITED;
    uint64_t key;
    struct mask_entry *e = NULL;
    if (st == OK) {
        grammar_shared_mask(g, v, node, GRAMMAR_DEPTH, &key);
        if (mask_shelf_take(shelf, &key, 1, &e) || (e = grammar_make_mask(g, v, shelf, key)))
            mask_shelf_give_back(shelf, &key, 1, &e);
        else
            st = NOMEM;
    }
    mask_shelf_leave(shelf);
    return st;
}

void grammar_warm(struct grammar *g, const struct grammar_vocab *v, int64_t budget_us)
{
    int64_t end = now_us() + budget_us;
    while (now_us() < end && grammar_warm_next(g, v) == OK)
        ;
}
