#include "tests/tools/model_values.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { BLOCK = 32 };

static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint16_t to_bf16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float from_bf16(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

/* Nearly normal: the sum of four uniform numbers of 16 bits. */
static uint16_t value_of(const struct weight *w, uint64_t place)
{
    uint64_t r = mix(w->key + place * UINT64_C(0xd1342543de82ef95));
    int sum =
        (int)(r & 0xffff) + (int)(r >> 16 & 0xffff) + (int)(r >> 32 & 0xffff) + (int)(r >> 48);
    const float deviation = 37837.2f; /* sqrt(4 / 12) * 65536 */
    return to_bf16(w->mean + ((float)sum - 131070.0f) * (w->deviation / deviation));
}

uint16_t value_at(const struct weight *w, int64_t row, int64_t col)
{
    return value_of(w, (uint64_t)(row * w->cols + col));
}

void value_row(const struct weight *w, int64_t row, uint16_t *out)
{
    uint64_t place = (uint64_t)(row * w->cols);
    for (int64_t i = 0; i < w->cols; i++)
        out[i] = value_of(w, place + (uint64_t)i);
}

void value_tensor_row(const struct model_plan *p, const struct gguf_tensor *t, int64_t row,
                      uint16_t *out)
{
    const struct weight *w = &p->weights[t->first];
    int64_t outer = row / (t->dims > 1 ? t->shape[1] : 1), inner = row - outer * t->shape[1];
    switch (t->layout) {
    case LAYOUT_PLAIN:
        value_row(w, row, out);
        break;
    case LAYOUT_STACK:
        value_row(w + 3 * outer, inner, out);
        break;
    case LAYOUT_KEY:
        for (int64_t i = 0; i < t->shape[0]; i++)
            out[i] = value_at(w, outer * t->head_rows + i, inner);
        break;
    case LAYOUT_VALUE:
        value_row(w, outer * t->head_rows + t->head_rows - t->shape[1] + inner, out);
        break;
    }
}

uint32_t value_type_id(enum value_type type)
{
    static const uint32_t ids[] = {
        [VALUE_F32] = 0, [VALUE_BF16] = 30, [VALUE_Q8_0] = 8, [VALUE_Q4_0] = 2};
    return ids[type];
}

size_t value_bytes(enum value_type type, int64_t n)
{
    static const size_t block_bytes[] = {
        [VALUE_F32] = 4 * BLOCK, [VALUE_BF16] = 2 * BLOCK, [VALUE_Q8_0] = 34, [VALUE_Q4_0] = 18};
    return (size_t)n * block_bytes[type] / BLOCK;
}

/* Rounds to even; what is too small for a normal number becomes 0. */
static uint16_t to_f16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, 4);
    uint32_t sign = bits >> 16 & 0x8000;
    int32_t exponent = (int32_t)(bits >> 23 & 0xff) - 127 + 15;
    if (exponent <= 0)
        return (uint16_t)sign;
    if (exponent >= 31)
        return (uint16_t)(sign | 0x7c00);
    uint32_t value = (uint32_t)exponent << 23 | (bits & 0x7fffff);
    return (uint16_t)(sign | (value + 0xfff + (value >> 13 & 1)) >> 13);
}

static void put_scale(uint8_t *out, float scale)
{
    uint16_t half = to_f16(scale);
    memcpy(out, &half, 2);
}

static float largest(const float *x)
{
    float most = 0;
    for (int i = 0; i < BLOCK; i++)
        if (fabsf(x[i]) > fabsf(most))
            most = x[i];
    return most;
}

static void encode_q8_0(const float *x, uint8_t *out)
{
    float scale = fabsf(largest(x)) / 127, inverse = scale > 0 ? 1 / scale : 0;
    put_scale(out, scale);
    for (int i = 0; i < BLOCK; i++)
        out[2 + i] = (uint8_t)(int8_t)roundf(x[i] * inverse);
}

static uint8_t nibble(float x)
{
    int q = (int)(x + 8.5f);
    return (uint8_t)(q > 15 ? 15 : q);
}

static void encode_q4_0(const float *x, uint8_t *out)
{
    float scale = largest(x) / -8, inverse = scale != 0 ? 1 / scale : 0;
    put_scale(out, scale);
    for (int i = 0; i < BLOCK / 2; i++)
        out[2 + i] = (uint8_t)(nibble(x[i] * inverse) | nibble(x[i + BLOCK / 2] * inverse) << 4);
}

void value_encode(enum value_type type, const uint16_t *bf16, int64_t n, uint8_t *out)
{
    if (type == VALUE_BF16) {
        memcpy(out, bf16, (size_t)n * 2);
        return;
    }
    assert(type == VALUE_F32 || n % BLOCK == 0);
    for (int64_t i = 0; type == VALUE_F32 && i < n; i++) {
        float f = from_bf16(bf16[i]);
        memcpy(out + 4 * i, &f, 4);
    }
    for (int64_t i = 0; type != VALUE_F32 && i < n; i += BLOCK) {
        float x[BLOCK];
        for (int j = 0; j < BLOCK; j++)
            x[j] = from_bf16(bf16[i + j]);
        uint8_t *block = out + value_bytes(type, i);
        type == VALUE_Q8_0 ? encode_q8_0(x, block) : encode_q4_0(x, block);
    }
}
