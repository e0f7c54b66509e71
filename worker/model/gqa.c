/*
 * Grouped-query attention: each key and value serves heads / kv_heads queries. The cache holds,
 * per token, the keys of the KV heads, normalised and rotated, and their values. The softmax
 * scale is in the query. Prompts are computed the same way as single tokens, so a token's result
 * is the same whether its predecessors were in its batch or in the cache.
 */
#include <assert.h>

#include "worker/model/pass.h"

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

/* key: all keys of a row, then all its values, as the cache wants them. */
static void finish_keys(const struct model *m, const struct gqa *a, float *key, const float *angles)
{
    const struct gqa_config *c = &m->config.gqa;
    int width = c->kv_heads * c->head_dims;
    for (int g = 0; g < c->kv_heads; g++)
        finish_head(m, key + (size_t)g * (size_t)c->head_dims,
                    a->key_bias ? a->key_bias + g * c->head_dims : NULL, a->key_norm, angles);
    if (a->value_bias)
        m->kernels->add_scaled(key + width, a->value_bias, 1.0f, width);
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
        finish_keys(m, a, row + keys, angles);
        kv_write(p->kv, index, r->blocks, r->position, row + keys);
    }
    pool_barrier(m->pool);
}

static void attention_phase(const struct pass *p, int index, int member)
{
    const struct model *m = p->m;
    int dims = m->config.gqa.head_dims;
    struct attention a = {.layer = index,
                          .heads = m->config.heads,
                          .kv_heads = m->config.gqa.kv_heads,
                          .key_count = dims,
                          .value_count = dims,
                          .queries = m->scratch.projected,
                          .query_stride = (size_t)dims,
                          .query_row = (size_t)m->projected_floats,
                          .out = m->scratch.attended,
                          .out_row = (size_t)m->attended_floats};
    attention_run(p, &a, member);
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
