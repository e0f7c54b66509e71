/*
 * The gated MLP, alone or as experts: down(silu(gate x) * up x). In a layer with experts each
 * row's chosen ones are found first; then all (expert, its rows) pairs are worked through as one
 * list. A row's results are added in a fixed order, shared experts first, then the chosen in
 * ascending order, whoever else is in the batch.
 */
#include <assert.h>

#include "worker/model/pass.h"
#include "worker/model/router.h"

/* A member's list of the groups of this layer and batch. */
struct groups {
    int count;
    struct group *items;
};

static void route_rows(const struct pass *p, const struct layer *l, int index, int member)
{
    const struct model *m = p->m;
    const struct moe_config *c = &m->config.moe;
    const struct scratch *s = &m->scratch;
    int begin, end;
    pass_share(p, p->count, member, &begin, &end);
    struct input in = {.data = s->normed + (size_t)begin * (size_t)m->config.hidden,
                       .stride = (size_t)m->config.hidden};
    m->kernels->matmul(&l->router, 0, l->router.panels, &in, end - begin,
                       s->router_logits + (size_t)begin * (size_t)c->experts, (size_t)c->experts);
    for (int i = begin; i < end; i++) {
        int *experts = s->experts + (size_t)i * (size_t)c->chosen;
        float *weights = s->weights + (size_t)i * (size_t)c->chosen;
        router_choose(c, s->router_logits + (size_t)i * (size_t)c->experts, l->bias, experts,
                      weights);
        if (m->options.routed)
            m->options.routed(m->options.routed_arg, index, i, experts, weights, c->chosen);
    }
}

/* Sorts the rows by expert; every member makes the same lists for itself. */
static void sort_by_expert(const struct pass *p, const struct member_scratch *own)
{
    const struct moe_config *c = &p->m->config.moe;
    const struct scratch *s = &p->m->scratch;
    int n = p->count * c->chosen;
    int32_t *start = own->group_start;
    memset(start, 0, ((size_t)c->experts + 1) * sizeof *start);
    for (int i = 0; i < n; i++)
        start[s->experts[i] + 1]++;
    for (int e = 0; e < c->experts; e++)
        start[e + 1] += start[e];
    for (int i = 0; i < n; i++) {
        int at = start[s->experts[i]]++;
        own->group_rows[at] = i / c->chosen;
        own->group_weights[at] = s->weights[i];
    }
    for (int e = c->experts; e > 0; e--)
        start[e] = start[e - 1];
    start[0] = 0;
}

static void make_groups(const struct pass *p, const struct layer *l,
                        const struct member_scratch *own, struct groups *g)
{
    g->count = 0;
    size_t slot = 0;
    if (l->dense.width) {
        g->items[g->count++] = (struct group){.mlp = &l->dense, .count = p->count};
        slot = (size_t)p->count;
    }
    if (!l->experts)
        return;
    sort_by_expert(p, own);
    for (int e = 0; e < p->m->config.moe.experts; e++) {
        int from = own->group_start[e], n = own->group_start[e + 1] - from;
        if (n)
            g->items[g->count++] =
                (struct group){&l->experts[e], own->group_rows + from, own->group_weights + from, n,
                               slot + (size_t)from};
    }
}

/* Panel pairs [begin, end) of a group's gate and up, into the active rows. */
static void activate(const struct pass *p, const struct group *g, int begin, int end,
                     struct member_scratch *own)
{
    const struct model *m = p->m;
    size_t stride = TILE_PANELS * 16;
    for (int pair = begin; pair < end; pair += TILE_PANELS / 2) {
        int pairs = end - pair < TILE_PANELS / 2 ? end - pair : TILE_PANELS / 2;
        for (int first = 0; first < g->count; first += ROW_TILE) {
            int count = g->count - first < ROW_TILE ? g->count - first : ROW_TILE;
            struct input in = {.data = m->scratch.normed, .stride = (size_t)m->config.hidden};
            if (g->rows)
                in.index = g->rows + first;
            else
                in.data += (size_t)first * in.stride;
            m->kernels->matmul(&g->mlp->gate_up, 2 * pair, 2 * (pair + pairs), &in, count,
                               own->tile, stride);
            for (int i = 0; i < count; i++)
                m->kernels->swiglu(m->scratch.active +
                                       (g->slot + (size_t)(first + i)) * (size_t)m->active_stride +
                                       (size_t)pair * 16,
                                   own->tile + (size_t)i * stride, pairs * 16);
        }
    }
}

/* The units are panel pairs, group after group, each as heavy as its group has rows. */
static void gate_up_phase(const struct pass *p, const struct groups *g, int member)
{
    int64_t work = 0;
    for (int i = 0; i < g->count; i++)
        work += (int64_t)g->items[i].mlp->width / 16 * g->items[i].count;
    int threads = pool_members(p->m->pool), tasks = p->count < 8 ? threads : 8 * threads;
    for (int t = pass_first(p, member); t < tasks; t = pass_next(p, t)) {
        int64_t from = work * t / tasks, to = work * (t + 1) / tasks, at = 0;
        for (int i = 0; i < g->count && at < to; i++) {
            int64_t rows = g->items[i].count, pairs = g->items[i].mlp->width / 16;
            int64_t begin = from > at ? (from - at + rows - 1) / rows : 0;
            int64_t end = (to - at + rows - 1) / rows;
            if (end > pairs)
                end = pairs;
            if (begin < end)
                activate(p, &g->items[i], (int)begin, (int)end, &p->m->scratch.members[member]);
            at += rows * pairs;
        }
    }
    pool_barrier(p->m->pool);
}

/* Output panels [begin, end) of all groups, added onto x. */
static void down_panels(const struct pass *p, const struct groups *g, int begin, int end,
                        struct member_scratch *own)
{
    const struct model *m = p->m;
    int width = (end - begin) * 16;
    for (int j = 0; j < g->count; j++) {
        const struct group *item = &g->items[j];
        for (int first = 0; first < item->count; first += ROW_TILE) {
            int count = item->count - first < ROW_TILE ? item->count - first : ROW_TILE;
            struct input in = {.data = m->scratch.active +
                                       (item->slot + (size_t)first) * (size_t)m->active_stride,
                               .stride = (size_t)m->active_stride};
            m->kernels->matmul(&item->mlp->down, begin, end, &in, count, own->tile, (size_t)width);
            for (int i = 0; i < count; i++) {
                int row = item->rows ? item->rows[first + i] : first + i;
                m->kernels->add_scaled(m->scratch.x + (size_t)row * (size_t)m->config.hidden +
                                           (size_t)begin * 16,
                                       own->tile + (size_t)i * (size_t)width,
                                       item->weights ? item->weights[first + i] : 1.0f, width);
            }
        }
    }
}

static void down_phase(const struct pass *p, const struct groups *g, int member)
{
    int panels = p->m->config.hidden / 16;
    int tasks = (panels + TILE_PANELS - 1) / TILE_PANELS, threads = pool_members(p->m->pool);
    if (tasks < 2 * threads)
        tasks = panels < 2 * threads ? panels : 2 * threads;
    for (int t = pass_first(p, member); t < tasks; t = pass_next(p, t))
        down_panels(p, g, panels * t / tasks, panels * (t + 1) / tasks,
                    &p->m->scratch.members[member]);
    pool_barrier(p->m->pool);
}

void mlp_run(struct pass *p, const struct layer *l, int index, int member)
{
    /* The same rows' norms, then their routing, by the same member: one barrier for both. */
    struct member_scratch *own = &p->m->scratch.members[member];
    struct groups g = {.items = own->groups};
    pass_norm(p, member, l->mlp_norm);
    if (l->experts)
        route_rows(p, l, index, member);
    pool_barrier(p->m->pool);
    make_groups(p, l, own, &g);
    gate_up_phase(p, &g, member);
    down_phase(p, &g, member);
}
