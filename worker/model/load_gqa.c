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

enum status load_gqa(const struct loader *l, struct gqa *a)
{
    const struct gqa_config *c = &l->c->gqa;
    int queries = l->c->heads * c->head_dims, keys = c->kv_heads * c->head_dims;
    int hidden = l->c->hidden;
    enum status st = load_plain(l, "self_attn.q_proj.weight", queries, hidden, &a->query);
    if (st == OK)
        st = load_plain(l, "self_attn.k_proj.weight", keys, hidden, &a->key);
    if (st == OK)
        st = load_plain(l, "self_attn.v_proj.weight", keys, hidden, &a->value);
    if (st == OK)
        st = load_plain(l, "self_attn.o_proj.weight", hidden, queries, &a->out);
    if (st == OK)
        st = load_biases(l, a);
    if (st == OK && c->head_norms)
        st = load_vector(l, "self_attn.q_norm.weight", c->head_dims, &a->query_norm);
    if (st == OK && c->head_norms)
        st = load_vector(l, "self_attn.k_norm.weight", c->head_dims, &a->key_norm);
    return st;
}
