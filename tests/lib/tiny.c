#include "tests/lib/tiny.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 32 };

static const struct tiny_tensor *append(struct tiny *t, int rows, int cols, const char *name)
{
    assert(t->count < TINY_TENSORS_MAX && strlen(name) < sizeof t->tensors[0].name);
    struct tiny_tensor *one = &t->tensors[t->count++];
    one->rows = rows;
    one->cols = cols;
    memcpy(one->name, name, strlen(name) + 1);
    return one;
}

/* Whether FP8 models have it in FP8. */
static bool is_folded(const struct tiny *t, const struct tiny_tensor *one)
{
    return t->dtype == DTYPE_F8_E4M3 && one->cols && !strstr(one->name, "embed") &&
           !strstr(one->name, "lm_head") && !strstr(one->name, "gate.weight") &&
           !strstr(one->name, "scale_inv");
}

__attribute__((format(printf, 4, 5))) static void add(struct tiny *t, int rows, int cols,
                                                      const char *form, ...)
{
    char name[80], scale[96];
    va_list args;
    va_start(args, form);
    vsnprintf(name, sizeof name, form, args);
    va_end(args);
    if (!is_folded(t, append(t, rows, cols, name)) || t->unfolded)
        return;
    snprintf(scale, sizeof scale, "%s_scale_inv", name);
    append(t, (rows + BLOCK - 1) / BLOCK, (cols + BLOCK - 1) / BLOCK, scale);
}

static void add_latent(struct tiny *t, int i)
{
    const char *at = "model.layers.%d.self_attn.%s.weight";
    if (t->q_rank) {
        add(t, t->q_rank, TINY_HIDDEN, at, i, "q_a_proj");
        add(t, t->q_rank, 0, at, i, "q_a_layernorm");
        add(t, t->heads * 24, t->q_rank, at, i, "q_b_proj");
    } else {
        add(t, t->heads * 24, TINY_HIDDEN, at, i, "q_proj");
    }
    add(t, 32 + 8, TINY_HIDDEN, at, i, "kv_a_proj_with_mqa");
    add(t, 32, 0, at, i, "kv_a_layernorm");
    add(t, t->heads * 32, 32, at, i, "kv_b_proj");
    add(t, TINY_HIDDEN, t->heads * 16, at, i, "o_proj");
}

static void add_grouped(struct tiny *t, int i)
{
    static const char *const names[] = {"q_proj", "k_proj", "v_proj"};
    for (int n = 0; n < 3; n++) {
        int rows = (n ? t->kv_heads : t->heads) * t->head_dims;
        add(t, rows, TINY_HIDDEN, "model.layers.%d.self_attn.%s.weight", i, names[n]);
        if (t->biases)
            add(t, rows, 0, "model.layers.%d.self_attn.%s.bias", i, names[n]);
        if (t->head_norms && n < 2)
            add(t, t->head_dims, 0, "model.layers.%d.self_attn.%c_norm.weight", i, names[n][0]);
    }
    add(t, TINY_HIDDEN, t->heads * t->head_dims, "model.layers.%d.self_attn.o_proj.weight", i);
}

/* prefix: of the tensors; names: of gate, up and down behind it. */
static void add_mlp(struct tiny *t, const char *prefix, const char *const names[3], int width)
{
    for (int n = 0; n < 3; n++)
        add(t, n < 2 ? width : TINY_HIDDEN, n < 2 ? TINY_HIDDEN : width, "%s.%s.weight", prefix,
            names[n]);
}

static void add_experts(struct tiny *t, int i)
{
    static const char *const usual[] = {"gate_proj", "up_proj", "down_proj"};
    static const char *const mixtral[] = {"w1", "w3", "w2"};
    const char *block = t->mixtral ? "block_sparse_moe" : "mlp";
    char prefix[64];
    add(t, t->experts, TINY_HIDDEN, "model.layers.%d.%s.gate.weight", i, block);
    if (t->choice_bias)
        add(t, t->experts, 0, "model.layers.%d.mlp.gate.e_score_correction_bias", i);
    for (int e = 0; e < t->experts; e++) {
        snprintf(prefix, sizeof prefix, "model.layers.%d.%s.experts.%d", i, block, e);
        add_mlp(t, prefix, t->mixtral ? mixtral : usual, t->expert_width);
    }
    snprintf(prefix, sizeof prefix, "model.layers.%d.mlp.shared_experts", i);
    if (t->shared)
        add_mlp(t, prefix, usual, t->shared * t->expert_width);
}

static void add_all(struct tiny *t)
{
    static const char *const usual[] = {"gate_proj", "up_proj", "down_proj"};
    char prefix[64];
    t->count = 0;
    add(t, TINY_VOCAB, TINY_HIDDEN, "model.embed_tokens.weight");
    if (!t->tied)
        add(t, TINY_VOCAB, TINY_HIDDEN, "lm_head.weight");
    add(t, TINY_HIDDEN, 0, "model.norm.weight");
    for (int i = 0; i < TINY_LAYERS; i++) {
        add(t, TINY_HIDDEN, 0, "model.layers.%d.input_layernorm.weight", i);
        add(t, TINY_HIDDEN, 0, "model.layers.%d.post_attention_layernorm.weight", i);
        if (t->latent)
            add_latent(t, i);
        else
            add_grouped(t, i);
        snprintf(prefix, sizeof prefix, "model.layers.%d.mlp", i);
        if (t->experts && i >= t->dense_layers)
            add_experts(t, i);
        else
            add_mlp(t, prefix, usual, TINY_MLP);
    }
}

static uint64_t random_bits(const char *name, size_t place)
{
    uint64_t h = 1469598103934665603u + place * 0x9e3779b97f4a7c15u;
    for (; *name; name++)
        h = (h ^ (uint8_t)*name) * 1099511628211u;
    h = (h ^ h >> 31) * 0xbf58476d1ce4e5b9u;
    return h ^ h >> 29;
}

/* Between -1 and 1. */
static float random_value(const char *name, size_t place)
{
    return (float)((double)(random_bits(name, place) >> 11) * 0x1p-52 - 1);
}

/* An e4m3 number of a size between 1/8 and 4. */
static uint8_t random_byte(const char *name, size_t place)
{
    uint64_t bits = random_bits(name, place) >> 20;
    return (uint8_t)((bits & 0x87) | (4 + (bits >> 8) % 5) << 3);
}

static float byte_value(uint8_t b)
{
    float size = ldexpf(1 + (float)(b & 7) / 8, (b >> 3 & 15) - 7);
    return b & 0x80 ? -size : size;
}

static float scale_value(const char *name, size_t block)
{
    return 0.1f * (1.5f + random_value(name, 1000000 + block));
}

static float folded_value(const struct tiny_tensor *one, size_t place)
{
    size_t row = place / (size_t)one->cols / BLOCK, col = place % (size_t)one->cols / BLOCK;
    size_t across = ((size_t)one->cols + BLOCK - 1) / BLOCK;
    return byte_value(random_byte(one->name, place)) * scale_value(one->name, row * across + col);
}

static float plain_value(const struct tiny *t, const struct tiny_tensor *one, size_t place)
{
    if (!one->cols)
        return (strstr(one->name, "norm") ? 1 : 0) + 0.3f * random_value(one->name, place);
    if (t->repeat && (strstr(one->name, "k_proj") || strstr(one->name, "v_proj"))) {
        size_t head = (size_t)t->head_dims * (size_t)one->cols;
        place = place / (head * (size_t)t->repeat) * head + place % head;
    }
    return random_value(one->name, place) * 3 / (float)(one->cols > 64 ? 10 : 8);
}

static enum dtype type_of(const struct tiny *t, const struct tiny_tensor *one)
{
    if (t->dtype != DTYPE_F8_E4M3)
        return t->dtype;
    if (is_folded(t, one))
        return t->unfolded ? DTYPE_F32 : DTYPE_F8_E4M3;
    return strstr(one->name, "scale_inv") ? DTYPE_F32 : DTYPE_BF16;
}

static size_t bytes_of(const struct tiny *t, const struct tiny_tensor *one)
{
    static const size_t element[] = {
        [DTYPE_F32] = 4, [DTYPE_F16] = 2, [DTYPE_BF16] = 2, [DTYPE_F8_E4M3] = 1};
    return (size_t)one->rows * (size_t)(one->cols ? one->cols : 1) * element[type_of(t, one)];
}

static void put(FILE *f, enum dtype dtype, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t half = (uint16_t)(bits >> 16);
    if (dtype == DTYPE_F16 && isnan(value))
        half = 0x7e00;
    else if (dtype == DTYPE_F16) { /* of the values here none is out of its normal range but zero */
        int exponent = (int)(bits >> 23 & 255) - 112;
        half = (uint16_t)((bits >> 16 & 0x8000) |
                          (exponent > 0 ? (uint32_t)exponent << 10 | (bits >> 13 & 1023) : 0));
    }
    if (dtype == DTYPE_F32)
        fwrite(&bits, sizeof bits, 1, f);
    else
        fwrite(&half, sizeof half, 1, f);
}

static void put_tensor(FILE *f, const struct tiny *t, const struct tiny_tensor *one)
{
    size_t n = (size_t)one->rows * (size_t)(one->cols ? one->cols : 1);
    enum dtype type = type_of(t, one);
    char whole[80]; /* whose scales these are */
    snprintf(whole, sizeof whole, "%s", one->name);
    char *scale = strstr(whole, "_scale_inv");
    if (scale)
        *scale = '\0';
    bool spoilt = t->spoilt > 0 && one == &t->tensors[t->spoilt - 1];
    for (size_t k = 0; k < n; k++) {
        bool bad = spoilt && k == n - 1;
        if (type == DTYPE_F8_E4M3)
            fputc(bad ? 0xff : random_byte(one->name, k), f);
        else if (bad)
            put(f, type, NAN);
        else if (scale)
            put(f, type, scale_value(whole, k));
        else
            put(f, type, is_folded(t, one) ? folded_value(one, k) : plain_value(t, one, k));
    }
}

static FILE *open_in(const struct tiny *t, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "%s/%s", t->dir, name);
    FILE *f = fopen(path, "wbe");
    assert(f != NULL);
    return f;
}

void tiny_write_config(const struct tiny *t, const char *extra)
{
    FILE *f = open_in(t, "config.json");
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
    if (t->dtype == DTYPE_F8_E4M3 && !t->unfolded)
        fprintf(f,
                ",\"quantization_config\":{\"quant_method\":\"fp8\",\"fmt\":\"e4m3\","
                "\"weight_block_size\":[%d,%d]}",
                BLOCK, BLOCK);
    fprintf(f, "%s}", extra);
    fclose(f);
}

static void put_header(FILE *f, const struct tiny *t, int without)
{
    static const char *const types[] = {[DTYPE_F32] = "F32",
                                        [DTYPE_F16] = "F16",
                                        [DTYPE_BF16] = "BF16",
                                        [DTYPE_F8_E4M3] = "F8_E4M3"};
    size_t at = 0, length = 0;
    char *header = NULL;
    FILE *h = open_memstream(&header, &length);
    assert(h != NULL);
    for (int i = 0; i < t->count; i++) {
        const struct tiny_tensor *one = &t->tensors[i];
        if (i == without)
            continue;
        fprintf(h, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%d", at ? "," : "{", one->name,
                types[type_of(t, one)], one->rows);
        if (one->cols)
            fprintf(h, ",%d", one->cols);
        fprintf(h, "],\"data_offsets\":[%zu,%zu]}", at, at + bytes_of(t, one));
        at += bytes_of(t, one);
    }
    fputc('}', h);
    fclose(h);
    uint64_t prefix = length;
    fwrite(&prefix, sizeof prefix, 1, f);
    fwrite(header, 1, length, f);
    free(header);
}

void tiny_write_weights(const struct tiny *t, int without)
{
    FILE *f = open_in(t, "model.safetensors");
    put_header(f, t, without);
    for (int i = 0; i < t->count; i++)
        if (i != without)
            put_tensor(f, t, &t->tensors[i]);
    fclose(f);
}

void tiny_make(struct tiny *t)
{
    snprintf(t->dir, sizeof t->dir, "/tmp/tiny-XXXXXX");
    assert(mkdtemp(t->dir) != NULL);
    add_all(t);
    tiny_write_config(t, t->extra);
    tiny_write_weights(t, -1);
}

void tiny_remove(const struct tiny *t)
{
    static const char *const names[] = {"config.json", "model.safetensors"};
    for (int i = 0; i < 2; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%s", t->dir, names[i]);
        unlink(path);
    }
    rmdir(t->dir);
}
