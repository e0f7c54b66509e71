#include "worker/grammar/machine.h"

#include <assert.h>

bool machine_init(struct machine *m, const struct automaton *a, uint32_t path_size)
{
    *m = (struct machine){
        .automaton = a, .depth_max = GRAMMAR_DEPTH, .path_size = path_size, .work_max = UINT64_MAX};
    m->frame_size = 64;
    m->thread_size = 64;
    m->frames = malloc(m->frame_size * sizeof *m->frames);
    m->threads = malloc(m->thread_size * sizeof *m->threads);
    m->path = calloc(path_size, sizeof *m->path);
    if (!m->frames || !m->threads || !m->path) {
        machine_done(m);
        return false;
    }
    m->frames[MACHINE_BOTTOM] = (struct frame){0};
    m->frame_count = 1;
    return true;
}

void machine_done(struct machine *m)
{
    free(m->frames);
    free(m->threads);
    free(m->path);
    *m = (struct machine){0};
}

static bool room(struct machine *m, void *array, uint32_t count, uint32_t *size, size_t each)
{
    if (count < *size)
        return true;
    void *moved = realloc(*(void **)array, 2 * *size * each);
    if (!moved) {
        m->failed = true;
        return false;
    }
    *(void **)array = moved;
    *size *= 2;
    return true;
}

static bool same(const struct thread *a, const struct thread *b)
{
    return a->node == b->node && a->stack == b->stack && a->least == b->least && a->most == b->most;
}

enum { FILTER_FROM = 16 };

/* Comparing each thread with all before it takes long when there are many. From FILTER_FROM on a
 * filter says of most that they are new. */
static bool maybe_there(struct machine *m, const struct set *s, const struct thread *t)
{
    if (s->count < FILTER_FROM)
        return true;
    uint32_t from = s->count == FILTER_FROM ? 0 : s->count - 1;
    if (from == 0)
        memset(m->filter, 0, sizeof m->filter);
    for (uint32_t i = from; i < s->count; i++) {
        const struct thread *old = &m->threads[s->first + i];
        uint32_t bit = machine_mix(old->node, old->stack) % MACHINE_FILTER_BITS;
        m->filter[bit / 64] |= (uint64_t)1 << bit % 64;
    }
    uint32_t bit = machine_mix(t->node, t->stack) % MACHINE_FILTER_BITS;
    return m->filter[bit / 64] >> bit % 64 & 1;
}

static bool is_there(struct machine *m, const struct set *s, const struct thread *t)
{
    if (!maybe_there(m, s, t))
        return false;
    m->work += s->count;
    for (uint32_t i = 0; i < s->count; i++)
        if (same(&m->threads[s->first + i], t))
            return true;
    return false;
}

static void add(struct machine *m, struct set *s, struct thread t)
{
    const struct node *n = &m->automaton->nodes[t.node];
    if (n->cost == GRAMMAR_COST_INF || m->frames[t.stack].depth + n->height > m->depth_max)
        return;
    if (n->flags & NODE_STRING && n->need > t.most)
        return;
    m->work += 4;
    if (is_there(m, s, &t))
        return;
    if (s->count == MACHINE_THREADS_MAX ||
        !room(m, &m->threads, m->thread_count, &m->thread_size, sizeof t))
        return;
    m->threads[m->thread_count++] = t;
    s->count++;
}

/* A frame on top of another, the same one if it was made since `mark`. */
static uint32_t push(struct machine *m, uint32_t mark, uint32_t parent, uint32_t ret)
{
    m->work += (m->frame_count - mark) / 2;
    for (uint32_t i = mark; i < m->frame_count; i++)
        if (m->frames[i].parent == parent && m->frames[i].ret == ret)
            return i;
    if (!room(m, &m->frames, m->frame_count, &m->frame_size, sizeof *m->frames))
        return GRAMMAR_NONE;
    const struct frame *below = &m->frames[parent];
    m->frames[m->frame_count] =
        (struct frame){parent, ret, below->depth + 1, machine_mix(below->digest, ret)};
    return m->frame_count++;
}

static void follow_call(struct machine *m, struct set *s, uint32_t mark, const struct call *c,
                        uint32_t stack)
{
    const struct automaton *a = m->automaton;
    m->work += 12; /* nodes from all over the automaton: out of the caches, as a rule */
    if (c->rule == GRAMMAR_NONE) {
        add(m, s, (struct thread){c->to, stack, 0, 0});
        return;
    }
    const struct node *to = &a->nodes[c->to];
    const struct node *start = &a->nodes[a->rules[c->rule].start];
    if (to->cost == GRAMMAR_COST_INF || m->frames[stack].depth + to->height > m->depth_max)
        return;
    if (!(to->flags & NODE_TAIL)) {
        if (m->frames[stack].depth + 1 + start->height > m->depth_max)
            return;
        stack = push(m, mark, stack, c->to);
        if (stack == GRAMMAR_NONE)
            return;
    }
    add(m, s, (struct thread){a->rules[c->rule].start, stack, c->least, c->most});
}

/* Adds what follows without a byte, then drops the threads that wait for none. */
static void close_set(struct machine *m, struct set *s, uint32_t mark)
{
    const struct automaton *a = m->automaton;
    for (uint32_t i = 0; i < s->count; i++) {
        struct thread t = m->threads[s->first + i];
        const struct node *n = &a->nodes[t.node];
        if (n->flags & NODE_ACCEPT && t.stack == MACHINE_BOTTOM) {
            s->ended = true;
        } else if (n->flags & NODE_ACCEPT) {
            const struct frame *f = &m->frames[t.stack];
            add(m, s, (struct thread){f->ret, f->parent, 0, 0});
        }
        for (uint32_t c = 0; c < n->calls; c++)
            follow_call(m, s, mark, &a->calls[n->call + c], t.stack);
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        struct thread t = m->threads[s->first + i];
        if (a->nodes[t.node].edges)
            m->threads[s->first + kept++] = t;
    }
    s->count = kept;
    m->thread_count = s->first + kept;
}

struct set machine_enter(struct machine *m, struct thread t)
{
    struct set s = {.first = m->thread_count};
    add(m, &s, t);
    close_set(m, &s, m->frame_count);
    return s;
}

struct set machine_return(struct machine *m, uint32_t stack)
{
    struct set s = {.first = m->thread_count};
    if (stack == MACHINE_BOTTOM) {
        s.ended = true;
        return s;
    }
    struct frame f = m->frames[stack];
    add(m, &s, (struct thread){f.ret, f.parent, 0, 0});
    close_set(m, &s, m->frame_count);
    return s;
}

/* Counts the character that a byte begins in a string; false if it may not come. */
static bool count(const struct node *n, uint8_t byte, struct thread *t)
{
    if (!(n->flags & NODE_CHAR))
        return true;
    if (byte == '"')
        return t->least == 0;
    if (t->most == 0)
        return false;
    t->most -= t->most != UINT32_MAX;
    t->least -= t->least > 0;
    return true;
}

struct set machine_step(struct machine *m, const struct set *from, uint8_t byte)
{
    const struct automaton *a = m->automaton;
    struct set s = {.first = m->thread_count};
    for (uint32_t i = 0; i < from->count; i++) {
        struct thread t = m->threads[from->first + i];
        const struct node *n = &a->nodes[t.node];
        m->work += n->edges + 4u;
        for (uint32_t e = 0; e < n->edges; e++) {
            const struct edge *edge = &a->edges[n->edge + e];
            struct thread next = t;
            if (byte < edge->lo || byte > edge->hi || !count(n, byte, &next))
                continue;
            next.node = edge->to;
            add(m, &s, next);
        }
    }
    if (s.count)
        close_set(m, &s, m->frame_count);
    return s;
}

void machine_walk(struct machine *m, const struct trie *t, uint32_t top, struct set start,
                  struct machine_visit visit)
{
    uint32_t depth = t->nodes[top].depth, end = t->nodes[top].skip;
    assert(t->depth_max - depth < m->path_size);
    m->path[0] = (struct mark){start, m->frame_count};
    for (uint32_t i = top + 1; start.count && i < end && !machine_spent(m);) {
        const struct trie_node *n = &t->nodes[i];
        const struct mark *above = &m->path[n->depth - depth - 1];
        m->thread_count = above->set.first + above->set.count;
        m->frame_count = above->frames;
        struct set set = machine_step(m, &above->set, n->byte);
        if (!set.count && !set.ended) {
            i = n->skip;
            continue;
        }
        m->path[n->depth - depth] = (struct mark){set, m->frame_count};
        visit.node(visit.arg, i, &set);
        i = set.count ? i + 1 : n->skip;
    }
    m->thread_count = start.first + start.count;
    m->frame_count = m->path[0].frames;
}

/* Parents come before their children, so that one pass in order finds every frame's new place. */
void machine_compact(struct machine *m)
{
    uint32_t *moved = calloc(m->frame_count, sizeof *moved);
    if (!moved)
        return; /* only memory is lost */
    moved[MACHINE_BOTTOM] = 1;
    for (uint32_t i = 0; i < m->thread_count; i++)
        moved[m->threads[i].stack] = 1;
    for (uint32_t i = m->frame_count; i-- > 1;)
        if (moved[i])
            moved[m->frames[i].parent] = 1;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < m->frame_count; i++) {
        if (!moved[i])
            continue;
        struct frame f = m->frames[i];
        f.parent = i ? moved[f.parent] : 0;
        moved[i] = kept;
        m->frames[kept++] = f;
    }
    for (uint32_t i = 0; i < m->thread_count; i++)
        m->threads[i].stack = moved[m->threads[i].stack];
    m->frame_count = kept;
    free(moved);
}
