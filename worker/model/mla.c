/*
 * Multi-head latent attention with the up-projections absorbed. The cache holds, per token, the
 * normalised latent (kv_rank values) and one rotated key for all heads. A head's keys would be
 * K c for a latent c: instead of making them, its query is folded, (K^T q) . c; its values would
 * be V c: instead, the weighted latents are summed, then V is applied once. The softmax scale is
 * in the query. Prompts are computed the same way, so a token's result is the same whether its
 * predecessors were in its batch or in the cache.
 */
#include <assert.h>

#include "worker/model/pass.h"

/* The part of the cache row behind the latent. */
static void write_cache(const struct pass *p, const struct layer *l, int index, int row)
{
    const struct model *m = p->m;
    const struct mla_config *c = &m->config.mla;
    const struct batch_row *r = &p->rows[row];
    const float *down =
        m->scratch.projected + (size_t)row * (size_t)m->projected_floats + c->q_rank;
    float *to = kv_row(p->kv, index, r->blocks[r->position / KV_BLOCK_TOKENS],
                       r->position % KV_BLOCK_TOKENS);
    m->kernels->rms_norm(to, down, l->mla.kv_norm, c->kv_rank, (float)m->config.epsilon);
    memcpy(to + c->kv_rank, down + c->kv_rank, (size_t)c->rope_dims * sizeof *to);
    rope_turn(&m->rope, to + c->kv_rank, m->scratch.angles + (size_t)row * (size_t)c->rope_dims);
}

/* A query in the cache's terms, from its head's own: scaled, rotated, folded. */
static void fold_query(const struct pass *p, const struct layer *l, int head, int first, int count,
                       const float *query)
{
    const struct model *m = p->m;
    const struct mla_config *c = &m->config.mla;
    size_t query_stride = (size_t)m->query_panels * 16;
    size_t row_stride = (size_t)m->config.heads * (size_t)m->cache_floats;
    float *out =
        m->scratch.queries + (size_t)first * row_stride + (size_t)head * (size_t)m->cache_floats;
    struct input in = {.data = query, .stride = query_stride};
    m->kernels->matmul(&l->mla.key[head], 0, l->mla.key[head].panels, &in, count, out, row_stride);
    for (int i = 0; i < count; i++) {
        float *rope = out + (size_t)i * row_stride + c->kv_rank;
        memcpy(rope, query + (size_t)i * query_stride + c->nope_dims,
               (size_t)c->rope_dims * sizeof *rope);
        rope_turn(&m->rope, rope, m->scratch.angles + (size_t)(first + i) * (size_t)c->rope_dims);
    }
}

static void make_queries(const struct pass *p, const struct layer *l, int head, int first,
                         int count, struct member_scratch *own)
{
    const struct model *m = p->m;
    const struct mla_config *c = &m->config.mla;
    struct input in = {.data = m->scratch.normed + (size_t)first * (size_t)m->config.hidden,
                       .stride = (size_t)m->config.hidden};
    if (c->q_rank) {
        for (int i = 0; i < count; i++)
            m->kernels->rms_norm(own->normed + (size_t)i * (size_t)c->q_rank,
                                 m->scratch.projected +
                                     (size_t)(first + i) * (size_t)m->projected_floats,
                                 l->mla.q_norm, c->q_rank, (float)m->config.epsilon);
        in = (struct input){.data = own->normed, .stride = (size_t)c->q_rank};
    }
    size_t stride = (size_t)m->query_panels * 16;
    m->kernels->matmul(&l->mla.query, head * m->query_panels, (head + 1) * m->query_panels, &in,
                       count, own->tile, stride);
    for (size_t i = 0; i < (size_t)count * stride; i++)
        own->tile[i] *= (float)c->softmax_scale;
    fold_query(p, l, head, first, count, own->tile);
}

/* Heads of one row, from their folded queries to sums of latents. */
static void attend_row(const struct pass *p, int index, int row, int head, int heads, float *out,
                       struct member_scratch *own)
{
    const struct model *m = p->m;
    const struct batch_row *r = &p->rows[row];
    size_t padded = ((size_t)m->config.context_tokens + 15) / 16 * 16;
    struct attend a = {
        .queries = m->scratch.queries +
                   ((size_t)row * (size_t)m->config.heads + (size_t)head) * (size_t)m->cache_floats,
        .query_stride = (size_t)m->cache_floats,
        .query_count = heads,
        .cache = kv_row(p->kv, index, 0, 0),
        .block_stride = KV_BLOCK_TOKENS * (size_t)m->cache_floats,
        .row_stride = (size_t)m->cache_floats,
        .blocks = r->blocks,
        .tokens = r->position + 1,
        .key_floats = m->cache_floats,
        .value_floats = m->config.mla.kv_rank,
        .scores = own->scores,
        .score_stride = padded,
        .out = out,
        .out_stride = (size_t)m->config.mla.kv_rank,
    };
    m->kernels->attend(&a);
}

static void attend_tile(const struct pass *p, const struct layer *l, int index, int first,
                        int count, int head, int heads, struct member_scratch *own)
{
    const struct model *m = p->m;
    const struct mla_config *c = &m->config.mla;
    size_t latent_stride = (size_t)heads * (size_t)c->kv_rank;
    for (int i = 0; i < count; i++)
        attend_row(p, index, first + i, head, heads, own->latent + (size_t)i * latent_stride, own);
    size_t stride = (size_t)m->config.heads * (size_t)c->value_dims;
    for (int h = 0; h < heads; h++) {
        struct input in = {.data = own->latent + (size_t)h * (size_t)c->kv_rank,
                           .stride = latent_stride};
        m->kernels->matmul(&l->mla.value[head + h], 0, l->mla.value[head + h].panels, &in, count,
                           m->scratch.attended + (size_t)first * stride +
                               (size_t)(head + h) * (size_t)c->value_dims,
                           stride);
    }
}

static void query_phase(const struct pass *p, const struct layer *l, int index, int member)
{
    const struct model *m = p->m;
    struct member_scratch *own = &m->scratch.members[member];
    int tiles = (p->count + ROW_TILE - 1) / ROW_TILE, heads = m->config.heads;
    /* A tile's tasks: each head's queries, then the cache rows. */
    for (int i = pass_first(p, member); i < tiles * (heads + 1); i = pass_next(p, i)) {
        int first = i / (heads + 1) * ROW_TILE, head = i % (heads + 1);
        int count = p->count - first < ROW_TILE ? p->count - first : ROW_TILE;
        if (head < heads)
            make_queries(p, l, head, first, count, own);
        else
            for (int row = first; row < first + count; row++)
                write_cache(p, l, index, row);
    }
    pool_barrier(m->pool);
}

static void attention_phase(const struct pass *p, const struct layer *l, int index, int member)
{
    const struct model *m = p->m;
    int threads = pool_members(m->pool), heads = m->config.heads;
    int together = heads % 4 == 0 ? 4 : heads % 2 == 0 ? 2 : 1;
    while (together > 1 && p->count * heads / together < threads)
        together /= 2;
    int tile = p->count >= 16 * threads ? 8 : 1, groups = heads / together;
    int tasks = (p->count + tile - 1) / tile * groups;
    for (int i = pass_first(p, member); i < tasks; i = pass_next(p, i)) {
        int first = i / groups * tile;
        int count = p->count - first < tile ? p->count - first : tile;
        attend_tile(p, l, index, first, count, i % groups * together, together,
                    &m->scratch.members[member]);
    }
    pool_barrier(m->pool);
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
