/* From the tensors of a folder to the packed weights of a model: the parts that all families
 * share, layer by layer. */
#include "worker/model/load.h"

/* parts: the names of gate, up and down behind `name`. */
static enum status load_mlp(const struct loader *l, const char *name, const char *const parts[3],
                            int width, struct mlp *out)
{
    struct source gate, up;
    char full[3][128];
    for (int i = 0; i < 3; i++)
        snprintf(full[i], sizeof full[i], "%s.%s.weight", name, parts[i]);
    int hidden = l->c->hidden;
    enum status st = load_weight(l, full[0], width, hidden, &gate);
    if (st == OK)
        st = load_weight(l, full[1], width, hidden, &up);
    if (st == OK)
        st = load_same_type(l, &gate, &up);
    if (st == OK)
        st = pack_begin(l->packer, &out->gate, &gate, width, hidden, l->err);
    if (st == OK)
        st = pack_begin(l->packer, &out->up, &up, width, hidden, l->err);
    if (st == OK) {
        pack_rows(&out->gate, 0, &gate, 0, width);
        pack_rows(&out->up, 0, &up, 0, width);
    }
    if (st == OK)
        st = load_plain(l, full[2], hidden, width, &out->down);
    out->width = width;
    return st;
}

static const char *const mlp_parts[3] = {"gate_proj", "up_proj", "down_proj"};

static enum status load_experts(const struct loader *l, struct layer *layer)
{
    const struct moe_config *c = &l->c->moe;
    layer->experts = store_alloc(l->m->store, (size_t)c->experts * sizeof *layer->experts);
    if (!layer->experts)
        return error_set(l->err, NOMEM, "out of memory for weights");
    const struct tensor_names *names = &l->c->names;
    const char *const parts[3] = {names->gate, names->up, names->down};
    char name[96];
    snprintf(name, sizeof name, "%s.weight", names->router);
    enum status st = load_exact(l, name, c->experts, l->c->hidden, &layer->router);
    snprintf(name, sizeof name, "%s.e_score_correction_bias", names->router);
    if (st == OK && c->choice_bias)
        st = load_vector(l, name, c->experts, &layer->bias);
    if (st == OK && c->shared)
        st = load_mlp(l, "mlp.shared_experts", mlp_parts, c->shared * c->width, &layer->dense);
    struct tally *tally = &l->m->tally;
    int64_t before = tally->active;
    for (int e = 0; st == OK && e < c->experts; e++) {
        snprintf(name, sizeof name, "%s.%d", names->experts, e);
        st = load_mlp(l, name, parts, c->width, &layer->experts[e]);
    }
    tally->active = before + (tally->active - before) / c->experts * c->chosen;
    return st;
}

enum status load_layer(struct loader *l, int index, struct layer *layer)
{
    snprintf(l->prefix, sizeof l->prefix, "model.layers.%d.", index);
    enum status st = load_vector(l, "input_layernorm.weight", l->c->hidden, &layer->attention_norm);
    if (st == OK)
        st = load_vector(l, "post_attention_layernorm.weight", l->c->hidden, &layer->mlp_norm);
    if (st == OK)
        st = l->c->attention == ATTENTION_LATENT ? load_mla(l, &layer->mla)
                                                 : load_gqa(l, &layer->gqa);
    if (st == OK)
        st = l->c->has_experts[index]
                 ? load_experts(l, layer)
                 : load_mlp(l, "mlp", mlp_parts, l->c->mlp_width, &layer->dense);
    return st;
}

/* What the layer's MLPs read, where it is not floats. */
static enum input_type mlp_input(const struct model *m, const struct layer *l)
{
    enum input_type type = INPUT_F32;
    for (int e = 0; type == INPUT_F32 && l->experts && e < m->config.moe.experts; e++)
        type = model_input(m, &l->experts[e].gate);
    return type == INPUT_F32 && l->dense.width ? model_input(m, &l->dense.gate) : type;
}

/* Some tools keep the number of these layers in config.json and leave their tensors out. */
static bool has_mtp_tensors(const struct model *m)
{
    char name[64];
    snprintf(name, sizeof name, "model.layers.%d.eh_proj.weight", m->config.layers);
    return m->config.mtp_layers > 0 && safetensors_find(m->files, name);
}

static enum status load_all(struct loader *l)
{
    struct model *m = l->m;
    const struct model_config *c = l->c;
    enum status st = load_find(l, "model.embed_tokens.weight", c->vocab, c->hidden, &m->embedding);
    if (st == OK && m->embedding->dtype == DTYPE_F8_E4M3)
        st = error_set(l->err, INVALID, "%s: tensor %s: is FP8; an embedding must not be",
                       m->embedding->file, m->embedding->name);
    if (st == OK)
        st = pack_check(l->packer, m->embedding, l->err);
    if (st == OK && !c->tied_embeddings) {
        m->tally.parameters += (int64_t)c->vocab * c->hidden;
        m->tally.bytes_of[m->embedding->dtype] += (int64_t)m->embedding->bytes;
    }
    if (st == OK)
        st = load_plain(l, c->tied_embeddings ? "model.embed_tokens.weight" : "lm_head.weight",
                        c->vocab, c->hidden, &m->head);
    if (st == OK)
        st = load_vector(l, "model.norm.weight", c->hidden, &m->norm);
    m->layers = st == OK ? store_alloc(m->store, (size_t)c->layers * sizeof *m->layers) : NULL;
    if (st == OK && !m->layers)
        st = error_set(l->err, NOMEM, "out of memory for weights");
    for (int i = 0; st == OK && i < c->layers; i++)
        st = load_layer(l, i, &m->layers[i]);
    if (st == OK && m->options.mtp && has_mtp_tensors(m))
        st = load_mtp(l);
    return st;
}

/* FP8 weights that stay in the processor's caches at twice their size too are not bound by reading
 * them, but by decoding them. */
static bool worth_widening(const struct model *m)
{
    enum { WIDE_BYTES_MOST = 24 << 20 };
    return 2 * safetensors_bytes(m->files, DTYPE_F8_E4M3) <= WIDE_BYTES_MOST;
}

enum status model_load_weights(struct model *m, struct error *err)
{
    static const enum weight_type types[] = {
        [MODEL_AS_STORED] = WEIGHT_F32, [MODEL_INT8] = WEIGHT_INT8, [MODEL_INT4] = WEIGHT_INT4};
    struct loader l = {.m = m, .c = &m->config, .err = err};
    l.packer = packer_new(m->store, m->files);
    if (!l.packer)
        return error_set(err, NOMEM, "out of memory for weights");
    enum status st = load_all(&l);
    struct pack_options options = {.kernels = m->kernels,
                                   .quantise = types[m->options.weights],
                                   .widen = worth_widening(m),
                                   .copy = m->options.large_pages};
    if (st == OK)
        st = pack_finish(l.packer, m->pool, &options, err);
    m->widest = pack_widest(l.packer);
    packer_free(l.packer);
    for (int i = 0; st == OK && i < m->config.layers; i++)
        m->layers[i].mlp_input = mlp_input(m, &m->layers[i]);
    if (st == OK && m->mtp)
        m->mtp->layer.mlp_input = mlp_input(m, &m->mtp->layer);
    if (st == OK && (m->options.large_pages || m->options.weights != MODEL_AS_STORED))
        safetensors_release_pages(m->files);
    return st;
}
