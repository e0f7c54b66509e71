/*
 * Multi-token prediction: a layer behind the last one that guesses the token after the next. From
 * a position's final hidden state h and the token that follows it,
 *     x = eh_proj [enorm(embedding(token)); hnorm(h)],
 * then an ordinary layer with a cache layer of its own, a norm, and the model's own head.
 * Embedding and head are the model's: files hold copies of them.
 */
#include <assert.h>

#include "base/clock.h"
#include "worker/model/load.h"

bool model_has_mtp(const struct model *m)
{
    return m->mtp != NULL;
}

static void embed_pair(const struct pass *p, int member)
{
    const struct model *m = p->m;
    const struct mtp *t = m->mtp;
    int hidden = m->config.hidden, begin, end;
    float epsilon = (float)m->config.epsilon;
    pass_share(p, p->count, member, &begin, &end);
    for (int i = begin; i < end; i++) {
        float *pair = m->scratch.pairs + (size_t)i * 2 * (size_t)hidden;
        float *embedding = m->scratch.normed + (size_t)i * (size_t)hidden;
        pass_embed(p, i, embedding);
        m->kernels->rms_norm(pair, embedding, t->token_norm, hidden, epsilon);
        m->kernels->rms_norm(pair + hidden, p->rows[i].hidden_in, t->hidden_norm, hidden, epsilon);
    }
    pool_barrier(m->pool);
}

static void run(void *pass, int member)
{
    struct pass *p = pass;
    struct model *m = p->m;
    size_t hidden = (size_t)m->config.hidden;
    embed_pair(p, member);
    struct input in = {.data = m->scratch.pairs, .stride = 2 * hidden};
    pass_matmul(p, member, &m->mtp->project, &in, p->count, m->scratch.x, hidden);
    pool_barrier(m->pool);
    pass_layer(p, &m->mtp->layer, m->config.layers, member);
    pass_finish(p, m->mtp->norm, member);
}

void model_mtp_forward(struct model *m, struct kv *kv, const struct batch_row *rows, int count,
                       float *logits)
{
    assert(m->mtp);
    for (int i = 0; i < count; i++)
        assert(rows[i].hidden_in);
    struct pass p = {.m = m, .kv = kv, .rows = rows, .count = count, .logits = logits};
    pass_start(&p, run, m->mtp->work_per_row);
}

enum status load_mtp(struct loader *l)
{
    struct model *m = l->m;
    int hidden = l->c->hidden, index = l->c->layers;
    snprintf(l->prefix, sizeof l->prefix, "model.layers.%d.", index);
    struct mtp *t = store_alloc(m->store, sizeof *t);
    if (!t)
        return error_set(l->err, NOMEM, "out of memory for weights");
    enum status st = load_plain(l, "eh_proj.weight", hidden, 2 * hidden, &t->project);
    if (st == OK)
        st = load_vector(l, "enorm.weight", hidden, &t->token_norm);
    if (st == OK)
        st = load_vector(l, "hnorm.weight", hidden, &t->hidden_norm);
    if (st == OK)
        st = load_vector(l, "shared_head.norm.weight", hidden, &t->norm);
    if (st == OK)
        st = load_layer(l, index, &t->layer);
    if (st == OK)
        m->mtp = t;
    return st;
}
