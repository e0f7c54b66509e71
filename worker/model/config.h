/*
 * What config.json says of a model, in the words of the engine: one struct for all families. A
 * family (an architecture name) is a small file that reads its own fields into it.
 */
#ifndef WORKER_MODEL_CONFIG_H
#define WORKER_MODEL_CONFIG_H

#include <stdbool.h>

#include "base/error.h"
#include "worker/model/fields.h"

struct rope_config {
    int dims; /* rotated values per head; pairs of neighbours */
    double theta;
    double factor; /* YaRN; 0: plain */
    double original_tokens, beta_fast, beta_slow;
    double magnitude; /* of the rotated values */
};

/* Multi-head latent attention. */
struct mla_config {
    int q_rank; /* 0: the query is projected in one step */
    int kv_rank, nope_dims, rope_dims, value_dims;
    double softmax_scale;
};

/* Sigmoid scores, chosen with a correction bias out of the best groups. */
struct moe_config {
    int experts, shared, chosen, width; /* width of one expert */
    int groups, kept_groups;
    bool normalise;
    double scale;
    int first_layer, every; /* a layer has experts when i >= first_layer and i % every == 0 */
};

struct model_config {
    int vocab, hidden, layers, heads, context_tokens;
    int mlp_width; /* of a layer without experts */
    double epsilon;
    bool tied_embeddings;
    struct rope_config rope;
    struct mla_config mla;
    struct moe_config moe;
    int block_rows, block_cols; /* of the FP8 scales; 0: no FP8 weights */
};

struct family {
    const char *architecture; /* as in config.json */
    void (*read)(struct fields *f, struct model_config *c);
};

extern const struct family family_deepseek_v3;

/* dir/config.json. The error names the file and the field. */
enum status model_config_load(const char *dir, struct model_config *out, struct error *err);
bool model_config_is_moe(const struct model_config *c, int layer);

/* For families: the fields that all have, and the common forms of a few others. */
void config_read_common(struct fields *f, struct model_config *c);
void config_read_rope(struct fields *f, struct rope_config *r, double *mscale_all_dim);
void config_read_fp8(struct fields *f, struct model_config *c);

#endif
