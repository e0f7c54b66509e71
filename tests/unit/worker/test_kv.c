#include "worker/kv.h"

#include <math.h>

#include "tests/unit/check.h"

enum { KEYS = 48, VALUES = 32, GROUP = 16, POSITIONS = 40 };

static float value_of(int layer, int position, int i)
{
    return sinf((float)(layer * 1000 + position * 97 + i)) * (float)(1 + i % 7);
}

static void test_blocks(void)
{
    struct kv_shape shape = {.layers = 3, .type = KV_F32, .keys = 32};
    struct kv *kv = NULL;
    struct error err;
    int32_t a[4], b[7];
    CHECK_FATAL(kv_new(&shape, 10, &kv, &err) == OK);
    CHECK(kv_blocks_for(0) == 0 && kv_blocks_for(1) == 1 && kv_blocks_for(16) == 1 &&
          kv_blocks_for(17) == 2);
    CHECK(kv_take(kv, 4, a));
    CHECK(!kv_take(kv, 7, b)); /* all or none */
    CHECK_INT(kv_free_count(kv), 6);
    CHECK(kv_take(kv, 6, b));
    CHECK(kv_used_count(kv) == 10 && kv_free_count(kv) == 0);
    kv_check(kv);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 6; j++)
            CHECK(a[i] != b[j]);
    kv_ref(kv, a[0]);
    kv_unref(kv, a[0]);
    CHECK_INT(kv_free_count(kv), 0); /* shared: still one holder */
    for (int i = 0; i < 4; i++)
        kv_unref(kv, a[i]);
    CHECK_INT(kv_free_count(kv), 4);
    for (int i = 0; i < 6; i++)
        kv_unref(kv, b[i]);
    CHECK(kv_free_count(kv) == kv_total(kv));
    kv_check(kv);
    kv_free(kv);
}

static void test_sizes(void)
{
    struct kv_shape s = {.layers = 3, .type = KV_F32, .keys = KEYS, .values = VALUES, .group = 16};
    const size_t values = 3 * 16 * (KEYS + VALUES);
    CHECK_INT(kv_block_bytes(&s), values * 4);
    s.type = KV_BF16;
    CHECK_INT(kv_block_bytes(&s), values * 2);
    s.type = KV_INT8;
    CHECK_INT(kv_block_bytes(&s), values + values / 16 * 4);
    s.group = 0; /* of no effect on the others */
    s.type = KV_BF16;
    CHECK_INT(kv_block_bytes(&s), values * 2);
    enum kv_type type = KV_F32;
    CHECK(kv_type_parse("int8", &type) && type == KV_INT8);
    CHECK(kv_type_parse("bf16", &type) && type == KV_BF16);
    CHECK(kv_type_parse("f32", &type) && type == KV_F32);
    CHECK(!kv_type_parse("fp8", &type) && type == KV_F32);
}

static float from_bf16(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Reads a stored value the way the header says it lies. */
static double read_back(const struct kv *kv, const uint8_t *image, int slot, int i)
{
    const struct kv_shape *s = kv_shape_of(kv);
    struct kv_layout l;
    kv_layout(s, &l);
    bool key = i < s->keys;
    int j = key ? i : i - s->keys, group = s->type == KV_INT8 ? j / s->group : 0;
    const uint8_t *part = key ? image : image + l.values;
    size_t at = (size_t)(key ? j * 16 + slot : slot * s->values + j);
    if (s->type == KV_F32)
        return (double)((const float *)part)[at];
    if (s->type == KV_BF16)
        return (double)from_bf16(
            ((const uint16_t *)part)[key ? (size_t)(j / 2 * 32 + slot * 2 + j % 2) : at]);
    const float *scales = (const float *)(image + (key ? l.key_scales : l.value_scales));
    return (double)((const int8_t *)part)[at] * (double)scales[group * 16 + slot];
}

static void fill(const struct kv *kv, const int32_t *table)
{
    float row[KEYS + VALUES];
    for (int layer = 0; layer < 2; layer++)
        for (int p = 0; p < POSITIONS; p++) {
            for (int i = 0; i < KEYS + VALUES; i++)
                row[i] = value_of(layer, p, i);
            kv_write(kv, layer, table, p, row);
        }
}

static void test_rows(enum kv_type type, double tolerance)
{
    struct kv_shape s = {.layers = 2, .type = type, .keys = KEYS, .values = VALUES, .group = GROUP};
    struct kv *kv = NULL;
    struct error err;
    int32_t table[3], other;
    CHECK_FATAL(kv_new(&s, 5, &kv, &err) == OK && kv_take(kv, 1, &other) && kv_take(kv, 3, table));
    fill(kv, table);
    struct kv_layout l;
    kv_layout(&s, &l);
    CHECK(kv_block(kv, 1, 0) + l.bytes == kv_block(kv, 1, 1));
    memset(kv_block(kv, 0, other), 1, l.bytes); /* no one else's */
    for (int layer = 0; layer < 2; layer++)
        for (int p = 0; p < POSITIONS; p++) {
            const uint8_t *image = kv_block(kv, layer, table[p / 16]);
            for (int i = 0; i < KEYS + VALUES; i++) {
                double got = read_back(kv, image, p % 16, i);
                double want = (double)value_of(layer, p, i);
                CHECK(fabs(got - want) <= tolerance * 7);
                CHECK(type != KV_F32 || got == want);
            }
        }
    kv_free(kv);
}

static void test_odd_values(void)
{
    struct kv_shape s = {.layers = 1, .type = KV_INT8, .keys = 16, .group = 16};
    struct kv *kv = NULL;
    struct error err;
    int32_t block;
    float row[16] = {0};
    CHECK_FATAL(kv_new(&s, 1, &kv, &err) == OK && kv_take(kv, 1, &block));
    kv_write(kv, 0, &block, 0, row);
    CHECK(read_back(kv, kv_block(kv, 0, block), 0, 3) == 0);
    row[3] = 1e-38f; /* its scale would not be a number */
    kv_write(kv, 0, &block, 1, row);
    CHECK(fabs(read_back(kv, kv_block(kv, 0, block), 1, 3)) < 1e-37);
    row[4] = 3e38f;
    row[5] = -3e38f;
    kv_write(kv, 0, &block, 2, row);
    CHECK(fabs(read_back(kv, kv_block(kv, 0, block), 2, 5) + 3e38) < 1e36);
    row[4] = NAN;
    kv_write(kv, 0, &block, 3, row);
    CHECK(isnan(read_back(kv, kv_block(kv, 0, block), 3, 4)));
    row[4] = INFINITY;
    kv_write(kv, 0, &block, 4, row);
    CHECK(!isfinite(read_back(kv, kv_block(kv, 0, block), 4, 4)));
    kv_free(kv);
}

int main(void)
{
    test_blocks();
    test_sizes();
    test_rows(KV_F32, 0);
    test_rows(KV_BF16, 1.0 / 256);
    test_rows(KV_INT8, 0.51 / 127);
    test_odd_values();
    return check_done();
}
