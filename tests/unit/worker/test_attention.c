/* The attention kernels of every instruction set against sums in double precision. */
#include <math.h>

#include "tests/unit/check.h"
#include "worker/cpu/kernels.h"

enum { BLOCKS = 84, HEADS = 2, CONTEXT_MOST = 1300, QUERIES_MOST = 24 };

struct scene {
    struct kv_shape shape;
    struct kv_layout layout;
    struct kv *kv;
    int32_t table[BLOCKS];
    int key_count, value_count; /* of one head */
    bool columns;               /* the values are the first keys */
};

/* The positions that a query attends to: [from, tokens). */
struct span {
    int from, tokens;
};

static unsigned seed = 1;

static float noise(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(seed >> 8) / (float)(1 << 23) - 1.0f;
}

/* A cache whose unused memory is not a number, and whose blocks are not in order. */
static void scene_init(struct scene *s, enum kv_type type, bool columns, int keys, int values)
{
    struct error err;
    *s = (struct scene){.key_count = keys, .value_count = values, .columns = columns};
    int heads = columns ? 1 : HEADS;
    s->shape = (struct kv_shape){.layers = 1,
                                 .type = type,
                                 .keys = keys * heads,
                                 .values = columns ? 0 : values * heads,
                                 .group = keys % 32 || values % 32 ? 16 : 32};
    kv_layout(&s->shape, &s->layout);
    CHECK_FATAL(kv_new(&s->shape, BLOCKS, &s->kv, &err) == OK);
    CHECK_FATAL(kv_take(s->kv, BLOCKS, s->table));
    for (int i = 0; i < BLOCKS; i++) {
        s->table[i] = (i * 37 + 5) % BLOCKS;
        memset(kv_block(s->kv, 0, i), 0xff, s->layout.bytes);
    }
}

static void scene_fill(struct scene *s, int tokens)
{
    float row[1024];
    for (int p = 0; p < tokens; p++) {
        for (int i = 0; i < s->shape.keys + s->shape.values; i++)
            row[i] = noise() * (1.0f + (float)(i % 5));
        kv_write(s->kv, 0, s->table, p, row);
    }
}

static double half_float(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, 2);
    uint32_t bits = (uint32_t)h << 16;
    float x;
    memcpy(&x, &bits, 4);
    return (double)x;
}

/* What the cache says, which test_kv checks against what was written. */
static double stored(const struct scene *s, bool key, int position, int i)
{
    const uint8_t *image = kv_block(s->kv, 0, s->table[position / 16]);
    const uint8_t *part = key ? image : image + s->layout.values;
    int slot = position % 16;
    size_t at = (size_t)(key ? i * 16 + slot : slot * s->shape.values + i);
    if (s->shape.type == KV_F32)
        return (double)((const float *)part)[at];
    if (s->shape.type == KV_BF16)
        return half_float(part + 2 * (key ? (size_t)(i / 2 * 32 + slot * 2 + i % 2) : at));
    size_t scales = key ? s->layout.key_scales : s->layout.value_scales;
    return (double)((const int8_t *)part)[at] *
           (double)((const float *)(image + scales))[i / s->shape.group * 16 + slot];
}

static void reference(const struct scene *s, int head, const float *query, struct span span,
                      double *out)
{
    static double weight[CONTEXT_MOST];
    double largest = -INFINITY, total = 0;
    int key = head * s->key_count, value = head * s->value_count;
    for (int t = span.from; t < span.tokens; t++) {
        weight[t] = 0;
        for (int i = 0; i < s->key_count; i++)
            weight[t] += (double)query[i] * stored(s, true, t, key + i);
        largest = fmax(largest, weight[t]);
    }
    for (int t = span.from; t < span.tokens; t++)
        total += weight[t] = exp(weight[t] - largest);
    for (int i = 0; i < s->value_count; i++) {
        out[i] = 0;
        for (int t = span.from; t < span.tokens; t++)
            out[i] += weight[t] / total * stored(s, s->columns, t, value + i);
    }
}

static void aim(const struct scene *s, int head, struct attend *a)
{
    size_t element = s->shape.type == KV_F32 ? 4 : s->shape.type == KV_BF16 ? 2 : 1;
    size_t group = s->shape.group, key = (size_t)(head * s->key_count);
    size_t value = (size_t)(head * s->value_count);
    *a = (struct attend){.type = s->shape.type,
                         .value_type = s->shape.type,
                         .group = s->shape.group,
                         .cache = kv_block(s->kv, 0, 0),
                         .value_cache = kv_block(s->kv, 0, 0),
                         .block_bytes = s->layout.bytes,
                         .value_block_bytes = s->layout.bytes,
                         .blocks = s->table,
                         .keys = key * 16 * element,
                         .key_scales = s->layout.key_scales + key / group * 64,
                         .values = s->columns ? 0 : s->layout.values + value * element,
                         .value_scales = s->columns ? s->layout.key_scales
                                                    : s->layout.value_scales + value / group * 64,
                         .value_stride = s->columns ? 0 : (size_t)s->shape.values * element,
                         .key_count = s->key_count,
                         .value_count = s->value_count};
}

/* Queries [0, count) with their spans, `together` of them at a time. */
static void run(const struct kernels *k, struct attend *a, const struct span *spans, int count,
                int together, const float *queries, float *out)
{
    struct attend_state states[QUERIES_MOST] = {{0}};
    float *scratch = calloc(attend_scratch(a->key_count, a->value_count), sizeof *scratch);
    CHECK_FATAL(scratch != NULL);
    a->scratch = scratch;
    for (a->begin = 0; a->begin < CONTEXT_MOST; a->begin += ATTEND_SEGMENT)
        for (int first = 0; first < count; first += together) {
            a->count = 0;
            for (int i = first; i < count && i < first + together; i++) {
                /* Those that begin behind the segment are left in at times: it adds nothing. */
                if (spans[i].tokens <= a->begin ||
                    (i % 2 && spans[i].from >= a->begin + ATTEND_SEGMENT))
                    continue;
                a->queries[a->count] = queries + (size_t)(i * a->key_count);
                a->from[a->count] = spans[i].from;
                a->tokens[a->count] = spans[i].tokens;
                a->out[a->count] = out + (size_t)(i * a->value_count);
                a->states[a->count++] = &states[i];
            }
            if (a->count)
                k->attend(a);
        }
    for (int i = 0; i < count; i++)
        k->attend_finish(out + (size_t)(i * a->value_count), &states[i], a->value_count);
    free(scratch);
}

static void check_scene(const struct kernels *k, const struct scene *s, const struct span *spans,
                        int count, bool rounded)
{
    int head = s->columns ? 0 : count % HEADS;
    size_t keys = (size_t)(s->key_count * count), values = (size_t)(s->value_count * count);
    float *queries = calloc(keys, sizeof *queries), *out = calloc(values, sizeof *out);
    float *again = calloc(values, sizeof *again);
    double want[1024];
    CHECK_FATAL(queries && out && again);
    for (size_t i = 0; i < keys; i++)
        queries[i] = noise() * 0.2f;
    struct attend a;
    aim(s, head, &a);
    a.rounded = rounded;
    run(k, &a, spans, count, ATTEND_QUERIES, queries, out);
    for (int i = 0; i < count; i++) {
        reference(s, head, queries + (size_t)(i * s->key_count), spans[i], want);
        double most = 0, worst = 0;
        for (int j = 0; j < s->value_count; j++) {
            double d = fabs((double)out[i * s->value_count + j] - want[j]);
            most = fmax(most, fabs(want[j]));
            worst = d > worst || isnan(d) ? d : worst;
        }
        if (!(worst <= most * (rounded ? 1e-2 : 2e-5)))
            fprintf(stderr, "%s, cache %d, keys %d, [%d, %d): %g of %g\n", k->name, s->shape.type,
                    s->key_count, spans[i].from, spans[i].tokens, worst, most);
        CHECK(worst <= most * (rounded ? 1e-2 : 2e-5));
    }
    /* The company that a query keeps does not matter. */
    for (int together = 1; together < ATTEND_QUERIES; together++) {
        run(k, &a, spans, count, together, queries, again);
        CHECK(memcmp(out, again, values * sizeof *out) == 0);
    }
    free(queries);
    free(out);
    free(again);
}

/* Neighbouring rows, as in a prompt, and heads. */
static void check_window(const struct kernels *k, const struct scene *s, int context, int window,
                         int count)
{
    struct span spans[QUERIES_MOST];
    for (int q = 0; q < count; q++) {
        int tokens = context > q / 3 ? context - q / 3 : 1;
        spans[q] = (struct span){tokens > window ? tokens - window : 0, tokens};
    }
    check_scene(k, s, spans, count, false);
    if (s->shape.type == KV_BF16)
        check_scene(k, s, spans, count, true);
}

static void test_kernels(const struct kernels *k)
{
    static const int contexts[] = {1, 15, 16, 17, 33, 300, 511, 512, 513, 1025, 1299};
    static const struct {
        bool columns;
        int keys, values;
    } shapes[] = {
        {true, 80, 64}, {true, 288, 256}, {true, 32, 16}, {false, 64, 64}, {false, 48, 16}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int type = KV_F32; type <= KV_INT8; type++) {
            struct scene s;
            scene_init(&s, (enum kv_type)type, shapes[i].columns, shapes[i].keys, shapes[i].values);
            for (size_t c = 0; c < sizeof contexts / sizeof *contexts; c++) {
                scene_fill(&s, contexts[c]);
                int count = 1 + (int)(c * 5 + i) % 17;
                check_window(k, &s, contexts[c], CONTEXT_MOST, count);
                check_window(k, &s, contexts[c], c % 2 ? 17 : 513, count % 6);
            }
            kv_free(s.kv);
        }
}

int main(void)
{
    static const char *const names[] = {"avx512-bf16", "avx512", "avx2", "portable"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct kernels *k = kernels_find(names[i]);
        if (k)
            test_kernels(k);
    }
    return check_done();
}
