/*
 * Multi-head latent attention with the up-projections absorbed. The cache holds, per token, the
 * normalised latent (kv_rank values) and one rotated key for all heads. A head's keys would be
 * K c for a latent c: instead of making them, its query is folded, (K^T q) . c; its values would
 * be V c: instead, the weighted latents are summed, then V is applied once. The softmax scale is
 * in the query. Prompts are computed the same way, so a token's result is the same whether its
 * predecessors were in its batch or in the cache.
 */
#include <assert.h>

#include "worker/model/mla.h"

static void write_cache(const struct pass *p, const struct layer *l, int index, int row,
                        struct member_scratch *own)
{
    const struct model *m = p->m;
    const struct mla_config *c = &m->config.mla;
    const struct batch_row *r = &p->rows[row];
    const float *down =
        m->scratch.projected + (size_t)row * (size_t)m->projected_floats + c->q_rank;
    float *to = own->tile;
    m->kernels->rms_norm(to, down, l->mla.kv_norm, c->kv_rank, (float)m->config.epsilon);
    memcpy(to + c->kv_rank, down + c->kv_rank, (size_t)c->rope_dims * sizeof *to);
    rope_turn(&m->rope, to + c->kv_rank, m->scratch.angles + (size_t)row * (size_t)c->rope_dims);
    for (int i = c->kv_rank + c->rope_dims; i < m->cache_floats; i++)
        to[i] = 0.0f;
    kv_write(p->kv, index, r->blocks, r->position, to);
}

/* Queries of rows that go one way: rotated, and folded or as they are. */
static void place_queries(const struct pass *p, const struct layer *l, int head,
                          const struct row_tile *rows, const float *query, size_t query_stride,
                          const struct member_scratch *own)
{
    const struct model *m = p->m;
    const struct mla_config *c = &m->config.mla;
    size_t row_stride = (size_t)m->config.heads * (size_t)m->cache_floats;
    bool expanded = m->scratch.expanded[rows->first];
    float *out = m->scratch.queries + (size_t)rows->first * row_stride +
                 (size_t)head * (size_t)m->cache_floats;
    if (!expanded)
        pass_panels(m, own,
                    &(struct product){.w = &l->mla.key[head],
                                      .end = l->mla.key[head].panels,
                                      .in = {.data = query, .stride = query_stride},
                                      .count = rows->count,
                                      .out = out,
                                      .out_stride = row_stride});
    for (int i = 0; i < rows->count; i++, out += row_stride, query += query_stride) {
        float *rope = out + (expanded ? c->nope_dims : c->kv_rank);
        if (expanded)
            memcpy(out, query, (size_t)c->nope_dims * sizeof *out);
        memcpy(rope, query + c->nope_dims, (size_t)c->rope_dims * sizeof *rope);
        rope_turn(&m->rope, rope,
                  m->scratch.angles + (size_t)(rows->first + i) * (size_t)c->rope_dims);
        for (float *pad = rope + c->rope_dims; !expanded && pad < out + m->cache_floats; pad++)
            *pad = 0.0f;
    }
}

/* The next of [first, end) that go one way. */
static struct row_tile next_rows(const struct pass *p, int first, int end)
{
    const bool *expanded = p->m->scratch.expanded;
    int i = first + 1;
    while (i < end && expanded[i] == expanded[first])
        i++;
    return (struct row_tile){first, i - first};
}

/* The rows as the query's product wants them, into own->query_input: their compressed queries,
 * normalised, or where there are none, `normed`. */
static struct input query_input(const struct pass *p, const struct layer *l, int first, int count,
                                const struct member_scratch *own)
{
    const struct model *m = p->m;
    int cols = l->mla.query.cols;
    enum input_type type = model_input(m, &l->mla.query);
    struct input in = {.data = own->query_input, .type = type};
    in.stride = type == INPUT_F32 ? (size_t)cols : kernels_input_bytes(type, cols) / sizeof(float);
    for (int i = 0; i < count; i++) {
        size_t row = (size_t)(first + i);
        float *to = own->query_input + (size_t)i * in.stride;
        const float *from = m->scratch.normed + row * (size_t)cols;
        if (m->config.mla.q_rank) {
            float *normed = type == INPUT_F32 ? to : own->tile;
            m->kernels->rms_norm(normed, m->scratch.projected + row * (size_t)m->projected_floats,
                                 l->mla.q_norm, cols, (float)m->config.epsilon);
            from = normed;
        }
        if (from != to)
            m->kernels->convert(type, from, 0, cols, cols, to);
    }
    return in;
}

/* Some rows and heads. */
struct query_task {
    int first, count;
    int head, end;
    struct input in;
};

static void make_queries(const struct pass *p, const struct layer *l, const struct query_task *t,
                         struct member_scratch *own)
{
    const struct model *m = p->m;
    size_t head_floats = (size_t)m->query_panels * 16;
    size_t stride = (size_t)(t->end - t->head) * head_floats;
    m->kernels->matmul(&(struct product){.w = &l->mla.query,
                                         .begin = t->head * m->query_panels,
                                         .end = t->end * m->query_panels,
                                         .in = t->in,
                                         .count = t->count,
                                         .out = own->tile,
                                         .out_stride = stride,
                                         .next = matrix_panel(&l->mla.key[t->head], 0)});
    for (size_t i = 0; i < (size_t)t->count * stride; i++)
        own->tile[i] *= (float)m->config.mla.softmax_scale;
    int end = t->first + t->count;
    for (struct row_tile r = next_rows(p, t->first, end); r.first < end;
         r = next_rows(p, r.first + r.count, end))
        for (int head = t->head; head < t->end; head++)
            place_queries(p, l, head, &r,
                          own->tile + (size_t)(r.first - t->first) * stride +
                              (size_t)(head - t->head) * head_floats,
                          stride, own);
}

/* The sums of latents of one head become its values. */
static void unfold(const struct pass *p, const struct layer *l, int head, int first, int count,
                   const struct member_scratch *own)
{
    const struct model *m = p->m;
    const struct mla_config *c = &m->config.mla;
    size_t latents = (size_t)m->config.heads * (size_t)c->kv_rank;
    size_t stride = (size_t)m->attended_floats;
    struct input in = {.data = m->scratch.latents + (size_t)first * latents +
                               (size_t)head * (size_t)c->kv_rank,
                       .stride = latents};
    const struct matrix *w = &l->mla.value[head];
    pass_panels(m, own,
                &(struct product){.w = w,
                                  .end = w->panels,
                                  .in = in,
                                  .count = count,
                                  .out = m->scratch.attended + (size_t)first * stride +
                                         (size_t)head * (size_t)c->value_dims,
                                  .out_stride = stride});
}

/* Heads of one task: as many as a tile holds the queries of, but something for each member. */
static int task_heads(const struct pass *p)
{
    const struct model *m = p->m;
    int rows = p->count < ROW_TILE ? p->count : ROW_TILE, threads = pool_members(m->pool);
    int room = ROW_TILE * 2 * TILE_PANELS / (rows * m->query_panels);
    int tasks = p->count < TICKETS_FROM ? threads : 4 * threads;
    int share = (m->config.heads + tasks - 1) / tasks;
    int heads = room < share ? room : share;
    return heads < 1 ? 1 : heads;
}

static void query_phase(const struct pass *p, const struct layer *l, int index, int member)
{
    const struct model *m = p->m;
    struct member_scratch *own = &m->scratch.members[member];
    int tiles = (p->count + ROW_TILE - 1) / ROW_TILE, heads = task_heads(p);
    int parts = (m->config.heads + heads - 1) / heads;
    struct query_task t = {.first = -1};
    /* A tile's tasks: the cache rows, then some heads' queries each. */
    for (int i = pass_first(p, member); i < tiles * (parts + 1); i = pass_next(p, i)) {
        int first = i / (parts + 1) * ROW_TILE, part = i % (parts + 1);
        int count = p->count - first < ROW_TILE ? p->count - first : ROW_TILE;
        if (part == 0) {
            for (int row = first; row < first + count; row++)
                write_cache(p, l, index, row, own);
            continue;
        }
        if (first != t.first)
            t.in = query_input(p, l, first, count, own);
        t.first = first;
        t.count = count;
        t.head = (part - 1) * heads;
        t.end = t.head + heads < m->config.heads ? t.head + heads : m->config.heads;
        make_queries(p, l, &t, own);
    }
    pool_barrier(m->pool);
}

/* Rows that attend in the ways that were planned for them. */
static void attend(const struct pass *p, const struct layer *l, const struct attention *a,
                   int member)
{
    /* An expanded task makes the latents readable once for all its heads. */
    int threads = pool_members(p->m->pool), heads = (a->heads + threads - 1) / threads;
    int parts = (a->heads + heads - 1) / heads, expanded = p->run_count * parts;
    int tasks = expanded + attention_tasks(p, a);
    for (int i = pass_first(p, member); i < tasks; i = pass_next(p, i)) {
        if (i >= expanded) {
            attention_task(p, a, i - expanded, member);
            continue;
        }
        int head = i % parts * heads, end = head + heads;
        struct mla_part part = {.attention = a,
                                .rows = p->m->scratch.runs[i / parts],
                                .head = head,
                                .head_end = end < a->heads ? end : a->heads};
        mla_expand(p, &l->mla, &part, &p->m->scratch.members[member]);
    }
    attention_end(p, a, member);
    pool_barrier(p->m->pool);
}

/* Of few rows a member takes neighbouring heads, whose weights are neighbours too. */
static void unfold_phase(const struct pass *p, const struct layer *l, int member)
{
    const struct model *m = p->m;
    int tiles = (p->count + ROW_TILE - 1) / ROW_TILE, heads = m->config.heads;
    int parts = p->count < TICKETS_FROM ? pool_members(m->pool) : heads;
    for (int i = pass_first(p, member); i < tiles * parts; i = pass_next(p, i)) {
        int first = i / parts * ROW_TILE, part = i % parts;
        int end = p->count - first < ROW_TILE ? p->count : first + ROW_TILE;
        for (struct row_tile r = next_rows(p, first, end); r.first < end;
             r = next_rows(p, r.first + r.count, end))
            for (int head = heads * part / parts;
                 !m->scratch.expanded[r.first] && head < heads * (part + 1) / parts; head++)
                unfold(p, l, head, r.first, r.count, &m->scratch.members[member]);
    }
    pool_barrier(m->pool);
}

static void attention_phase(const struct pass *p, const struct layer *l, int index, int member)
{
    const struct model *m = p->m;
    size_t heads = (size_t)m->config.heads;
    struct attention a = {.layer = index,
                          .heads = m->config.heads,
                          .kv_heads = 1,
                          .key_count = m->cache_floats,
                          .value_count = m->config.mla.kv_rank,
                          .queries = m->scratch.queries,
                          .query_stride = (size_t)m->cache_floats,
                          .query_row = heads * (size_t)m->cache_floats,
                          .out = m->scratch.latents,
                          .out_row = heads * (size_t)m->config.mla.kv_rank};
    attend(p, l, &a, member);
    unfold_phase(p, l, member);
}

void mla_run(struct pass *p, const struct layer *l, int index, int member)
{
    struct model *m = p->m;
    struct scratch *s = &m->scratch;
    size_t hidden = (size_t)m->config.hidden;
    pass_norm(p, member, l->attention_norm);
    pool_barrier(m->pool);
    struct input in = {.data = s->normed, .stride = hidden};
    pass_matmul(p, member, &l->mla.down, &in, p->count, s->projected, (size_t)m->projected_floats);
    pool_barrier(m->pool);
    query_phase(p, l, index, member);
    attention_phase(p, l, index, member);
    pass_attention_out(p, member, &l->mla.out, NULL);
}
