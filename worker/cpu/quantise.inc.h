/*
 * Stored weights to weights of 8 or 4 bits with a scale per block of 32, in the layout of
 * blocks.inc.h. A scale is bfloat16, rounded away from zero, so that the block's largest value is
 * not cut off. With 4 bits there are 8 steps on one side and 7 on the other, and a scale of either
 * sign; of some scales about the one that just holds the largest value, the one with the least
 * squared error is taken: cutting it off a little often makes the others better.
 */
#include <assert.h>

#include "worker/cpu/kernels.h"
#include "worker/cpu/stored.h"

struct block {
    f32x16 v[2];
};

INLINE f32x16 load_weights(const enum weight_type type, const uint8_t *p)
{
    if (type == WEIGHT_F32) {
        f32x16 v;
        memcpy(&v, p, sizeof v);
        return v;
    }
    return type == WEIGHT_BF16  ? vec_from_bf16(p)
           : type == WEIGHT_F16 ? vec_from_f16(p)
                                : vec_from_f8(p);
}

INLINE f32x16 load_stored(const struct matrix *m, const struct panel *panel, int row, int col)
{
    const uint8_t *data = panel->data + (size_t)row * m->row_bytes;
    if (m->type != WEIGHT_F8)
        return load_weights(m->type, data + (size_t)col * (m->type == WEIGHT_F32 ? 4 : 2));
    size_t block = (size_t)((panel->block_row + row) / m->block_rows) * (size_t)m->segments;
    float scale = load_float(panel->scales + (block + (size_t)(col / m->segment)) * 4);
    return vec_from_f8(data + col) * (scale * 256.0f);
}

/* The one farthest from zero. */
INLINE float block_extreme(const struct block *x)
{
    float most = vec_largest(vec_max(x->v[0], x->v[1]));
    float least = -vec_largest(vec_max(-x->v[0], -x->v[1]));
    return most >= -least ? most : least;
}

INLINE float scale_value(uint16_t scale)
{
    uint32_t bits = (uint32_t)scale << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

INLINE uint16_t round_away(float scale)
{
    uint32_t bits;
    memcpy(&bits, &scale, 4);
    return (uint16_t)((bits + 0xffffu) >> 16);
}

/* Nearest whole numbers within [least, most]. */
INLINE struct block round_block(const struct block *x, float scale, float least, float most)
{
    const float round = 12582912.0f; /* 1.5 x 2^23: adding it leaves no fraction */
    float inverse = scale > -0x1p-100f && scale < 0x1p-100f ? 0.0f : 1.0f / scale;
    struct block q;
    for (int i = 0; i < 2; i++) {
        f32x16 v = vec_max(x->v[i] * inverse, vec_set(least));
        v = -vec_max(-v, vec_set(-most));
        q.v[i] = (v + round) - round;
    }
    return q;
}

INLINE uint16_t round_to_8(const struct block *x, struct block *q)
{
    float most = block_extreme(x);
    uint16_t scale = round_away((most < 0 ? -most : most) / 127.0f);
    *q = round_block(x, scale_value(scale), -127.0f, 127.0f);
    return scale;
}

INLINE uint16_t round_to_4(const struct block *x, struct block *q)
{
    static const float steps[] = {-8.0f, -7.4f, -6.9f, 7.2f, -8.6f, -9.2f};
    float most = block_extreme(x), least_error = 0;
    uint16_t best = 0;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        uint16_t scale = round_away(most / steps[i]);
        struct block tried = round_block(x, scale_value(scale), -8.0f, 7.0f);
        f32x16 a = x->v[0] - tried.v[0] * scale_value(scale);
        f32x16 b = x->v[1] - tried.v[1] * scale_value(scale);
        float error = vec_sum(a * a + b * b);
        if (i == 0 || error < least_error) {
            least_error = error;
            best = scale;
            *q = tried;
        }
    }
    return best;
}

INLINE u8x16 whole_bytes(f32x16 v)
{
    return vec_low_bytes((u32x16) __builtin_convertvector(v, i32x16));
}

/* Into the row's lane of the block's groups. */
INLINE void store_block(uint8_t *to, const struct block *q, const enum weight_type type)
{
    uint8_t bytes[QUANT_BLOCK];
    int groups = type == WEIGHT_INT8 ? 8 : 4;
    if (type == WEIGHT_INT8) {
        u8x16 low = whole_bytes(q->v[0] + 128.0f), high = whole_bytes(q->v[1] + 128.0f);
        memcpy(bytes, &low, sizeof low);
        memcpy(bytes + 16, &high, sizeof high);
    } else {
        u8x16 both = whole_bytes(q->v[0] + 8.0f + (q->v[1] + 8.0f) * 16.0f);
        memcpy(bytes, &both, sizeof both);
    }
    for (int g = 0; g < groups; g++)
        memcpy(to + g * 64, bytes + g * 4, 4);
}

static void quantise(const struct matrix *m, int index, enum weight_type type, uint8_t *packed)
{
    const struct panel *panel = &m->panel[index];
    int blocks = m->cols / QUANT_BLOCK;
    size_t block_bytes = type == WEIGHT_INT8 ? 512 : 256;
    assert(type == WEIGHT_INT8 || type == WEIGHT_INT4);
    memset(packed, 0, m->panel_bytes);
    for (int row = 0; row < panel->rows; row++)
        for (int b = 0; b < blocks; b++) {
            struct block q, x = {{load_stored(m, panel, row, b * QUANT_BLOCK),
                                  load_stored(m, panel, row, b * QUANT_BLOCK + 16)}};
            uint8_t *to = packed + block_place(b, block_bytes) + row * 4;
            uint16_t scale = type == WEIGHT_INT8 ? round_to_8(&x, &q) : round_to_4(&x, &q);
            if (type == WEIGHT_INT8)
                store_block(to, &q, WEIGHT_INT8);
            else
                store_block(to, &q, WEIGHT_INT4);
            memcpy(packed + scale_place(b, block_bytes) + row * 2, &scale, 2);
        }
}
