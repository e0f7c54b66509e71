#include "worker/cpu/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "base/error.h"

static const struct kernels *const best_first[] = {
#if defined(__x86_64__)
    &kernels_avx512,
    &kernels_avx2,
#endif
    &kernels_portable,
};

#if defined(__x86_64__)
/* clang 14 does not know this feature by name. */
static int has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

static int machine_has(const struct kernels *k)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (k == &kernels_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    if (k == &kernels_avx2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
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
