#include "worker/model/model.h"

#include <assert.h>
#include <math.h>
#include <unistd.h>

#include "base/clock.h"
#include "worker/model/pass.h"

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
        m->cache_floats = 2 * g->kv_heads * g->head_dims;
        m->projected_floats = (c->heads + 2 * g->kv_heads) * g->head_dims;
        m->attended_floats = c->heads * g->head_dims;
    }
    m->active_stride = c->mlp_width;
    if (c->moe.width > m->active_stride)
        m->active_stride = c->moe.width;
    if (c->moe.width * c->moe.shared > m->active_stride)
        m->active_stride = c->moe.width * c->moe.shared;
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
    struct model_work work;
    model_work(m, 1, 1, &work);
    m->work_per_row = work.multiply_adds_per_row;
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
    *out = (struct kv_shape){m->config.layers, m->cache_floats};
}

/* Of `times` rows, of which this share reads the weights anew. */
static void add_work(struct model_work *work, const struct matrix *w, double times, double reads)
{
    if (!w->data)
        return;
    double scales = w->scales ? (double)w->panels * w->segments * 64 : 0;
    work->bytes_per_step += ((double)w->panels * (double)w->panel_bytes + scales) * reads;
    work->multiply_adds_per_row += (double)w->rows * w->cols * times;
}

static void add_layer(struct model_work *work, const struct model *m, const struct layer *l,
                      int rows)
{
    const struct moe_config *c = &m->config.moe;
    const struct matrix *each[] = {&l->mla.down,      &l->mla.query, &l->mla.out, &l->gqa.query,
                                   &l->gqa.key,       &l->gqa.value, &l->gqa.out, &l->router,
                                   &l->dense.gate_up, &l->dense.down};
    for (size_t j = 0; j < sizeof each / sizeof *each; j++)
        add_work(work, each[j], 1, 1);
    if (m->config.attention == ATTENTION_LATENT) {
        add_work(work, &l->mla.key[0], m->config.heads, m->config.heads);
        add_work(work, &l->mla.value[0], m->config.heads, m->config.heads);
    }
    if (!l->experts)
        return;
    double touched = c->experts * (1 - pow(1 - (double)c->chosen / c->experts, rows));
    add_work(work, &l->experts[0].gate_up, c->chosen, touched);
    add_work(work, &l->experts[0].down, c->chosen, touched);
}

void model_work(const struct model *m, int rows, int context, struct model_work *out)
{
    struct model_work work = {0};
    for (int i = 0; i < m->config.layers; i++)
        add_layer(&work, m, &m->layers[i], rows);
    add_work(&work, &m->head, 1, 1);
    double cached = (double)m->config.layers * context;
    work.bytes_per_step += rows * cached * m->cache_floats * (double)sizeof(float);
    work.multiply_adds_per_row +=
        cached * m->config.heads *
        (m->config.attention == ATTENTION_LATENT ? m->cache_floats + m->config.mla.kv_rank
                                                 : 2 * m->config.gqa.head_dims);
    *out = work;
}

enum status model_reserve(struct model *m, int rows, struct error *err)
{
    return scratch_reserve(m, rows, err);
}

void model_forward(struct model *m, struct kv *kv, const struct batch_row *rows, int count,
                   float *logits)
{
    assert(count > 0 && count <= m->scratch.rows);
    struct pass p = {.m = m, .kv = kv, .rows = rows, .count = count, .logits = logits};
    for (int i = 0; i < count; i++) {
        assert(rows[i].token >= 0 && rows[i].token < m->config.vocab && rows[i].position >= 0 &&
               rows[i].position < m->config.context_tokens);
        if (rows[i].wants_logits)
            m->scratch.logit_rows[p.logit_count++] = i;
    }
    double work = m->work_per_row * count;
    bool alone = pool_threads(m->pool) == 1 || pace_alone(&m->pace, work);
    int64_t start = clock_mono_us();
    pool_run(m->pool, alone, pass_run, &p);
    pace_note(&m->pace, work, alone, clock_mono_us() - start);
}
