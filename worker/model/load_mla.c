/* The weights of latent attention. */
#include "worker/model/load.h"

static enum status load_down(const struct loader *l, struct mla *a)
{
    const struct mla_config *c = &l->c->mla;
    struct source q = {0}, kv;
    int rows = c->kv_rank + c->rope_dims;
    enum status st = load_weight(l, "self_attn.kv_a_proj_with_mqa.weight", rows, l->c->hidden, &kv);
    if (st == OK && c->q_rank) {
        st = load_weight(l, "self_attn.q_a_proj.weight", c->q_rank, l->c->hidden, &q);
        if (st == OK)
            st = load_same_type(l, &q, &kv);
    }
    if (st == OK)
        st = pack_begin(l->packer, &a->down, &kv, c->q_rank + rows, l->c->hidden, l->err);
    if (st == OK && c->q_rank)
        pack_rows(&a->down, 0, &q, 0, c->q_rank);
    if (st == OK)
        pack_rows(&a->down, c->q_rank, &kv, 0, rows);
    return st;
}

static enum status load_query(const struct loader *l, struct mla *a)
{
    const struct mla_config *c = &l->c->mla;
    struct source q;
    int dims = c->nope_dims + c->rope_dims, heads = l->c->heads;
    int cols = c->q_rank ? c->q_rank : l->c->hidden, padded = l->m->query_panels * 16;
    enum status st =
        load_weight(l, c->q_rank ? "self_attn.q_b_proj.weight" : "self_attn.q_proj.weight",
                    heads * dims, cols, &q);
    if (st == OK)
        st = pack_begin(l->packer, &a->query, &q, heads * padded, cols, l->err);
    for (int h = 0; st == OK && h < heads; h++)
        pack_rows(&a->query, h * padded, &q, h * dims, dims);
    return st;
}

/* kv_b holds, per head, the key's rows, then the value's. */
static enum status load_key_value(const struct loader *l, struct mla *a)
{
    const struct mla_config *c = &l->c->mla;
    struct source kv;
    int dims = c->nope_dims + c->value_dims, heads = l->c->heads;
    a->key = store_alloc(l->m->store, (size_t)heads * sizeof *a->key);
    a->value = store_alloc(l->m->store, (size_t)heads * sizeof *a->value);
    a->key_rows = store_alloc(l->m->store, (size_t)heads * sizeof *a->key_rows);
    if (!a->key || !a->value || !a->key_rows)
        return error_set(l->err, NOMEM, "out of memory for weights");
    enum status st = load_weight(l, "self_attn.kv_b_proj.weight", heads * dims, c->kv_rank, &kv);
    /* What is read together lies together: the keys of all heads, then their values. */
    for (int h = 0; st == OK && h < heads; h++)
        st = pack_transposed(l->packer, &a->key[h], &kv, h * dims, c->nope_dims, l->err);
    for (int h = 0; st == OK && h < heads; h++) {
        st = pack_begin(l->packer, &a->value[h], &kv, c->value_dims, c->kv_rank, l->err);
        if (st == OK)
            pack_rows(&a->value[h], 0, &kv, h * dims + c->nope_dims, c->value_dims);
    }
    for (int h = 0; st == OK && h < heads; h++) {
        st = pack_begin(l->packer, &a->key_rows[h], &kv, c->nope_dims, c->kv_rank, l->err);
        if (st == OK)
            pack_rows(&a->key_rows[h], 0, &kv, h * dims, c->nope_dims);
    }
    return st;
}

enum status load_mla(const struct loader *l, struct mla *a)
{
    const struct mla_config *c = &l->c->mla;
    enum status st = load_down(l, a);
    if (st == OK)
        st = load_query(l, a);
    if (st == OK)
        st = load_key_value(l, a);
    if (st == OK)
        st = load_plain(l, "self_attn.o_proj.weight", l->c->hidden, l->c->heads * c->value_dims,
                        &a->out);
    if (st == OK && c->q_rank)
        st = load_vector(l, "self_attn.q_a_layernorm.weight", c->q_rank, &a->q_norm);
    if (st == OK)
        st = load_vector(l, "self_attn.kv_a_layernorm.weight", c->kv_rank, &a->kv_norm);
    return st;
}
