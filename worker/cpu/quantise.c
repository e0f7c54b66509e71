#include "worker/cpu/quantise.h"

#include <assert.h>
#include <math.h>
#include <string.h>

float quantise_widen_f16(uint16_t h)
{
    uint32_t bits = (uint32_t)(h & 0x7fff) << 13, sign = (uint32_t)(h & 0x8000) << 16;
    float f;
    memcpy(&f, &bits, 4);
    f *= 0x1p112f;
    memcpy(&bits, &f, 4);
    bits |= sign;
    memcpy(&f, &bits, 4);
    return f;
}

float quantise_widen_f8(uint8_t b)
{
    uint32_t bits = (uint32_t)(b & 0x7f) << 20, sign = (uint32_t)(b & 0x80) << 24;
    float f;
    memcpy(&f, &bits, 4);
    f *= 0x1p120f;
    memcpy(&bits, &f, 4);
    bits |= sign;
    memcpy(&f, &bits, 4);
    return f;
}

static float from_bf16(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static float scale_at(const struct matrix *m, const struct panel *panel, int row, int col)
{
    size_t block = (size_t)((panel->block_row + row) / m->block_rows);
    float scale;
    memcpy(&scale,
           panel->scales +
               (block * (size_t)m->segments + (size_t)(col / m->segment)) * sizeof scale,
           sizeof scale);
    return scale;
}

void quantise_widen(const struct matrix *m, const struct panel *panel, int row, int col, int n,
                    float *out)
{
    const uint8_t *data = panel->data + (size_t)row * m->row_bytes;
    uint16_t h;
    switch (m->type) {
    case WEIGHT_F32:
        memcpy(out, data + (size_t)col * 4, (size_t)n * 4);
        return;
    case WEIGHT_BF16:
    case WEIGHT_F16:
        for (int i = 0; i < n; i++) {
            memcpy(&h, data + (size_t)(col + i) * 2, 2);
            out[i] = m->type == WEIGHT_BF16 ? from_bf16(h) : quantise_widen_f16(h);
        }
        return;
    case WEIGHT_F8:
        for (int i = 0; i < n; i++)
            out[i] = quantise_widen_f8(data[col + i]) * scale_at(m, panel, row, col + i);
        return;
    case WEIGHT_INT8:
    case WEIGHT_INT4:
        break;
    }
    assert(!"quantised twice");
}

/* A scale of bfloat16, not smaller than asked for: the largest value must not be cut off. */
static uint16_t round_away(float scale)
{
    uint32_t bits;
    memcpy(&bits, &scale, 4);
    return (uint16_t)((bits + 0xffffu) >> 16);
}

static float largest(const float *x)
{
    float most = 0;
    for (int i = 0; i < QUANT_BLOCK; i++)
        most = fabsf(x[i]) > fabsf(most) ? x[i] : most;
    return most;
}

/* Nearest whole numbers within [least, most], for |x / scale| < 2^22. */
static void round_block(const float *x, float scale, float least, float most, float *q)
{
    const float round = 12582912.0f; /* 1.5 x 2^23: adding it leaves no fraction */
    float inverse = fabsf(scale) < 0x1p-100f ? 0 : 1 / scale;
    for (int i = 0; i < QUANT_BLOCK; i++) {
        float v = x[i] * inverse;
        v = v < least ? least : v;
        v = v > most ? most : v;
        q[i] = (v + round) - round;
    }
}

static uint16_t round_to_8(const float *x, float *q)
{
    uint16_t scale = round_away(fabsf(largest(x)) / 127);
    round_block(x, from_bf16(scale), -127, 127, q);
    return scale;
}

static float error_of(const float *x, float scale, const float *q)
{
    float sum = 0;
    for (int i = 0; i < QUANT_BLOCK; i++) {
        float d = x[i] - scale * q[i];
        sum += d * d;
    }
    return sum;
}

/* There are 8 steps on the side of the largest value and 7 on the other, and a scale of either
 * sign. Of some scales about the one that just holds the largest value, the one with the least
 * error: cutting it off a little often makes the others better. */
static uint16_t round_to_4(const float *x, float *q)
{
    static const float steps[] = {-8.0f, -7.4f, -6.9f, 7.2f, -8.6f, -9.2f};
    float most = largest(x), least_error = INFINITY, tried[QUANT_BLOCK];
    uint16_t best = 0;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        uint16_t scale = round_away(most / steps[i]);
        round_block(x, from_bf16(scale), -8, 7, tried);
        float error = error_of(x, from_bf16(scale), tried);
        if (error < least_error) {
            least_error = error;
            best = scale;
            memcpy(q, tried, sizeof tried);
        }
    }
    return best;
}

size_t quantise_panel_bytes(enum weight_type type, int cols)
{
    assert(cols % QUANT_BLOCK == 0 && (type == WEIGHT_INT8 || type == WEIGHT_INT4));
    size_t bytes = (size_t)cols / QUANT_BLOCK * (type == WEIGHT_INT8 ? 512 + 32 : 256 + 32);
    return (bytes + 63) / 64 * 64;
}

void quantise_panel(const struct matrix *m, int index, enum weight_type type, uint8_t *packed)
{
    const struct panel *panel = &m->panel[index];
    int blocks = m->cols / QUANT_BLOCK;
    size_t block_bytes = type == WEIGHT_INT8 ? 512 : 256;
    uint8_t *scales = packed + (size_t)blocks * block_bytes;
    memset(packed, 0, quantise_panel_bytes(type, m->cols));
    for (int b = 0; b < blocks; b++)
        for (int row = 0; row < panel->rows; row++) {
            float x[QUANT_BLOCK], q[QUANT_BLOCK];
            quantise_widen(m, panel, row, b * QUANT_BLOCK, QUANT_BLOCK, x);
            uint16_t scale = type == WEIGHT_INT8 ? round_to_8(x, q) : round_to_4(x, q);
            memcpy(scales + (size_t)(b * 16 + row) * 2, &scale, 2);
            uint8_t *to = packed + (size_t)b * block_bytes + row * 4;
            for (int k = 0; k < QUANT_BLOCK; k++)
                if (type == WEIGHT_INT8)
                    to[k / 4 * 64 + k % 4] = (uint8_t)((int)q[k] + 128);
                else
                    to[k % 16 / 4 * 64 + k % 4] |= (uint8_t)(((int)q[k] + 8) << (k / 16 * 4));
        }
}
