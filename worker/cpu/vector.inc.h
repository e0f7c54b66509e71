/* Operations on one row: normalisation, the gated activation, weighted addition. */
#include <math.h>

#include "worker/cpu/kernels.h"
#include "worker/cpu/lanes.h"

static void rms_norm(float *out, const float *x, const float *weight, int n, float epsilon)
{
    f32x16 squares = vec_set(0.0f);
    for (int i = 0; i < n; i += 16) {
        f32x16 v = vec_load(x + i);
        squares = squares + v * v;
    }
    float scale = 1.0f / sqrtf(vec_sum(squares) / (float)n + epsilon);
    for (int i = 0; i < n; i += 16)
        vec_store(out + i, vec_load(x + i) * scale * vec_load(weight + i));
}

static void swiglu(float *out, const float *gate, const float *up, int n)
{
    for (int i = 0; i < n; i += PART) {
        f32xn g = part_load(gate + i);
        part_store(out + i, g / (part_exp(-g) + 1.0f) * part_load(up + i));
    }
}

static void add_scaled(float *sum, const float *x, float scale, int n)
{
    for (int i = 0; i < n; i += 16)
        vec_store(sum + i, vec_load(sum + i) + vec_load(x + i) * scale);
}
