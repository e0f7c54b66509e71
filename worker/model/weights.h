/* Inside a model: its weights, layer by layer, as loading makes them and passes read them. Private
 * to worker/model. */
#ifndef WORKER_MODEL_WEIGHTS_H
#define WORKER_MODEL_WEIGHTS_H

#include "worker/cpu/kernels.h"
#include "worker/cpu/pack.h"

struct mlp {
    int width; /* 0: absent */
    struct matrix gate, up, down;
};

struct mla {
    struct matrix down;      /* rows of q_a (when there is one), then the latent and the rope key */
    struct matrix query;     /* heads x query_panels */
    struct matrix *key;      /* per head, transposed: [kv_rank][nope_dims] */
    struct matrix *key_rows; /* per head: [nope_dims][kv_rank] */
    struct matrix *value;    /* per head: [value_dims][kv_rank] */
    struct matrix out;
    const float *q_norm, *kv_norm;
};

struct gqa {
    struct matrix query, key, value, out; /* [heads x head_dims][hidden] and so on */
    /* NULL: the family has none. Norms are of one head. */
    const float *query_bias, *key_bias, *value_bias, *out_bias, *query_norm, *key_norm;
};

struct layer {
    const float *attention_norm, *mlp_norm;
    struct mla mla; /* one of the two, as config.attention says */
    struct gqa gqa;
    struct mlp dense;          /* the layer's own, or the shared experts */
    struct mlp *experts;       /* NULL: a layer without experts */
    struct matrix router;      /* [experts][hidden] */
    const float *bias;         /* of the choice; NULL: none */
    enum input_type mlp_input; /* of those MLPs that do not read floats */
};

/* The layer that predicts one token further. */
struct mtp {
    const float *token_norm, *hidden_norm, *norm;
    struct matrix project; /* [hidden][2 x hidden] */
    struct layer layer;
    double work_per_row; /* multiply-adds */
};

#endif
