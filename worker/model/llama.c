/* LlamaForCausalLM: Llama 2 and 3, and what was distilled into their shape; MistralForCausalLM,
 * which is the same with a window of attention and without biases. */
#include "worker/model/config.h"

static void read_shape(struct fields *f, struct model_config *c)
{
    config_read_common(f, c);
    config_read_fp8(f, c);
    config_read_gqa(f, c);
}

static void read_mistral(struct fields *f, struct model_config *c)
{
    read_shape(f, c);
    config_set_window(f, c, config_read_window(f, WINDOW_DEFAULT), 0);
    fields_must_be_off(f, "attention_bias");
}

static void read_llama(struct fields *f, struct model_config *c)
{
    read_shape(f, c);
    config_refuse_window(f, c);
    c->gqa.biases = c->gqa.out_bias = fields_bool_or(f, "attention_bias", false);
}

const struct family family_llama = {"LlamaForCausalLM", read_llama};
const struct family family_mistral = {"MistralForCausalLM", read_mistral};
