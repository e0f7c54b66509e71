#include "worker/cpu/kernels.h"

#include "base/error.h"

static const struct kernels *const best_first[] = {
#if defined(__x86_64__)
    &kernels_avx512,
    &kernels_avx2,
#endif
    &kernels_portable,
};

static int machine_has(const struct kernels *k)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (k == &kernels_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    if (k == &kernels_avx2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("f16c");
#endif
    return k == &kernels_portable;
}

const struct kernels *kernels_find(const char *name)
{
    for (size_t i = 0; i < sizeof best_first / sizeof *best_first; i++)
        if (machine_has(best_first[i]) && (!name || strcmp(best_first[i]->name, name) == 0))
            return best_first[i];
    return NULL;
}
