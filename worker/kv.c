#include "worker/kv.h"

#include <assert.h>
#include <sys/mman.h>

struct kv {
    struct kv_shape shape;
    int total, free_count;
    int32_t *free_list; /* a stack: blocks used last are taken first, warm in the caches */
    uint32_t *refs;
    int64_t references; /* all refs together */
    float *rows;        /* [layer][block][position][row_floats]: a layer reads what lies together */
    size_t bytes;
};

static size_t block_floats(const struct kv_shape *s)
{
    return (size_t)s->layers * KV_BLOCK_TOKENS * (size_t)s->row_floats;
}

size_t kv_block_bytes(const struct kv_shape *shape)
{
    return block_floats(shape) * sizeof(float);
}

enum status kv_new(const struct kv_shape *shape, int blocks, struct kv **out, struct error *err)
{
    assert(blocks > 0 && shape->layers > 0 && shape->row_floats % 16 == 0);
    struct kv *kv = calloc(1, sizeof *kv);
    if (!kv)
        return error_set(err, NOMEM, "out of memory for the KV cache");
    kv->shape = *shape;
    kv->total = kv->free_count = blocks;
    kv->bytes = kv_block_bytes(shape) * (size_t)blocks;
    kv->free_list = calloc((size_t)blocks, sizeof *kv->free_list);
    kv->refs = calloc((size_t)blocks, sizeof *kv->refs);
    /* Mapped, so that blocks never used take no memory, and zero, so that padding is zero. */
    void *rows = mmap(NULL, kv->bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    kv->rows = rows == MAP_FAILED ? NULL : rows;
    if (kv->rows)
        madvise(rows, kv->bytes, MADV_HUGEPAGE);
    if (!kv->free_list || !kv->refs || !kv->rows) {
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
    if (kv->rows)
        munmap(kv->rows, kv->bytes);
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
        memcpy(kv_row(kv, layer, to, 0), kv_row(kv, layer, from, 0),
               KV_BLOCK_TOKENS * (size_t)kv->shape.row_floats * sizeof(float));
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

float *kv_row(const struct kv *kv, int layer, int32_t block, int position)
{
    assert(block >= 0 && block < kv->total && layer >= 0 && layer < kv->shape.layers &&
           position >= 0 && position < KV_BLOCK_TOKENS);
    size_t row =
        ((size_t)layer * (size_t)kv->total + (size_t)block) * KV_BLOCK_TOKENS + (size_t)position;
    return kv->rows + row * (size_t)kv->shape.row_floats;
}
