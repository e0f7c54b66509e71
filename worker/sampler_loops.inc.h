/* The bodies behind worker/sampler_loops.h, compiled once per instruction set. */
#include <math.h>

#include "worker/cpu/vec.h"
#include "worker/sampler_loops.h"

/* What lies behind the end is -INFINITY. */
INLINE f32x16 load_padded(const float *x, uint32_t n)
{
    f32x16 v = vec_set(-INFINITY);
    memcpy(&v, x, (n < 16 ? n : 16) * sizeof *x);
    return v;
}

/* a where it is larger; NaN never is. */
INLINE f32x16 larger(f32x16 a, f32x16 b)
{
    i32x16 more = a > b;
    return (f32x16)(((i32x16)a & more) | ((i32x16)b & ~more));
}

static float maxima(const float *x, uint32_t n, float *out)
{
    float all = -INFINITY;
    for (uint32_t i = 0; i < n; i += SAMPLER_BLOCK) {
        f32x16 most = vec_set(-INFINITY);
        for (uint32_t j = i; j < i + SAMPLER_BLOCK && j < n; j += 16)
            most = larger(n - j >= 16 ? vec_load(x + j) : load_padded(x + j, n - j), most);
        float block = vec_largest(most);
        out[i / SAMPLER_BLOCK] = block;
        all = block > all ? block : all;
    }
    return all;
}

static double exp_sum(const float *x, uint32_t n, float most, float scale)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i += SAMPLER_BLOCK) {
        f32x16 block = vec_set(0);
        for (uint32_t j = i; j < i + SAMPLER_BLOCK && j < n; j += 16) {
            f32x16 v = n - j >= 16 ? vec_load(x + j) : load_padded(x + j, n - j);
            v = (v - most) * scale;
            i32x16 counts = v > -87.0f;
            block += (f32x16)((i32x16)vec_exp(v) & counts);
        }
        sum += (double)vec_sum(block);
    }
    return sum;
}

/* The bits of a float, read as a number and scaled, are its logarithm to base 2 plus 127, or up to
 * 0.09 less. */
INLINE i32x16 may_win(const struct race *r, f32x16 logits, u32x16 token)
{
    u32x16 h = token + r->key.a;
    h = (h ^ (h >> 16)) * 0x7feb352du + r->key.b;
    h = (h ^ (h >> 15)) * 0x846ca68bu;
    h = h ^ (h >> 16);
    f32x16 share = __builtin_convertvector((i32x16)(h >> 8), f32x16);
    f32x16 log = __builtin_convertvector((i32x16)share, f32x16) * 0x1p-23f - (127.0f + 24.0f);
    return log <= (logits - r->most) * r->scale + r->limit;
}

static uint32_t race_next(const struct race *r, uint32_t from)
{
    u32x16 token = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    token += from;
    for (uint32_t i = from; i < r->count; i += 16, token += 16) {
        uint32_t left = r->count - i;
        f32x16 v = left >= 16 ? vec_load(r->logits + i) : load_padded(r->logits + i, left);
        i32x16 may = may_win(r, v, token);
        int64_t any[8];
        memcpy(any, &may, sizeof any);
        if (!(any[0] | any[1] | any[2] | any[3] | any[4] | any[5] | any[6] | any[7]))
            continue;
        for (uint32_t j = 0; j < 16 && j < left; j++)
            if (may[j])
                return i + j;
    }
    return r->count;
}
