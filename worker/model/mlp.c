/*
 * The gated MLP, alone or as experts: down(silu(gate x) * up x). In a layer with experts each
 * row's chosen ones are found first; then all (expert, its rows) pairs are worked through as one
 * list. A row's results are added in a fixed order, shared experts first, then the chosen in
 * ascending order, whoever else is in the batch.
 *
 * Many rows keep the arithmetic busy: there each task of the last products goes over all groups,
 * for some columns of x. Few rows wait for memory, which is read best in long pieces: there a task
 * has whole matrices, the results are kept apart, and added up at the end.
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
    size_t hidden = (size_t)m->config.hidden, experts_stride = (size_t)c->experts;
    struct input in = {.data = s->normed + (size_t)begin * hidden, .stride = hidden};
    pass_panels(m, &s->members[member],
                &(struct product){.w = &l->router,
                                  .end = l->router.panels,
                                  .in = in,
                                  .count = end - begin,
                                  .out = s->router_logits + (size_t)begin * experts_stride,
                                  .out_stride = experts_stride});
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
        own->group_place[i] = at;
    }
    for (int e = c->experts; e > 0; e--)
        start[e] = start[e - 1];
    start[0] = 0;
}

/* Floats that one of its active rows takes. */
static size_t active_stride(const struct model *m, const struct mlp *mlp)
{
    return kernels_input_bytes(model_input(m, &mlp->down), mlp->width) / sizeof(float);
}

/* Where the groups' results wait to be added up; NULL: they are not kept apart. */
static float *results_of(const struct pass *p)
{
    return p->count <= APART_ROWS ? p->m->scratch.results : NULL;
}

static void make_groups(const struct pass *p, const struct layer *l,
                        const struct member_scratch *own, struct groups *g)
{
    const struct model *m = p->m;
    float *active = m->scratch.active, *results = results_of(p);
    size_t hidden = (size_t)m->config.hidden;
    g->count = 0;
    if (l->dense.width) {
        g->items[g->count++] = (struct group){
            .mlp = &l->dense,
            .count = p->count,
            .active = active,
            .active_stride = active_stride(m, &l->dense),
            .results = results,
        };
        active += (size_t)p->count * active_stride(m, &l->dense);
        results += results ? (size_t)p->count * hidden : 0;
    }
    if (!l->experts)
        return;
    sort_by_expert(p, own);
    size_t stride = active_stride(m, &l->experts[0]);
    for (int e = 0; e < m->config.moe.experts; e++) {
        int from = own->group_start[e], n = own->group_start[e + 1] - from;
        if (n)
            g->items[g->count++] = (struct group){
                .mlp = &l->experts[e],
                .rows = own->group_rows + from,
                .weights = own->group_weights + from,
                .count = n,
                .active = active + (size_t)from * stride,
                .active_stride = stride,
                .results = results ? results + (size_t)from * hidden : NULL,
            };
    }
}

/* The member's own rows of `normed`, as the layer's MLPs want them. */
static void convert_normed(const struct pass *p, const struct layer *l, int member)
{
    const struct model *m = p->m;
    int begin, end, hidden = m->config.hidden;
    if (l->mlp_input == INPUT_F32)
        return;
    size_t stride = kernels_input_bytes(l->mlp_input, hidden);
    pass_share(p, p->count, member, &begin, &end);
    for (int i = begin; i < end; i++)
        m->kernels->convert(l->mlp_input, m->scratch.normed + (size_t)i * (size_t)hidden, 0, hidden,
                            hidden, (uint8_t *)m->scratch.mlp_input + (size_t)i * stride);
}

static struct input group_input(const struct model *m, const struct group *g, int first)
{
    size_t hidden = (size_t)m->config.hidden;
    struct input in = {.data = m->scratch.normed, .stride = hidden};
    in.type = model_input(m, &g->mlp->gate);
    if (in.type != INPUT_F32) {
        in.data = m->scratch.mlp_input;
        in.stride = kernels_input_bytes(in.type, m->config.hidden) / sizeof(float);
    }
    if (g->rows)
        in.index = g->rows + first;
    else
        in.data = (const float *)in.data + (size_t)first * in.stride;
    return in;
}

/* The activation of rows of a tile, into the group's active rows from a column on. */
static void store_active(const struct model *m, const struct group *g, int first, int count,
                         int col, int n, float *tile)
{
    enum input_type type = model_input(m, &g->mlp->down);
    for (int i = 0; i < count; i++) {
        float *gate = tile + (size_t)i * 2 * (size_t)n;
        float *row = g->active + (size_t)(first + i) * g->active_stride;
        m->kernels->swiglu(gate, gate, gate + n, n);
        m->kernels->convert(type, gate, col, n, g->mlp->width, row);
    }
}

/* So many panels of two matrices have room in a tile of so many rows. A few rows get long pieces:
 * memory is read best from front to back. */
static int tile_panels(int rows)
{
    return ROW_TILE / (rows < ROW_TILE ? rows : ROW_TILE) * TILE_PANELS;
}

/* Panels [begin, end) of a group's gate and up, into the active rows. */
static void activate(const struct pass *p, const struct group *g, int begin, int end,
                     struct member_scratch *own)
{
    const struct model *m = p->m;
    int most = tile_panels(g->count);
    for (int panel = begin; panel < end; panel += most) {
        int panels = end - panel < most ? end - panel : most;
        for (int first = 0; first < g->count; first += ROW_TILE) {
            struct product gate = {.w = &g->mlp->gate, .begin = panel, .end = panel + panels};
            gate.count = g->count - first < ROW_TILE ? g->count - first : ROW_TILE;
            gate.in = group_input(m, g, first);
            gate.out = own->tile;
            gate.out_stride = 2 * (size_t)panels * 16;
            struct product up = gate;
            up.w = &g->mlp->up;
            up.out += panels * 16;
            gate.next = matrix_panel(up.w, panel);
            up.next = panel + panels < end ? matrix_panel(gate.w, panel + panels) : NULL;
            m->kernels->matmul(&gate);
            m->kernels->matmul(&up);
            store_active(m, g, first, gate.count, panel * 16, panels * 16, own->tile);
        }
    }
}

/* Panels that are computed together: a whole block of what may be quantised. */
static int unit_panels(const struct mlp *mlp)
{
    return mlp->width % QUANT_BLOCK ? 1 : QUANT_BLOCK / 16;
}

/* Output panels [begin, end) of a group, apart. */
static void multiply_down(const struct pass *p, const struct group *g, int begin, int end,
                          struct member_scratch *own)
{
    const struct model *m = p->m;
    struct product down = {.w = &g->mlp->down, .begin = begin, .end = end, .count = g->count};
    down.in.type = model_input(m, down.w);
    down.in.stride = g->active_stride;
    down.in.data = g->active;
    down.out = g->results + (size_t)begin * 16;
    down.out_stride = (size_t)m->config.hidden;
    m->kernels->matmul(&down);
}

/* One of the two products of all groups, shared out among the members. */
struct sharing {
    void (*run)(const struct pass *p, const struct group *g, int begin, int end,
                struct member_scratch *own);
    bool down;
};

static int units_of(const struct pass *p, const struct sharing *s, const struct mlp *mlp, int *unit)
{
    *unit = s->down ? 1 : unit_panels(mlp);
    return (s->down ? p->m->config.hidden : mlp->width) / 16 / *unit;
}

/* What a unit takes: memory for its weights, arithmetic for its rows. */
static int64_t weight_of(const struct group *g, int unit)
{
    return (int64_t)(g->count + 4) * unit * g->mlp->down.cols;
}

/* The units are of a few panels, group after group. */
static void share_out(const struct pass *p, const struct groups *g, const struct sharing *s,
                      int member)
{
    int64_t work = 0;
    int unit;
    for (int i = 0; i < g->count; i++)
        work += units_of(p, s, g->items[i].mlp, &unit) * weight_of(&g->items[i], unit);
    int tasks = 8 * pool_members(p->m->pool);
    for (int t = pool_ticket(p->m->pool); t < tasks; t = pool_ticket(p->m->pool)) {
        int64_t from = work * t / tasks, to = work * (t + 1) / tasks, at = 0;
        for (int i = 0; i < g->count && at < to; i++) {
            int64_t units = units_of(p, s, g->items[i].mlp, &unit);
            int64_t weight = weight_of(&g->items[i], unit);
            int64_t begin = from > at ? (from - at + weight - 1) / weight : 0;
            int64_t end = (to - at + weight - 1) / weight;
            if (end > units)
                end = units;
            if (begin < end)
                s->run(p, &g->items[i], (int)begin * unit, (int)end * unit,
                       &p->m->scratch.members[member]);
            at += weight * units;
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
    size_t hidden = (size_t)m->config.hidden;
    for (int j = 0; j < g->count; j++) {
        const struct group *item = &g->items[j];
        struct product down = {.w = &item->mlp->down, .begin = begin, .end = end, .out = own->tile};
        down.out_stride = (size_t)width;
        down.in.type = model_input(m, down.w);
        down.in.stride = item->active_stride;
        down.next = j + 1 < g->count ? matrix_panel(&g->items[j + 1].mlp->down, begin) : NULL;
        for (int first = 0; first < item->count; first += ROW_TILE) {
            down.count = item->count - first < ROW_TILE ? item->count - first : ROW_TILE;
            down.in.data = item->active + (size_t)first * down.in.stride;
            m->kernels->matmul(&down);
            for (int i = 0; i < down.count; i++) {
                int row = item->rows ? item->rows[first + i] : first + i;
                m->kernels->add_scaled(m->scratch.x + (size_t)row * hidden + (size_t)begin * 16,
                                       own->tile + (size_t)i * (size_t)width,
                                       item->weights ? item->weights[first + i] : 1.0f, width);
            }
        }
    }
}

static void down_phase(const struct pass *p, const struct groups *g, int member)
{
    int panels = p->m->config.hidden / 16, tasks = (panels + TILE_PANELS - 1) / TILE_PANELS;
    for (int t = pass_first(p, member); t < tasks; t = pass_next(p, t))
        down_panels(p, g, panels * t / tasks, panels * (t + 1) / tasks,
                    &p->m->scratch.members[member]);
    pool_barrier(p->m->pool);
}

/* Whole groups, when there are enough of them that no member has much more to do than another:
 * nobody waits between their products. */
static void run_groups(const struct pass *p, const struct groups *g, int member)
{
    struct member_scratch *own = &p->m->scratch.members[member];
    int panels = p->m->config.hidden / 16;
    for (int i = pass_first(p, member); i < g->count; i = pass_next(p, i)) {
        activate(p, &g->items[i], 0, g->items[i].mlp->width / 16, own);
        multiply_down(p, &g->items[i], 0, panels, own);
    }
    pool_barrier(p->m->pool);
}

/* The member's own rows. */
static void add_up(const struct pass *p, const struct layer *l, int member)
{
    const struct model *m = p->m;
    const struct member_scratch *own = &m->scratch.members[member];
    const float *results = results_of(p);
    size_t hidden = (size_t)m->config.hidden;
    int begin, end, chosen = l->experts ? m->config.moe.chosen : 0;
    pass_share(p, p->count, member, &begin, &end);
    for (int i = begin; i < end; i++) {
        float *x = m->scratch.x + (size_t)i * hidden;
        if (l->dense.width)
            m->kernels->add_scaled(x, results + (size_t)i * hidden, 1.0f, (int)hidden);
        const float *of_experts = results + (l->dense.width ? (size_t)p->count * hidden : 0);
        for (int j = i * chosen; j < (i + 1) * chosen; j++)
            m->kernels->add_scaled(x, of_experts + (size_t)own->group_place[j] * hidden,
                                   m->scratch.weights[j], (int)hidden);
    }
}

void mlp_run(struct pass *p, const struct layer *l, int index, int member)
{
    /* The same rows' norms, then their routing, by the same member: one barrier for both. */
    struct member_scratch *own = &p->m->scratch.members[member];
    struct groups g = {.items = own->groups};
    pass_norm(p, member, l->mlp_norm);
    if (l->experts)
        route_rows(p, l, index, member);
    convert_normed(p, l, member);
    pool_barrier(p->m->pool);
    make_groups(p, l, own, &g);
    bool apart = results_of(p) != NULL;
    if (apart && p->count >= TICKETS_FROM && g.count >= 8 * pool_members(p->m->pool)) {
        run_groups(p, &g, member);
    } else {
        share_out(p, &g, &(struct sharing){activate, false}, member);
        if (apart)
            share_out(p, &g, &(struct sharing){multiply_down, true}, member);
        else
            down_phase(p, &g, member);
    }
    if (apart)
        add_up(p, l, member);
}
