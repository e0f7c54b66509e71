#include "worker/model/model.h"

#include <assert.h>
#include <unistd.h>

#include "worker/model/pass.h"

const char *const model_weights_names[] = {"none", "int8", "int4", NULL};
const char *const model_inputs_names[] = {"exact", "bf16", NULL};

static int pick_threads(int wanted)
{
    long n = wanted > 0 ? wanted : sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > POOL_MAX_THREADS ? POOL_MAX_THREADS : (int)n;
}

static void derive_sizes(struct model *m)
{
    const struct model_config *c = &m->config;
    const struct mla_config *a = &c->mla;
    const struct gqa_config *g = &c->gqa;
    if (c->attention == ATTENTION_LATENT) {
        m->query_panels = (a->nope_dims + a->rope_dims + 15) / 16;
        m->cache_floats = (a->kv_rank + a->rope_dims + 15) / 16 * 16;
        m->projected_floats = (a->q_rank + a->kv_rank + a->rope_dims + 15) / 16 * 16;
        m->attended_floats = c->heads * a->value_dims;
    } else {
        m->cache_floats = 2 * g->kv_heads * g->head_stride;
        m->projected_floats = (c->heads + 2 * g->kv_heads) * g->head_stride;
        m->attended_floats = c->heads * g->head_stride;
    }
    int chosen = c->moe.width * (c->moe.shared + c->moe.chosen);
    m->active_floats = c->mlp_width > chosen ? c->mlp_width : chosen;
}

/* For the choice between one thread and all. */
static void count_work(struct model *m)
{
    double head = work_of_matrix(&m->head);
    m->work_per_row = head;
    for (int i = 0; i < m->config.layers; i++)
        m->work_per_row += work_of_layer(m, &m->layers[i]);
    if (m->mtp)
        m->mtp->work_per_row =
            head + work_of_layer(m, &m->mtp->layer) + work_of_matrix(&m->mtp->project);
}

static enum status load(struct model *m, const char *dir, struct error *err)
{
    m->kernels = kernels_find(m->options.kernels);
    if (!m->kernels)
        return error_set(err, INVALID, "no kernels named %s on this machine", m->options.kernels);
    enum status st = model_config_load(dir, &m->config, err);
    if (st != OK)
        return st;
    derive_sizes(m);
    m->pool = pool_new(pick_threads(m->options.threads));
    m->store = store_new();
    if (!m->pool || !m->store)
        return error_set(err, NOMEM, "out of memory or threads");
    st = rope_init(&m->rope, &m->config.rope, err);
    if (st == OK)
        st = safetensors_open(dir, &m->files, err);
    if (st == OK)
        st = model_load_weights(m, err);
    if (st != OK)
        return st;
    count_work(m);
    return OK;
}

enum status model_load(const char *dir, const struct model_options *options, struct model **out,
                       struct error *err)
{
    struct model *m = calloc(1, sizeof *m);
    if (!m)
        return error_set(err, NOMEM, "out of memory");
    if (options)
        m->options = *options;
    enum status st = load(m, dir, err);
    if (st != OK) {
        model_free(m);
        return st;
    }
    *out = m;
    return OK;
}

void model_free(struct model *m)
{
    if (!m)
        return;
    pool_free(m->pool);
    scratch_done(&m->scratch);
    store_free(m->store);
    safetensors_free(m->files);
    rope_done(&m->rope);
    free(m);
}

uint32_t model_context_tokens(const struct model *m)
{
    return (uint32_t)m->config.context_tokens;
}

uint32_t model_hidden_size(const struct model *m)
{
    return (uint32_t)m->config.hidden;
}

uint32_t model_vocab_size(const struct model *m)
{
    return (uint32_t)m->config.vocab;
}

const char *model_kernels(const struct model *m)
{
    return m->kernels->name;
}

int model_threads(const struct model *m)
{
    return pool_threads(m->pool);
}

void model_kv_shape(const struct model *m, struct kv_shape *out)
{
    const struct model_config *c = &m->config;
    bool latent = c->attention == ATTENTION_LATENT;
    int dims = latent ? c->mla.kv_rank | c->mla.rope_dims : c->gqa.head_stride;
    *out = (struct kv_shape){.layers = c->layers + (m->mtp ? 1 : 0),
                             .type = m->options.kv_type,
                             .keys = latent ? m->cache_floats : m->cache_floats / 2,
                             .values = latent ? 0 : m->cache_floats / 2,
                             .group = dims % 32 ? 16 : 32};
}

enum status model_reserve(struct model *m, int rows, struct error *err)
{
    return scratch_reserve(m, rows, err);
}

void model_forward(struct model *m, struct kv *kv, const struct batch_row *rows, int count,
                   float *logits)
{
    struct pass p = {.m = m, .kv = kv, .rows = rows, .count = count, .logits = logits};
    pass_start(&p, pass_run, m->work_per_row);
}
