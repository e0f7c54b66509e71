#include "worker/sampler_loops.inc.h"

const struct sampler_loops sampler_loops_portable = {
    .name = "portable",
    .maxima = maxima,
    .exp_sum = exp_sum,
    .race_next = race_next,
};
