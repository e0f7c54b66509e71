/*
 * What the shared fixtures do not have: heads that end within a vector, sliding windows, layers of
 * two kinds, positions stretched evenly. Against logits that tests/tools/make_reference.py had
 * computed by another implementation.
 */
#include "tests/unit/worker/golden.h"
#include "worker/cpu/kernels.h"

#define MODELS "tests/golden/models/"

struct reference {
    struct id_list prompts[4];
    int count, rows; /* logits of the last so many tokens, or of all */
    float *logits;
    size_t floats;
};

static void reference_load(const char *dir, struct reference *r)
{
    char path[200];
    int64_t rows = 0;
    snprintf(path, sizeof path, "%s/golden.json", dir);
    struct json *golden = golden_json(path);
    CHECK_FATAL(json_int(json_get(golden, "rows"), 1, 1000, &rows));
    *r = (struct reference){.rows = (int)rows};
    for (const struct json *v = json_first(json_get(golden, "prompts")); v; v = json_next(v))
        golden_ids(v, &r->prompts[r->count++]);
    json_free(golden);
    snprintf(path, sizeof path, "%s/logits.f32", dir);
    r->logits = golden_floats(path, &r->floats);
}

static double compare(struct model *m, const struct reference *r, int chunk)
{
    size_t vocab = model_vocab_size(m), at = 0;
    double worst = 0;
    for (int i = 0; i < r->count; i++) {
        const struct id_list *p = &r->prompts[i];
        int rows = p->count < r->rows ? p->count : r->rows;
        float *got = golden_run(m, p, chunk);
        size_t n = (size_t)rows * vocab;
        CHECK_FATAL(at + n <= r->floats);
        double d = golden_difference(got + (size_t)(p->count - rows) * vocab, r->logits + at, n);
        worst = d > worst || isnan(d) ? d : worst;
        at += n;
        free(got);
    }
    CHECK(at == r->floats);
    return worst;
}

static void check(const char *dir, const struct reference *r, const struct model_options *options,
                  double most)
{
    struct model *m = golden_model(dir, options);
    static const int chunks[] = {2048, 50, 1};
    /* One by one only where the other options are plain: it takes long. */
    int count = options->kernels || options->kv_type || options->weights ? 2 : 3;
    for (int i = 0; i < count; i++) {
        double worst = compare(m, r, chunks[i]);
        if (!(worst < most))
            fprintf(stderr, "%s, %s, kv %d, weights %d, in chunks of %d: %g\n", dir,
                    model_kernels(m), options->kv_type, options->weights, chunks[i], worst);
        CHECK(worst < most);
    }
    model_free(m);
}

static void check_model(const char *name)
{
    static const char *const kernels[] = {"portable", "avx2", "avx512", "avx512-bf16"};
    char dir[100];
    struct reference r;
    snprintf(dir, sizeof dir, MODELS "%s", name);
    reference_load(dir, &r);
    check(dir, &r, &(struct model_options){.threads = 1}, 1e-5);
    check(dir, &r, &(struct model_options){.threads = 3}, 1e-5);
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++)
        if (kernels_find(kernels[i]))
            check(dir, &r, &(struct model_options){.threads = 2, .kernels = kernels[i]}, 1e-5);
    check(dir, &r, &(struct model_options){.threads = 2, .kv_type = KV_BF16}, 3e-2);
    check(dir, &r, &(struct model_options){.threads = 2, .kv_type = KV_INT8}, 3e-2);
    check(dir, &r, &(struct model_options){.threads = 2, .weights = MODEL_INT8}, 0.1);
    free(r.logits);
}

int main(void)
{
    static const char *const names[] = {"llama-odd-heads", "mistral-window", "qwen2-windows",
                                        "qwen3-layer-types"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_model(names[i]);
    return check_done();
}
