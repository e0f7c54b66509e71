#include "worker/cpu/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "base/error.h"

static const struct kernels *const best_first[] = {
#if defined(__x86_64__)
    &kernels_avx512_bf16, &kernels_avx512_vnni, &kernels_avx512, &kernels_avx2,
#endif
    &kernels_portable,
};

#if defined(__x86_64__)
/* Not all compilers know these features by name. */
static int has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static int has_bf16(void)
{
    enum { BIT_AVX512BF16 = 1 << 5 };
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & BIT_AVX512BF16);
}

static int has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && has_f16c();
}
#endif

static int machine_has(const struct kernels *k)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (k == &kernels_avx512_bf16)
        return has_avx512() && __builtin_cpu_supports("avx512vnni") && has_bf16();
    if (k == &kernels_avx512_vnni)
        return has_avx512() && __builtin_cpu_supports("avx512vnni");
    if (k == &kernels_avx512)
        return has_avx512();
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

enum input_type kernels_input(const struct kernels *k, const struct matrix *w, bool rounded)
{
    if (w->type == WEIGHT_INT8 || w->type == WEIGHT_INT4)
        return INPUT_INT8;
    return w->type == WEIGHT_BF16 && rounded && !w->exact && k->bf16 ? INPUT_BF16 : INPUT_F32;
}

size_t kernels_input_bytes(enum input_type type, int cols)
{
    size_t n = (size_t)cols;
    size_t bytes = type == INPUT_F32 ? n * 4 : type == INPUT_BF16 ? n * 2 : n + n / QUANT_BLOCK * 8;
    return (bytes + 63) / 64 * 64;
}

size_t kernels_panel_bytes(enum weight_type type, int cols)
{
    size_t pairs = ((size_t)cols / QUANT_BLOCK + 1) / 2;
    return pairs * 2 * (type == WEIGHT_INT8 ? 512 + 32 : 256 + 32);
}

const uint8_t *matrix_panel(const struct matrix *w, int panel)
{
    return w->packed ? w->packed + (size_t)panel * w->panel_bytes : w->panel[panel].data;
}

double matrix_bytes(const struct matrix *w)
{
    if (w->packed)
        return (double)w->panels * (double)w->panel_bytes;
    return (double)w->rows * (double)w->row_bytes;
}
