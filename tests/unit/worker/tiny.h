/* Small random models of any family, written to a temporary folder in the published form. A
 * tensor's values depend on its name and place alone, so that two folders that differ in one thing
 * differ in that thing. */
#ifndef TESTS_UNIT_WORKER_TINY_H
#define TESTS_UNIT_WORKER_TINY_H

#include <stdarg.h>
#include <unistd.h>

#include "tests/unit/check.h"
#include "worker/model/safetensors.h"

enum { TINY_TENSORS_MAX = 400, TINY_HIDDEN = 64, TINY_VOCAB = 90, TINY_LAYERS = 3, TINY_MLP = 96 };

struct tiny_tensor {
    char name[80];
    int rows, cols; /* cols 0: a vector */
};

struct tiny {
    /* what to make */
    const char *architecture, *extra; /* extra: more fields of config.json, each behind a comma */
    enum dtype dtype;                 /* F32, F16 or BF16 */
    bool latent, biases, head_norms, choice_bias, tied, mixtral;
    int q_rank;                     /* latent: 0: one projection */
    int heads, kv_heads, head_dims; /* grouped */
    int repeat;                     /* so many KV heads in a row are equal; 0: none are */
    int experts, shared, expert_width;
    int dense_layers; /* the first so many have no experts */
    /* what was made */
    char dir[32];
    struct tiny_tensor tensors[TINY_TENSORS_MAX];
    int count;
};

__attribute__((format(printf, 4, 5))) static inline void tiny_add(struct tiny *t, int rows,
                                                                  int cols, const char *form, ...)
{
    CHECK_FATAL(t->count < TINY_TENSORS_MAX);
    struct tiny_tensor *one = &t->tensors[t->count++];
    va_list args;
    va_start(args, form);
    vsnprintf(one->name, sizeof one->name, form, args);
    va_end(args);
    one->rows = rows;
    one->cols = cols;
}

static inline void tiny_add_latent(struct tiny *t, int i)
{
    const char *at = "model.layers.%d.self_attn.%s.weight";
    if (t->q_rank) {
        tiny_add(t, t->q_rank, TINY_HIDDEN, at, i, "q_a_proj");
        tiny_add(t, t->q_rank, 0, at, i, "q_a_layernorm");
        tiny_add(t, t->heads * 24, t->q_rank, at, i, "q_b_proj");
    } else {
        tiny_add(t, t->heads * 24, TINY_HIDDEN, at, i, "q_proj");
    }
    tiny_add(t, 32 + 8, TINY_HIDDEN, at, i, "kv_a_proj_with_mqa");
    tiny_add(t, 32, 0, at, i, "kv_a_layernorm");
    tiny_add(t, t->heads * 32, 32, at, i, "kv_b_proj");
    tiny_add(t, TINY_HIDDEN, t->heads * 16, at, i, "o_proj");
}

static inline void tiny_add_grouped(struct tiny *t, int i)
{
    static const char *const names[] = {"q_proj", "k_proj", "v_proj"};
    for (int n = 0; n < 3; n++) {
        int rows = (n ? t->kv_heads : t->heads) * t->head_dims;
        tiny_add(t, rows, TINY_HIDDEN, "model.layers.%d.self_attn.%s.weight", i, names[n]);
        if (t->biases)
            tiny_add(t, rows, 0, "model.layers.%d.self_attn.%s.bias", i, names[n]);
        if (t->head_norms && n < 2)
            tiny_add(t, t->head_dims, 0, "model.layers.%d.self_attn.%c_norm.weight", i,
                     names[n][0]);
    }
    tiny_add(t, TINY_HIDDEN, t->heads * t->head_dims, "model.layers.%d.self_attn.o_proj.weight", i);
}

/* prefix: of the tensors; names: of gate, up and down behind it. */
static inline void tiny_add_mlp(struct tiny *t, const char *prefix, const char *const names[3],
                                int width)
{
    for (int n = 0; n < 3; n++)
        tiny_add(t, n < 2 ? width : TINY_HIDDEN, n < 2 ? TINY_HIDDEN : width, "%s.%s.weight",
                 prefix, names[n]);
}

static inline void tiny_add_experts(struct tiny *t, int i)
{
    static const char *const usual[] = {"gate_proj", "up_proj", "down_proj"};
    static const char *const mixtral[] = {"w1", "w3", "w2"};
    const char *block = t->mixtral ? "block_sparse_moe" : "mlp";
    char prefix[64];
    tiny_add(t, t->experts, TINY_HIDDEN, "model.layers.%d.%s.gate.weight", i, block);
    if (t->choice_bias)
        tiny_add(t, t->experts, 0, "model.layers.%d.mlp.gate.e_score_correction_bias", i);
    for (int e = 0; e < t->experts; e++) {
        snprintf(prefix, sizeof prefix, "model.layers.%d.%s.experts.%d", i, block, e);
        tiny_add_mlp(t, prefix, t->mixtral ? mixtral : usual, t->expert_width);
    }
    snprintf(prefix, sizeof prefix, "model.layers.%d.mlp.shared_experts", i);
    if (t->shared)
        tiny_add_mlp(t, prefix, usual, t->shared * t->expert_width);
}

static inline void tiny_add_all(struct tiny *t)
{
    static const char *const usual[] = {"gate_proj", "up_proj", "down_proj"};
    char prefix[64];
    t->count = 0;
    tiny_add(t, TINY_VOCAB, TINY_HIDDEN, "model.embed_tokens.weight");
    if (!t->tied)
        tiny_add(t, TINY_VOCAB, TINY_HIDDEN, "lm_head.weight");
    tiny_add(t, TINY_HIDDEN, 0, "model.norm.weight");
    for (int i = 0; i < TINY_LAYERS; i++) {
        tiny_add(t, TINY_HIDDEN, 0, "model.layers.%d.input_layernorm.weight", i);
        tiny_add(t, TINY_HIDDEN, 0, "model.layers.%d.post_attention_layernorm.weight", i);
        if (t->latent)
            tiny_add_latent(t, i);
        else
            tiny_add_grouped(t, i);
        snprintf(prefix, sizeof prefix, "model.layers.%d.mlp", i);
        if (t->experts && i >= t->dense_layers)
            tiny_add_experts(t, i);
        else
            tiny_add_mlp(t, prefix, usual, TINY_MLP);
    }
}

/* Between -1 and 1, by name and place. */
static inline float tiny_value(const char *name, size_t place)
{
    uint64_t h = 1469598103934665603u + place * 0x9e3779b97f4a7c15u;
    for (; *name; name++)
        h = (h ^ (uint8_t)*name) * 1099511628211u;
    h = (h ^ h >> 31) * 0xbf58476d1ce4e5b9u;
    h ^= h >> 29;
    return (float)((double)(h >> 11) * 0x1p-52 - 1);
}

static inline float tiny_weight(const struct tiny *t, const struct tiny_tensor *one, size_t place)
{
    size_t block = one->cols && t->head_dims ? (size_t)(t->head_dims * one->cols) : 0;
    if (!one->cols)
        return strstr(one->name, "norm") ? 1 + 0.3f * tiny_value(one->name, place)
                                         : 0.3f * tiny_value(one->name, place);
    if (t->repeat && (strstr(one->name, "k_proj") || strstr(one->name, "v_proj")))
        place = place / (block * (size_t)t->repeat) * block + place % block;
    return tiny_value(one->name, place) * 3 / (float)(one->cols > 64 ? 10 : 8);
}

static inline void tiny_put(FILE *f, enum dtype dtype, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t half = (uint16_t)(bits >> 16);
    if (dtype == DTYPE_F16) { /* of the values here none is out of its normal range but zero */
        int exponent = (int)(bits >> 23 & 255) - 112;
        half = (uint16_t)((bits >> 16 & 0x8000) |
                          (exponent > 0 ? (uint32_t)exponent << 10 | (bits >> 13 & 1023) : 0));
    }
    if (dtype == DTYPE_F32)
        fwrite(&bits, sizeof bits, 1, f);
    else
        fwrite(&half, sizeof half, 1, f);
}

static inline FILE *tiny_open(const struct tiny *t, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "%s/%s", t->dir, name);
    FILE *f = fopen(path, "wbe");
    CHECK_FATAL(f != NULL);
    return f;
}

static inline void tiny_write_config(const struct tiny *t, const char *extra)
{
    FILE *f = tiny_open(t, "config.json");
    fprintf(f,
            "{\"architectures\":[\"%s\"],\"vocab_size\":%d,\"hidden_size\":%d,"
            "\"num_hidden_layers\":%d,\"num_attention_heads\":%d,\"max_position_embeddings\":512,"
            "\"intermediate_size\":%d,\"rms_norm_eps\":1e-6,\"rope_theta\":10000,"
            "\"tie_word_embeddings\":%s",
            t->architecture, TINY_VOCAB, TINY_HIDDEN, TINY_LAYERS, t->heads,
            t->mixtral ? t->expert_width : TINY_MLP, t->tied ? "true" : "false");
    if (t->latent)
        fputs(",\"kv_lora_rank\":32,\"qk_nope_head_dim\":16,\"qk_rope_head_dim\":8,"
              "\"v_head_dim\":16,\"q_lora_rank\":",
              f);
    if (t->latent && t->q_rank)
        fprintf(f, "%d", t->q_rank);
    else if (t->latent)
        fputs("null", f);
    else
        fprintf(f, ",\"num_key_value_heads\":%d,\"head_dim\":%d", t->kv_heads, t->head_dims);
    fprintf(f, "%s}", extra);
    fclose(f);
}

/* All tensors but number `without` (-1: all). */
static inline void tiny_write_weights(const struct tiny *t, int without)
{
    static const char *const types[] = {"F32", "F16", "BF16"};
    FILE *f = tiny_open(t, "model.safetensors");
    size_t at = 0, element = dtype_bytes(t->dtype);
    char *header = NULL;
    size_t header_bytes = 0;
    FILE *h = open_memstream(&header, &header_bytes);
    CHECK_FATAL(h != NULL);
    for (int i = 0; i < t->count; i++) {
        const struct tiny_tensor *one = &t->tensors[i];
        size_t n = (size_t)one->rows * (size_t)(one->cols ? one->cols : 1) * element;
        if (i == without)
            continue;
        fprintf(h, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%d", at ? "," : "{", one->name,
                types[t->dtype], one->rows);
        if (one->cols)
            fprintf(h, ",%d", one->cols);
        fprintf(h, "],\"data_offsets\":[%zu,%zu]}", at, at + n);
        at += n;
    }
    fputc('}', h);
    fclose(h);
    uint64_t length = header_bytes;
    fwrite(&length, sizeof length, 1, f);
    fwrite(header, 1, header_bytes, f);
    free(header);
    for (int i = 0; i < t->count; i++) {
        const struct tiny_tensor *one = &t->tensors[i];
        size_t n = (size_t)one->rows * (size_t)(one->cols ? one->cols : 1);
        for (size_t k = 0; i != without && k < n; k++)
            tiny_put(f, t->dtype, tiny_weight(t, one, k));
    }
    fclose(f);
}

static inline void tiny_make(struct tiny *t)
{
    snprintf(t->dir, sizeof t->dir, "/tmp/tiny-XXXXXX");
    CHECK_FATAL(mkdtemp(t->dir) != NULL);
    tiny_add_all(t);
    tiny_write_config(t, t->extra);
    tiny_write_weights(t, -1);
}

static inline void tiny_remove(const struct tiny *t)
{
    static const char *const names[] = {"config.json", "model.safetensors"};
    for (int i = 0; i < 2; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%s", t->dir, names[i]);
        unlink(path);
    }
    rmdir(t->dir);
}

#endif
