/* From the tensors of a folder to the packed weights of a model. Every tensor is asked for by
 * name and shape; the first that is missing or wrong ends the load with its file and name. */
#include <assert.h>
#include <math.h>
#include <unistd.h>

#include "worker/model/pass.h"

struct loader {
    struct model *m;
    const struct model_config *c;
    struct error *err;
    bool widen;      /* FP8 weights */
    char prefix[64]; /* of the names asked for */
};

static enum status missing(const struct loader *l, const char *name)
{
    return error_set(l->err, INVALID, "%s: tensor %s: missing", safetensors_describe(l->m->files),
                     name);
}

static enum status check_shape(const struct loader *l, const struct tensor *t, int rows, int cols)
{
    int dims = cols ? 2 : 1;
    if (t->dims == dims && t->shape[0] == rows && (!cols || t->shape[1] == cols))
        return OK;
    char is[96] = "", want[48];
    size_t used = 0;
    for (int i = 0; i < t->dims; i++)
        used += (size_t)snprintf(is + used, sizeof is - used, "%s%lld", i ? ", " : "",
                                 (long long)t->shape[i]);
    snprintf(want, sizeof want, cols ? "%d, %d" : "%d", rows, cols);
    return error_set(l->err, INVALID, "%s: tensor %s: has shape [%s], config.json makes it [%s]",
                     t->file, t->name, is, want);
}

static enum status find(const struct loader *l, const char *name, int rows, int cols,
                        const struct tensor **out)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", l->prefix, name);
    const struct tensor *t = safetensors_find(l->m->files, full);
    if (!t)
        return missing(l, full);
    enum status st = check_shape(l, t, rows, cols);
    if (st != OK)
        return st;
    if (t->dtype == DTYPE_OTHER || (t->dtype == DTYPE_F8_E4M3 && !l->c->block_rows))
        return error_set(l->err, INVALID, "%s: tensor %s: %s", t->file, t->name,
                         t->dtype == DTYPE_OTHER
                             ? "its dtype is not one of F32, F16, BF16, F8_E4M3"
                             : "is FP8, but config.json has no quantization_config");
    *out = t;
    return OK;
}

static enum status find_scales(const struct loader *l, struct source *s)
{
    char name[256];
    int rows = ((int)s->weight->shape[0] + l->c->block_rows - 1) / l->c->block_rows;
    int cols = ((int)s->weight->shape[1] + l->c->block_cols - 1) / l->c->block_cols;
    snprintf(name, sizeof name, "%s_scale_inv", s->weight->name + strlen(l->prefix));
    const struct tensor *t = NULL;
    enum status st = find(l, name, rows, cols, &t);
    if (st != OK)
        return st;
    if (t->dtype != DTYPE_F32)
        return error_set(l->err, INVALID, "%s: tensor %s: scales must be F32", t->file, t->name);
    for (size_t i = 0; i < t->bytes; i += 4) {
        float scale;
        memcpy(&scale, t->data + i, 4);
        if (!isfinite(scale))
            return error_set(l->err, INVALID, "%s: tensor %s: holds a NaN or an infinity", t->file,
                             t->name);
    }
    s->scale = t;
    s->block_rows = l->c->block_rows;
    s->block_cols = l->c->block_cols;
    return OK;
}

/* A weight [rows][cols], with its scales if it is FP8. */
static enum status weight(const struct loader *l, const char *name, int rows, int cols,
                          struct source *out)
{
    struct source s = {.widen = l->widen};
    enum status st = find(l, name, rows, cols, &s.weight);
    if (st == OK && s.weight->dtype == DTYPE_F8_E4M3)
        st = find_scales(l, &s);
    if (st == OK)
        *out = s;
    return st;
}

static enum status same_type(const struct loader *l, const struct source *a, const struct source *b)
{
    if (a->weight->dtype == b->weight->dtype)
        return OK;
    return error_set(l->err, INVALID, "%s: tensor %s: is %s, its partner %s is %s", a->weight->file,
                     a->weight->name, dtype_name(a->weight->dtype), b->weight->name,
                     dtype_name(b->weight->dtype));
}

static enum status vector(const struct loader *l, const char *name, int n, const float **out)
{
    const struct tensor *t = NULL;
    enum status st = find(l, name, n, 0, &t);
    if (st != OK)
        return st;
    if (t->dtype == DTYPE_F8_E4M3)
        return error_set(l->err, INVALID, "%s: tensor %s: is FP8; a vector must not be", t->file,
                         t->name);
    float *values = store_alloc(l->m->store, (size_t)(n + 15) / 16 * 64);
    if (!values)
        return error_set(l->err, NOMEM, "out of memory for weights");
    pack_floats(values, t);
    *out = values;
    return OK;
}

static enum status plain(const struct loader *l, const char *name, int rows, int cols,
                         struct matrix *out)
{
    struct source s;
    enum status st = weight(l, name, rows, cols, &s);
    if (st == OK)
        st = pack_begin(l->m->store, out, &s, rows, cols, s.block_cols, l->err);
    if (st == OK)
        st = pack_rows(out, 0, &s, 0, rows, l->err);
    return st;
}

static enum status load_mlp(const struct loader *l, const char *name, int width, struct mlp *out)
{
    struct source gate, up;
    char full[3][128];
    const char *parts[3] = {"gate_proj", "up_proj", "down_proj"};
    for (int i = 0; i < 3; i++)
        snprintf(full[i], sizeof full[i], "%s.%s.weight", name, parts[i]);
    int hidden = l->c->hidden;
    enum status st = weight(l, full[0], width, hidden, &gate);
    if (st == OK)
        st = weight(l, full[1], width, hidden, &up);
    if (st == OK)
        st = same_type(l, &gate, &up);
    if (st == OK)
        st = pack_begin(l->m->store, &out->gate_up, &gate, 2 * width, hidden, gate.block_cols,
                        l->err);
    for (int i = 0; st == OK && i < width; i += 16) {
        st = pack_rows(&out->gate_up, 2 * i, &gate, i, 16, l->err);
        if (st == OK)
            st = pack_rows(&out->gate_up, 2 * i + 16, &up, i, 16, l->err);
    }
    if (st == OK)
        st = plain(l, full[2], hidden, width, &out->down);
    out->width = width;
    return st;
}

static enum status load_down(const struct loader *l, struct mla *a)
{
    const struct mla_config *c = &l->c->mla;
    struct source q = {0}, kv;
    int rows = c->kv_rank + c->rope_dims;
    enum status st = weight(l, "self_attn.kv_a_proj_with_mqa.weight", rows, l->c->hidden, &kv);
    if (st == OK && c->q_rank) {
        st = weight(l, "self_attn.q_a_proj.weight", c->q_rank, l->c->hidden, &q);
        if (st == OK)
            st = same_type(l, &q, &kv);
    }
    if (st == OK)
        st = pack_begin(l->m->store, &a->down, &kv, c->q_rank + rows, l->c->hidden, kv.block_cols,
                        l->err);
    if (st == OK && c->q_rank)
        st = pack_rows(&a->down, 0, &q, 0, c->q_rank, l->err);
    if (st == OK)
        st = pack_rows(&a->down, c->q_rank, &kv, 0, rows, l->err);
    return st;
}

static enum status load_query(const struct loader *l, struct mla *a)
{
    const struct mla_config *c = &l->c->mla;
    struct source q;
    int dims = c->nope_dims + c->rope_dims, heads = l->c->heads;
    int cols = c->q_rank ? c->q_rank : l->c->hidden, padded = l->m->query_panels * 16;
    enum status st = weight(l, c->q_rank ? "self_attn.q_b_proj.weight" : "self_attn.q_proj.weight",
                            heads * dims, cols, &q);
    if (st == OK)
        st = pack_begin(l->m->store, &a->query, &q, heads * padded, cols, q.block_cols, l->err);
    for (int h = 0; st == OK && h < heads; h++)
        st = pack_rows(&a->query, h * padded, &q, h * dims, dims, l->err);
    return st;
}

static int common_divisor(int a, int b)
{
    return b ? common_divisor(b, a % b) : a;
}

/* kv_b holds, per head, the key's rows, then the value's. */
static enum status load_key_value(const struct loader *l, struct mla *a)
{
    const struct mla_config *c = &l->c->mla;
    struct source kv;
    int dims = c->nope_dims + c->value_dims, heads = l->c->heads;
    a->key = store_alloc(l->m->store, (size_t)heads * sizeof *a->key);
    a->value = store_alloc(l->m->store, (size_t)heads * sizeof *a->value);
    if (!a->key || !a->value)
        return error_set(l->err, NOMEM, "out of memory for weights");
    enum status st = weight(l, "self_attn.kv_b_proj.weight", heads * dims, c->kv_rank, &kv);
    for (int h = 0; st == OK && h < heads; h++) {
        /* Transposed, the scales change where a block of rows ends, which may be within a head. */
        int segment = common_divisor(kv.block_rows, dims);
        st = pack_begin(l->m->store, &a->key[h], &kv, c->kv_rank, c->nope_dims, segment, l->err);
        if (st == OK)
            st = pack_transposed(&a->key[h], &kv, h * dims, c->nope_dims, l->err);
        if (st == OK)
            st = pack_begin(l->m->store, &a->value[h], &kv, c->value_dims, c->kv_rank,
                            kv.block_cols, l->err);
        if (st == OK)
            st = pack_rows(&a->value[h], 0, &kv, h * dims + c->nope_dims, c->value_dims, l->err);
    }
    return st;
}

static enum status load_mla(const struct loader *l, struct mla *a)
{
    const struct mla_config *c = &l->c->mla;
    enum status st = load_down(l, a);
    if (st == OK)
        st = load_query(l, a);
    if (st == OK)
        st = load_key_value(l, a);
    if (st == OK)
        st =
            plain(l, "self_attn.o_proj.weight", l->c->hidden, l->c->heads * c->value_dims, &a->out);
    if (st == OK && c->q_rank)
        st = vector(l, "self_attn.q_a_layernorm.weight", c->q_rank, &a->q_norm);
    if (st == OK)
        st = vector(l, "self_attn.kv_a_layernorm.weight", c->kv_rank, &a->kv_norm);
    return st;
}

static enum status load_experts(const struct loader *l, struct layer *layer)
{
    const struct moe_config *c = &l->c->moe;
    layer->experts = store_alloc(l->m->store, (size_t)c->experts * sizeof *layer->experts);
    if (!layer->experts)
        return error_set(l->err, NOMEM, "out of memory for weights");
    enum status st = plain(l, "mlp.gate.weight", c->experts, l->c->hidden, &layer->router);
    if (st == OK)
        st = vector(l, "mlp.gate.e_score_correction_bias", c->experts, &layer->bias);
    if (st == OK && c->shared)
        st = load_mlp(l, "mlp.shared_experts", c->shared * c->width, &layer->dense);
    for (int e = 0; st == OK && e < c->experts; e++) {
        char name[64];
        snprintf(name, sizeof name, "mlp.experts.%d", e);
        st = load_mlp(l, name, c->width, &layer->experts[e]);
    }
    return st;
}

static enum status load_layer(struct loader *l, int index)
{
    struct layer *layer = &l->m->layers[index];
    snprintf(l->prefix, sizeof l->prefix, "model.layers.%d.", index);
    enum status st = vector(l, "input_layernorm.weight", l->c->hidden, &layer->attention_norm);
    if (st == OK)
        st = vector(l, "post_attention_layernorm.weight", l->c->hidden, &layer->mlp_norm);
    if (st == OK)
        st = load_mla(l, &layer->mla);
    if (st == OK)
        st = model_config_is_moe(l->c, index) ? load_experts(l, layer)
                                              : load_mlp(l, "mlp", l->c->mlp_width, &layer->dense);
    return st;
}

/* FP8 weights that even twice as wide stay in the caches are not bound by reading them: measured
 * on the demo model, one token at a time is 1.5 times as fast with 16 bits. */
static bool worth_widening(const struct model *m)
{
    long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    size_t most = cache > 0 ? (size_t)cache / 4 * 3 : (size_t)12 << 20;
    return 2 * safetensors_bytes(m->files, DTYPE_F8_E4M3) <= most;
}

enum status model_load_weights(struct model *m, struct error *err)
{
    struct loader l = {
        .m = m, .c = &m->config, .err = err, .widen = !m->options.narrow && worth_widening(m)};
    const struct model_config *c = &m->config;
    enum status st = find(&l, "model.embed_tokens.weight", c->vocab, c->hidden, &m->embedding);
    if (st == OK && m->embedding->dtype == DTYPE_F8_E4M3)
        st = error_set(err, INVALID, "%s: tensor %s: is FP8; an embedding must not be",
                       m->embedding->file, m->embedding->name);
    if (st == OK)
        st = plain(&l, c->tied_embeddings ? "model.embed_tokens.weight" : "lm_head.weight",
                   c->vocab, c->hidden, &m->head);
    if (st == OK)
        st = vector(&l, "model.norm.weight", c->hidden, &m->norm);
    m->layers = st == OK ? store_alloc(m->store, (size_t)c->layers * sizeof *m->layers) : NULL;
    if (st == OK && !m->layers)
        st = error_set(err, NOMEM, "out of memory for weights");
    for (int i = 0; st == OK && i < c->layers; i++)
        st = load_layer(&l, i);
    if (st == OK)
        safetensors_release_pages(m->files);
    return st;
}
