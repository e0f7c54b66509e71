#include "tests/tools/model_plan.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

enum { WEIGHTS_MAX = 1 << 20 };

struct shape { /* of config.json; 0: absent */
    int vocab, hidden, layers, heads, kv_heads, head_dims, width, context;
    int q_rank, kv_rank, nope, rope, value;
    int experts, shared, chosen, expert_width, first_layer, groups, kept_groups;
    double epsilon, theta, scale;
    bool tied, normalise, biases;
};

struct planner {
    const char *file;
    const struct json *root;
    struct shape s;
    struct model_plan *plan;
    uint64_t seed;
    enum status status;
    struct error *err;
};

/* The first failure is kept. */
static void fail(struct planner *p, enum status status, const char *what, const char *name)
{
    if (p->status == OK)
        p->status = error_set(p->err, status, "%s: %s%s", p->file, name, what);
}

static int whole(struct planner *p, const char *name, int64_t absent)
{
    const struct json *v = json_get(p->root, name);
    int64_t n = absent;
    if (v && !json_is_null(v) && !json_int(v, 1, 1 << 24, &n) && !(json_int(v, 0, 0, &n)))
        fail(p, INVALID, " is not a whole number up to 16777216", name);
    else if (n < 0)
        fail(p, INVALID, " is missing", name);
    return (int)n;
}

static double real(const struct planner *p, const char *name, double absent)
{
    const struct json *v = json_get(p->root, name);
    return json_is_number(v) ? json_number(v) : absent;
}

static void *grown(struct planner *p, void *items, int count, size_t size)
{
    if (count & (count - 1))
        return items;
    void *more =
        count < WEIGHTS_MAX ? realloc(items, (size_t)(count ? 2 * count : 1) * size) : NULL;
    if (!more)
        fail(p, NOMEM, "too many tensors", "");
    return more;
}

/* Returns its index. rows 0: a vector. */
static int add_weight(struct planner *p, int rows, int cols, const char *format, ...)
{
    struct model_plan *plan = p->plan;
    void *more = grown(p, plan->weights, plan->weight_count, sizeof *plan->weights);
    if (!more || p->status != OK)
        return 0;
    plan->weights = more;
    struct weight *w = &plan->weights[plan->weight_count];
    *w = (struct weight){.rows = rows ? rows : 1, .cols = cols, .vector = !rows};
    w->deviation = rows ? 1 / sqrtf((float)cols) : 0.05f;
    va_list args;
    va_start(args, format);
    vsnprintf(w->name, sizeof w->name, format, args);
    va_end(args);
    w->key = p->seed;
    for (const char *c = w->name; *c; c++)
        w->key = (w->key ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
    return plan->weight_count++;
}

static struct gguf_tensor *add_tensor(struct planner *p, int first, const char *format, ...)
{
    struct model_plan *plan = p->plan;
    void *more = grown(p, plan->tensors, plan->tensor_count, sizeof *plan->tensors);
    static struct gguf_tensor none;
    if (!more || p->status != OK)
        return &none;
    plan->tensors = more;
    struct gguf_tensor *t = &plan->tensors[plan->tensor_count++];
    const struct weight *w = &plan->weights[first];
    *t = (struct gguf_tensor){.first = first,
                              .dims = w->vector ? 1 : 2,
                              .shape = {w->cols, w->rows, 1},
                              .exact = w->vector};
    va_list args;
    va_start(args, format);
    vsnprintf(t->name, sizeof t->name, format, args);
    va_end(args);
    return t;
}

static void add_matrix(struct planner *p, int rows, int cols, const char *name, const char *gguf)
{
    add_tensor(p, add_weight(p, rows, cols, "%s", name), "%s", gguf);
}

struct names { /* of one layer's part */
    const char *hf, *gguf;
};

static void add_part(struct planner *p, int layer, int rows, int cols, const struct names *part)
{
    int first = add_weight(p, rows, cols, "model.layers.%d.%s", layer, part->hf);
    add_tensor(p, first, "blk.%d.%s", layer, part->gguf);
}
#define ADD(rows, cols, hf, gguf) add_part(p, layer, rows, cols, &(struct names){hf, gguf})

/* Around 1, as trained norms are. */
static void add_norm(struct planner *p, int layer, int n, const struct names *part)
{
    add_part(p, layer, 0, n, part);
    if (p->status == OK)
        p->plan->weights[p->plan->weight_count - 1].mean = 1;
}
#define ADD_NORM(n, hf, gguf) add_norm(p, layer, n, &(struct names){hf, gguf})

/* llama.cpp wants kv_b in two, the keys' half transposed. */
static void set_split(struct gguf_tensor *t, enum layout layout, const struct shape *s)
{
    bool key = layout == LAYOUT_KEY;
    t->dims = 3;
    t->shape[0] = key ? s->nope : s->kv_rank;
    t->shape[1] = key ? s->kv_rank : s->value;
    t->shape[2] = s->heads;
    t->layout = layout;
    t->head_rows = s->nope + s->value;
}

static void add_mla(struct planner *p, int layer)
{
    const struct shape *s = &p->s;
    int dims = s->nope + s->rope, head_rows = s->nope + s->value;
    if (s->q_rank) {
        ADD(s->q_rank, s->hidden, "self_attn.q_a_proj.weight", "attn_q_a.weight");
        ADD_NORM(s->q_rank, "self_attn.q_a_layernorm.weight", "attn_q_a_norm.weight");
        ADD(s->heads * dims, s->q_rank, "self_attn.q_b_proj.weight", "attn_q_b.weight");
    } else {
        ADD(s->heads * dims, s->hidden, "self_attn.q_proj.weight", "attn_q.weight");
    }
    ADD(s->kv_rank + s->rope, s->hidden, "self_attn.kv_a_proj_with_mqa.weight",
        "attn_kv_a_mqa.weight");
    ADD_NORM(s->kv_rank, "self_attn.kv_a_layernorm.weight", "attn_kv_a_norm.weight");
    int kv_b = add_weight(p, s->heads * head_rows, s->kv_rank,
                          "model.layers.%d.self_attn.kv_b_proj.weight", layer);
    struct gguf_tensor *t = add_tensor(p, kv_b, "blk.%d.attn_k_b.weight", layer);
    set_split(t, LAYOUT_KEY, s);
    t = add_tensor(p, kv_b, "blk.%d.attn_v_b.weight", layer);
    set_split(t, LAYOUT_VALUE, s);
    ADD(s->hidden, s->heads * s->value, "self_attn.o_proj.weight", "attn_output.weight");
}

static void add_attention(struct planner *p, int layer)
{
    const struct shape *s = &p->s;
    int q = s->heads * s->head_dims, kv = s->kv_heads * s->head_dims;
    ADD(q, s->hidden, "self_attn.q_proj.weight", "attn_q.weight");
    ADD(kv, s->hidden, "self_attn.k_proj.weight", "attn_k.weight");
    ADD(kv, s->hidden, "self_attn.v_proj.weight", "attn_v.weight");
    if (s->biases) {
        ADD(0, q, "self_attn.q_proj.bias", "attn_q.bias");
        ADD(0, kv, "self_attn.k_proj.bias", "attn_k.bias");
        ADD(0, kv, "self_attn.v_proj.bias", "attn_v.bias");
    }
    ADD(s->hidden, q, "self_attn.o_proj.weight", "attn_output.weight");
}

static void add_dense(struct planner *p, int layer)
{
    const struct shape *s = &p->s;
    ADD(s->width, s->hidden, "mlp.gate_proj.weight", "ffn_gate.weight");
    ADD(s->width, s->hidden, "mlp.up_proj.weight", "ffn_up.weight");
    ADD(s->hidden, s->width, "mlp.down_proj.weight", "ffn_down.weight");
}

static void add_expert_stacks(struct planner *p, int layer, int first)
{
    static const char *const names[3] = {"gate", "up", "down"};
    for (int i = 0; i < 3 && p->status == OK; i++) {
        struct gguf_tensor *t =
            add_tensor(p, first + i, "blk.%d.ffn_%s_exps.weight", layer, names[i]);
        t->dims = 3;
        t->shape[2] = p->s.experts;
        t->layout = LAYOUT_STACK;
    }
}

static void add_experts(struct planner *p, int layer)
{
    const struct shape *s = &p->s;
    int shared = s->shared * s->expert_width, first = p->plan->weight_count + 2;
    ADD(s->experts, s->hidden, "mlp.gate.weight", "ffn_gate_inp.weight");
    if (p->status == OK)
        p->plan->tensors[p->plan->tensor_count - 1].exact = true;
    ADD(0, s->experts, "mlp.gate.e_score_correction_bias", "exp_probs_b.bias");
    for (int e = 0; e < s->experts; e++) {
        static const char format[] = "model.layers.%d.mlp.experts.%d.%s_proj.weight";
        add_weight(p, s->expert_width, s->hidden, format, layer, e, "gate");
        add_weight(p, s->expert_width, s->hidden, format, layer, e, "up");
        add_weight(p, s->hidden, s->expert_width, format, layer, e, "down");
    }
    add_expert_stacks(p, layer, first);
    if (!shared)
        return;
    ADD(shared, s->hidden, "mlp.shared_experts.gate_proj.weight", "ffn_gate_shexp.weight");
    ADD(shared, s->hidden, "mlp.shared_experts.up_proj.weight", "ffn_up_shexp.weight");
    ADD(s->hidden, shared, "mlp.shared_experts.down_proj.weight", "ffn_down_shexp.weight");
}

static void add_weights(struct planner *p)
{
    const struct shape *s = &p->s;
    add_matrix(p, s->vocab, s->hidden, "model.embed_tokens.weight", "token_embd.weight");
    if (p->status == OK)
        p->plan->weights[0].deviation = 1;
    for (int layer = 0; layer < s->layers; layer++) {
        ADD_NORM(s->hidden, "input_layernorm.weight", "attn_norm.weight");
        s->kv_rank ? add_mla(p, layer) : add_attention(p, layer);
        ADD_NORM(s->hidden, "post_attention_layernorm.weight", "ffn_norm.weight");
        s->experts &&layer >= s->first_layer ? add_experts(p, layer) : add_dense(p, layer);
    }
    add_matrix(p, 0, s->hidden, "model.norm.weight", "output_norm.weight");
    if (p->status == OK)
        p->plan->weights[p->plan->weight_count - 1].mean = 1;
    if (!s->tied)
        add_matrix(p, s->vocab, s->hidden, "lm_head.weight", "output.weight");
}

/* Types of GGUF's metadata. */
enum { META_U32 = 4, META_F32 = 6, META_BOOL = 7, META_STRING = 8 };

static void put(struct planner *p, const void *data, size_t bytes)
{
    if (p->status == OK && buf_add(&p->plan->metadata, data, bytes) != OK)
        fail(p, NOMEM, "out of memory", "");
}

static void put_text(struct planner *p, const char *text)
{
    uint64_t n = strlen(text);
    put(p, &n, 8);
    put(p, text, n);
}

static void put_key(struct planner *p, const char *architecture, const char *key, uint32_t type)
{
    char full[96];
    snprintf(full, sizeof full, "%s.%s", architecture, key);
    put_text(p, full);
    put(p, &type, 4);
    p->plan->metadata_count++;
}

static void put_u32(struct planner *p, const char *architecture, const char *key, int value)
{
    uint32_t v = (uint32_t)value;
    put_key(p, architecture, key, META_U32);
    put(p, &v, 4);
}

static void put_f32(struct planner *p, const char *architecture, const char *key, double value)
{
    float v = (float)value;
    put_key(p, architecture, key, META_F32);
    put(p, &v, 4);
}

static void put_string(struct planner *p, const char *section, const char *key, const char *value)
{
    put_key(p, section, key, META_STRING);
    put_text(p, value);
}

static void put_common(struct planner *p, const char *a)
{
    const struct shape *s = &p->s;
    put_string(p, "general", "architecture", a);
    put_u32(p, "general", "quantization_version", 2);
    put_string(p, "tokenizer", "ggml.model", "no_vocab");
    put_u32(p, a, "vocab_size", s->vocab);
    put_u32(p, a, "context_length", s->context);
    put_u32(p, a, "embedding_length", s->hidden);
    put_u32(p, a, "block_count", s->layers);
    put_u32(p, a, "feed_forward_length", s->width);
    put_u32(p, a, "attention.head_count", s->heads);
    put_u32(p, a, "attention.head_count_kv", s->kv_rank ? 1 : s->kv_heads);
    put_f32(p, a, "attention.layer_norm_rms_epsilon", s->epsilon);
    put_f32(p, a, "rope.freq_base", s->theta);
    put_u32(p, a, "rope.dimension_count", s->kv_rank ? s->rope : s->head_dims);
}

static void put_deepseek2(struct planner *p)
{
    const struct shape *s = &p->s;
    static const char a[] = "deepseek2";
    enum { GATING_SIGMOID = 2 };
    put_common(p, a);
    put_u32(p, a, "leading_dense_block_count", s->first_layer);
    if (s->q_rank)
        put_u32(p, a, "attention.q_lora_rank", s->q_rank);
    put_u32(p, a, "attention.kv_lora_rank", s->kv_rank);
    put_u32(p, a, "attention.key_length", s->kv_rank + s->rope);
    put_u32(p, a, "attention.value_length", s->kv_rank);
    put_u32(p, a, "attention.key_length_mla", s->nope + s->rope);
    put_u32(p, a, "attention.value_length_mla", s->value);
    put_u32(p, a, "expert_count", s->experts);
    put_u32(p, a, "expert_used_count", s->chosen);
    put_u32(p, a, "expert_shared_count", s->shared);
    put_u32(p, a, "expert_feed_forward_length", s->expert_width);
    put_u32(p, a, "expert_gating_func", GATING_SIGMOID);
    put_f32(p, a, "expert_weights_scale", s->scale);
    put_key(p, a, "expert_weights_norm", META_BOOL);
    put(p, &s->normalise, 1);
    if (s->groups > 1) {
        put_u32(p, a, "expert_group_count", s->groups);
        put_u32(p, a, "expert_group_used_count", s->kept_groups);
    }
}

static void read_common(struct planner *p)
{
    struct shape *s = &p->s;
    s->vocab = whole(p, "vocab_size", -1);
    s->hidden = whole(p, "hidden_size", -1);
    s->layers = whole(p, "num_hidden_layers", -1);
    s->heads = whole(p, "num_attention_heads", -1);
    s->width = whole(p, "intermediate_size", -1);
    s->context = whole(p, "max_position_embeddings", -1);
    s->epsilon = real(p, "rms_norm_eps", 1e-6);
    s->theta = real(p, "rope_theta", 10000);
    s->tied = json_bool(json_get(p->root, "tie_word_embeddings"));
    const struct json *scaling = json_get(p->root, "rope_scaling");
    if (scaling && !json_is_null(scaling))
        fail(p, INVALID, " is not null: this tool knows plain rope only", "rope_scaling");
}

static void read_deepseek(struct planner *p)
{
    struct shape *s = &p->s;
    s->q_rank = whole(p, "q_lora_rank", 0);
    s->kv_rank = whole(p, "kv_lora_rank", -1);
    s->nope = whole(p, "qk_nope_head_dim", -1);
    s->rope = whole(p, "qk_rope_head_dim", -1);
    s->value = whole(p, "v_head_dim", -1);
    s->experts = whole(p, "n_routed_experts", -1);
    s->shared = whole(p, "n_shared_experts", 0);
    s->chosen = whole(p, "num_experts_per_tok", -1);
    s->expert_width = whole(p, "moe_intermediate_size", -1);
    s->first_layer = whole(p, "first_k_dense_replace", 0);
    s->groups = whole(p, "n_group", 1);
    s->kept_groups = whole(p, "topk_group", 1);
    s->scale = real(p, "routed_scaling_factor", 1);
    s->normalise = json_bool(json_get(p->root, "norm_topk_prob"));
}

static void plan_family(struct planner *p, const char *name)
{
    struct shape *s = &p->s;
    read_common(p);
    if (strcmp(name, "DeepseekV3ForCausalLM") == 0) {
        read_deepseek(p);
        put_deepseek2(p);
        return;
    }
    s->kv_heads = whole(p, "num_key_value_heads", s->heads);
    s->head_dims = whole(p, "head_dim", s->heads ? s->hidden / s->heads : 0);
    s->biases = strcmp(name, "Qwen2ForCausalLM") == 0;
    if (s->biases)
        put_common(p, "qwen2");
    else
        fail(p, INVALID, " is no architecture that this tool knows", name);
}

enum status model_plan_make(const char *config_file, uint64_t seed, struct model_plan *out,
                            struct error *err)
{
    struct json *root = NULL;
    enum status st = json_parse_file(config_file, 1 << 20, &root, err);
    if (st != OK)
        return st;
    *out = (struct model_plan){0};
    buf_init(&out->metadata, 1 << 16);
    struct planner p = {.file = config_file, .root = root, .plan = out, .seed = seed, .err = err};
    const char *name = json_string(json_first(json_get(root, "architectures")));
    if (name)
        plan_family(&p, name);
    else
        fail(&p, INVALID, "architectures names none", "");
    if (p.status == OK)
        add_weights(&p);
    json_free(root);
    if (p.status != OK)
        model_plan_done(out);
    return p.status;
}

void model_plan_done(struct model_plan *p)
{
    free(p->weights);
    free(p->tensors);
    buf_done(&p->metadata);
}
