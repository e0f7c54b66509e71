/* LlamaForCausalLM: Llama 2 and 3, and what was distilled into their shape. */
#include "worker/model/config.h"

static void read_config(struct fields *f, struct model_config *c)
{
    config_read_common(f, c);
    config_read_fp8(f, c);
    config_read_gqa(f, c);
    config_refuse_window(f, c);
    c->gqa.biases = c->gqa.out_bias = fields_bool_or(f, "attention_bias", false);
}

const struct family family_llama = {"LlamaForCausalLM", read_config};
