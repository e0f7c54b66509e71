/* runs: thread */
#include "tests/unit/worker/golden.h"

#define DEMO "models/demo"
#define GOLDEN "tests/golden/demo/"

enum { PROMPTS = 6 };
#ifdef __SANITIZE_THREAD__ /* twenty times as slow; long prompts share work like short ones */
enum { THREADS_WATCHED = 1 };
#else
enum { THREADS_WATCHED = 0 };
#endif

static struct id_list prompts[PROMPTS];

static void read_prompts(void)
{
    struct json *root = golden_json(GOLDEN "prompts.json");
    CHECK_FATAL(json_count(root) == PROMPTS);
    int i = 0;
    for (const struct json *v = json_first(root); v; v = json_next(v))
        golden_ids(v, &prompts[i++]);
    json_free(root);
}

static void check_logits(const char *kernels, int threads, int chunk)
{
    struct model_options options = {.threads = threads, .kernels = kernels};
    struct model *m = golden_model(DEMO, &options);
    size_t count, at = 0;
    float *want = golden_floats(GOLDEN "logits.f32", &count);
    for (int i = 0; i < PROMPTS; i++) {
        size_t n = (size_t)prompts[i].count * model_vocab_size(m);
        float *got = golden_run(m, &prompts[i], chunk);
        CHECK_FATAL(at + n <= count);
        CHECK(golden_difference(got, want + at, n) < 1e-5);
        at += n;
        free(got);
    }
    CHECK(at == count);
    free(want);
    model_free(m);
}

static void test_logits(void)
{
    static const char *const kernels[] = {NULL, "avx512", "avx2", "portable"};
    for (size_t i = 0; i < (THREADS_WATCHED ? 1 : sizeof kernels / sizeof *kernels); i++) {
        struct model_options options = {.threads = 1, .kernels = kernels[i]};
        struct model *m = NULL;
        struct error err;
        if (model_load(DEMO, &options, &m, &err) != OK)
            continue; /* not of this machine */
        model_free(m);
        if (!THREADS_WATCHED)
            check_logits(kernels[i], 1, 64);
        check_logits(kernels[i], 3, 64);
    }
}

/* However a prompt is cut into batches, and whatever the number of threads, the bits agree. */
static void test_batch_does_not_matter(void)
{
    static const int chunks[] = {7, 77, 1, 2, 3, 16};
    struct model_options one = {.threads = 1, .deterministic = true};
    struct model_options two = {.threads = 2, .deterministic = true};
    struct model *m = golden_model(DEMO, &one), *n = golden_model(DEMO, &two);
    const struct id_list *p = &prompts[3];
    size_t bytes = (size_t)p->count * model_vocab_size(m) * sizeof(float);
    float *want = golden_run(m, p, 64);
    for (size_t i = 0; i < (THREADS_WATCHED ? 2 : sizeof chunks / sizeof *chunks); i++) {
        float *got = golden_run(m, p, chunks[i]), *other = golden_run(n, p, chunks[i]);
        CHECK(memcmp(got, want, bytes) == 0);
        CHECK(memcmp(other, want, bytes) == 0);
        free(got);
        free(other);
    }
    free(want);
    model_free(m);
    model_free(n);
}

static void make_prompt(struct id_list *out, int count, unsigned seed)
{
    for (out->count = 0; out->count < count; out->count++) {
        seed = seed * 1664525u + 1013904223u;
        out->ids[out->count] = (int32_t)(seed >> 8) % 900 + 50;
    }
}

/* Prompts of more than one segment of attention, with every type of cache: deterministic, the
 * bits agree however they are cut, and with more threads than tasks. */
static void test_long_prompts(enum kv_type type, const int *chunks)
{
    static struct id_list p;
    make_prompt(&p, 540, 3);
    struct model_options one = {.threads = 1, .kv_type = type, .deterministic = true};
    struct model_options many = {.threads = 9, .kv_type = type, .deterministic = true};
    struct model *m = golden_model(DEMO, &one), *n = golden_model(DEMO, &many);
    size_t bytes = (size_t)p.count * model_vocab_size(m) * sizeof(float);
    float *want = golden_run(m, &p, 64);
    for (; *chunks; chunks++) {
        float *got = golden_run(m, &p, *chunks), *other = golden_run(n, &p, *chunks);
        CHECK(memcmp(got, want, bytes) == 0);
        CHECK(memcmp(other, want, bytes) == 0);
        free(got);
        free(other);
    }
    free(want);
    model_free(m);
    model_free(n);
}

/* A long prompt's two ways agree but for rounding. */
static void test_expanded(void)
{
    static struct id_list p;
    make_prompt(&p, 540, 3);
    struct model_options folded = {.threads = 2, .deterministic = true};
    struct model_options expanded = {.threads = 2}, rounded = {.threads = 2, .rounded = true};
    struct model *m = golden_model(DEMO, &folded), *n = golden_model(DEMO, &expanded);
    struct model *o = golden_model(DEMO, &rounded);
    size_t count = (size_t)p.count * model_vocab_size(m);
    float *a = golden_run(m, &p, 270), *b = golden_run(n, &p, 270), *c = golden_run(o, &p, 270);
    CHECK(memcmp(a, b, count * sizeof *a) != 0); /* or nothing was expanded */
    CHECK(golden_difference(b, a, count) < 1e-4);
    double squares = 0, errors = 0;
    for (size_t i = 0; i < count; i++) {
        squares += (double)a[i] * (double)a[i];
        errors += ((double)c[i] - (double)a[i]) * ((double)c[i] - (double)a[i]);
    }
    CHECK(errors < squares * 1e-2); /* here and there, another expert */
    free(a);
    free(b);
    free(c);
    model_free(m);
    model_free(n);
    model_free(o);
}

/* Rows of `sequences` prompts in one batch, in chunks of different lengths; the logits of the
 * last token of each. */
static void run_together(struct model *m, const struct id_list *p, int sequences, float *logits)
{
    struct kv_shape shape;
    struct kv *kv = NULL;
    struct error err;
    int32_t blocks[4][32];
    int done[4] = {0};
    struct batch_row rows[300];
    model_kv_shape(m, &shape);
    CHECK_FATAL(kv_new(&shape, 128, &kv, &err) == OK && model_reserve(m, 300, &err) == OK);
    for (int s = 0; s < sequences; s++)
        CHECK_FATAL(kv_take(kv, 32, blocks[s]));
    float *some = calloc(4 * (size_t)model_vocab_size(m), sizeof *some);
    for (int n = 1; n > 0;) {
        int wanted[4], finished = 0;
        n = 0;
        for (int s = 0; s < sequences; s++)
            for (int i = 0; i < 20 + 30 * s && done[s] < p[s].count; i++, done[s]++) {
                bool last = done[s] == p[s].count - 1;
                rows[n++] = (struct batch_row){.token = p[s].ids[done[s]],
                                               .position = done[s],
                                               .blocks = blocks[s],
                                               .wants_logits = last};
                if (last)
                    wanted[finished++] = s;
            }
        if (n)
            model_forward(m, kv, rows, n, some);
        for (int i = 0; i < finished; i++)
            memcpy(logits + (size_t)wanted[i] * model_vocab_size(m),
                   some + (size_t)i * model_vocab_size(m), model_vocab_size(m) * sizeof *some);
    }
    free(some);
    kv_free(kv);
}

/* A deterministic result does not depend on the company of its sequence. */
static void test_company_does_not_matter(void)
{
    static struct id_list p[4];
    struct model_options options = {.threads = 2, .deterministic = true};
    struct model *m = golden_model(DEMO, &options);
    size_t vocab = model_vocab_size(m);
    float *got = calloc(4 * vocab, sizeof *got);
    for (int s = 0; s < 4; s++)
        make_prompt(&p[s], 100 + 90 * s, (unsigned)s);
    run_together(m, p, 4, got);
    for (int s = 0; s < 4; s++) {
        float *alone = golden_run(m, &p[s], 50);
        CHECK(memcmp(got + (size_t)s * vocab, alone + (size_t)(p[s].count - 1) * vocab,
                     vocab * sizeof *got) == 0);
        free(alone);
    }
    free(got);
    model_free(m);
}

/* AVX2 and AVX-512 compute the same sums in the same order. */
static void test_instruction_sets_agree(void)
{
    struct model_options wide = {.threads = 1, .kernels = "avx512"};
    struct model_options narrow = {.threads = 1, .kernels = "avx2"};
    struct model *a = NULL, *b = NULL;
    struct error err;
    if (model_load(DEMO, &wide, &a, &err) == OK && model_load(DEMO, &narrow, &b, &err) == OK) {
        float *x = golden_run(a, &prompts[3], 32), *y = golden_run(b, &prompts[3], 32);
        CHECK(memcmp(x, y, (size_t)prompts[3].count * model_vocab_size(a) * sizeof *x) == 0);
        free(x);
        free(y);
    }
    model_free(a);
    model_free(b);
}

struct routes {
    const struct json *layers;
    int checked;
};

static const struct json *item(const struct json *list, int n)
{
    const struct json *v = json_first(list);
    while (v && n--)
        v = json_next(v);
    return v;
}

static void check_route(void *arg, int layer, int row, const int *experts, const float *weights,
                        int count)
{
    struct routes *r = arg;
    const struct json *l = item(r->layers, layer - 1);
    int64_t index = -1;
    CHECK_FATAL(json_int(json_get(l, "layer"), 0, 64, &index) && index == layer);
    const struct json *e = json_first(item(json_get(l, "experts"), row));
    const struct json *w = json_first(item(json_get(l, "weights"), row));
    for (int n = 0; n < count; n++, e = json_next(e), w = json_next(w)) {
        int64_t expert = -1;
        bool found = false;
        CHECK_FATAL(json_int(e, 0, 15, &expert));
        for (int i = 0; i < count; i++)
            if (experts[i] == expert && fabs((double)weights[i] - json_number(w)) < 1e-4)
                found = true;
        CHECK(found);
        r->checked++;
    }
}

static void test_routes(void)
{
    struct json *root = golden_json(GOLDEN "router.json");
    struct routes routes = {json_get(root, "layers"), 0};
    struct model_options options = {.threads = 1, .routed = check_route, .routed_arg = &routes};
    struct model *m = golden_model(DEMO, &options);
    struct id_list ids;
    golden_ids(json_get(root, "ids"), &ids);
    free(golden_run(m, &ids, ids.count));
    CHECK_INT(routes.checked, 5 * 4 * ids.count);
    model_free(m);
    json_free(root);
}

int main(void)
{
    read_prompts();
    test_logits();
    test_batch_does_not_matter();
    if (!THREADS_WATCHED) {
        test_long_prompts(KV_F32, (const int[]){540, 37, 0});
        test_long_prompts(KV_BF16, (const int[]){200, 0});
        test_long_prompts(KV_INT8, (const int[]){200, 0});
        test_company_does_not_matter();
    }
    test_expanded();
    test_instruction_sets_agree();
    test_routes();
    return check_done();
}
