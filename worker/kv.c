#include "worker/kv.h"

#include <assert.h>
#include <math.h>
#include <sys/mman.h>

struct kv {
    struct kv_shape shape;
    struct kv_layout layout;
    int total, free_count;
    int32_t *free_list; /* a stack: blocks used last are taken first, warm in the caches */
    uint32_t *refs;
    int64_t references; /* all refs together */
    uint8_t *images;    /* [layer][block]: a layer reads what lies together */
    size_t bytes;
};

const char *const kv_type_names[] = {"f32", "bf16", "int8", NULL};

bool kv_type_parse(const char *name, enum kv_type *out)
{
    for (int i = 0; kv_type_names[i]; i++)
        if (strcmp(name, kv_type_names[i]) == 0) {
            *out = (enum kv_type)i;
            return true;
        }
    return false;
}

static size_t element_bytes(enum kv_type type)
{
    return type == KV_F32 ? sizeof(float) : type == KV_BF16 ? sizeof(uint16_t) : sizeof(int8_t);
}

void kv_layout(const struct kv_shape *shape, struct kv_layout *out)
{
    assert(shape->keys > 0 && shape->keys % 16 == 0 && shape->values % 16 == 0);
    size_t keys = (size_t)shape->keys, values = (size_t)shape->values;
    size_t column = KV_BLOCK_TOKENS * element_bytes(shape->type);
    struct kv_layout l = {.values = keys * column};
    l.key_scales = l.value_scales = l.bytes = (keys + values) * column;
    if (shape->type == KV_INT8) {
        size_t group = (size_t)shape->group, scales = KV_BLOCK_TOKENS * sizeof(float);
        assert(group && group % 16 == 0 && keys % group == 0 && values % group == 0);
        l.value_scales += keys / group * scales;
        l.bytes = l.value_scales + values / group * scales;
    }
    *out = l;
}

size_t kv_block_bytes(const struct kv_shape *shape)
{
    struct kv_layout layout;
    kv_layout(shape, &layout);
    return layout.bytes * (size_t)shape->layers;
}

enum status kv_new(const struct kv_shape *shape, int blocks, struct kv **out, struct error *err)
{
    assert(blocks > 0 && shape->layers > 0);
    struct kv *kv = calloc(1, sizeof *kv);
    if (!kv)
        return error_set(err, NOMEM, "out of memory for the KV cache");
    kv->shape = *shape;
    kv_layout(shape, &kv->layout);
    kv->total = kv->free_count = blocks;
    kv->bytes = kv_block_bytes(shape) * (size_t)blocks;
    kv->free_list = calloc((size_t)blocks, sizeof *kv->free_list);
    kv->refs = calloc((size_t)blocks, sizeof *kv->refs);
    /* Mapped, so that blocks never used take no memory. */
    void *images = mmap(NULL, kv->bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    kv->images = images == MAP_FAILED ? NULL : images;
    if (kv->images)
        madvise(images, kv->bytes, MADV_HUGEPAGE);
    if (!kv->free_list || !kv->refs || !kv->images) {
        kv_free(kv);
        return error_set(err, NOMEM, "out of memory for a KV cache of %d blocks", blocks);
    }
    for (int i = 0; i < blocks; i++)
        kv->free_list[i] = blocks - 1 - i;
    *out = kv;
    return OK;
}

void kv_free(struct kv *kv)
{
    if (!kv)
        return;
    if (kv->images)
        munmap(kv->images, kv->bytes);
    free(kv->free_list);
    free(kv->refs);
    free(kv);
}

int kv_total(const struct kv *kv)
{
    return kv->total;
}

int kv_free_count(const struct kv *kv)
{
    return kv->free_count;
}

int kv_used_count(const struct kv *kv)
{
    return kv->total - kv->free_count;
}

bool kv_take(struct kv *kv, int count, int32_t *blocks)
{
    assert(count >= 0);
    if (count > kv->free_count)
        return false;
    for (int i = 0; i < count; i++) {
        blocks[i] = kv->free_list[--kv->free_count];
        assert(kv->refs[blocks[i]] == 0);
        kv->refs[blocks[i]] = 1;
    }
    kv->references += count;
    return true;
}

void kv_ref(struct kv *kv, int32_t block)
{
    assert(block >= 0 && block < kv->total && kv->refs[block] > 0);
    kv->refs[block]++;
    kv->references++;
}

void kv_unref(struct kv *kv, int32_t block)
{
    assert(block >= 0 && block < kv->total && kv->refs[block] > 0);
    kv->references--;
    if (--kv->refs[block] == 0) {
        assert(kv->free_count < kv->total);
        kv->free_list[kv->free_count++] = block;
    }
}

void kv_copy(struct kv *kv, int32_t to, int32_t from)
{
    assert(kv->refs[to] == 1 && kv->refs[from] > 0);
    for (int layer = 0; layer < kv->shape.layers; layer++)
        memcpy(kv_block(kv, layer, to), kv_block(kv, layer, from), kv->layout.bytes);
}

uint32_t kv_references_of(const struct kv *kv, int32_t block)
{
    assert(block >= 0 && block < kv->total);
    return kv->refs[block];
}

int64_t kv_references(const struct kv *kv)
{
    return kv->references;
}

void kv_check(const struct kv *kv)
{
    int used = 0;
    int64_t references = 0;
    for (int i = 0; i < kv->total; i++) {
        used += kv->refs[i] > 0;
        references += kv->refs[i];
    }
    assert(references == kv->references);
    assert(used + kv->free_count == kv->total);
    for (int i = 0; i < kv->free_count; i++)
        assert(kv->refs[kv->free_list[i]] == 0);
}

const struct kv_shape *kv_shape_of(const struct kv *kv)
{
    return &kv->shape;
}

uint8_t *kv_block(const struct kv *kv, int layer, int32_t block)
{
    assert(block >= 0 && block < kv->total && layer >= 0 && layer < kv->shape.layers);
    return kv->images + ((size_t)layer * (size_t)kv->total + (size_t)block) * kv->layout.bytes;
}

/* To the nearest, ties to even; a NaN stays one. */
static uint16_t to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/* n values, `step` elements apart; the pairs of BF16 keys lie together. */
static void store_floats(float *to, const float *x, int n, size_t step)
{
    for (int i = 0; i < n; i++)
        to[(size_t)i * step] = x[i];
}

static void store_bf16(uint16_t *to, const float *x, int n, size_t pair_step)
{
    for (int i = 0; i < n; i++)
        to[(size_t)(i / 2) * pair_step + (size_t)(i % 2)] = to_bf16(x[i]);
}

/* One group and its scale, a NaN where a value is not finite. */
static float store_int8(int8_t *to, const float *x, int n, size_t step)
{
    float most = 0;
    bool finite = true;
    for (int i = 0; i < n; i++) {
        finite = finite && isfinite(x[i]);
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    }
    /* Too small for a scale: zero. */
    float inverse = finite && most > 1e-30f ? 127.0f / most : 0.0f;
    for (int i = 0; i < n; i++)
        to[(size_t)i * step] = (int8_t)(inverse > 0 ? lrintf(x[i] * inverse) : 0);
    return finite ? most / 127.0f : NAN;
}

struct int8_groups {
    int8_t *to;
    size_t step;   /* elements from one value to the next */
    float *scales; /* KV_BLOCK_TOKENS apart */
    int count, group;
};

static void store_groups(const struct int8_groups *g, const float *x)
{
    for (int i = 0; i < g->count; i += g->group)
        g->scales[(size_t)(i / g->group) * KV_BLOCK_TOKENS] =
            store_int8(g->to + (size_t)i * g->step, x + i, g->group, g->step);
}

void kv_write(const struct kv *kv, int layer, const int32_t *blocks, int position, const float *row)
{
    const struct kv_shape *s = &kv->shape;
    uint8_t *image = kv_block(kv, layer, blocks[position / KV_BLOCK_TOKENS]);
    uint8_t *values = image + kv->layout.values;
    size_t slot = (size_t)(position % KV_BLOCK_TOKENS), width = (size_t)s->values;
    switch (s->type) {
    case KV_F32:
        store_floats((float *)image + slot, row, s->keys, KV_BLOCK_TOKENS);
        store_floats((float *)values + slot * width, row + s->keys, s->values, 1);
        break;
    case KV_BF16:
        store_bf16((uint16_t *)image + slot * 2, row, s->keys, (size_t)KV_BLOCK_TOKENS * 2);
        store_bf16((uint16_t *)values + slot * width, row + s->keys, s->values, 2);
        break;
    case KV_INT8: {
        float *scales = (float *)(image + kv->layout.key_scales) + slot;
        struct int8_groups g = {(int8_t *)image + slot, KV_BLOCK_TOKENS, scales, s->keys, s->group};
        store_groups(&g, row);
        scales = (float *)(image + kv->layout.value_scales) + slot;
        g = (struct int8_groups){(int8_t *)values + slot * width, 1, scales, s->values, s->group};
        store_groups(&g, row + s->keys);
        break;
    }
    }
}
