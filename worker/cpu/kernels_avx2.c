#include "worker/cpu/kernels.h"

#include "base/error.h"

#include "worker/cpu/attention.inc.h"
#include "worker/cpu/blocks.inc.h"
#include "worker/cpu/matmul.inc.h"
#include "worker/cpu/quantise.inc.h"
#include "worker/cpu/vector.inc.h"

const struct kernels kernels_avx2 = {
    .name = "avx2",
    .bf16 = false,
    .matmul = matmul,
    .convert = convert,
    .quantise = quantise,
    .attend = attend,
    .attend_merge = attend_merge,
    .attend_widen = attend_widen,
    .attend_finish = attend_finish,
    .rms_norm = rms_norm,
    .swiglu = swiglu,
    .add_scaled = add_scaled,
};
