/*
 * Grouped-query attention: each key and value serves heads / kv_heads queries. The cache holds,
 * per token, the keys of the KV heads, normalised and rotated, and their values. The softmax
 * scale is in the query. Prompts are computed the same way as single tokens, so a token's result
 * is the same whether its predecessors were in its batch or in the cache.
 *
 * Heads lie head_stride apart; what is behind their head_dims values is zero, in queries, keys and
 * values, and adds nothing to a score.
 */
#include <math.h>

#include "worker/model/pass.h"

/* Heads that end within a vector, which the kernels do not take. */
static void norm_odd(float *x, const float *weight, int dims, double epsilon)
{
    double sum = 0;
    for (int i = 0; i < dims; i++)
        sum += (double)x[i] * (double)x[i];
    float scale = (float)(1 / sqrt(sum / dims + epsilon));
    for (int i = 0; i < dims; i++)
        x[i] = x[i] * scale * weight[i];
}

static void add_bias(const struct model *m, float *x, const float *bias)
{
    int dims = m->config.gqa.head_dims;
    if (dims == m->config.gqa.head_stride)
        m->kernels->add_scaled(x, bias, 1.0f, dims);
    else
        for (int i = 0; i < dims; i++)
            x[i] += bias[i];
}

/* One head's query or key, as it was projected: bias, norm, position. */
static void finish_head(const struct model *m, float *x, const float *bias, const float *norm,
                        const float *angles)
{
    int dims = m->config.gqa.head_dims;
    if (bias)
        add_bias(m, x, bias);
    if (norm && dims == m->config.gqa.head_stride)
        m->kernels->rms_norm(x, x, norm, dims, (float)m->config.epsilon);
    else if (norm)
        norm_odd(x, norm, dims, m->config.epsilon);
    rope_turn(&m->rope, x, angles);
}

static void finish_queries(const struct model *m, const struct gqa *a, float *query,
                           const float *angles)
{
    const struct gqa_config *c = &m->config.gqa;
    for (int h = 0; h < m->config.heads; h++) {
        float *x = query + (size_t)h * (size_t)c->head_stride;
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
    float *value = key + (size_t)c->kv_heads * (size_t)c->head_stride;
    for (int g = 0; g < c->kv_heads; g++) {
        size_t at = (size_t)g * (size_t)c->head_stride;
        finish_head(m, key + at, a->key_bias ? a->key_bias + g * c->head_dims : NULL, a->key_norm,
                    angles);
        if (a->value_bias)
            add_bias(m, value + at, a->value_bias + g * c->head_dims);
    }
}

static void projection_phase(const struct pass *p, const struct gqa *a, int index, int member)
{
    const struct model *m = p->m;
    const struct scratch *s = &m->scratch;
    size_t stride = (size_t)m->projected_floats;
    size_t keys = (size_t)m->config.heads * (size_t)m->config.gqa.head_stride;
    size_t values = keys + (size_t)m->config.gqa.kv_heads * (size_t)m->config.gqa.head_stride;
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

/* The heads' results without their padding, as the last product wants them. */
static void close_up(const struct pass *p, int member)
{
    const struct gqa_config *c = &p->m->config.gqa;
    size_t dims = (size_t)c->head_dims, stride = (size_t)c->head_stride;
    int begin, end;
    pass_share(p, p->count, member, &begin, &end);
    for (int i = begin; i < end; i++) {
        float *row = p->m->scratch.attended + (size_t)i * (size_t)p->m->attended_floats;
        for (size_t h = 1; h < (size_t)p->m->config.heads; h++)
            memmove(row + h * dims, row + h * stride, dims * sizeof *row);
    }
}

static void attention_phase(const struct pass *p, int index, int member)
{
    const struct model *m = p->m;
    int stride = m->config.gqa.head_stride;
    struct attention a = {.layer = index,
                          .heads = m->config.heads,
                          .kv_heads = m->config.gqa.kv_heads,
                          .key_count = stride,
                          .value_count = stride,
                          .window = m->config.window[index],
                          .queries = m->scratch.projected,
                          .query_stride = (size_t)stride,
                          .query_row = (size_t)m->projected_floats,
                          .out = m->scratch.attended,
                          .out_row = (size_t)m->attended_floats};
    attention_run(p, &a, member);
    pool_barrier(m->pool);
    if (stride == m->config.gqa.head_dims)
        return;
    close_up(p, member);
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
