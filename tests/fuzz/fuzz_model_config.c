/* links: tg_worker */
/* Whatever config.json says: it is refused with its place, or every size that the engine makes of
 * it is in bounds. */
#include <assert.h>

#include "worker/model/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_attention(const struct model_config *c)
{
    const struct mla_config *m = &c->mla;
    const struct gqa_config *g = &c->gqa;
    if (c->attention == ATTENTION_LATENT) {
        assert(m->kv_rank > 0 && m->nope_dims > 0 && m->rope_dims > 0 && m->value_dims > 0);
        assert((int64_t)c->heads * (m->nope_dims + m->rope_dims) < INT32_MAX / 4);
        assert((int64_t)c->heads * (m->kv_rank + m->rope_dims + 16) < INT32_MAX / 4);
        assert(m->softmax_scale > 0);
    } else {
        assert(g->kv_heads > 0 && c->heads % g->kv_heads == 0);
        assert(g->head_dims >= 2 && g->head_dims % 2 == 0);
        assert(g->head_stride >= g->head_dims && g->head_stride % 16 == 0);
        assert((int64_t)(c->heads + 2 * g->kv_heads) * g->head_stride < INT32_MAX / 4);
        assert(g->softmax_scale > 0);
    }
    assert(c->rope.dims > 0 && c->rope.dims % 2 == 0 && c->rope.theta >= 1);
    assert(c->rope.magnitude >= 0 && (c->rope.stretch == ROPE_PLAIN || c->rope.factor >= 1));
}

static void check_experts(const struct model_config *c)
{
    const struct moe_config *m = &c->moe;
    bool any = false;
    for (int i = 0; i < c->layers + c->mtp_layers; i++)
        any |= c->has_experts[i];
    assert(!any || m->experts > 0);
    if (!m->experts)
        return;
    assert(m->groups > 0 && m->experts % m->groups == 0);
    assert(m->chosen > 0 && m->chosen <= m->kept_groups * (m->experts / m->groups));
    assert(m->width > 0 && m->width % 16 == 0 && m->shared * (int64_t)m->width < INT32_MAX / 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct json *root = NULL;
    struct model_config c;
    struct error err = {""};
    if (json_parse((const char *)data, len, NULL, &root, &err) != OK)
        return 0;
    enum status st = model_config_read("fuzz", root, &c, &err);
    json_free(root);
    if (st != OK) {
        assert(err.text[0]);
        return 0;
    }
    assert(c.layers > 0 && c.layers + c.mtp_layers <= MODEL_MAX_LAYERS);
    assert(c.hidden > 0 && c.hidden % 16 == 0 && c.vocab > 0 && c.context_tokens > 0);
    check_attention(&c);
    check_experts(&c);
    return 0;
}
