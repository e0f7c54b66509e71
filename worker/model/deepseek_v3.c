/* DeepseekV3ForCausalLM: DeepSeek V3, R1 and V3.1. The multi-token prediction layers behind the
 * last one are not used. */
#include <math.h>

#include "worker/model/config.h"

static void read_mla(struct fields *f, struct model_config *c)
{
    struct mla_config *m = &c->mla;
    m->q_rank = fields_int_or(f, "q_lora_rank", 16, 1 << 16, 0);
    m->kv_rank = fields_int(f, "kv_lora_rank", 16, 1 << 14);
    m->nope_dims = fields_int(f, "qk_nope_head_dim", 16, 4096);
    m->rope_dims = fields_int(f, "qk_rope_head_dim", 2, 4096);
    m->value_dims = fields_int(f, "v_head_dim", 16, 4096);
    fields_must_divide(f, "q_lora_rank", m->q_rank, 16);
    fields_must_divide(f, "kv_lora_rank", m->kv_rank, 16);
    fields_must_divide(f, "qk_nope_head_dim", m->nope_dims, 16);
    fields_must_divide(f, "qk_rope_head_dim", m->rope_dims, 2);
    fields_must_divide(f, "v_head_dim", m->value_dims, 16);
    if (!fields_bool_or(f, "rope_interleave", true))
        fields_fail(f, "rope_interleave", "is false; only true is supported");
    double mscale_all_dim;
    config_read_rope(f, &c->rope, &mscale_all_dim);
    c->rope.dims = m->rope_dims;
    m->softmax_scale = 1 / sqrt(m->nope_dims + m->rope_dims);
    if (c->rope.factor > 1 && mscale_all_dim > 0) {
        double magnitude = 0.1 * mscale_all_dim * log(c->rope.factor) + 1;
        m->softmax_scale *= magnitude * magnitude;
    }
}

static void read_moe(struct fields *f, struct model_config *c)
{
    struct moe_config *m = &c->moe;
    m->first_layer = fields_int_or(f, "first_k_dense_replace", 0, 1024, 0);
    m->every = fields_int_or(f, "moe_layer_freq", 1, 1024, 1);
    m->experts = fields_int(f, "n_routed_experts", 1, 4096);
    m->shared = fields_int_or(f, "n_shared_experts", 0, 64, 0);
    m->chosen = fields_int(f, "num_experts_per_tok", 1, 64);
    m->width = fields_int(f, "moe_intermediate_size", 16, 1 << 16);
    m->groups = fields_int_or(f, "n_group", 1, 1024, 1);
    m->kept_groups = fields_int_or(f, "topk_group", 1, 1024, 1);
    m->normalise = fields_bool_or(f, "norm_topk_prob", true);
    m->scale = fields_number_or(f, "routed_scaling_factor", 0, 1e6, 1);
    fields_must_divide(f, "moe_intermediate_size", m->width, 16);
    fields_must_be(f, "scoring_func", "sigmoid", true);
    fields_must_be(f, "topk_method", "noaux_tc", true);
    if (m->experts % m->groups || m->experts / m->groups < 2)
        fields_fail(f, "n_group", "does not divide n_routed_experts into groups of two or more");
    if (m->kept_groups > m->groups)
        fields_fail(f, "topk_group", "is more than n_group");
    if (m->chosen > m->kept_groups * (m->experts / m->groups))
        fields_fail(f, "num_experts_per_tok", "is more than the kept groups hold");
}

static void read_config(struct fields *f, struct model_config *c)
{
    config_read_common(f, c);
    config_read_fp8(f, c);
    read_mla(f, c);
    read_moe(f, c);
}

const struct family family_deepseek_v3 = {"DeepseekV3ForCausalLM", read_config};
