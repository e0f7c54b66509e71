/*
 * What config.json says of a model, in the words of the engine: one struct for all families. A
 * family (an architecture name) is a small file that reads its own fields into it.
 */
#ifndef WORKER_MODEL_CONFIG_H
#define WORKER_MODEL_CONFIG_H

#include <stdbool.h>

#include "base/error.h"
#include "worker/model/fields.h"

enum { MODEL_MAX_LAYERS = 1024, MODEL_MAX_HEADS = 1024 };
/* The window of families that have one, where config.json does not say. */
enum { WINDOW_DEFAULT = 4096 };

enum rope_stretch { ROPE_PLAIN, ROPE_LINEAR, ROPE_YARN, ROPE_LLAMA3 };

struct rope_config {
    int dims;    /* rotated values per head */
    bool halves; /* value i turns with value i + dims / 2; else with its neighbour */
    double theta;
    enum rope_stretch stretch;
    double factor; /* of the stretched context; 0: plain */
    double original_tokens;
    double beta_fast, beta_slow;    /* YaRN */
    double low_factor, high_factor; /* Llama 3 */
    double magnitude;               /* of the rotated values */
};

enum attention_kind { ATTENTION_LATENT, ATTENTION_GROUPED };

/* Multi-head latent attention. */
struct mla_config {
    int q_rank; /* 0: the query is projected in one step */
    int kv_rank, nope_dims, rope_dims, value_dims;
    double softmax_scale;
};

/* Grouped-query attention: heads / kv_heads queries share a key and a value. */
struct gqa_config {
    int kv_heads, head_dims;
    int head_stride; /* head_dims up to a multiple of 16: how heads lie in memory, padded by zeros
                      */
    bool biases;     /* of query, key and value */
    bool out_bias;   /* of the output */
    bool head_norms; /* RMS norms of each head's query and key */
    double softmax_scale;
};

enum moe_scores { SCORES_SIGMOID, SCORES_SOFTMAX };
enum moe_groups { GROUPS_BY_SUM_OF_TWO, GROUPS_BY_LARGEST };

struct moe_config {
    int experts, shared, chosen; /* experts 0: no layer has any */
    int width;                   /* of one expert */
    enum moe_scores scores;
    bool choice_bias; /* a correction that chooses, and does not weigh */
    enum moe_groups group_score;
    int groups, kept_groups;
    bool normalise; /* the chosen weights add up to 1, before the scale */
    double scale;
};

/* Where a family's tensors differ in name: behind "model.layers.N.". */
struct tensor_names {
    const char *router, *experts; /* "mlp.gate", "mlp.experts" */
    const char *gate, *up, *down; /* of an expert: "gate_proj", ... */
};

struct model_config {
    const char *architecture;
    int vocab, hidden, layers, heads, context_tokens;
    int mlp_width; /* of a layer without experts */
    double epsilon;
    bool tied_embeddings;
    enum attention_kind attention;
    struct rope_config rope;
    struct mla_config mla; /* one of these two */
    struct gqa_config gqa;
    struct moe_config moe;
    int window[MODEL_MAX_LAYERS];       /* positions that a layer attends to, itself one; 0: all */
    bool has_experts[MODEL_MAX_LAYERS]; /* by layer */
    int mtp_layers;                     /* behind the last one, for multi-token prediction */
    bool mtp_before_norm;               /* they read hidden states before the final norm */
    struct tensor_names names;
    int block_rows, block_cols; /* of the FP8 scales; 0: no FP8 weights */
};

struct family {
    const char *architecture; /* as in config.json */
    void (*read)(struct fields *f, struct model_config *c);
};

extern const struct family family_deepseek_v2, family_deepseek_v3, family_llama, family_mistral,
    family_qwen2, family_qwen3, family_qwen3_moe, family_mixtral;

/* dir/config.json. The error names the file and the field. */
enum status model_config_load(const char *dir, struct model_config *out, struct error *err);
/* The same of a parsed file; path is for errors. */
enum status model_config_read(const char *path, const struct json *root, struct model_config *out,
                              struct error *err);

/* For families: the fields that all have, and the common forms of a few others. */
void config_read_common(struct fields *f, struct model_config *c);
void config_read_rope(struct fields *f, struct rope_config *r, double *mscale_all_dim);
void config_read_fp8(struct fields *f, struct model_config *c);
/* Grouped-query attention with rotated halves, as yet without biases and norms. */
void config_read_gqa(struct fields *f, struct model_config *c);
/* sliding_window, which may be null: none, and without it `missing`; 0: none. */
int config_read_window(struct fields *f, int missing);
/* The layers from that one on have the window; layer_types, where it is there, says which do. */
void config_set_window(struct fields *f, struct model_config *c, int window, int from);
/* A family that knows no windows: one that does not cover the whole context is refused. */
void config_refuse_window(struct fields *f, struct model_config *c);
/* Checks that the experts' numbers agree with one another. */
void config_check_moe(struct fields *f, const struct moe_config *m);

#endif
