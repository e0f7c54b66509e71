/*
 * Grouped-query attention: each key and value serves heads / kv_heads queries. The cache holds,
 * per token and KV head, the key, normalised and rotated, and behind it the value. The softmax
 * scale is in the query. Prompts are computed the same way as single tokens, so a token's result
 * is the same whether its predecessors were in its batch or in the cache.
 */
#include <assert.h>

#include "worker/model/pass.h"

enum { TOGETHER = 4 }; /* heads that one walk over the cache serves */

/* One head's query or key, as it was projected: bias, norm, position. */
static void finish_head(const struct model *m, float *x, const float *bias, const float *norm,
                        const float *angles)
{
    int dims = m->config.gqa.head_dims;
    if (bias)
        m->kernels->add_scaled(x, bias, 1.0f, dims);
    if (norm)
        m->kernels->rms_norm(x, x, norm, dims, (float)m->config.epsilon);
    rope_turn(&m->rope, x, angles);
}

static void finish_queries(const struct model *m, const struct gqa *a, float *query,
                           const float *angles)
{
    const struct gqa_config *c = &m->config.gqa;
    for (int h = 0; h < m->config.heads; h++) {
        float *x = query + (size_t)h * (size_t)c->head_dims;
        const float *bias = a->query_bias ? a->query_bias + h * c->head_dims : NULL;
        finish_head(m, x, bias, a->query_norm, angles);
        for (int i = 0; i < c->head_dims; i++)
            x[i] *= (float)c->softmax_scale;
    }
}

/* key: all keys of a row, then all its values. */
static void write_cache(const struct model *m, const struct gqa *a, float *key, const float *angles,
                        float *to)
{
    const struct gqa_config *c = &m->config.gqa;
    size_t dims = (size_t)c->head_dims;
    for (int g = 0; g < c->kv_heads; g++, to += 2 * dims) {
        float *k = key + (size_t)g * dims, *v = k + (size_t)c->kv_heads * dims;
        finish_head(m, k, a->key_bias ? a->key_bias + (size_t)g * dims : NULL, a->key_norm, angles);
        if (a->value_bias)
            m->kernels->add_scaled(v, a->value_bias + (size_t)g * dims, 1.0f, c->head_dims);
        memcpy(to, k, dims * sizeof *to);
        memcpy(to + dims, v, dims * sizeof *to);
    }
}

static void projection_phase(const struct pass *p, const struct gqa *a, int index, int member)
{
    const struct model *m = p->m;
    const struct scratch *s = &m->scratch;
    size_t stride = (size_t)m->projected_floats;
    size_t keys = (size_t)m->config.heads * (size_t)m->config.gqa.head_dims;
    size_t values = keys + (size_t)m->config.gqa.kv_heads * (size_t)m->config.gqa.head_dims;
    struct input in = {.data = s->normed, .stride = (size_t)m->config.hidden};
    pass_matmul(p, member, &a->query, &in, p->count, s->projected, stride);
    pass_matmul(p, member, &a->key, &in, p->count, s->projected + keys, stride);
    pass_matmul(p, member, &a->value, &in, p->count, s->projected + values, stride);
    pool_barrier(m->pool);
    int begin, end;
    pass_share(p, p->count, member, &begin, &end);
    for (int i = begin; i < end; i++) {
        const struct batch_row *r = &p->rows[i];
        const float *angles = s->angles + (size_t)i * (size_t)m->config.rope.dims;
        float *row = s->projected + (size_t)i * stride;
        finish_queries(m, a, row, angles);
        write_cache(m, a, row + keys, angles,
                    kv_row(p->kv, index, r->blocks[r->position / KV_BLOCK_TOKENS],
                           r->position % KV_BLOCK_TOKENS));
    }
    pool_barrier(m->pool);
}

/* Heads [head, head + count) of one row; they share a KV head. */
static void attend_row(const struct pass *p, int index, int row, int head, int count, float *scores)
{
    const struct model *m = p->m;
    const struct batch_row *r = &p->rows[row];
    int dims = m->config.gqa.head_dims, kv_head = head / (m->config.heads / m->config.gqa.kv_heads);
    size_t first = (size_t)head * (size_t)dims;
    struct attend a = {
        .queries = m->scratch.projected + (size_t)row * (size_t)m->projected_floats + first,
        .query_stride = (size_t)dims,
        .query_count = count,
        .cache = kv_row(p->kv, index, 0, 0) + (size_t)kv_head * 2 * (size_t)dims,
        .block_stride = KV_BLOCK_TOKENS * (size_t)m->cache_floats,
        .row_stride = (size_t)m->cache_floats,
        .blocks = r->blocks,
        .tokens = r->position + 1,
        .key_floats = dims,
        .value_floats = dims,
        .value_offset = dims,
        .scores = scores,
        .score_stride = ((size_t)m->config.context_tokens + 15) / 16 * 16,
        .out = m->scratch.attended + (size_t)row * (size_t)m->attended_floats + first,
        .out_stride = (size_t)dims,
    };
    m->kernels->attend(&a);
}

/* The kernel takes 4, 2 or 1 heads. */
static void attend_heads(const struct pass *p, int index, int row, int head, int count,
                         float *scores)
{
    while (count > 0) {
        int n = count >= 4 ? 4 : count >= 2 ? 2 : 1;
        attend_row(p, index, row, head, n, scores);
        head += n;
        count -= n;
    }
}

static void attention_phase(const struct pass *p, int index, int member)
{
    const struct model *m = p->m;
    int threads = pool_members(m->pool), kv_heads = m->config.gqa.kv_heads;
    int sharing = m->config.heads / kv_heads, together = TOGETHER;
    while (together > 1 && p->count * kv_heads * ((sharing + together - 1) / together) < threads)
        together /= 2;
    int parts = (sharing + together - 1) / together, groups = kv_heads * parts;
    int tile = p->count >= 16 * threads ? 8 : 1;
    int tasks = (p->count + tile - 1) / tile * groups;
    for (int i = pass_first(p, member); i < tasks; i = pass_next(p, i)) {
        int first = i / groups * tile, kv_head = i % groups / parts, from = i % parts * together;
        int count = p->count - first < tile ? p->count - first : tile;
        int heads = sharing - from < together ? sharing - from : together;
        for (int row = first; row < first + count; row++)
            attend_heads(p, index, row, kv_head * sharing + from, heads,
                         m->scratch.members[member].scores);
    }
    pool_barrier(m->pool);
}

void gqa_run(struct pass *p, const struct layer *l, int index, int member)
{
    struct model *m = p->m;
    pass_norm(p, member, l->attention_norm);
    pool_barrier(m->pool);
    projection_phase(p, &l->gqa, index, member);
    attention_phase(p, index, member);
    pass_attention_out(p, member, &l->gqa.out, l->gqa.out_bias);
}
