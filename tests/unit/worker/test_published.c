/* The config.json of published models, in the fields that matter: they are read, and what follows
 * from them is what the reference code makes of them. */
#include <math.h>

#include "base/json.h"
#include "tests/unit/check.h"
#include "worker/model/config.h"
#include "worker/model/rope.h"

static const char deepseek_v3[] =
    "{\"architectures\":[\"DeepseekV3ForCausalLM\"],\"attention_bias\":false,"
    "\"first_k_dense_replace\":3,\"hidden_act\":\"silu\",\"hidden_size\":7168,"
    "\"intermediate_size\":18432,\"kv_lora_rank\":512,\"max_position_embeddings\":163840,"
    "\"moe_intermediate_size\":2048,\"moe_layer_freq\":1,\"n_group\":8,\"n_routed_experts\":256,"
    "\"n_shared_experts\":1,\"norm_topk_prob\":true,\"num_attention_heads\":128,"
    "\"num_experts_per_tok\":8,\"num_hidden_layers\":61,\"num_key_value_heads\":128,"
    "\"num_nextn_predict_layers\":1,\"q_lora_rank\":1536,\"qk_nope_head_dim\":128,"
    "\"qk_rope_head_dim\":64,\"quantization_config\":{\"activation_scheme\":\"dynamic\","
    "\"fmt\":\"e4m3\",\"quant_method\":\"fp8\",\"weight_block_size\":[128,128]},"
    "\"rms_norm_eps\":1e-06,\"rope_scaling\":{\"beta_fast\":32,\"beta_slow\":1,\"factor\":40,"
    "\"mscale\":1.0,\"mscale_all_dim\":1.0,\"original_max_position_embeddings\":4096,"
    "\"type\":\"yarn\"},\"rope_theta\":10000,\"routed_scaling_factor\":2.5,"
    "\"scoring_func\":\"sigmoid\",\"tie_word_embeddings\":false,\"topk_group\":4,"
    "\"topk_method\":\"noaux_tc\",\"torch_dtype\":\"bfloat16\",\"v_head_dim\":128,"
    "\"vocab_size\":129280}";

static const char deepseek_v2_lite[] =
    "{\"architectures\":[\"DeepseekV2ForCausalLM\"],\"attention_bias\":false,"
    "\"first_k_dense_replace\":1,\"hidden_act\":\"silu\",\"hidden_size\":2048,"
    "\"intermediate_size\":10944,\"kv_lora_rank\":512,\"max_position_embeddings\":163840,"
    "\"moe_intermediate_size\":1408,\"moe_layer_freq\":1,\"n_group\":1,\"n_routed_experts\":64,"
    "\"n_shared_experts\":2,\"norm_topk_prob\":false,\"num_attention_heads\":16,"
    "\"num_experts_per_tok\":6,\"num_hidden_layers\":27,\"num_key_value_heads\":16,"
    "\"q_lora_rank\":null,\"qk_nope_head_dim\":128,\"qk_rope_head_dim\":64,"
    "\"rms_norm_eps\":1e-06,\"rope_scaling\":{\"beta_fast\":32,\"beta_slow\":1,\"factor\":40,"
    "\"mscale\":0.707,\"mscale_all_dim\":0.707,\"original_max_position_embeddings\":4096,"
    "\"type\":\"yarn\"},\"rope_theta\":10000,\"routed_scaling_factor\":1.0,"
    "\"scoring_func\":\"softmax\",\"tie_word_embeddings\":false,\"topk_group\":1,"
    "\"topk_method\":\"greedy\",\"torch_dtype\":\"bfloat16\",\"v_head_dim\":128,"
    "\"vocab_size\":102400}";

static const char llama_3_1[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"attention_bias\":false,\"hidden_act\":\"silu\","
    "\"hidden_size\":4096,\"intermediate_size\":14336,\"max_position_embeddings\":131072,"
    "\"mlp_bias\":false,\"num_attention_heads\":32,\"num_hidden_layers\":32,"
    "\"num_key_value_heads\":8,\"pretraining_tp\":1,\"rms_norm_eps\":1e-05,"
    "\"rope_scaling\":{\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
    "\"original_max_position_embeddings\":8192,\"rope_type\":\"llama3\"},"
    "\"rope_theta\":500000.0,\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\","
    "\"vocab_size\":128256}";

static const char r1_distill_qwen[] =
    "{\"architectures\":[\"Qwen2ForCausalLM\"],\"hidden_act\":\"silu\",\"hidden_size\":1536,"
    "\"intermediate_size\":8960,\"max_position_embeddings\":131072,\"max_window_layers\":21,"
    "\"num_attention_heads\":12,\"num_hidden_layers\":28,\"num_key_value_heads\":2,"
    "\"rms_norm_eps\":1e-06,\"rope_theta\":10000,\"sliding_window\":4096,"
    "\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\",\"use_mrope\":false,"
    "\"use_sliding_window\":false,\"vocab_size\":151936}";

static const char qwen3_30b_a3b[] =
    "{\"architectures\":[\"Qwen3MoeForCausalLM\"],\"attention_bias\":false,"
    "\"decoder_sparse_step\":1,\"head_dim\":128,\"hidden_act\":\"silu\",\"hidden_size\":2048,"
    "\"intermediate_size\":6144,\"max_position_embeddings\":40960,\"max_window_layers\":48,"
    "\"mlp_only_layers\":[],\"moe_intermediate_size\":768,\"norm_topk_prob\":true,"
    "\"num_attention_heads\":32,\"num_experts\":128,\"num_experts_per_tok\":8,"
    "\"num_hidden_layers\":48,\"num_key_value_heads\":4,\"rms_norm_eps\":1e-06,"
    "\"rope_scaling\":null,\"rope_theta\":1000000.0,\"sliding_window\":null,"
    "\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\",\"use_sliding_window\":false,"
    "\"vocab_size\":151936}";

static const char mixtral_8x7b[] =
    "{\"architectures\":[\"MixtralForCausalLM\"],\"hidden_act\":\"silu\",\"hidden_size\":4096,"
    "\"intermediate_size\":14336,\"max_position_embeddings\":32768,\"num_attention_heads\":32,"
    "\"num_experts_per_tok\":2,\"num_hidden_layers\":32,\"num_key_value_heads\":8,"
    "\"num_local_experts\":8,\"rms_norm_eps\":1e-05,\"rope_theta\":1000000.0,"
    "\"sliding_window\":null,\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\","
    "\"vocab_size\":32000}";

static void read_config(const char *text, struct model_config *c)
{
    struct json *root = NULL;
    struct error err = {""};
    CHECK_FATAL(json_parse(text, strlen(text), NULL, &root, &err) == OK);
    enum status st = model_config_read("config.json", root, c, &err);
    json_free(root);
    if (st != OK)
        fprintf(stderr, "%s\n", err.text);
    CHECK_FATAL(st == OK);
}

static bool close_to(double a, double b)
{
    return fabs(a - b) < 1e-6 * fabs(b);
}

static void test_deepseek(void)
{
    struct model_config c;
    struct rope r;
    struct error err;
    read_config(deepseek_v3, &c);
    CHECK(fabs(c.mla.softmax_scale - 0.135234) < 1e-6 && c.rope.magnitude == 1);
    CHECK(!c.has_experts[2] && c.has_experts[3] && c.has_experts[61] && c.mtp_layers == 1);
    CHECK(!c.mtp_before_norm && c.block_rows == 128);
    /* The ramp from kept to slowed frequencies runs from pair 10 to pair 23 of 32. */
    CHECK_FATAL(rope_init(&r, &c.rope, &err) == OK && r.pairs == 32);
    for (int i = 0; i < 32; i++) {
        double kept = pow(10000, -i / 32.0), slowed = kept / 40;
        if (i <= 10)
            CHECK(close_to(r.frequency[i], kept));
        else if (i >= 23)
            CHECK(close_to(r.frequency[i], slowed));
        else
            CHECK(r.frequency[i] < kept && r.frequency[i] > slowed);
    }
    rope_done(&r);
    read_config(deepseek_v2_lite, &c);
    CHECK(fabs(c.mla.softmax_scale - 0.114721) < 1e-6 && c.rope.magnitude == 1);
    CHECK(c.mla.q_rank == 0 && c.moe.scores == SCORES_SOFTMAX && !c.moe.normalise);
    CHECK(c.moe.groups == 1 && c.moe.shared == 2 && c.mtp_layers == 0);
}

static void test_llama(void)
{
    struct model_config c;
    struct rope r;
    struct error err;
    read_config(llama_3_1, &c);
    CHECK(c.gqa.head_dims == 128 && c.gqa.kv_heads == 8 && !c.gqa.biases && c.rope.halves);
    CHECK_FATAL(rope_init(&r, &c.rope, &err) == OK && r.pairs == 64);
    for (int i = 0; i < 64; i++) {
        double kept = pow(500000, -i / 64.0), wave = 2 * M_PI / kept;
        if (wave < 8192 / 4.0)
            CHECK(close_to(r.frequency[i], kept));
        else if (wave > 8192 / 1.0)
            CHECK(close_to(r.frequency[i], kept / 8));
        else
            CHECK(close_to(r.frequency[i], kept / 8 + (kept - kept / 8) * (8192 / wave - 1) / 3));
    }
    rope_done(&r);
}

static void test_others(void)
{
    struct model_config c;
    read_config(r1_distill_qwen, &c);
    CHECK(c.gqa.biases && !c.gqa.head_norms && c.gqa.head_dims == 128 && c.gqa.kv_heads == 2);
    read_config(qwen3_30b_a3b, &c);
    CHECK(c.gqa.head_norms && !c.gqa.biases && c.moe.experts == 128 && c.moe.normalise);
    CHECK(c.has_experts[0] && c.has_experts[47] && c.rope.theta == 1e6 && c.moe.width == 768);
    read_config(mixtral_8x7b, &c);
    CHECK(c.moe.width == 14336 && c.moe.chosen == 2 && c.gqa.head_dims == 128);
}

/* Both layouts turn by the same angles and keep lengths; a turn depends on the distance alone. */
static void test_turns(void)
{
    for (int halves = 0; halves < 2; halves++) {
        struct rope_config c = {.dims = 32, .halves = halves, .theta = 100, .magnitude = 1};
        struct rope r;
        struct error err;
        float query[32], key[32], angles[32];
        double product[2] = {0, 0};
        CHECK_FATAL(rope_init(&r, &c, &err) == OK);
        for (int far = 0; far < 2; far++) {
            for (int i = 0; i < 32; i++) {
                query[i] = (float)(i % 7 - 3);
                key[i] = (float)(i % 5 - 2);
            }
            rope_angles(&r, far ? 1009 : 9, angles);
            rope_turn(&r, query, angles);
            rope_angles(&r, far ? 1003 : 3, angles);
            rope_turn(&r, key, angles);
            for (int i = 0; i < 32; i++)
                product[far] += (double)query[i] * (double)key[i];
        }
        CHECK(fabs(product[0] - product[1]) < 1e-3);
        rope_done(&r);
    }
}

int main(void)
{
    test_deepseek();
    test_llama();
    test_others();
    test_turns();
    return check_done();
}
