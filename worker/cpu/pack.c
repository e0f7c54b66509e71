#include "worker/cpu/pack.h"

#include <assert.h>
#include <stdbool.h>
#include <sys/mman.h>

enum { CHUNK_BYTES = 16 << 20, HUGE_PAGE_BYTES = 2 << 20 };

struct chunk {
    struct chunk *next;
    uint8_t *at;
    size_t bytes, used;
};

struct store {
    struct chunk *chunks; /* the first one has room */
};

struct store *store_new(void)
{
    return calloc(1, sizeof(struct store));
}

void store_free(struct store *s)
{
    if (!s)
        return;
    while (s->chunks) {
        struct chunk *c = s->chunks;
        s->chunks = c->next;
        munmap(c->at, c->bytes);
        free(c);
    }
    free(s);
}

static struct chunk *chunk_new(size_t bytes)
{
    struct chunk *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->bytes = (bytes + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    void *at = mmap(NULL, c->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
        free(c);
        return NULL;
    }
    madvise(at, c->bytes, MADV_HUGEPAGE);
    c->at = at;
    return c;
}

void *store_alloc(struct store *s, size_t bytes)
{
    bytes = (bytes + 63) / 64 * 64;
    struct chunk *c = s->chunks;
    if (!c || c->bytes - c->used < bytes) {
        c = chunk_new(bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES);
        if (!c)
            return NULL;
        c->next = s->chunks;
        s->chunks = c;
    }
    void *at = c->at + c->used;
    c->used += bytes;
    return at;
}

static enum weight_type type_of(const struct source *src)
{
    switch (src->weight->dtype) {
    case DTYPE_F32:
        return WEIGHT_F32;
    case DTYPE_F16:
        return WEIGHT_F16;
    case DTYPE_BF16:
        return WEIGHT_BF16;
    case DTYPE_F8_E4M3:
        return src->widen ? WEIGHT_BF16_SCALED : WEIGHT_F8;
    case DTYPE_OTHER:
        break;
    }
    assert(!"a weight of a type that was not checked");
    return WEIGHT_F32;
}

static size_t bytes_of(enum weight_type type)
{
    return type == WEIGHT_F32 ? 4 : type == WEIGHT_F8 ? 1 : 2;
}

enum status pack_begin(struct store *s, struct matrix *m, const struct source *like, int rows,
                       int cols, int segment, struct error *err)
{
    assert(rows > 0 && cols > 0 && cols % 2 == 0);
    assert((like->weight->dtype == DTYPE_F8_E4M3) == (like->scale != NULL));
    struct matrix made = {.type = type_of(like), .rows = rows, .cols = cols};
    made.panels = (rows + 15) / 16;
    made.panel_bytes = (size_t)cols * 16 * bytes_of(made.type);
    made.segment = like->scale && segment < cols ? segment : cols;
    assert(made.segment % 2 == 0);
    made.segments = (cols + made.segment - 1) / made.segment;
    made.data = store_alloc(s, made.panel_bytes * (size_t)made.panels);
    if (like->scale)
        made.scales = store_alloc(s, (size_t)made.panels * (size_t)made.segments * 64);
    if (!made.data || (like->scale && !made.scales))
        return error_set(err, NOMEM, "out of memory for weights");
    *m = made;
    return OK;
}

/* An e4m3 value as bfloat16, which holds all of them exactly. */
static uint16_t widen_f8(uint8_t b)
{
    unsigned sign = (b & 0x80u) << 8, exponent = b >> 3 & 15u, fraction = b & 7u;
    if (exponent)
        return (uint16_t)(sign | (exponent + 120) << 7 | fraction << 4);
    if (!fraction)
        return (uint16_t)sign;
    /* Subnormal: fraction x 2^-9. */
    unsigned top = fraction >= 4 ? 2 : fraction >= 2 ? 1 : 0;
    return (uint16_t)(sign | (118 + top) << 7 | ((fraction << (7 - top)) & 0x7f));
}

/* One row of m from n elements that lie `step` bytes apart. */
static bool pack_line(struct matrix *m, int row, const uint8_t *from, size_t step)
{
    uint8_t *panel = m->data + (size_t)(row / 16) * m->panel_bytes;
    size_t lane = (size_t)(row % 16), n = (size_t)m->cols;
    switch (m->type) {
    case WEIGHT_F32:
        for (size_t k = 0; k < n; k++)
            memcpy(panel + (k * 16 + lane) * 4, from + k * step, 4);
        return true;
    case WEIGHT_F16:
        for (size_t k = 0; k < n; k++)
            memcpy(panel + (k * 16 + lane) * 2, from + k * step, 2);
        return true;
    case WEIGHT_BF16:
        for (size_t k = 0; k < n; k++)
            memcpy(panel + ((k / 2 * 16 + lane) * 2 + k % 2) * 2, from + k * step, 2);
        return true;
    case WEIGHT_F8:
        for (size_t k = 0; k < n; k++) {
            uint8_t b = from[k * step];
            if ((b & 0x7f) == 0x7f)
                return false;
            panel[k * 16 + lane] = b;
        }
        return true;
    case WEIGHT_BF16_SCALED:
        for (size_t k = 0; k < n; k++) {
            uint8_t b = from[k * step];
            uint16_t wide = widen_f8(b);
            if ((b & 0x7f) == 0x7f)
                return false;
            memcpy(panel + ((k / 2 * 16 + lane) * 2 + k % 2) * 2, &wide, 2);
        }
        return true;
    }
    return false;
}

static float scale_at(const struct source *src, int row, int col)
{
    float scale;
    size_t across = (size_t)src->scale->shape[1];
    size_t at = (size_t)(row / src->block_rows) * across + (size_t)(col / src->block_cols);
    memcpy(&scale, src->scale->data + at * 4, 4);
    /* The kernels decode e4m3 2^8 too small. */
    return src->widen ? scale : scale * 256.0f;
}

static float *scale_slot(const struct matrix *m, int row, int segment)
{
    return m->scales + ((size_t)(row / 16) * (size_t)m->segments + (size_t)segment) * 16 + row % 16;
}

static enum status found_nan(const struct source *src, struct error *err)
{
    return error_set(err, INVALID, "%s: tensor %s: holds a NaN", src->weight->file,
                     src->weight->name);
}

enum status pack_rows(struct matrix *m, int at, const struct source *src, int from, int count,
                      struct error *err)
{
    assert(src->weight->shape[1] == m->cols && at + count <= m->panels * 16 &&
           from + count <= src->weight->shape[0]);
    size_t element = dtype_bytes(src->weight->dtype), row_bytes = element * (size_t)m->cols;
    for (int i = 0; i < count; i++) {
        if (!pack_line(m, at + i, src->weight->data + (size_t)(from + i) * row_bytes, element))
            return found_nan(src, err);
        for (int s = 0; m->scales && s < m->segments; s++)
            *scale_slot(m, at + i, s) = scale_at(src, from + i, s * m->segment);
    }
    return OK;
}

enum status pack_transposed(struct matrix *m, const struct source *src, int from, int count,
                            struct error *err)
{
    assert(src->weight->shape[1] == m->rows && m->cols == count &&
           from + count <= src->weight->shape[0]);
    size_t element = dtype_bytes(src->weight->dtype), row_bytes = element * (size_t)m->rows;
    const uint8_t *first = src->weight->data + (size_t)from * row_bytes;
    for (int i = 0; i < m->rows; i++) {
        if (!pack_line(m, i, first + (size_t)i * element, row_bytes))
            return found_nan(src, err);
        for (int s = 0; m->scales && s < m->segments; s++)
            *scale_slot(m, i, s) = scale_at(src, from + s * m->segment, i);
    }
    return OK;
}

static float widen_half(uint16_t h)
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

void pack_widen(float *out, const struct tensor *t, size_t from, size_t n)
{
    const uint8_t *data = t->data + from * dtype_bytes(t->dtype);
    assert((from + n) * dtype_bytes(t->dtype) <= t->bytes && t->dtype != DTYPE_F8_E4M3);
    if (t->dtype == DTYPE_F32) {
        memcpy(out, data, n * 4);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, data + i * 2, 2);
        uint32_t bits = (uint32_t)h << 16;
        if (t->dtype == DTYPE_BF16)
            memcpy(out + i, &bits, 4);
        else
            out[i] = widen_half(h);
    }
}

void pack_floats(float *out, const struct tensor *t)
{
    assert(t->dims == 1);
    pack_widen(out, t, 0, (size_t)t->shape[0]);
}
