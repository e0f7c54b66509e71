#include "worker/cpu/pack.h"

#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "worker/cpu/widen.h"

/* What is to be gone through at the end. */
struct entry {
    struct matrix *m;
    uint8_t *copy; /* NULL: stays in the file */
    bool widen;    /* the copy is in 16 bits */
    bool only_checked;
};

struct packer {
    struct store *store;
    const struct safetensors *files;
    struct entry *entries;
    size_t count, room;
    int widest;
};

struct packer *packer_new(struct store *store, const struct safetensors *files)
{
    struct packer *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->store = store;
    p->files = files;
    return p;
}

void packer_free(struct packer *p)
{
    if (!p)
        return;
    free(p->entries);
    free(p);
}

int pack_widest(const struct packer *p)
{
    return p->widest;
}

static bool remember(struct packer *p, struct matrix *m)
{
    if (p->count == p->room) {
        size_t room = p->room ? 2 * p->room : 256;
        struct entry *more = realloc(p->entries, room * sizeof *more);
        if (!more)
            return false;
        p->entries = more;
        p->room = room;
    }
    p->entries[p->count++] = (struct entry){.m = m};
    return true;
}

static enum weight_type type_of(const struct tensor *t)
{
    assert(t->dtype != DTYPE_OTHER);
    return t->dtype == DTYPE_F32    ? WEIGHT_F32
           : t->dtype == DTYPE_BF16 ? WEIGHT_BF16
           : t->dtype == DTYPE_F16  ? WEIGHT_F16
                                    : WEIGHT_F8;
}

enum status pack_begin(struct packer *p, struct matrix *m, const struct source *like, int rows,
                       int cols, struct error *err)
{
    const struct tensor *t = like->weight;
    assert(rows > 0 && cols > 0 && cols % 16 == 0);
    struct matrix made = {.type = type_of(t), .exact = like->exact, .rows = rows, .cols = cols};
    made.panels = (rows + 15) / 16;
    made.row_bytes = (size_t)cols * dtype_bytes(t->dtype);
    if (like->scale) {
        made.segment = like->block_cols;
        made.segments = (cols + made.segment - 1) / made.segment;
        made.block_rows = like->block_rows;
        assert(made.segment % 16 == 0);
    }
    made.panel = store_alloc(p->store, (size_t)made.panels * sizeof *made.panel);
    if (!made.panel || !remember(p, m))
        return error_set(err, NOMEM, "out of memory for weights");
    p->widest = cols > p->widest ? cols : p->widest;
    *m = made;
    return OK;
}

void pack_rows(struct matrix *m, int at, const struct source *src, int from, int count)
{
    assert(src->weight->shape[1] == m->cols && at % 16 == 0 && at + count <= m->panels * 16 &&
           from + count <= src->weight->shape[0] && type_of(src->weight) == m->type);
    for (int i = 0; i < count; i += 16) {
        struct panel *panel = &m->panel[(at + i) / 16];
        panel->data = src->weight->data + (size_t)(from + i) * m->row_bytes;
        panel->rows = (int16_t)(count - i < 16 ? count - i : 16);
        if (src->scale) {
            size_t block = (size_t)((from + i) / m->block_rows);
            panel->scales = src->scale->data + block * (size_t)m->segments * sizeof(float);
            panel->block_row = (int16_t)((from + i) % m->block_rows);
        }
    }
}

/* Whether all n elements are finite: an exponent of ones is not; e4m3 has one such number. */
static bool all_finite(enum weight_type type, const uint8_t *data, size_t n)
{
    unsigned bad = 0;
    if (type == WEIGHT_F8) {
        for (size_t i = 0; i < n; i++)
            bad |= (data[i] & 0x7fu) == 0x7fu;
        return !bad;
    }
    if (type == WEIGHT_F32) {
        for (size_t i = 0; i < n; i++) {
            uint32_t v;
            memcpy(&v, data + i * 4, sizeof v);
            bad |= (v & 0x7f800000u) == 0x7f800000u;
        }
        return !bad;
    }
    uint16_t ones = type == WEIGHT_BF16 ? 0x7f80 : 0x7c00;
    for (size_t i = 0; i < n; i++) {
        uint16_t v;
        memcpy(&v, data + i * 2, sizeof v);
        bad |= (v & ones) == ones;
    }
    return !bad;
}

static enum status not_finite(const struct tensor *t, struct error *err)
{
    return error_set(err, INVALID, "%s: tensor %s: holds a NaN or an infinity", t ? t->file : "?",
                     t ? t->name : "?");
}

static int common_divisor(int a, int b)
{
    return b ? common_divisor(b, a % b) : a;
}

/* The scales of the transpose: along its columns they change where a block of the source's rows
 * ends, which may be within a head. */
static const uint8_t *transpose_scales(struct packer *p, struct matrix *m, const struct source *src,
                                       int from)
{
    size_t across = (size_t)src->scale->shape[1];
    m->block_rows = src->block_cols;
    m->segment = common_divisor(src->block_rows, common_divisor(from, m->cols));
    m->segments = m->cols / m->segment;
    int blocks = (m->rows + m->block_rows - 1) / m->block_rows;
    float *scales = store_alloc(p->store, (size_t)blocks * (size_t)m->segments * sizeof *scales);
    for (int i = 0; scales && i < blocks; i++)
        for (int s = 0; s < m->segments; s++) {
            size_t row = (size_t)((from + s * m->segment) / src->block_rows);
            memcpy(scales + (size_t)i * (size_t)m->segments + s,
                   src->scale->data + (row * across + (size_t)i) * sizeof *scales, sizeof *scales);
        }
    return (const uint8_t *)scales;
}

static void transpose(uint8_t *to, const uint8_t *from, int rows, int cols, size_t element)
{
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++)
            memcpy(to + ((size_t)i * (size_t)cols + (size_t)j) * element,
                   from + ((size_t)j * (size_t)rows + (size_t)i) * element, element);
}

enum status pack_transposed(struct packer *p, struct matrix *m, const struct source *src, int from,
                            int count, struct error *err)
{
    int rows = (int)src->weight->shape[1];
    assert(from + count <= src->weight->shape[0]);
    enum status st = pack_begin(p, m, src, rows, count, err);
    if (st != OK)
        return st;
    size_t element = dtype_bytes(src->weight->dtype);
    const uint8_t *first = src->weight->data + (size_t)from * (size_t)rows * element;
    uint8_t *data = store_alloc(p->store, (size_t)rows * m->row_bytes);
    const uint8_t *scales = src->scale ? transpose_scales(p, m, src, from) : NULL;
    if (!data || (src->scale && !scales))
        return error_set(err, NOMEM, "out of memory for weights");
    if (!all_finite(m->type, first, (size_t)rows * (size_t)count))
        return not_finite(src->weight, err);
    transpose(data, first, rows, count, element);
    for (int i = 0; i < m->panels; i++) {
        size_t block = src->scale ? (size_t)(i * 16 / m->block_rows) : 0;
        m->panel[i] = (struct panel){.data = data + (size_t)i * 16 * m->row_bytes,
                                     .rows = (int16_t)(rows - i * 16 < 16 ? rows - i * 16 : 16)};
        if (scales) {
            m->panel[i].scales = scales + block * (size_t)m->segments * sizeof(float);
            m->panel[i].block_row = (int16_t)(i * 16 % m->block_rows);
        }
    }
    return OK;
}

enum status pack_check(struct packer *p, const struct tensor *t, struct error *err)
{
    struct source whole = {.weight = t, .exact = true};
    struct matrix *m = store_alloc(p->store, sizeof *m);
    if (!m)
        return error_set(err, NOMEM, "out of memory for weights");
    int widest = p->widest;
    enum status st = pack_begin(p, m, &whole, (int)t->shape[0], (int)t->shape[1], err);
    p->widest = widest;
    if (st != OK)
        return st;
    pack_rows(m, 0, &whole, 0, (int)t->shape[0]);
    p->entries[p->count - 1].only_checked = true;
    return OK;
}

enum { TURN_PANELS = 64 };

/* What the members share at the end. */
struct finish {
    struct packer *packer;
    struct pool *pool;
    const struct pack_options *options;
    _Atomic(const uint8_t *) bad;
};

/* What was read of a mapped file is read no more: the model's own copy is. */
static void give_pages_back(const struct panel *panel, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)panel->data;
    uintptr_t from = (at + page - 1) / page * page, to = (at + bytes) / page * page;
    if (from < to)
        madvise((void *)from, to - from, MADV_DONTNEED);
}

/* Exactly: bfloat16 has more of an exponent and of a fraction. */
static void widen_panel(uint8_t *to, const uint8_t *from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float x = widen_f8(from[i]);
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        uint16_t half = (uint16_t)(bits >> 16);
        memcpy(to + i * 2, &half, sizeof half);
    }
}

static void copy_panel(const struct entry *e, int i, size_t elements)
{
    const struct matrix *m = e->m;
    struct panel *panel = &m->panel[i];
    uint8_t *to = e->copy + (size_t)i * 16 * m->row_bytes * (e->widen ? 2 : 1);
    if (e->widen)
        widen_panel(to, panel->data, elements);
    else
        memcpy(to, panel->data, (size_t)panel->rows * m->row_bytes);
    panel->data = to;
}

static void finish_panels(struct finish *f, const struct entry *e, int begin, int end)
{
    const struct matrix *m = e->m;
    for (int i = begin; i < end; i++) {
        struct panel *panel = &m->panel[i], old = *panel;
        size_t elements = (size_t)panel->rows * (size_t)m->cols;
        if (!all_finite(m->type, panel->data, elements)) {
            f->bad = panel->data;
            return;
        }
        if (m->packed) {
            f->options->kernels->quantise(m, i, f->options->quantise,
                                          m->packed + (size_t)i * m->panel_bytes);
        } else if (e->copy) {
            copy_panel(e, i, elements);
        }
        if (m->packed || e->copy)
            give_pages_back(&old, (size_t)old.rows * m->row_bytes);
    }
}

/* The panels of all matrices, one behind the other, in turns of so many. */
static void finish_member(void *arg, int member)
{
    struct finish *f = arg;
    const struct packer *p = f->packer;
    int64_t at = 0; /* of the matrix's first panel */
    size_t i = 0;
    for (;;) {
        int64_t from = (int64_t)pool_ticket(f->pool) * TURN_PANELS, to = from + TURN_PANELS;
        while (i < p->count && at + p->entries[i].m->panels <= from)
            at += p->entries[i++].m->panels;
        if (i == p->count || f->bad)
            return;
        int64_t start = at;
        for (size_t j = i; j < p->count && start < to; start += p->entries[j++].m->panels) {
            int panels = p->entries[j].m->panels;
            finish_panels(f, &p->entries[j], (int)(from > start ? from - start : 0),
                          (int)(to - start < panels ? to - start : panels));
        }
    }
}

/* Where the weights go that do not stay in the file. */
static bool make_room(struct packer *p, struct entry *e, const struct pack_options *o)
{
    struct matrix *m = e->m;
    if (e->only_checked)
        return true;
    if (o->quantise != WEIGHT_F32 && !m->exact && m->cols % QUANT_BLOCK == 0) {
        m->panel_bytes = kernels_panel_bytes(o->quantise, m->cols);
        m->packed = store_alloc(p->store, m->panel_bytes * (size_t)m->panels);
        return m->packed != NULL;
    }
    e->widen = o->widen && m->type == WEIGHT_F8;
    if (!o->copy && !e->widen)
        return true;
    e->copy = store_alloc(p->store, m->row_bytes * (e->widen ? 2 : 1) * (size_t)m->panels * 16);
    return e->copy != NULL;
}

/* What the matrix now is. */
static void settle(const struct entry *e, const struct pack_options *o)
{
    if (e->m->packed)
        e->m->type = o->quantise;
    if (e->widen) {
        e->m->type = WEIGHT_F8_WIDE;
        e->m->row_bytes *= 2;
    }
}

enum status pack_finish(struct packer *p, struct pool *pool, const struct pack_options *options,
                        struct error *err)
{
    for (size_t i = 0; i < p->count; i++)
        if (!make_room(p, &p->entries[i], options))
            return error_set(err, NOMEM, "out of memory for weights");
    struct finish f = {.packer = p, .pool = pool, .options = options};
    pool_run(pool, false, finish_member, &f);
    if (f.bad)
        return not_finite(safetensors_holding(p->files, f.bad), err);
    for (size_t i = 0; i < p->count; i++)
        settle(&p->entries[i], options);
    return OK;
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
            out[i] = widen_f16(h);
    }
}

void pack_floats(float *out, const struct tensor *t)
{
    assert(t->dims == 1);
    pack_widen(out, t, 0, (size_t)t->shape[0]);
}
