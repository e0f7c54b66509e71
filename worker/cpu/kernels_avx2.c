#include "worker/cpu/kernels.h"

#include "base/error.h"
#include <stdbool.h>

#include "worker/cpu/attention.inc.h"
#include "worker/cpu/matmul.inc.h"
#include "worker/cpu/vector.inc.h"

const struct kernels kernels_avx2 = {
    .name = "avx2",
    .matmul = matmul,
    .attend = attend,
    .attend_merge = attend_merge,
    .attend_finish = attend_finish,
    .rms_norm = rms_norm,
    .swiglu = swiglu,
    .add_scaled = add_scaled,
};
