/* runs: thread */
#include "tests/unit/worker/golden.h"

#define DEMO "models/demo"
#define GOLDEN "tests/golden/demo/"

enum { PROMPTS = 6 };

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
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        struct model_options options = {.threads = 1, .kernels = kernels[i]};
        struct model *m = NULL;
        struct error err;
        if (model_load(DEMO, &options, &m, &err) != OK)
            continue; /* not of this machine */
        model_free(m);
        check_logits(kernels[i], 1, 64);
        check_logits(kernels[i], 3, 64);
    }
}

/* However a prompt is cut into batches, and whatever the number of threads, the bits agree. */
static void test_batch_does_not_matter(void)
{
    static const int chunks[] = {1, 2, 3, 7, 16, 77};
    struct model_options one = {.threads = 1}, two = {.threads = 2};
    struct model *m = golden_model(DEMO, &one), *n = golden_model(DEMO, &two);
    const struct id_list *p = &prompts[3];
    size_t bytes = (size_t)p->count * model_vocab_size(m) * sizeof(float);
    float *want = golden_run(m, p, 64);
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
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
    test_instruction_sets_agree();
    test_routes();
    return check_done();
}
