/*
 * The bodies behind worker/sampler_loops.h, compiled once per instruction set, in vectors as wide
 * as the machine's own. Sums are made of sixteen parts whatever the width, so that all sets agree.
 */
#include <math.h>
#include <string.h>

#include "worker/sampler_loops.h"

#define INLINE static inline __attribute__((always_inline))

#if defined(__AVX2__)
enum { LANES = 8 };
typedef float vf __attribute__((vector_size(32)));
typedef int32_t vi __attribute__((vector_size(32)));
typedef uint32_t vu __attribute__((vector_size(32)));
#else
enum { LANES = 4 };
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef uint32_t vu __attribute__((vector_size(16)));
#endif

enum { PARTS = 16 / LANES };

INLINE vf all(float x)
{
    return x - (vf){0};
}

INLINE vf load(const float *x)
{
    vf v;
    memcpy(&v, x, sizeof v);
    return v;
}

/* What lies behind the end is -INFINITY. */
INLINE vf load_padded(const float *x, uint32_t n)
{
    float padded[LANES];
    for (uint32_t i = 0; i < LANES; i++)
        padded[i] = i < n ? x[i] : -INFINITY;
    return load(padded);
}

/* a where it is larger; NaN never is. */
INLINE vf larger(vf a, vf b)
{
    vi more = a > b;
    return (vf)(((vi)a & more) | ((vi)b & ~more));
}

INLINE float largest(vf v)
{
    float most = v[0];
    for (int i = 1; i < LANES; i++)
        most = v[i] > most ? v[i] : most;
    return most;
}

INLINE int any(vi v)
{
    int64_t words[LANES / 2], together = 0;
    memcpy(words, &v, sizeof v);
    for (int i = 0; i < LANES / 2; i++)
        together |= words[i];
    return together != 0;
}

static float maxima(const float *x, uint32_t n, float *out)
{
    vf most = all(-INFINITY);
    for (uint32_t i = 0; i < n; i += SAMPLER_BLOCK) {
        vf block = all(-INFINITY);
        if (n - i >= SAMPLER_BLOCK)
            for (uint32_t j = 0; j < SAMPLER_BLOCK; j += LANES)
                block = larger(load(x + i + j), block);
        else
            for (uint32_t j = i; j < n; j += LANES)
                block = larger(load_padded(x + j, n - j), block);
        out[i / SAMPLER_BLOCK] = largest(block);
        most = larger(block, most);
    }
    return largest(most);
}

/* e^x of x from -87 to 0, to about 2 units in the last place: 2^n times a polynomial of the rest
 * (the coefficients are those of the Cephes library). Below -87: 0. */
INLINE vf exponential(vf x)
{
    const float round = 12582912.0f; /* adding 1.5 x 2^23 leaves a whole number in the low bits */
    vi counts = x > -87.0f;
    x = larger(x, all(-87.0f));
    vf biased = x * 1.44269504f + round;
    vf n = biased - round;
    vf r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    vf p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    vu exponent = ((vu)biased + 127u) << 23;
    return (vf)((vi)(p * (vf)exponent) & counts);
}

static double sum_of(const vf *parts)
{
    float lanes[16];
    memcpy(lanes, parts, sizeof lanes);
    double sum = 0;
    for (int i = 0; i < 16; i++)
        sum += (double)lanes[i];
    return sum;
}

static double exp_sum(const float *x, uint32_t n, float most, float scale)
{
    enum { RUN = 1024 }; /* few enough for floats to add up */
    double sum = 0;
    for (uint32_t i = 0; i < n; i += RUN) {
        vf parts[PARTS] = {{0}};
        uint32_t end = n - i < RUN ? n : i + RUN, j = i;
        for (; j + 16 <= end; j += 16)
            for (int k = 0; k < PARTS; k++)
                parts[k] += exponential((load(x + j + k * LANES) - most) * scale);
        for (int k = 0; j < end; j += LANES, k++)
            parts[k] += exponential((load_padded(x + j, end - j) - most) * scale);
        sum += sum_of(parts);
    }
    return sum;
}

/* The bits of a float, read as a number and scaled, are its logarithm to base 2 plus 127, or up to
 * 0.09 less. */
INLINE vi may_win(const struct race *r, vf logits, vu token)
{
    vu h = token + r->key.a;
    h = (h ^ (h >> 16)) * 0x7feb352du + r->key.b;
    h = (h ^ (h >> 15)) * 0x846ca68bu;
    h = h ^ (h >> 16);
    vf share = __builtin_convertvector((vi)(h >> 8), vf);
    vf log = __builtin_convertvector((vi)share, vf) * 0x1p-23f - (127.0f + 24.0f);
    return log <= (logits - r->most) * r->scale + r->limit;
}

static uint32_t race_next(const struct race *r, uint32_t from)
{
    vu token;
    for (uint32_t i = 0; i < LANES; i++)
        token[i] = from + i;
    for (uint32_t i = from; i < r->count; i += LANES, token += LANES) {
        uint32_t left = r->count - i;
        vi may = may_win(r, left >= LANES ? load(r->logits + i) : load_padded(r->logits + i, left),
                         token);
        if (!any(may))
            continue;
        for (uint32_t j = 0; j < LANES && j < left; j++)
            if (may[j])
                return i + j;
    }
    return r->count;
}
