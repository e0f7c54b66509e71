/* The weights of grouped-query attention. */
#include "worker/model/load.h"

static enum status load_biases(const struct loader *l, struct gqa *a)
{
    const struct gqa_config *c = &l->c->gqa;
    int queries = l->c->heads * c->head_dims, keys = c->kv_heads * c->head_dims;
    enum status st = OK;
    if (c->biases) {
        st = load_vector(l, "self_attn.q_proj.bias", queries, &a->query_bias);
        if (st == OK)
            st = load_vector(l, "self_attn.k_proj.bias", keys, &a->key_bias);
        if (st == OK)
            st = load_vector(l, "self_attn.v_proj.bias", keys, &a->value_bias);
    }
    if (st == OK && c->out_bias)
        st = load_vector(l, "self_attn.o_proj.bias", l->c->hidden, &a->out_bias);
    return st;
}

/* Rows of heads, each from a multiple of head_stride on. */
static enum status load_heads(const struct loader *l, const char *name, int heads,
                              struct matrix *out)
{
    const struct gqa_config *c = &l->c->gqa;
    struct source s;
    if (c->head_stride == c->head_dims)
        return load_plain(l, name, heads * c->head_dims, l->c->hidden, out);
    enum status st = load_weight(l, name, heads * c->head_dims, l->c->hidden, &s);
    if (st == OK)
        st = pack_begin(l->packer, out, &s, heads * c->head_stride, l->c->hidden, l->err);
    for (int h = 0; st == OK && h < heads; h++)
        pack_rows(out, h * c->head_stride, &s, h * c->head_dims, c->head_dims);
    return st;
}

enum status load_gqa(const struct loader *l, struct gqa *a)
{
    const struct gqa_config *c = &l->c->gqa;
    enum status st = load_heads(l, "self_attn.q_proj.weight", l->c->heads, &a->query);
    if (st == OK)
        st = load_heads(l, "self_attn.k_proj.weight", c->kv_heads, &a->key);
    if (st == OK)
        st = load_heads(l, "self_attn.v_proj.weight", c->kv_heads, &a->value);
    if (st == OK)
        st = load_plain(l, "self_attn.o_proj.weight", l->c->hidden, l->c->heads * c->head_dims,
                        &a->out);
    if (st == OK)
        st = load_biases(l, a);
    if (st == OK && c->head_norms)
        st = load_vector(l, "self_attn.q_norm.weight", c->head_dims, &a->query_norm);
    if (st == OK && c->head_norms)
        st = load_vector(l, "self_attn.k_norm.weight", c->head_dims, &a->key_norm);
    return st;
}
