#include "worker/grammar/automaton.h"

#include <assert.h>

void automaton_init(struct automaton *a, uint32_t node_max, uint64_t work_max)
{
    *a = (struct automaton){.node_max = node_max, .work_max = work_max};
}

void automaton_done(struct automaton *a)
{
    for (uint32_t i = 0; i < a->rule_count; i++)
        free(a->rules[i].place);
    free(a->nodes);
    free(a->rules);
    free(a->edge_links);
    free(a->call_links);
    free(a->edges);
    free(a->calls);
    *a = (struct automaton){0};
}

bool automaton_work(struct automaton *a, uint64_t steps)
{
    a->work += steps;
    if (a->status == OK && a->work > a->work_max)
        a->status = LIMITED;
    return a->status == OK;
}

/* Room for one more; false, with the status set, if there is none. */
static bool grow(struct automaton *a, void *array, uint32_t count, uint32_t *size, size_t each)
{
    if (a->status != OK)
        return false;
    if (count < *size)
        return true;
    uint32_t next = *size ? *size * 2 : 256;
    void *moved = realloc(*(void **)array, next * each);
    if (!moved) {
        a->status = NOMEM;
        return false;
    }
    *(void **)array = moved;
    *size = next;
    return true;
}

uint32_t automaton_node(struct automaton *a)
{
    if (a->status == OK && a->node_count == a->node_max)
        a->status = LIMITED;
    if (!grow(a, &a->nodes, a->node_count, &a->node_size, sizeof *a->nodes))
        return 0;
    a->nodes[a->node_count] = (struct node){.edge = GRAMMAR_NONE, .call = GRAMMAR_NONE};
    return a->node_count++;
}

uint32_t automaton_rule(struct automaton *a, const char *place)
{
    uint32_t start = automaton_node(a);
    if (!grow(a, &a->rules, a->rule_count, &a->rule_size, sizeof *a->rules))
        return 0;
    char *copy = place ? strdup(place) : NULL;
    if (place && !copy) {
        a->status = NOMEM;
        return 0;
    }
    a->rules[a->rule_count] = (struct rule){.start = start, .place = copy};
    return a->rule_count++;
}

uint32_t automaton_start(const struct automaton *a, uint32_t rule)
{
    return a->status == OK ? a->rules[rule].start : 0;
}

void automaton_edge(struct automaton *a, uint32_t from, uint8_t lo, uint8_t hi, uint32_t to)
{
    assert(lo <= hi);
    if (a->edge_count == 16 * (uint64_t)a->node_max)
        a->status = LIMITED;
    if (!grow(a, &a->edge_links, a->edge_count, &a->edge_size, sizeof *a->edge_links))
        return;
    struct node *n = &a->nodes[from];
    a->edge_links[a->edge_count] = (struct edge_link){{to, lo, hi}, n->edge};
    n->edge = a->edge_count++;
    n->edges++;
}

void automaton_call_string(struct automaton *a, uint32_t from, struct call call)
{
    if (a->call_count == 4 * (uint64_t)a->node_max ||
        (a->status == OK && a->nodes[from].calls == UINT16_MAX))
        a->status = LIMITED;
    if (!grow(a, &a->call_links, a->call_count, &a->call_size, sizeof *a->call_links))
        return;
    struct node *n = &a->nodes[from];
    a->call_links[a->call_count] = (struct call_link){call, n->call};
    n->call = a->call_count++;
    n->calls++;
}

void automaton_call(struct automaton *a, uint32_t from, uint32_t rule, uint32_t to)
{
    automaton_call_string(a, from, (struct call){rule, to, 0, UINT32_MAX});
}

void automaton_jump(struct automaton *a, uint32_t from, uint32_t to)
{
    automaton_call(a, from, GRAMMAR_NONE, to);
}

uint32_t automaton_text(struct automaton *a, uint32_t from, const char *text, size_t len)
{
    for (size_t i = 0; i < len && a->status == OK; i++) {
        uint32_t to = automaton_node(a);
        automaton_edge(a, from, (uint8_t)text[i], (uint8_t)text[i], to);
        from = to;
    }
    return from;
}

static uint32_t along(struct automaton *a, uint32_t from, uint8_t byte)
{
    for (uint32_t i = a->nodes[from].edge; i != GRAMMAR_NONE; i = a->edge_links[i].next) {
        const struct edge *e = &a->edge_links[i].edge;
        if (e->lo == byte && e->hi == byte)
            return e->to;
    }
    return GRAMMAR_NONE;
}

uint32_t automaton_branch(struct automaton *a, uint32_t from, const char *text, size_t len)
{
    size_t i = 0;
    for (; i < len && a->status == OK; i++) {
        uint32_t to = along(a, from, (uint8_t)text[i]);
        if (to == GRAMMAR_NONE)
            break;
        from = to;
    }
    return automaton_text(a, from, text + i, len - i);
}

void automaton_flag(struct automaton *a, uint32_t node, int flags)
{
    if (a->status == OK)
        a->nodes[node].flags |= (uint8_t)flags;
}

/* Each node's edges and calls side by side, in the order in which they were added. */
static bool flatten(struct automaton *a)
{
    a->edges = malloc((a->edge_count + 1) * sizeof *a->edges);
    a->calls = malloc((a->call_count + 1) * sizeof *a->calls);
    if (!a->edges || !a->calls)
        return false;
    uint32_t edge = 0, call = 0;
    for (uint32_t i = 0; i < a->node_count; i++) {
        struct node *n = &a->nodes[i];
        uint32_t to = edge += n->edges;
        for (uint32_t e = n->edge; e != GRAMMAR_NONE; e = a->edge_links[e].next)
            a->edges[--to] = a->edge_links[e].edge;
        n->edge = to;
        to = call += n->calls;
        for (uint32_t c = n->call; c != GRAMMAR_NONE; c = a->call_links[c].next)
            a->calls[--to] = a->call_links[c].call;
        n->call = to;
        if ((n->flags & NODE_ACCEPT) && !n->edges && !n->calls)
            n->flags |= NODE_TAIL;
        n->cost = GRAMMAR_COST_INF;
        n->height = UINT16_MAX;
        n->need = n->flags & NODE_STRING ? GRAMMAR_COST_INF : 0;
    }
    free(a->edge_links);
    free(a->call_links);
    a->edge_links = NULL;
    a->call_links = NULL;
    return true;
}

static uint32_t plus(uint32_t a, uint32_t b)
{
    return a >= GRAMMAR_COST_INF - b ? GRAMMAR_COST_INF - 1 : a + b;
}

/* The values of a node that follow from one way out of it. */
struct values {
    uint32_t cost, need;
    uint16_t height;
};

static void take_edge(const struct automaton *a, const struct node *n, const struct edge *e,
                      struct values *v)
{
    const struct node *to = &a->nodes[e->to];
    if (to->cost == GRAMMAR_COST_INF)
        return;
    uint32_t cost = plus(to->cost, 1);
    uint32_t need = plus(to->need, n->flags & NODE_CHAR && e->lo != '"');
    v->cost = cost < v->cost ? cost : v->cost;
    v->height = to->height < v->height ? to->height : v->height;
    v->need = need < v->need ? need : v->need;
}

static void take_call(const struct automaton *a, const struct call *c, struct values *v)
{
    const struct node *to = &a->nodes[c->to];
    uint32_t cost = to->cost;
    uint16_t height = to->height;
    if (c->rule != GRAMMAR_NONE) {
        const struct node *start = &a->nodes[a->rules[c->rule].start];
        if (start->cost == GRAMMAR_COST_INF || cost == GRAMMAR_COST_INF)
            return;
        uint32_t extra = c->least < 1 << 24 ? 16 * c->least : 1 << 28;
        cost = plus(plus(cost, start->cost), extra);
        uint16_t inner = (uint16_t)(start->height + !(to->flags & NODE_TAIL));
        height = inner > height ? inner : height;
    }
    v->cost = cost < v->cost ? cost : v->cost;
    v->height = height < v->height ? height : v->height;
}

static bool improve(struct automaton *a, uint32_t at)
{
    struct node *n = &a->nodes[at];
    struct values v = {n->cost, n->need, n->height};
    uint8_t flags = n->flags;
    if (n->flags & NODE_ACCEPT)
        v = (struct values){0};
    for (uint32_t i = 0; i < n->edges; i++) {
        take_edge(a, n, &a->edges[n->edge + i], &v);
        n->flags |= a->nodes[a->edges[n->edge + i].to].flags & NODE_CALLS;
    }
    for (uint32_t i = 0; i < n->calls; i++) {
        const struct call *c = &a->calls[n->call + i];
        take_call(a, c, &v);
        bool calls = c->rule != GRAMMAR_NONE || a->nodes[c->to].flags & NODE_CALLS;
        n->flags |= calls ? NODE_CALLS : 0;
    }
    bool changed = flags != n->flags || v.cost != n->cost || v.height != n->height ||
                   (v.need != n->need && n->flags & NODE_STRING);
    n->cost = v.cost;
    n->height = v.height;
    if (n->flags & NODE_STRING)
        n->need = v.need;
    return changed;
}

/* For each node those whose values follow from its own: list[first[i]] to before list[first[i +
 * 1]]. */
struct dependents {
    uint32_t *first, *list;
};

/* Calls what there is to do with each pair: a node and one that depends on it. */
static void each_dependent(const struct automaton *a, uint32_t from, uint32_t *count,
                           uint32_t *list)
{
    const struct node *n = &a->nodes[from];
    for (uint32_t i = 0; i < n->edges + 2u * n->calls; i++) {
        uint32_t on;
        if (i < n->edges) {
            on = a->edges[n->edge + i].to;
        } else {
            const struct call *c = &a->calls[n->call + (i - n->edges) / 2];
            bool of_rule = (i - n->edges) % 2;
            if (of_rule && c->rule == GRAMMAR_NONE)
                continue;
            on = of_rule ? a->rules[c->rule].start : c->to;
        }
        if (list)
            list[--count[on]] = from;
        else
            count[on]++;
    }
}

static bool find_dependents(const struct automaton *a, struct dependents *d)
{
    size_t pairs = (size_t)a->edge_count + 2u * (size_t)a->call_count;
    d->first = calloc(a->node_count + 1, sizeof *d->first);
    d->list = malloc((pairs + 1) * sizeof *d->list);
    if (!d->first || !d->list)
        return false;
    for (uint32_t i = 0; i < a->node_count; i++)
        each_dependent(a, i, d->first, NULL);
    for (uint32_t i = 1; i <= a->node_count; i++)
        d->first[i] += d->first[i - 1];
    for (uint32_t i = 0; i < a->node_count; i++)
        each_dependent(a, i, d->first, d->list);
    return true;
}

/* Least fixed point: a node is looked at again when one that it depends on has changed. */
static void settle(struct automaton *a)
{
    struct dependents d = {0};
    uint32_t *queue = malloc((a->node_count + 1) * sizeof *queue), count = a->node_count, at = 0;
    bool *queued = malloc(a->node_count + 1);
    if (!find_dependents(a, &d) || !queue || !queued)
        a->status = NOMEM;
    for (uint32_t i = 0; i < count && a->status == OK; i++) {
        queue[i] = count - 1 - i;
        queued[i] = true;
    }
    while (count > 0 && automaton_work(a, 2)) {
        uint32_t node = queue[at];
        at = at + 1 == a->node_count ? 0 : at + 1;
        count--;
        queued[node] = false;
        if (!improve(a, node))
            continue;
        for (uint32_t i = d.first[node]; i < d.first[node + 1]; i++) {
            uint32_t next = d.list[i];
            if (queued[next])
                continue;
            queued[next] = true;
            queue[(at + count++) % a->node_count] = next;
        }
    }
    free(d.first);
    free(d.list);
    free(queue);
    free(queued);
}

enum status automaton_finish(struct automaton *a, struct error *err)
{
    if (a->status == OK && !flatten(a))
        a->status = NOMEM;
    if (a->status == OK)
        settle(a);
    if (a->status == NOMEM)
        return error_set(err, NOMEM, "out of memory");
    if (a->status != OK)
        return error_set(err, a->status, "the schema is too large or too complex");
    for (uint32_t i = 0; i < a->rule_count; i++) {
        const struct node *start = &a->nodes[a->rules[i].start];
        const char *place = a->rules[i].place;
        if (start->cost == GRAMMAR_COST_INF)
            return error_set(err, INVALID,
                             "%s: cannot be satisfied: it contains itself without end",
                             place ? place : "schema");
        if (start->height >= GRAMMAR_DEPTH)
            return error_set(err, LIMITED, "%s: nested too deep", place ? place : "schema");
    }
    for (uint32_t i = 0; i < a->node_count; i++) {
        const struct node *n = &a->nodes[i];
        if (n->cost != GRAMMAR_COST_INF && n->height < GRAMMAR_DEPTH && n->height > a->height_max)
            a->height_max = n->height;
    }
    return OK;
}

size_t automaton_bytes(const struct automaton *a)
{
    return a->node_size * sizeof *a->nodes + a->rule_size * sizeof *a->rules +
           a->edge_count * sizeof *a->edges + a->call_count * sizeof *a->calls;
}
