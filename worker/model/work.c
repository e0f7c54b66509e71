/* What a model costs: bytes to read and multiply-adds to do. */
#include <math.h>
#include <string.h>

#include "worker/model/mla.h"

struct counting {
    const struct model *m;
    const struct model_step *step;
    struct model_work work;
};

static enum arithmetic arithmetic_of(const struct model *m, const struct matrix *w)
{
    switch (kernels_input(m->kernels, w, m->options.rounded)) {
    case INPUT_BF16:
        return ARITHMETIC_BF16;
    case INPUT_INT8:
        return ARITHMETIC_INT8;
    default:
        return ARITHMETIC_F32;
    }
}

/* A matrix, or `read` of its like, and rows through it. */
static void add_matrix(struct counting *c, const struct matrix *w, double read, double rows)
{
    if (!w->panels)
        return;
    c->work.bytes += matrix_bytes(w) * read;
    c->work.multiply_adds[arithmetic_of(c->m, w)] += (double)w->rows * w->cols * rows;
}

static void add_layer(struct counting *c, const struct layer *l)
{
    const struct moe_config *moe = &c->m->config.moe;
    double rows = c->step->rows, heads = c->m->config.heads;
    const struct matrix *each[] = {&l->mla.down,   &l->mla.query, &l->mla.out,   &l->gqa.query,
                                   &l->gqa.key,    &l->gqa.value, &l->gqa.out,   &l->router,
                                   &l->dense.gate, &l->dense.up,  &l->dense.down};
    for (size_t j = 0; j < sizeof each / sizeof *each; j++)
        add_matrix(c, each[j], 1, rows);
    if (c->m->config.attention == ATTENTION_LATENT) {
        add_matrix(c, &l->mla.key[0], heads, heads * rows);
        add_matrix(c, &l->mla.value[0], heads, heads * rows);
    }
    if (!l->experts)
        return;
    double touched = moe->experts * (1 - pow(1 - (double)moe->chosen / moe->experts, rows));
    add_matrix(c, &l->experts[0].gate, touched, moe->chosen * rows);
    add_matrix(c, &l->experts[0].up, touched, moe->chosen * rows);
    add_matrix(c, &l->experts[0].down, touched, moe->chosen * rows);
}

double work_of_matrix(const struct matrix *w)
{
    return (double)w->rows * w->cols;
}

static double all_of(const struct model_work *work)
{
    double sum = 0;
    for (int i = 0; i < ARITHMETIC_KINDS; i++)
        sum += work->multiply_adds[i];
    return sum;
}

double work_of_layer(const struct model *m, const struct layer *l)
{
    struct model_step one = {.rows = 1};
    struct counting c = {.m = m, .step = &one};
    add_layer(&c, l);
    return all_of(&c.work);
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

/* In the cheaper way; folding is among the layers' matrices. */
static void add_latent(struct counting *c, double heads)
{
    double rows = (double)c->step->rows / c->step->sequences;
    double position = fmax(0, c->step->context - (rows + 1) / 2);
    struct mla_cost folded, expanded;
    mla_cost(c->m, position, rows, false, &folded);
    mla_cost(c->m, position, rows, true, &expanded);
    bool expands = mla_expands(c->m, (int)position, (int)rows);
    double extra = expands ? expanded.weights - folded.weights : 0;
    double attending = expands ? expanded.attending : folded.attending;
    heads *= c->step->sequences;
    c->work.multiply_adds[ARITHMETIC_F32] += heads * attending;
    c->work.multiply_adds[arithmetic_of(c->m, &c->m->layers[0].mla.value[0])] += heads * extra;
}

/* A layer with a window reads no more of the context than that. */
static void add_grouped(struct counting *c, double token_bytes)
{
    const struct model_config *config = &c->m->config;
    for (int i = 0; i < config->layers; i++) {
        int window = config->window[i];
        double seen = window ? fmin(window, c->step->context) : c->step->context;
        c->work.bytes += (double)c->step->sequences * seen * token_bytes / config->layers;
        c->work.multiply_adds[ARITHMETIC_F32] +=
            config->heads * seen * c->step->rows * 2 * config->gqa.head_dims;
    }
}

static void add_attention(struct counting *c)
{
    const struct model_config *config = &c->m->config;
    struct kv_shape kv;
    model_kv_shape(c->m, &kv);
    double token_bytes = (double)(kv_block_bytes(&kv) / KV_BLOCK_TOKENS);
    if (config->attention == ATTENTION_GROUPED) {
        add_grouped(c, token_bytes);
        return;
    }
    c->work.bytes += (double)c->step->sequences * c->step->context * token_bytes;
    add_latent(c, (double)config->layers * config->heads);
}

void model_work(const struct model *m, const struct model_step *step, struct model_work *out)
{
    struct counting c = {.m = m, .step = step};
    for (int i = 0; i < m->config.layers; i++)
        add_layer(&c, &m->layers[i]);
    add_matrix(&c, &m->head, 1, step->logits);
    add_attention(&c);
    *out = c.work;
}
