/*
 * Attention of a batch over the cache, for every kind of layer: a layer makes its queries and
 * writes its cache rows; this shares the rows and heads out among the members of the pool and
 * runs the kernels. The tasks are tiles: neighbouring rows of one sequence, and the heads that
 * share a cache row.
 *
 * Where there are fewer tiles than members, a long context is cut too: its segments are attended
 * to apart and merged in order, as they are when one member takes them in turn.
 *
 * A row's result depends on nothing but its sequence: not on the batch, how a prompt is cut into
 * batches, or the number of threads. Private to worker/model.
 */
#ifndef WORKER_MODEL_ATTENTION_H
#define WORKER_MODEL_ATTENTION_H

#include "worker/cpu/kernels.h"
#include "worker/model/model.h"

struct pass;

/* Rows of a tile, at most. */
enum { ATTENTION_ROWS = 16 };

/* Neighbouring rows of the batch that are one sequence's neighbouring positions. */
struct row_tile {
    int first, count;
};

/* What the heads of a layer attend with. The query of (row, head) is at queries + row * query_row +
 * head * query_stride; its result goes to out + row * out_row + head * value_count. heads /
 * kv_heads neighbouring heads share a key and a value. */
struct attention {
    int layer; /* of the cache */
    int heads, kv_heads;
    int key_count;        /* of one head */
    int window;           /* positions that a row attends to, the last its own; 0: all */
    int value_count;      /* the values are the first keys where the cache has none of their own */
    const float *queries; /* scaled */
    size_t query_stride, query_row;
    float *out;
    size_t out_row;
};

/* A member's share. The queries and the cache are complete before it (a barrier); no barrier
 * behind it. */
void attention_run(const struct pass *p, const struct attention *a, int member);
/* The same in steps, for layers that have other tasks too: how many tasks there are, one of them,
 * and behind all of them the rest of the work. */
int attention_tasks(const struct pass *p, const struct attention *a);
void attention_task(const struct pass *p, const struct attention *a, int task, int member);
void attention_end(const struct pass *p, const struct attention *a, int member);
/* The cache as a head's kernels want it; without blocks, positions and queries. */
void attention_aim(const struct pass *p, const struct attention *a, int kv_head,
                   struct attend *out);
/* Cuts the batch into tiles, and into runs that a latent layer expands. */
void attention_plan(struct pass *p);
/* How many results of single segments there is room for. */
size_t attention_parts(const struct model *m);
/* Floats of scratch that a member needs. */
size_t attention_scratch(const struct model *m);

#endif
