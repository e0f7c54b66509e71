/* Qwen2ForCausalLM (Qwen 2 and 2.5, the R1 distills), Qwen3ForCausalLM, Qwen3MoeForCausalLM. */
#include "worker/model/config.h"

static void read_shape(struct fields *f, struct model_config *c)
{
    config_read_common(f, c);
    config_read_fp8(f, c);
    config_read_gqa(f, c);
}

/* Published files name a window that is switched off. */
static int read_window(struct fields *f)
{
    bool slides = fields_bool_or(f, "use_sliding_window", false);
    return slides ? config_read_window(f, WINDOW_DEFAULT) : 0;
}

/* The lower layers attend to everything. */
static void read_windows(struct fields *f, struct model_config *c)
{
    int from = fields_int_or(f, "max_window_layers", 0, INT32_MAX, 28);
    config_set_window(f, c, read_window(f), from);
}

static void read_qwen2(struct fields *f, struct model_config *c)
{
    read_shape(f, c);
    read_windows(f, c);
    c->gqa.biases = true;
}

static void read_heads(struct fields *f, struct model_config *c)
{
    read_shape(f, c);
    if (!fields_has(f, "head_dim")) /* tools differ in what it means that it is missing */
        fields_fail(f, "head_dim", "is missing");
    c->gqa.biases = c->gqa.out_bias = fields_bool_or(f, "attention_bias", false);
    c->gqa.head_norms = true;
}

static void read_qwen3(struct fields *f, struct model_config *c)
{
    read_heads(f, c);
    read_windows(f, c);
}

static void read_layers_without_experts(struct fields *f, struct model_config *c)
{
    const struct json *list = json_get(f->object, "mlp_only_layers");
    if (fields_has(f, "mlp_only_layers") && !json_is_array(list)) {
        fields_fail(f, "mlp_only_layers", "is not a list");
        return;
    }
    for (const struct json *v = json_first(list); v; v = json_next(v)) {
        int64_t layer = 0;
        if (!json_int(v, 0, c->layers - 1, &layer))
            fields_fail(f, "mlp_only_layers", "names a layer that there is not");
        c->has_experts[layer] = false;
    }
}

static void read_qwen3_moe(struct fields *f, struct model_config *c)
{
    struct moe_config *m = &c->moe;
    read_heads(f, c);
    int window = read_window(f);
    if (window && fields_int_or(f, "max_window_layers", 0, INT32_MAX, 0) > 0)
        fields_fail(f, "max_window_layers",
                    "is above 0 with use_sliding_window; tools differ in what that means here");
    config_set_window(f, c, window, 0);
    int every = fields_int_or(f, "decoder_sparse_step", 1, MODEL_MAX_LAYERS, 1);
    for (int i = 0; i < c->layers; i++)
        c->has_experts[i] = (i + 1) % every == 0;
    read_layers_without_experts(f, c);
    m->experts = fields_int(
        f, fields_has(f, "num_local_experts") ? "num_local_experts" : "num_experts", 1, 4096);
    m->chosen = fields_int(f, "num_experts_per_tok", 1, 64);
    m->width = fields_int(f, "moe_intermediate_size", 16, 1 << 16);
    m->groups = m->kept_groups = 1;
    m->scores = SCORES_SOFTMAX;
    m->normalise = fields_bool_or(f, "norm_topk_prob", false);
    m->scale = 1;
    fields_must_divide(f, "moe_intermediate_size", m->width, 16);
    config_check_moe(f, m);
}

const struct family family_qwen2 = {"Qwen2ForCausalLM", read_qwen2};
const struct family family_qwen3 = {"Qwen3ForCausalLM", read_qwen3};
const struct family family_qwen3_moe = {"Qwen3MoeForCausalLM", read_qwen3_moe};
