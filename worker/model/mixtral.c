/* MixtralForCausalLM: experts in every layer, as wide as intermediate_size. */
#include "worker/model/config.h"

static void read_config(struct fields *f, struct model_config *c)
{
    struct moe_config *m = &c->moe;
    config_read_common(f, c);
    config_read_fp8(f, c);
    config_read_gqa(f, c);
    config_set_window(f, c, config_read_window(f, 0), 0);
    for (int i = 0; i < c->layers; i++)
        c->has_experts[i] = true;
    m->experts = fields_int(f, "num_local_experts", 1, 4096);
    m->chosen = fields_int(f, "num_experts_per_tok", 1, 64);
    m->width = c->mlp_width;
    m->groups = m->kept_groups = 1;
    m->scores = SCORES_SOFTMAX;
    m->normalise = true;
    m->scale = 1;
    config_check_moe(f, m);
    c->names = (struct tensor_names){"block_sparse_moe.gate", "block_sparse_moe.experts", "w1",
                                     "w3", "w2"};
}

const struct family family_mixtral = {"MixtralForCausalLM", read_config};
