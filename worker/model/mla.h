/*
 * The two ways of latent attention (mla.c, mla_expand.c). Folded: queries in terms of the cached
 * latents. Expanded: keys and values made from the latents, for chunks of a prompt that are long
 * enough. Private to worker/model.
 */
#ifndef WORKER_MODEL_MLA_H
#define WORKER_MODEL_MLA_H

#include "worker/model/pass.h"

/* Multiply-adds of one head for some rows of a sequence, the first at a position: with keys and
 * values, and what folding or expanding with the weights takes. */
struct mla_cost {
    double attending, weights;
};
void mla_cost(const struct model *m, double position, double rows, bool expanded,
              struct mla_cost *out);
/* Whether so many rows of a sequence, the first at a position, are cheaper to compute expanded.
 * Never where a row's result must not depend on the rows beside it. */
bool mla_expands(const struct model *m, int position, int rows);

/* Some rows of one sequence and the heads [head, head_end). */
struct mla_part {
    const struct attention *attention;
    struct row_tile rows;
    int head, head_end;
};

/* From the rows' queries as their heads have them (in scratch.queries) to scratch.attended. The
 * rows' own places in the cache are written. own->attention: mla_expand_scratch floats. */
void mla_expand(const struct pass *p, const struct mla *l, const struct mla_part *part,
                const struct member_scratch *own);
size_t mla_expand_scratch(const struct model *m);

#endif
