/*
 * Inside a model: its scratch memory and the phases of a forward pass. All members
 * of the model's pool walk through the phases together, each doing its share of the work, and
 * meet at a barrier behind each. Private to worker/model.
 */
#ifndef WORKER_MODEL_PASS_H
#define WORKER_MODEL_PASS_H

#include "worker/cpu/pool.h"
#include "worker/cpu/store.h"
#include "worker/model/attention.h"
#include "worker/model/config.h"
#include "worker/model/model.h"
#include "worker/model/pace.h"
#include "worker/model/rope.h"
#include "worker/model/weights.h"

/* One MLP and the rows that go through it. */
struct group {
    const struct mlp *mlp;
    const int32_t *rows; /* NULL: all rows, with weight 1 */
    const float *weights;
    int count;
    /* Its rows of scratch.active, as its last product wants them, and the floats of each. */
    float *active;
    size_t active_stride;
    float *results; /* [count][hidden]; NULL: they are added onto x at once */
};

/* What one member works with alone. */
struct member_scratch {
    float *query_input; /* [ROW_TILE][columns of MLA's query], in the type that it wants */
    /* [ROW_TILE][2][TILE_PANELS x 16], a head's queries, a row of the cache or of q_rank */
    float *tile;
    void *converted;      /* [ROW_TILE][widest]: input in the type that the weights want */
    float *attention;     /* attention_scratch(..) */
    int32_t *group_rows;  /* [rows x chosen]: rows by expert */
    float *group_weights; /* their weights */
    int32_t *group_place; /* [rows x chosen]: where in them a row's chosen experts are */
    int32_t *group_start; /* [experts + 1] */
    struct group *groups; /* [experts + 1] */
};

enum { ROW_TILE = 48, TILE_PANELS = 8 };
/* Up to so many rows the results of a layer's MLPs are kept apart. */
enum { APART_ROWS = 32 };
/* Below this many rows the tasks of a phase are shared out in turns, without tickets. */
enum { TICKETS_FROM = 8 };

struct scratch { /* of one batch; [row] first */
    int rows;    /* how many there is room for */
    float *x, *normed;
    float *projected; /* MLA: the compressed ones; GQA: queries, keys, values */
    float *queries;   /* MLA: folded; [heads][cache_floats] */
    float *latents;   /* MLA: of the attended positions; [heads][kv_rank] */
    float *attended, *angles;
    float *pairs;    /* MTP: token and hidden state, normalised; [2 x hidden] */
    float *active;   /* of all groups; [active_floats] */
    float *results;  /* [APART_ROWS x (chosen + 1)][hidden]: of all groups */
    void *mlp_input; /* [rows][hidden]: normed, in the layer's type mlp_input */
    void *converted; /* [rows][widest]: the input of one product, in the type it wants */
    float *router_logits, *weights;
    int *experts;
    int32_t *logit_rows;
    struct row_tile *tiles, *runs; /* of struct pass */
    bool *expanded;                /* the row is in one of the runs */
    struct attend_state *states;   /* MLA: [heads] */
    float *parts;                  /* attention_parts(..) results of segments, and their states */
    struct attend_state *part_states;
    struct member_scratch *members;
    struct store *memory;
    size_t bytes;
};

/* Of the tensors found so far. */
struct tally {
    int64_t parameters, active, bytes_of[DTYPE_OTHER];
};

struct model {
    struct model_config config;
    struct model_options options;
    struct safetensors *files;
    struct store *store;
    struct tally tally;
    const struct kernels *kernels;
    struct pool *pool;
    struct rope rope;
    const struct tensor *embedding;
    struct matrix head;
    const float *norm;
    struct layer *layers;
    struct mtp *mtp; /* NULL: there is none, or it is not wanted */
    struct scratch scratch;
    struct pace pace;
    /* sizes made from the configuration */
    int query_panels;     /* MLA: of one head's query */
    int cache_floats;     /* a row of the cache; MLA: and of a query, latent + rope key, padded */
    int projected_floats; /* a row of scratch.projected */
    int attended_floats;  /* a row of scratch.attended */
    int active_floats;    /* of all MLPs that a row goes through in a layer, at the most */
    int widest;           /* the most columns of a matrix */
    double work_per_row;  /* multiply-adds */
};

struct pass {
    struct model *m;
    struct kv *kv;
    const struct batch_row *rows;
    int count;
    int tile_count, run_count; /* the rows, cut for attention: scratch.tiles, scratch.runs */
    int segments;              /* of the longest context of a tile */
    float *logits;
    int logit_count;
    bool keeps_hidden; /* of some row */
};

/* All weights of the configuration, checked and packed. */
enum status model_load_weights(struct model *m, struct error *err);
/* Costs added up: a matrix used `times` times a row, its weights read `reads` times a step. */
/* The multiply-adds of one row through the weights of a layer, and of a matrix. */
double work_of_layer(const struct model *m, const struct layer *l);
double work_of_matrix(const struct matrix *w);
enum status scratch_reserve(struct model *m, int rows, struct error *err);
void scratch_done(struct scratch *s);
/* Runs a pass on the pool, by all its members or by one. */
void pass_start(struct pass *p, void (*run)(void *pass, int member), double work_per_row);
/* The passes of model_forward, on every member of the pool. */
void pass_run(void *pass, int member);
/* Their parts. A row's embedding, and the angles of its position into scratch. */
void pass_embed(const struct pass *p, int row, float *out);
/* Begins and ends with the member's own rows of x. index: of its part of the cache. */
void pass_layer(struct pass *p, const struct layer *l, int index, int member);
/* Norm and head: the hidden states and logits that rows want. */
void pass_finish(struct pass *p, const float *norm, int member);
/* Attention, onto x. Begins and ends with the member's own rows of x. */
void mla_run(struct pass *p, const struct layer *l, int index, int member);
void gqa_run(struct pass *p, const struct layer *l, int index, int member);
/* Begins and ends with the member's own rows of x only. */
void mlp_run(struct pass *p, const struct layer *l, int index, int member);
/* The rows [begin, end) that are the member's. */
void pass_share(const struct pass *p, int n, int member, int *begin, int *end);
enum input_type model_input(const struct model *m, const struct matrix *w);
/* A product with an input of floats, which is converted to what the weights want. One member. */
void pass_panels(const struct model *m, const struct member_scratch *own, const struct product *p);
/* w times the input of floats, the panels shared out among the members. No barrier behind it. */
void pass_matmul(const struct pass *p, int member, const struct matrix *w, const struct input *in,
                 int count, float *out, size_t out_stride);
/* The end of attention: w times scratch.attended and the bias (NULL: none) onto x. */
void pass_attention_out(const struct pass *p, int member, const struct matrix *w,
                        const float *bias);
/* The member's share of rows of x, normalised into `normed`. No barrier. */
void pass_norm(const struct pass *p, int member, const float *weight);
/* Walks over n tasks of unequal length: for (i = pass_first(..); i < n; i = pass_next(.., i)). */
int pass_first(const struct pass *p, int member);
int pass_next(const struct pass *p, int i);

#endif
