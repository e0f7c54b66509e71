/* Choosing experts from a row's router logits. Pure: any thread. */
#ifndef WORKER_MODEL_ROUTER_H
#define WORKER_MODEL_ROUTER_H

#include "worker/model/config.h"

enum { ROUTER_MAX_EXPERTS = 4096, ROUTER_MAX_CHOSEN = 64 };

/* Experts are chosen by score + bias (NULL: none) out of the groups that score best; the rest are
 * out of the question however low the kept ones are. Weights are the scores without the bias.
 * experts and weights: [chosen], in ascending order of expert. */
void router_choose(const struct moe_config *c, const float *logits, const float *bias, int *experts,
                   float *weights);

#endif
