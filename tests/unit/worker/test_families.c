/*
 * Every family on a small random model of its own making: it loads, its results do not depend on
 * batches, threads or instruction sets, and each missing tensor is named. What the results must
 * be, test_fixtures checks where the shared fixtures are at hand.
 */
#include "tests/lib/tiny.h"
#include "tests/unit/worker/golden.h"

#define EXPERTS_V2                                                                                 \
    ",\"routed_scaling_factor\":1.5,\"n_routed_experts\":8,\"n_shared_experts\":2,\"num_experts_"  \
    "per_tok\":3,"                                                                                 \
    "\"moe_intermediate_size\":32,\"first_k_dense_replace\":1,\"norm_topk_prob\":false,"           \
    "\"scoring_func\":\"softmax\""
#define YARN                                                                                       \
    "{\"type\":\"yarn\",\"factor\":4,\"original_max_position_embeddings\":128,\"mscale\":0.7,"     \
    "\"mscale_all_dim\":0.7}"
#define LLAMA3                                                                                     \
    "{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4,"         \
    "\"original_max_position_embeddings\":64}"

static const struct tiny families[] = {
    {.architecture = "DeepseekV2ForCausalLM",
     .extra = EXPERTS_V2 ",\"topk_method\":\"greedy\",\"rope_scaling\":" YARN,
     .dtype = DTYPE_BF16,
     .latent = true,
     .heads = 4,
     .experts = 8,
     .shared = 2,
     .expert_width = 32,
     .dense_layers = 1},
    {.architecture = "DeepseekV2ForCausalLM",
     .extra = EXPERTS_V2 ",\"topk_method\":\"group_limited_greedy\",\"n_group\":4,\"topk_group\":2",
     .dtype = DTYPE_F32,
     .latent = true,
     .q_rank = 48,
     .heads = 3,
     .experts = 8,
     .shared = 2,
     .expert_width = 32,
     .dense_layers = 1},
    {.architecture = "DeepseekV3ForCausalLM",
     .extra = ",\"n_routed_experts\":8,\"num_experts_per_tok\":2,\"moe_intermediate_size\":16,"
              "\"first_k_dense_replace\":0,\"n_group\":4,\"topk_group\":2,\"routed_scaling_"
              "factor\":2.5,\"moe_layer_freq\":1",
     .dtype = DTYPE_BF16,
     .latent = true,
     .q_rank = 48,
     .choice_bias = true,
     .heads = 4,
     .experts = 8,
     .expert_width = 16},
    {.architecture = "LlamaForCausalLM",
     .extra = "",
     .dtype = DTYPE_F16,
     .heads = 4,
     .kv_heads = 4,
     .head_dims = 16},
    {.architecture = "LlamaForCausalLM",
     .extra = ",\"rope_scaling\":" LLAMA3,
     .dtype = DTYPE_F32,
     .tied = true,
     .heads = 6,
     .kv_heads = 1,
     .head_dims = 32},
    {.architecture = "Qwen2ForCausalLM",
     .extra = ",\"use_sliding_window\":false,\"sliding_window\":128",
     .dtype = DTYPE_BF16,
     .biases = true,
     .heads = 14,
     .kv_heads = 2,
     .head_dims = 16},
    {.architecture = "Qwen3ForCausalLM",
     .extra = ",\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":1e6},"
              "\"dtype\":\"bfloat16\",\"layer_types\":[\"full_attention\",\"full_attention\","
              "\"full_attention\"]",
     .dtype = DTYPE_BF16,
     .head_norms = true,
     .tied = true,
     .heads = 6,
     .kv_heads = 2,
     .head_dims = 48},
    {.architecture = "Qwen3MoeForCausalLM",
     .extra = ",\"num_experts\":8,\"num_experts_per_tok\":2,\"moe_intermediate_size\":32,"
              "\"norm_topk_prob\":true,\"mlp_only_layers\":[0]",
     .dtype = DTYPE_BF16,
     .head_norms = true,
     .heads = 4,
     .kv_heads = 2,
     .head_dims = 16,
     .experts = 8,
     .expert_width = 32,
     .dense_layers = 1},
    {.architecture = "MistralForCausalLM",
     .extra = ",\"sliding_window\":30,\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}",
     .dtype = DTYPE_BF16,
     .heads = 8,
     .kv_heads = 4,
     .head_dims = 6},
    {.architecture = "Qwen3ForCausalLM",
     .extra = ",\"use_sliding_window\":true,\"sliding_window\":20,\"max_window_layers\":2",
     .dtype = DTYPE_F32,
     .head_norms = true,
     .biases = false,
     .heads = 4,
     .kv_heads = 2,
     .head_dims = 28},
    {.architecture = "MixtralForCausalLM",
     .extra = ",\"num_local_experts\":4,\"num_experts_per_tok\":2,\"sliding_window\":null",
     .dtype = DTYPE_BF16,
     .mixtral = true,
     .heads = 4,
     .kv_heads = 2,
     .head_dims = 16,
     .experts = 4,
     .expert_width = 48},
};
enum { FAMILIES = sizeof families / sizeof *families, PROMPT = 77 };

static void make_prompt(struct id_list *p)
{
    p->count = PROMPT;
    for (int i = 0; i < PROMPT; i++)
        p->ids[i] = (i * 37 + i * i * 11 + 5) % TINY_VOCAB;
}

static float *run_with(const struct tiny *t, const struct model_options *options, int chunk)
{
    struct model *m = golden_model(t->dir, options);
    struct id_list p;
    make_prompt(&p);
    float *logits = golden_run(m, &p, chunk);
    model_free(m);
    return logits;
}

static bool deterministic;

static float *run(const struct tiny *t, const char *kernels, int threads, int chunk)
{
    struct model_options options = {
        .threads = threads, .kernels = kernels, .deterministic = deterministic};
    return run_with(t, &options, chunk);
}

static bool has_kernels(const struct tiny *t, const char *kernels)
{
    struct model_options options = {.threads = 1, .kernels = kernels};
    struct model *m = NULL;
    struct error err;
    bool has = model_load(t->dir, &options, &m, &err) == OK;
    model_free(m);
    return has;
}

static void check_runs(const struct tiny *t)
{
    static const char *const kernels[] = {"portable", "avx2", "avx512"};
    size_t n = (size_t)PROMPT * TINY_VOCAB;
    float *want = run(t, "portable", 1, 32);
    double most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)want[i]));
    CHECK(most > 0.1 && most < 1000);
    for (size_t k = 0; k < 3; k++) {
        if (!has_kernels(t, kernels[k]))
            continue;
        deterministic = true;
        float *one = run(t, kernels[k], 1, PROMPT), *two = run(t, kernels[k], 2, 5);
        deterministic = false;
        float *free_to_choose = run(t, kernels[k], 2, PROMPT);
        CHECK(golden_difference(one, want, n) < 1e-5);
        CHECK(golden_difference(free_to_choose, want, n) < 1e-5);
        CHECK(memcmp(one, two, n * sizeof *one) == 0);
        free(one);
        free(two);
        free(free_to_choose);
    }
    free(want);
}

/* The cosine of the angle between them: 1 when they point the same way. */
static double likeness(const float *a, const float *b, size_t n)
{
    double product = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        product += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return product / sqrt(aa * bb);
}

/* Fewer bits for weights or cache: near the whole ones, and alike however a prompt is cut. Random
 * weights forgive little: a chosen expert that changes changes everything behind it. */
static void check_types(const struct tiny *t)
{
    static const struct {
        enum model_weights weights;
        enum kv_type kv;
        double least;
    } types[] = {{MODEL_AS_STORED, KV_BF16, 0.9},
                 {MODEL_AS_STORED, KV_INT8, 0.9},
                 {MODEL_INT8, KV_F32, 0.8},
                 {MODEL_INT4, KV_INT8, 0.5}};
    size_t n = (size_t)PROMPT * TINY_VOCAB;
    float *want = run(t, NULL, 1, PROMPT);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct model_options options = {.threads = 1,
                                        .weights = types[i].weights,
                                        .kv_type = types[i].kv,
                                        .deterministic = true};
        float *one = run_with(t, &options, PROMPT);
        options.threads = 2;
        float *two = run_with(t, &options, 5);
        double like = likeness(one, want, n);
        if (like < types[i].least)
            fprintf(stderr, "%s, types %zu: %g\n", t->architecture, i, like);
        CHECK(like >= types[i].least);
        CHECK(memcmp(one, two, n * sizeof *one) == 0);
        free(one);
        free(two);
    }
    free(want);
}

static void check_refused(const struct tiny *t, const char *tensor, const char *why)
{
    struct model_options options = {.threads = 1};
    struct model *m = NULL;
    struct error err = {""};
    char want[160];
    CHECK(model_load(t->dir, &options, &m, &err) == INVALID && !m);
    snprintf(want, sizeof want, "model.safetensors: tensor %s: %s", tensor, why);
    if (!strstr(err.text, want))
        fprintf(stderr, "%s instead of %s\n", err.text, want);
    CHECK(strstr(err.text, want) && !strchr(err.text, '\n'));
    model_free(m);
}

/* One expert stands for all, and the first two layers for those like them. */
static bool is_like_another(const char *name)
{
    const char *expert = strstr(name, ".experts.");
    return strstr(name, ".layers.2.") || (expert && !strstr(expert, ".experts.2."));
}

/* Each tensor left out, and each with a NaN at its end; then all with other shapes than
 * config.json makes of them. */
static void check_wrong_weights(struct tiny *t)
{
    for (int i = 0; i < t->count; i++) {
        if (is_like_another(t->tensors[i].name))
            continue;
        tiny_write_weights(t, i);
        check_refused(t, t->tensors[i].name, "missing");
        t->spoilt = i + 1;
        tiny_write_weights(t, -1);
        check_refused(t, t->tensors[i].name, "holds a NaN");
        t->spoilt = 0;
    }
    tiny_write_weights(t, -1);
    t->heads *= 2;
    tiny_write_config(t, t->extra);
    t->heads /= 2;
    check_refused(t,
                  t->q_rank ? "model.layers.0.self_attn.q_b_proj.weight"
                            : "model.layers.0.self_attn.q_proj.weight",
                  "has shape [");
}

/* Heads that share a key and a value compute what they would with copies of their own. */
static void check_sharing(int heads, int kv_heads)
{
    struct tiny shared = {.architecture = "LlamaForCausalLM",
                          .extra = "",
                          .dtype = DTYPE_BF16,
                          .heads = heads,
                          .kv_heads = kv_heads,
                          .head_dims = 32};
    struct tiny copied = shared;
    copied.kv_heads = heads;
    copied.repeat = heads / kv_heads;
    tiny_make(&shared);
    tiny_make(&copied);
    float *a = run(&shared, NULL, 2, 40), *b = run(&copied, NULL, 1, 7);
    CHECK(golden_difference(a, b, (size_t)PROMPT * TINY_VOCAB) < 1e-5);
    free(a);
    free(b);
    tiny_remove(&shared);
    tiny_remove(&copied);
}

/* FP8 bytes and their blocks' scales compute what the numbers that they mean compute. */
static void check_fp8(const struct tiny *like)
{
    struct tiny folded = *like;
    folded.dtype = DTYPE_F8_E4M3;
    struct tiny unfolded = folded;
    unfolded.unfolded = true;
    tiny_make(&folded);
    tiny_make(&unfolded);
    CHECK(folded.count > unfolded.count);
    float *a = run(&folded, NULL, 2, 40), *b = run(&unfolded, NULL, 1, 7);
    double difference = golden_difference(a, b, (size_t)PROMPT * TINY_VOCAB);
    if (difference >= 1e-4)
        fprintf(stderr, "%s: %g\n", like->architecture, difference);
    CHECK(difference < 1e-4);
    free(a);
    free(b);
    tiny_remove(&folded);
    tiny_remove(&unfolded);
}

int main(void)
{
    for (int i = 0; i < FAMILIES; i++) {
        struct tiny t = families[i];
        tiny_make(&t);
        check_runs(&t);
        check_types(&t);
        check_wrong_weights(&t);
        tiny_remove(&t);
        check_fp8(&families[i]);
    }
    check_sharing(7, 1);
    check_sharing(12, 2);
    check_sharing(3, 1);
    check_sharing(5, 5);
    return check_done();
}
