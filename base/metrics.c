#include "base/metrics.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>

enum { CELLS = 16, CACHE_LINE = 64, SCRAPE_HOOKS_MAX = 16 };

enum kind { COUNTER, GAUGE, HISTOGRAM };

/* slots[0..slots-1] of each thread's cell: the value, or the buckets, then the sum. Cells lie a
 * multiple of a cache line apart, so that threads do not take lines from each other. */
struct metric {
    struct metric *next_series; /* of the same family */
    char *labels;               /* `a="b",c="d"`; "" without any */
    const int64_t *bounds;      /* owned by the family */
    int slots, bound_count;
    size_t stride; /* of a cell, in slots */
    _Atomic int64_t *cells;
};

struct family {
    struct family *next;
    const char *name, *help;
    enum kind kind;
    int64_t scale;
    int64_t bounds[METRICS_BOUNDS_MAX];
    int bound_count;
    struct metric *first, **last;
};

struct metrics {
    pthread_mutex_t lock; /* guards the lists; values need none */
    struct family *first, **last;
    int series;
    struct {
        void (*fn)(void *arg);
        void *arg;
    } hooks[SCRAPE_HOOKS_MAX];
    int hook_count;
    enum status (*render)(struct buf *out, void *arg);
    void *render_arg;
};

const int64_t metrics_duration_us[] = {
    1000,   2500,    5000,    10000,   25000,    50000,    100000,   250000,
    500000, 1000000, 2500000, 5000000, 10000000, 20000000, 30000000, 60000000,
};
const int metrics_duration_count = sizeof metrics_duration_us / sizeof *metrics_duration_us;

struct metrics *metrics_new(void)
{
    struct metrics *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    pthread_mutex_init(&m->lock, NULL);
    m->last = &m->first;
    return m;
}

static void metric_free(struct metric *s)
{
    if (!s)
        return;
    free(s->labels);
    free((void *)s->cells);
    free(s);
}

void metrics_free(struct metrics *m)
{
    if (!m)
        return;
    for (struct family *f = m->first, *next; f; f = next) {
        next = f->next;
        for (struct metric *s = f->first, *after; s; s = after) {
            after = s->next_series;
            metric_free(s);
        }
        free(f);
    }
    pthread_mutex_destroy(&m->lock);
    free(m);
}

static void add_escaped(struct buf *out, const char *text, bool quotes)
{
    for (; *text; text++) {
        if (*text == '\n')
            buf_add(out, "\\n", 2);
        else if (*text == '\\')
            buf_add(out, "\\\\", 2);
        else if (*text == '"' && quotes)
            buf_add(out, "\\\"", 2);
        else
            buf_add(out, text, 1);
    }
}

/* The labels as they are shown; they are also what a series is found by. */
static char *render_labels(const struct metric_spec *spec)
{
    struct buf out;
    buf_init(&out, 4096);
    for (int i = 0; i < METRICS_LABELS_MAX && spec->labels[i].name; i++) {
        buf_adds(&out, i ? "," : "");
        buf_adds(&out, spec->labels[i].name);
        buf_adds(&out, "=\"");
        add_escaped(&out, spec->labels[i].value, true);
        buf_adds(&out, "\"");
    }
    const char *text = buf_cstr(&out);
    char *copy = text ? strdup(text) : NULL;
    buf_done(&out);
    return copy;
}

static struct family *find_family(struct metrics *m, const struct metric_spec *spec, enum kind kind)
{
    for (struct family *f = m->first; f; f = f->next)
        if (strcmp(f->name, spec->name) == 0) {
            assert(f->kind == kind);
            return f;
        }
    struct family *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->name = spec->name;
    f->help = spec->help;
    f->kind = kind;
    f->scale = spec->scale ? spec->scale : 1;
    f->last = &f->first;
    *m->last = f;
    m->last = &f->next;
    return f;
}

static struct metric *series_new(struct family *f, char *labels)
{
    struct metric *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->bounds = f->bounds;
    s->bound_count = f->bound_count;
    s->slots = f->kind == HISTOGRAM ? f->bound_count + 2 : 1;
    size_t per_line = CACHE_LINE / sizeof *s->cells;
    s->stride = ((size_t)s->slots + per_line - 1) / per_line * per_line;
    size_t bytes = s->stride * sizeof *s->cells * CELLS;
    s->cells = aligned_alloc(CACHE_LINE, bytes);
    if (!s->cells) {
        free(s);
        return NULL;
    }
    memset((void *)s->cells, 0, bytes);
    s->labels = labels;
    *f->last = s;
    f->last = &s->next_series;
    return s;
}

static struct metric *find_series(struct metrics *m, const struct metric_spec *spec, enum kind kind,
                                  const int64_t *bounds, int bound_count)
{
    char *labels = render_labels(spec);
    if (!labels)
        return NULL;
    pthread_mutex_lock(&m->lock);
    struct family *f = find_family(m, spec, kind);
    struct metric *s = f ? f->first : NULL;
    while (s && strcmp(s->labels, labels) != 0)
        s = s->next_series;
    if (f && !s && m->series < METRICS_SERIES_MAX) {
        if (!f->first && bound_count) {
            memcpy(f->bounds, bounds, (size_t)bound_count * sizeof *bounds);
            f->bound_count = bound_count;
        }
        s = series_new(f, labels);
        if (s) {
            labels = NULL; /* the series has it */
            m->series++;
        }
    }
    pthread_mutex_unlock(&m->lock);
    free(labels);
    return s;
}

struct metric *metrics_counter(struct metrics *m, const struct metric_spec *spec)
{
    return find_series(m, spec, COUNTER, NULL, 0);
}

struct metric *metrics_gauge(struct metrics *m, const struct metric_spec *spec)
{
    return find_series(m, spec, GAUGE, NULL, 0);
}

struct metric *metrics_histogram(struct metrics *m, const struct metric_spec *spec,
                                 const int64_t *bounds, int bound_count)
{
    assert(bound_count > 0 && bound_count <= METRICS_BOUNDS_MAX);
    return find_series(m, spec, HISTOGRAM, bounds, bound_count);
}

static _Atomic int64_t *own_cell(struct metric *s)
{
    static atomic_int threads;
    static _Thread_local int own = -1;
    if (own < 0)
        own = atomic_fetch_add(&threads, 1) % CELLS;
    return s->cells + (size_t)own * s->stride;
}

void metric_add(struct metric *c, int64_t n)
{
    if (c)
        atomic_fetch_add_explicit(own_cell(c), n, memory_order_relaxed);
}

void metric_set(struct metric *gauge, int64_t value)
{
    if (gauge)
        atomic_store_explicit(gauge->cells, value, memory_order_relaxed);
}

void metric_observe(struct metric *histogram, int64_t value)
{
    if (!histogram)
        return;
    int at = 0;
    while (at < histogram->bound_count && value > histogram->bounds[at])
        at++;
    _Atomic int64_t *cell = own_cell(histogram);
    atomic_fetch_add_explicit(cell + at, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(cell + histogram->slots - 1, value, memory_order_relaxed);
}

static int64_t slot_sum(const struct metric *s, int slot)
{
    int64_t sum = 0;
    for (int i = 0; i < CELLS; i++)
        sum += atomic_load_explicit(s->cells + (size_t)i * s->stride + slot, memory_order_relaxed);
    return sum;
}

int64_t metric_value(const struct metric *m)
{
    if (!m)
        return 0;
    int64_t sum = slot_sum(m, 0);
    for (int i = 1; i < m->slots - 1; i++)
        sum += slot_sum(m, i);
    return sum;
}

void metrics_on_scrape(struct metrics *m, void (*fn)(void *arg), void *arg)
{
    pthread_mutex_lock(&m->lock);
    assert(m->hook_count < SCRAPE_HOOKS_MAX);
    m->hooks[m->hook_count].fn = fn;
    m->hooks[m->hook_count++].arg = arg;
    pthread_mutex_unlock(&m->lock);
}

void metrics_on_render(struct metrics *m, enum status (*fn)(struct buf *out, void *arg), void *arg)
{
    m->render = fn;
    m->render_arg = arg;
}

/* Exact in decimal as far as a double goes: scales are powers of ten. */
static void add_number(struct buf *out, int64_t value, int64_t scale)
{
    if (value % scale == 0)
        buf_addf(out, "%" PRId64, value / scale);
    else
        buf_addf(out, "%.15g", (double)value / (double)scale);
}

static void add_line(struct buf *out, const struct family *f, const char *suffix,
                     const char *labels)
{
    buf_adds(out, f->name);
    buf_adds(out, suffix);
    if (*labels)
        buf_addf(out, "{%s}", labels);
    buf_adds(out, " ");
}

static void add_bucket(struct buf *out, const struct family *f, const struct metric *s, int at)
{
    buf_addf(out, "%s_bucket{%s%sle=\"", f->name, s->labels, *s->labels ? "," : "");
    if (at == s->bound_count)
        buf_adds(out, "+Inf");
    else
        add_number(out, s->bounds[at], f->scale);
    buf_adds(out, "\"} ");
}

static void render_histogram(const struct family *f, const struct metric *s, struct buf *out)
{
    int64_t count = 0;
    for (int i = 0; i <= s->bound_count; i++) {
        count += slot_sum(s, i);
        add_bucket(out, f, s, i);
        buf_addf(out, "%" PRId64 "\n", count);
    }
    add_line(out, f, "_sum", s->labels);
    add_number(out, slot_sum(s, s->slots - 1), f->scale);
    buf_adds(out, "\n");
    add_line(out, f, "_count", s->labels);
    buf_addf(out, "%" PRId64 "\n", count);
}

static enum status render_family(const struct family *f, struct buf *out)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    if (!f->first)
        return OK;
    buf_addf(out, "# HELP %s ", f->name);
    add_escaped(out, f->help, false);
    buf_addf(out, "\n# TYPE %s %s\n", f->name, types[f->kind]);
    for (struct metric *s = f->first; s; s = s->next_series) {
        if (f->kind == HISTOGRAM) {
            render_histogram(f, s, out);
            continue;
        }
        add_line(out, f, "", s->labels);
        add_number(out, slot_sum(s, 0), f->scale);
        buf_adds(out, "\n");
    }
    return buf_reserve(out, 1);
}

enum status metrics_render(struct metrics *m, struct buf *out)
{
    pthread_mutex_lock(&m->lock);
    int hooks = m->hook_count;
    pthread_mutex_unlock(&m->lock);
    for (int i = 0; i < hooks; i++) /* without the lock: they may look series up */
        m->hooks[i].fn(m->hooks[i].arg);
    enum status st = OK;
    pthread_mutex_lock(&m->lock);
    for (struct family *f = m->first; f && st == OK; f = f->next)
        st = render_family(f, out);
    pthread_mutex_unlock(&m->lock);
    if (st == OK && m->render)
        st = m->render(out, m->render_arg);
    return st;
}
