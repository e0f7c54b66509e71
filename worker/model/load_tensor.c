/* Tensors by name and shape: the first that is missing or wrong ends the load with its file and
 * name. */
#include <assert.h>
#include <math.h>

#include "worker/model/load.h"

static enum status missing(const struct loader *l, const char *name)
{
    return error_set(l->err, INVALID, "%s: tensor %s: missing", safetensors_describe(l->m->files),
                     name);
}

static enum status not_finite(const struct loader *l, const struct tensor *t)
{
    return error_set(l->err, INVALID, "%s: tensor %s: holds a NaN or an infinity", t->file,
                     t->name);
}

static enum status check_shape(const struct loader *l, const struct tensor *t, int rows, int cols)
{
    int dims = cols ? 2 : 1;
    if (t->dims == dims && t->shape[0] == rows && (!cols || t->shape[1] == cols))
        return OK;
    char is[96] = "", want[48];
    size_t used = 0;
    for (int i = 0; i < t->dims; i++)
        used += (size_t)snprintf(is + used, sizeof is - used, "%s%lld", i ? ", " : "",
                                 (long long)t->shape[i]);
    snprintf(want, sizeof want, cols ? "%d, %d" : "%d", rows, cols);
    return error_set(l->err, INVALID, "%s: tensor %s: has shape [%s], config.json makes it [%s]",
                     t->file, t->name, is, want);
}

enum status load_find(const struct loader *l, const char *name, int rows, int cols,
                      const struct tensor **out)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", l->prefix, name);
    const struct tensor *t = safetensors_find(l->m->files, full);
    if (!t)
        return missing(l, full);
    enum status st = check_shape(l, t, rows, cols);
    if (st != OK)
        return st;
    if (t->dtype == DTYPE_OTHER || (t->dtype == DTYPE_F8_E4M3 && !l->c->block_rows))
        return error_set(l->err, INVALID, "%s: tensor %s: %s", t->file, t->name,
                         t->dtype == DTYPE_OTHER
                             ? "its dtype is not one of F32, F16, BF16, F8_E4M3"
                             : "is FP8, but config.json has no quantization_config");
    *out = t;
    return OK;
}

static enum status find_scales(const struct loader *l, struct source *s)
{
    char name[256];
    int rows = ((int)s->weight->shape[0] + l->c->block_rows - 1) / l->c->block_rows;
    int cols = ((int)s->weight->shape[1] + l->c->block_cols - 1) / l->c->block_cols;
    snprintf(name, sizeof name, "%s_scale_inv", s->weight->name + strlen(l->prefix));
    const struct tensor *t = NULL;
    enum status st = load_find(l, name, rows, cols, &t);
    if (st != OK)
        return st;
    if (t->dtype != DTYPE_F32)
        return error_set(l->err, INVALID, "%s: tensor %s: scales must be F32", t->file, t->name);
    for (size_t i = 0; i < t->bytes; i += 4) {
        float scale;
        memcpy(&scale, t->data + i, 4);
        if (!isfinite(scale))
            return not_finite(l, t);
    }
    s->scale = t;
    s->block_rows = l->c->block_rows;
    s->block_cols = l->c->block_cols;
    return OK;
}

static void count(const struct loader *l, const struct tensor *t)
{
    struct tally *tally = &l->m->tally;
    int64_t n = t->dims == 2 ? t->shape[0] * t->shape[1] : t->shape[0];
    tally->parameters += n;
    tally->active += n;
    tally->bytes_of[t->dtype] += (int64_t)t->bytes;
}

/* A weight [rows][cols], with its scales if it is FP8. */
enum status load_weight(const struct loader *l, const char *name, int rows, int cols,
                        struct source *out)
{
    struct source s = {0};
    enum status st = load_find(l, name, rows, cols, &s.weight);
    if (st == OK && s.weight->dtype == DTYPE_F8_E4M3)
        st = find_scales(l, &s);
    if (st != OK)
        return st;
    count(l, s.weight);
    if (s.scale)
        l->m->tally.bytes_of[s.scale->dtype] += (int64_t)s.scale->bytes;
    *out = s;
    return OK;
}

enum status load_same_type(const struct loader *l, const struct source *a, const struct source *b)
{
    if (a->weight->dtype == b->weight->dtype)
        return OK;
    return error_set(l->err, INVALID, "%s: tensor %s: is %s, its partner %s is %s", a->weight->file,
                     a->weight->name, dtype_name(a->weight->dtype), b->weight->name,
                     dtype_name(b->weight->dtype));
}

enum status load_vector(const struct loader *l, const char *name, int n, const float **out)
{
    const struct tensor *t = NULL;
    enum status st = load_find(l, name, n, 0, &t);
    if (st != OK)
        return st;
    if (t->dtype == DTYPE_F8_E4M3)
        return error_set(l->err, INVALID, "%s: tensor %s: is FP8; a vector must not be", t->file,
                         t->name);
    float *values = store_alloc(l->m->store, (size_t)(n + 15) / 16 * 64);
    if (!values)
        return error_set(l->err, NOMEM, "out of memory for weights");
    pack_floats(values, t);
    for (int i = 0; i < n; i++)
        if (!isfinite(values[i]))
            return not_finite(l, t);
    count(l, t);
    *out = values;
    return OK;
}

static enum status load_whole(const struct loader *l, const char *name, int rows, int cols,
                              bool exact, struct matrix *out)
{
    struct source s;
    enum status st = load_weight(l, name, rows, cols, &s);
    s.exact = exact;
    if (st == OK)
        st = pack_begin(l->packer, out, &s, rows, cols, l->err);
    if (st == OK)
        pack_rows(out, 0, &s, 0, rows);
    return st;
}

enum status load_plain(const struct loader *l, const char *name, int rows, int cols,
                       struct matrix *out)
{
    return load_whole(l, name, rows, cols, false, out);
}

enum status load_exact(const struct loader *l, const char *name, int rows, int cols,
                       struct matrix *out)
{
    return load_whole(l, name, rows, cols, true, out);
}
