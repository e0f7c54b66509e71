/* DeepseekV2ForCausalLM (V2, V2-Lite) and DeepseekV3ForCausalLM (V3, R1, V3.1): latent attention,
 * shared experts beside the chosen ones, and from V3 on layers for multi-token prediction. */
#include <math.h>

#include "worker/model/config.h"

static void read_mla(struct fields *f, struct model_config *c)
{
    struct mla_config *m = &c->mla;
    c->attention = ATTENTION_LATENT;
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
    fields_must_be_off(f, "attention_bias");
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

static void read_experts(struct fields *f, struct model_config *c)
{
    struct moe_config *m = &c->moe;
    int first = fields_int(f, "first_k_dense_replace", 0, MODEL_MAX_LAYERS);
    int every = fields_int_or(f, "moe_layer_freq", 1, MODEL_MAX_LAYERS, 1);
    for (int i = 0; i < c->layers + c->mtp_layers; i++)
        c->has_experts[i] = i >= first && i % every == 0;
    m->experts = fields_int(f, "n_routed_experts", 1, 4096);
    m->shared = fields_int_or(f, "n_shared_experts", 0, 64, 0);
    m->chosen = fields_int(f, "num_experts_per_tok", 1, 64);
    m->width = fields_int(f, "moe_intermediate_size", 16, 1 << 16);
    m->groups = m->kept_groups = 1;
    m->scale = fields_number(f, "routed_scaling_factor", 0, 1e6);
    fields_must_divide(f, "moe_intermediate_size", m->width, 16);
}

static void read_groups(struct fields *f, struct moe_config *m)
{
    m->groups = fields_int(f, "n_group", 1, 1024);
    m->kept_groups = fields_int(f, "topk_group", 1, 1024);
}

/* The layer for multi-token prediction reads the hidden states behind the final norm: published
 * models were trained so. A field of our own says that a model was not. */
static void read_mtp(struct fields *f, struct model_config *c)
{
    c->mtp_layers = fields_int_or(f, "num_nextn_predict_layers", 0, 1, 0);
    const char *state = fields_text(f, "mtp_hidden_state");
    c->mtp_before_norm = state && strcmp(state, "before_norm") == 0;
    if (fields_has(f, "mtp_hidden_state") && !c->mtp_before_norm &&
        (!state || strcmp(state, "after_norm") != 0))
        fields_fail(f, "mtp_hidden_state", "is not one of \"before_norm\" and \"after_norm\"");
}

/* Softmax scores; a group is as good as its best expert. The weights are not normalised: what the
 * scale means where they are differs between implementations, and no published model has it. */
static void read_v2(struct fields *f, struct model_config *c)
{
    struct moe_config *m = &c->moe;
    config_read_common(f, c);
    config_read_fp8(f, c);
    read_mla(f, c);
    read_experts(f, c);
    m->scores = SCORES_SOFTMAX;
    m->group_score = GROUPS_BY_LARGEST;
    fields_must_be(f, "scoring_func", "softmax", true);
    fields_must_be_off(f, "norm_topk_prob");
    const char *method = fields_text(f, "topk_method");
    if (method && strcmp(method, "group_limited_greedy") == 0)
        read_groups(f, m);
    else if (fields_has(f, "topk_method") && (!method || strcmp(method, "greedy") != 0))
        fields_fail(f, "topk_method", "is not one of \"greedy\" and \"group_limited_greedy\"");
    config_check_moe(f, m);
}

/* Sigmoid scores; a correction bias takes part in the choice; a group is as good as its two best
 * together. */
static void read_v3(struct fields *f, struct model_config *c)
{
    struct moe_config *m = &c->moe;
    config_read_common(f, c);
    config_read_fp8(f, c);
    read_mla(f, c);
    read_mtp(f, c);
    read_experts(f, c);
    m->scores = SCORES_SIGMOID;
    m->choice_bias = true;
    read_groups(f, m);
    m->group_score = GROUPS_BY_SUM_OF_TWO;
    m->normalise = fields_bool_or(f, "norm_topk_prob", true);
    fields_must_be(f, "scoring_func", "sigmoid", true);
    fields_must_be(f, "topk_method", "noaux_tc", true);
    config_check_moe(f, m);
}

const struct family family_deepseek_v2 = {"DeepseekV2ForCausalLM", read_v2};
const struct family family_deepseek_v3 = {"DeepseekV3ForCausalLM", read_v3};
