/* What a wrong folder is told: one line that names the file and the field or tensor. */
#include "worker/model/config.h"

#include <unistd.h>

#include "tests/unit/check.h"
#include "worker/model/model.h"

enum { CONFIG_MAX = 8192 };

static char folder[] = "/tmp/model-XXXXXX";
static char demo[CONFIG_MAX];

static size_t slurp(const char *path, char *out, size_t size)
{
    FILE *f = fopen(path, "rbe");
    CHECK_FATAL(f != NULL);
    size_t n = fread(out, 1, size - 1, f);
    fclose(f);
    out[n] = '\0';
    return n;
}

static void spit(const char *name, const char *data, size_t bytes)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wbe");
    CHECK_FATAL(f && fwrite(data, 1, bytes, f) == bytes);
    fclose(f);
}

/* The demo's config.json with one piece of text replaced. */
static void put_config(const char *from, const char *to)
{
    char changed[CONFIG_MAX + 256];
    const char *at = strstr(demo, from);
    CHECK_FATAL(at != NULL);
    snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - demo), demo, to, at + strlen(from));
    spit("config.json", changed, strlen(changed));
}

static const struct {
    const char *from, *to, *complaint;
} wrong[] = {
    {"\"DeepseekV3ForCausalLM\"", "\"GPT9\"", "architectures names GPT9"},
    {"\"architectures\"", "\"architecture\"", "architectures names no architecture"},
    {"\"hidden_size\": 256", "\"hidden_size\": \"256\"", "hidden_size is not a whole number"},
    {"\"hidden_size\": 256", "\"hidden_size\": 250", "hidden_size is 250; only multiples of 16"},
    {"\"hidden_size\": 256", "\"hidden_size\": 1e30", "hidden_size is not"},
    {"\"hidden_size\": 256", "\"hidden_size\": -256", "hidden_size is not"},
    {"\"hidden_size\"", "\"hidden\"", "hidden_size is missing"},
    {"\"vocab_size\": 1024", "\"vocab_size\": 0", "vocab_size is not"},
    {"\"num_hidden_layers\": 6", "\"num_hidden_layers\": 99999", "num_hidden_layers is not"},
    {"\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"", "hidden_act is gelu"},
    {"\"attention_bias\": false", "\"attention_bias\": true", "attention_bias is true"},
    {"\"sigmoid\"", "\"softmax\"", "scoring_func is softmax"},
    {"\"noaux_tc\"", "\"greedy\"", "topk_method is greedy"},
    {"\"n_group\": 4", "\"n_group\": 5", "n_group does not divide"},
    {"\"topk_group\": 2", "\"topk_group\": 5", "topk_group is more"},
    {"\"num_experts_per_tok\": 4", "\"num_experts_per_tok\": 9", "num_experts_per_tok is more"},
    {"\"rope_interleave\": true", "\"rope_interleave\": false", "rope_interleave is false"},
    {"\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"linear\"}",
     "rope_scaling.factor is missing"},
    {"\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}",
     "rope_scaling.type is dynamic; supported: \"linear\""},
    {"\"before_norm\"", "\"before\"", "mtp_hidden_state is not one of"},
    {"\"n_group\": 4,", "", "n_group is missing"},
    {"\"rope_scaling\": null", "\"rope_scaling\": 7", "rope_scaling is not an object"},
    {"\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"yarn\"}",
     "rope_scaling.factor is missing"},
    {"\"fmt\": \"e4m3\"", "\"fmt\": \"e5m2\"", "quantization_config.fmt is e5m2"},
    {"\"quant_method\": \"fp8\"", "\"quant_method\": \"awq\"",
     "quantization_config.quant_method is awq"},
    {"128,\n      128", "128", "quantization_config.weight_block_size"},
    {"\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": null", "rms_norm_eps is missing"},
    {"\"rope_theta\": 10000.0", "\"rope_theta\": 0", "rope_theta is not"},
};

static void test_config(void)
{
    struct model_config c;
    struct error err = {""};
    CHECK(model_config_load("models/demo", &c, &err) == OK);
    CHECK(c.hidden == 256 && c.mla.kv_rank == 64 && c.moe.experts == 16 && c.block_rows == 128);
    CHECK(!c.has_experts[0] && c.has_experts[1] && c.mtp_layers == 1);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        put_config(wrong[i].from, wrong[i].to);
        CHECK(model_config_load(folder, &c, &err) == INVALID);
        if (!strstr(err.text, wrong[i].complaint))
            fprintf(stderr, "%s\n", err.text);
        CHECK(strstr(err.text, wrong[i].complaint) && strstr(err.text, "config.json: "));
        CHECK(strchr(err.text, '\n') == NULL);
    }
    CHECK(model_config_load("/nowhere", &c, &err) != OK);
    CHECK(strstr(err.text, "/nowhere/config.json") != NULL);
}

/* Of other families: what is behind the fields that all have. */
#define COMMON                                                                                     \
    "\"vocab_size\":90,\"hidden_size\":64,\"num_hidden_layers\":3,\"num_attention_heads\":4,"      \
    "\"max_position_embeddings\":512,\"intermediate_size\":96,\"rms_norm_eps\":1e-6,"
static const char v2[] =
    "{\"architectures\":[\"DeepseekV2ForCausalLM\"]," COMMON
    "\"q_lora_rank\":null,\"kv_lora_rank\":32,"
    "\"routed_scaling_factor\":1,\"first_k_dense_replace\":0,\"qk_nope_head_dim\":16,\"qk_rope_"
    "head_dim\":8,\"v_head_dim\":16,\"n_routed_experts\":8,"
    "\"num_experts_per_tok\":3,\"moe_intermediate_size\":32,\"norm_topk_prob\":false,"
    "\"scoring_func\":\"softmax\",\"topk_method\":\"greedy\"}";
static const char llama[] = "{\"architectures\":[\"LlamaForCausalLM\"]," COMMON
                            "\"num_key_value_heads\":2,\"rope_scaling\":{\"rope_type\":\"llama3\","
                            "\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4,"
                            "\"original_max_position_embeddings\":64}}";
static const char qwen2[] =
    "{\"architectures\":[\"Qwen2ForCausalLM\"]," COMMON
    "\"num_key_value_heads\":2,\"use_sliding_window\":false,"
    "\"sliding_window\":128,\"layer_types\":[\"full_attention\",\"full_attention\","
    "\"full_attention\"]}";
static const char qwen3_moe[] =
    "{\"architectures\":[\"Qwen3MoeForCausalLM\"]," COMMON
    "\"head_dim\":48,\"num_key_value_heads\":2,\"num_experts\":8,"
    "\"num_experts_per_tok\":2,\"moe_intermediate_size\":32,"
    "\"decoder_sparse_step\":2,\"mlp_only_layers\":[1],"
    "\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":1e6}}";
static const char mixtral[] = "{\"architectures\":[\"MixtralForCausalLM\"]," COMMON
                              "\"num_key_value_heads\":2,\"num_local_experts\":4,"
                              "\"num_experts_per_tok\":2,\"sliding_window\":null}";

static const char mistral[] =
    "{\"architectures\":[\"MistralForCausalLM\"]," COMMON "\"num_key_value_heads\":2}";

static const struct {
    const char *base, *from, *to, *complaint;
} others[] = {
    {v2, "false", "true", "norm_topk_prob is true"},
    {v2, "\"softmax\"", "\"sigmoid\"", "scoring_func is sigmoid"},
    {v2, "\"greedy\"", "\"noaux_tc\"", "topk_method is not one of"},
    {v2, "\"greedy\"", "\"group_limited_greedy\",\"topk_group\":1,\"n_group\":3",
     "n_group does not divide"},
    {v2, "\"greedy\"", "\"group_limited_greedy\",\"topk_group\":1,\"n_group\":4",
     "num_experts_per_tok is more"},
    {v2, "\"routed_scaling_factor\":1,", "", "routed_scaling_factor is missing"},
    {v2, "\"first_k_dense_replace\":0,", "", "first_k_dense_replace is missing"},
    {v2, "\"greedy\"", "\"group_limited_greedy\"", "n_group is missing"},
    {v2, "\"n_routed_experts\":8", "\"n_routed_experts\":0", "n_routed_experts is not"},
    {v2, "\"moe_intermediate_size\":32", "\"moe_intermediate_size\":40",
     "moe_intermediate_size is 40; only multiples of 16"},
    {v2, "\"num_attention_heads\":4", "\"num_attention_heads\":1048576",
     "num_attention_heads is not"},
    {v2, "\"v_head_dim\":16", "\"v_head_dim\":2147483647", "v_head_dim is not"},
    {llama, "\"llama3\"", "\"longrope\"", "rope_scaling.rope_type is longrope; supported"},
    {llama, "\"llama3\"", "7", "rope_scaling.rope_type is not a text"},
    {llama, "\"high_freq_factor\":4", "\"high_freq_factor\":1", "rope_scaling.high_freq_factor"},
    {llama, "\"factor\":8,", "", "rope_scaling.factor is missing"},
    {llama, "\"num_key_value_heads\":2", "\"num_key_value_heads\":3",
     "num_key_value_heads does not"},
    {llama, "\"num_key_value_heads\":2", "\"head_dim\":21", "head_dim is 21; only multiples of 2"},
    {llama, "\"num_key_value_heads\":2", "\"head_dim\":22",
     "num_attention_heads times head_dim is not a multiple of 16"},
    {llama, "\"num_attention_heads\":4", "\"num_attention_heads\":64",
     "num_attention_heads leaves less than 2"},
    {llama, "\"vocab_size\"", "\"mlp_bias\":true,\"vocab_size\"", "mlp_bias is true"},
    {llama, "\"vocab_size\"", "\"sliding_window\":511,\"vocab_size\"", "sliding_window is below"},
    {llama, "\"vocab_size\"", "\"partial_rotary_factor\":0.5,\"vocab_size\"",
     "partial_rotary_factor"},
    {qwen2, "full_attention", "sliding_attention", "layer_types names sliding_attention, but"},
    {qwen2, "full_attention", "chunked_attention", "layer_types names others"},
    {qwen2, "[\"full_attention\",", "[", "layer_types does not have one text for each layer"},
    {qwen2, "false,\"sliding_window\":128", "true,\"sliding_window\":0", "sliding_window is not"},
    {qwen3_moe, "\"num_experts\":8",
     "\"use_sliding_window\":true,\"max_window_layers\":1,\"num_experts\":8",
     "max_window_layers is above 0"},
    {mistral, "\"num_key_value_heads\":2", "\"attention_bias\":true", "attention_bias is true"},
    {qwen3_moe, "\"num_experts\":8", "\"num_experts\":1", "num_experts_per_tok is more than all"},
    {qwen3_moe, "\"num_experts\":8", "\"number\":8", "num_experts is missing"},
    {qwen3_moe, "\"head_dim\":48,", "", "head_dim is missing"},
    {qwen3_moe, "[1]", "[3]", "mlp_only_layers names a layer"},
    {qwen3_moe, "[1]", "1", "mlp_only_layers is not a list"},
    {qwen3_moe, "\"rope_theta\":1e6", "\"rope_theta\":-1", "rope_parameters.rope_theta is not"},
    {mixtral, "\"num_local_experts\":4", "\"num_local_experts\":4097", "num_local_experts is not"},
};

static void read_text(const char *text, struct model_config *c, enum status want, const char *why)
{
    struct json *root = NULL;
    struct error err = {""};
    CHECK_FATAL(json_parse(text, strlen(text), NULL, &root, &err) == OK);
    CHECK(model_config_read("x/config.json", root, c, &err) == want);
    if (!strstr(err.text, why))
        fprintf(stderr, "%s\n", err.text);
    CHECK(strstr(err.text, why) && (want == OK || strstr(err.text, "x/config.json: ")));
    CHECK(strchr(err.text, '\n') == NULL);
    json_free(root);
}

static void change(const char *base, const char *from, const char *to, char out[2048])
{
    const char *at = strstr(base, from);
    CHECK_FATAL(at != NULL);
    snprintf(out, 2048, "%.*s%s%s", (int)(at - base), base, to, at + strlen(from));
}

static void test_other_families(void)
{
    struct model_config c;
    read_text(v2, &c, OK, "");
    CHECK(c.attention == ATTENTION_LATENT && c.mla.q_rank == 0 && !c.moe.choice_bias);
    read_text(llama, &c, OK, "");
    CHECK(c.gqa.head_dims == 16 && c.gqa.kv_heads == 2 && c.rope.stretch == ROPE_LLAMA3);
    read_text(qwen2, &c, OK, "");
    CHECK(c.gqa.biases && !c.gqa.out_bias && c.moe.experts == 0 && !c.has_experts[0]);
    read_text(qwen3_moe, &c, OK, "");
    CHECK(c.gqa.head_dims == 48 && c.gqa.head_norms && c.rope.theta == 1e6);
    CHECK(!c.has_experts[0] && !c.has_experts[1] && !c.has_experts[2]);
    read_text(mixtral, &c, OK, "");
    CHECK(c.has_experts[0] && c.moe.width == 96 && strcmp(c.names.up, "w3") == 0);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char changed[2048];
        change(others[i].base, others[i].from, others[i].to, changed);
        read_text(changed, &c, INVALID, others[i].complaint);
    }
}

/* The context is 512, of three layers; 0: the layer attends to all of it. */
static const struct {
    const char *base, *from, *to;
    int window[3];
} windows[] = {
    {mistral, "2}", "2}", {0, 0, 0}}, /* 4096, when nothing is said */
    {mistral,
     "\"max_position_embeddings\":512",
     "\"max_position_embeddings\":8192",
     {4096, 4096, 4096}},
    {mistral, "2}", "2,\"sliding_window\":511}", {511, 511, 511}},
    {mistral, "2}", "2,\"sliding_window\":512}", {0, 0, 0}},
    {mistral, "512", "8192,\"sliding_window\":null", {0, 0, 0}},
    {mixtral, "null", "128", {128, 128, 128}},
    {mixtral, "512", "8192", {0, 0, 0}},
    {qwen2, "512", "512", {0, 0, 0}},
    {qwen2,
     "false,\"sliding_window\":128,\"layer_types\":[\"full_attention\",",
     "true,\"sliding_window\":128,\"layer_types\":[\"sliding_attention\",",
     {128, 0, 0}},
    {qwen2,
     "false,\"sliding_window\":128,\"layer_types\"",
     "true,\"sliding_window\":128,\"max_window_layers\":1,\"types\"",
     {0, 128, 128}},
    {qwen2,
     "false,\"sliding_window\":128,\"layer_types\"",
     "true,\"sliding_window\":128,\"types\"",
     {0, 0, 0}}, /* from layer 28 on */
    {qwen3_moe,
     "\"num_experts\"",
     "\"use_sliding_window\":true,\"sliding_window\":64,\"num_experts\"",
     {64, 64, 64}},
};

static void test_windows(void)
{
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        struct model_config c;
        char changed[2048];
        change(windows[i].base, windows[i].from, windows[i].to, changed);
        read_text(changed, &c, OK, "");
        for (int layer = 0; layer < 3; layer++)
            CHECK_INT(c.window[layer], windows[i].window[layer]);
    }
}

static char *weights;
static size_t weight_bytes;

static void check_load(const char *complaint)
{
    struct model *m = NULL;
    struct error err = {""};
    CHECK(model_load(folder, NULL, &m, &err) == INVALID && !m);
    if (!strstr(err.text, complaint))
        fprintf(stderr, "%s\n", err.text);
    CHECK(strstr(err.text, complaint) && strstr(err.text, "model.safetensors: "));
    model_free(m);
}

/* The demo's weights with the first of some text in their header replaced, at the same length. */
static void put_weights(const char *from, const char *to)
{
    CHECK_FATAL(strlen(from) == strlen(to));
    char *at = memmem(weights, weight_bytes, from, strlen(from));
    CHECK_FATAL(at != NULL);
    memcpy(at, to, strlen(to));
    spit("model.safetensors", weights, weight_bytes);
    memcpy(at, from, strlen(from));
}

/* A NaN or an infinity in the middle of a tensor of the demo's. */
static void put_not_finite(const char *name, const char *dtype, uint16_t bits)
{
    char find[200], complaint[200];
    snprintf(find, sizeof find, "\"%s\":{\"dtype\":\"%s\",", name, dtype);
    const char *at = memmem(weights, weight_bytes, find, strlen(find));
    CHECK_FATAL(at != NULL);
    uint64_t header;
    memcpy(&header, weights, 8);
    size_t from = strtoul(strstr(at, "data_offsets\":[") + 15, NULL, 10) + 8 + header + 64;
    uint16_t old;
    memcpy(&old, weights + from, 2);
    memcpy(weights + from, &bits, 2);
    spit("model.safetensors", weights, weight_bytes);
    memcpy(weights + from, &old, 2);
    snprintf(complaint, sizeof complaint, "tensor %s: holds a NaN or an infinity", name);
    check_load(complaint);
}

static void test_weights(void)
{
    weights = malloc(16 << 20);
    CHECK_FATAL(weights != NULL);
    weight_bytes = slurp("models/demo/model.safetensors", weights, 16 << 20);
    spit("config.json", demo, strlen(demo));
    put_weights("model.norm.weight", "model.gone.weight");
    check_load("tensor model.norm.weight: missing");
    put_weights("3.mlp.experts.7.up_proj.weight\"", "3.mlp.experts.7.op_proj.weight\"");
    check_load("tensor model.layers.3.mlp.experts.7.up_proj.weight: missing");
    put_weights("2.self_attn.o_proj.weight_scale_inv", "2.self_attn.o_proj.weight_scale_imv");
    check_load("tensor model.layers.2.self_attn.o_proj.weight_scale_inv: missing");
    put_weights("\"BF16\",\"shape\":[1024,256]", "\"BF16\",\"shape\":[1024,265]");
    check_load("tensor lm_head.weight: its shape");
    put_weights("\"BF16\",\"shape\":[1024,256]", "\"BF16\",\"shape\":[256,1024]");
    check_load("tensor lm_head.weight: has shape [256, 1024], config.json makes it [1024, 256]");
    put_weights("\"F8_E4M3\"", "\"F8_E5M2\"");
    check_load("its dtype is not one of F32, F16, BF16, F8_E4M3");
    put_not_finite("lm_head.weight", "BF16", 0x7f80);
    put_not_finite("model.embed_tokens.weight", "BF16", 0xffc1);
    put_not_finite("model.norm.weight", "BF16", 0x7f80);
    put_not_finite("model.layers.2.mlp.experts.3.down_proj.weight", "F8_E4M3", 0x7f7f);
    put_not_finite("model.layers.2.self_attn.kv_b_proj.weight", "F8_E4M3", 0xffff);
    weights[weight_bytes - 1] = 0x7f; /* a NaN */
    spit("model.safetensors", weights, weight_bytes);
    struct model *m = NULL;
    struct error err = {""};
    CHECK(model_load(folder, NULL, &m, &err) == OK); /* in the layer that is not used */
    model_free(m);
    spit("model.safetensors", weights, weight_bytes - 1);
    check_load("the file has");
    free(weights);
}

static void clean_up(void)
{
    char path[256];
    snprintf(path, sizeof path, "%s/config.json", folder);
    unlink(path);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    unlink(path);
    rmdir(folder);
}

int main(void)
{
    CHECK_FATAL(mkdtemp(folder) != NULL);
    slurp("models/demo/config.json", demo, sizeof demo);
    test_config();
    test_other_families();
    test_windows();
    test_weights();
    clean_up();
    return check_done();
}
