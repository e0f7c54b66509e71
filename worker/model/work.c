/* What a model costs: bytes to read and multiply-adds to do. */
#include <math.h>
#include <string.h>

#include "worker/model/pass.h"

void work_add_matrix(struct model_work *work, const struct matrix *w, double times, double reads)
{
    if (!w->panels)
        return;
    work->bytes_per_step += matrix_bytes(w) * reads;
    work->multiply_adds_per_row += (double)w->rows * w->cols * times;
}

void work_add_layer(struct model_work *work, const struct model *m, const struct layer *l, int rows)
{
    const struct moe_config *c = &m->config.moe;
    const struct matrix *each[] = {&l->mla.down,   &l->mla.query, &l->mla.out,   &l->gqa.query,
                                   &l->gqa.key,    &l->gqa.value, &l->gqa.out,   &l->router,
                                   &l->dense.gate, &l->dense.up,  &l->dense.down};
    for (size_t j = 0; j < sizeof each / sizeof *each; j++)
        work_add_matrix(work, each[j], 1, 1);
    if (m->config.attention == ATTENTION_LATENT) {
        work_add_matrix(work, &l->mla.key[0], m->config.heads, m->config.heads);
        work_add_matrix(work, &l->mla.value[0], m->config.heads, m->config.heads);
    }
    if (!l->experts)
        return;
    double touched = c->experts * (1 - pow(1 - (double)c->chosen / c->experts, rows));
    work_add_matrix(work, &l->experts[0].gate, c->chosen, touched);
    work_add_matrix(work, &l->experts[0].up, c->chosen, touched);
    work_add_matrix(work, &l->experts[0].down, c->chosen, touched);
}

void model_describe(const struct model *m, struct model_info *out)
{
    const struct model_config *c = &m->config;
    struct kv_shape kv;
    struct model_info info = {
        .architecture = c->architecture,
        .layers = c->layers,
        .hidden = c->hidden,
        .heads = c->heads,
        .kv_heads = c->gqa.kv_heads,
        .experts = c->moe.experts,
        .chosen = c->moe.chosen,
        .shared = c->moe.shared,
        .tied_embeddings = c->tied_embeddings,
        .mtp = m->mtp != NULL,
        .parameters = m->tally.parameters,
        .active_parameters = m->tally.active,
        .scratch_bytes = (int64_t)m->scratch.bytes,
    };
    memcpy(info.bytes_of, m->tally.bytes_of, sizeof info.bytes_of);
    model_kv_shape(m, &kv);
    info.kv_bytes_per_token = (int64_t)(kv_block_bytes(&kv) / KV_BLOCK_TOKENS);
    *out = info;
}

void model_work(const struct model *m, int rows, int context, struct model_work *out)
{
    struct model_work work = {0};
    for (int i = 0; i < m->config.layers; i++)
        work_add_layer(&work, m, &m->layers[i], rows);
    work_add_matrix(&work, &m->head, 1, 1);
    double cached = (double)m->config.layers * context;
    struct kv_shape kv;
    model_kv_shape(m, &kv);
    work.bytes_per_step += (double)rows * context * (double)(kv_block_bytes(&kv) / KV_BLOCK_TOKENS);
    work.multiply_adds_per_row +=
        cached * m->config.heads *
        (m->config.attention == ATTENTION_LATENT ? m->cache_floats + m->config.mla.kv_rank
                                                 : 2 * m->config.gqa.head_dims);
    *out = work;
}
