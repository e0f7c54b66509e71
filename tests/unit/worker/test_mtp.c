/* The layer for multi-token prediction, against the reference on the demo model. */
#include "tests/unit/worker/golden.h"

#define DEMO "models/demo"
#define GOLDEN "tests/golden/demo/"

/* A sequence with its cache and the hidden states of its positions. */
struct run {
    struct model *m;
    struct kv *kv;
    int32_t blocks[128];
    size_t hidden;
    float *states;
};

static void run_begin(struct run *r, struct model *m)
{
    struct kv_shape shape;
    struct error err;
    r->m = m;
    r->kv = NULL;
    r->hidden = model_hidden_size(m);
    model_kv_shape(m, &shape);
    CHECK_FATAL(kv_new(&shape, 128, &r->kv, &err) == OK && kv_take(r->kv, 128, r->blocks));
    CHECK_FATAL(model_reserve(m, 256, &err) == OK);
    r->states = calloc(2048 * r->hidden, sizeof *r->states);
    CHECK_FATAL(r->states != NULL);
}

static void run_end(struct run *r)
{
    free(r->states);
    kv_free(r->kv);
}

static float *state(struct run *r, int position)
{
    return r->states + (size_t)position * r->hidden;
}

/* Positions [from, to) through the model and, whose next token is known, through the layer;
 * guesses: [to - from or one less][vocabulary]. */
static void advance(struct run *r, const struct id_list *ids, int from, int to, float *guesses)
{
    struct batch_row rows[256] = {0};
    for (int i = from; i < to; i++)
        rows[i - from] = (struct batch_row){
            .token = ids->ids[i], .position = i, .blocks = r->blocks, .hidden_out = state(r, i)};
    model_forward(r->m, r->kv, rows, to - from, NULL);
    int known = to < ids->count ? to : ids->count - 1;
    for (int i = from; i < known; i++)
        rows[i - from] = (struct batch_row){.token = ids->ids[i + 1],
                                            .position = i,
                                            .blocks = r->blocks,
                                            .hidden_in = state(r, i),
                                            .wants_logits = true};
    if (known > from)
        model_mtp_forward(r->m, r->kv, rows, known - from, guesses);
}

static float *guess(struct model *m, const struct id_list *ids, int chunk)
{
    struct run r;
    size_t vocab = model_vocab_size(m);
    float *guesses = calloc((size_t)ids->count * vocab, sizeof *guesses);
    CHECK_FATAL(guesses != NULL);
    run_begin(&r, m);
    for (int i = 0; i < ids->count; i += chunk)
        advance(&r, ids, i, i + chunk < ids->count ? i + chunk : ids->count,
                guesses + (size_t)i * vocab);
    run_end(&r);
    return guesses;
}

static void prompt_number(int n, const char *file, struct id_list *out)
{
    struct json *root = golden_json(file);
    const struct json *v = json_first(root);
    for (; n > 0; n--)
        v = json_next(v);
    golden_ids(v, out);
    json_free(root);
}

static void test_logits(const char *kernels)
{
    struct model_options options = {
        .threads = 2, .kernels = kernels, .mtp = true, .deterministic = true};
    struct model *m = NULL;
    struct error err;
    if (model_load(DEMO, &options, &m, &err) != OK)
        return; /* not of this machine */
    CHECK(model_has_mtp(m));
    struct id_list ids;
    size_t count;
    prompt_number(3, GOLDEN "prompts.json", &ids);
    float *want = golden_floats(GOLDEN "mtp_logits.f32", &count);
    size_t n = (size_t)(ids.count - 1) * model_vocab_size(m);
    CHECK(count == n);
    float *got = guess(m, &ids, 256);
    CHECK(golden_difference(got, want, n) < 1e-5);
    static const int chunks[] = {1, 5, 16};
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        float *other = guess(m, &ids, chunks[i]);
        CHECK(memcmp(got, other, n * sizeof *got) == 0);
        free(other);
    }
    free(got);
    free(want);
    model_free(m);
}

static int32_t best(const float *logits, size_t n)
{
    size_t most = 0;
    for (size_t i = 1; i < n; i++)
        if (logits[i] > logits[most])
            most = i;
    return (int32_t)most;
}

/* On the model's own greedy text the layer is right most of the time, even where that text goes on
 * behind its end. */
static void test_guesses(void)
{
    struct model_options options = {.threads = 1, .mtp = true};
    struct model *m = golden_model(DEMO, &options);
    size_t vocab = model_vocab_size(m);
    int right = 0, asked = 0;
    for (int n = 0; n < 8; n++) {
        struct id_list ids, more;
        prompt_number(n, GOLDEN "greedy_prompts.json", &ids);
        prompt_number(n, GOLDEN "greedy.json", &more);
        int from = ids.count;
        for (int i = 0; i < more.count; i++)
            ids.ids[ids.count++] = more.ids[i];
        float *guesses = guess(m, &ids, 200);
        for (int i = from - 1; i + 2 < ids.count; i++, asked++)
            right += best(guesses + (size_t)i * vocab, vocab) == ids.ids[i + 2];
        free(guesses);
    }
    CHECK(asked > 100 && right * 100 > asked * 80);
    fprintf(stderr, "right guesses: %d of %d\n", right, asked);
    model_free(m);
}

/* A position that is decided anew leaves nothing of the first decision behind. */
static void test_decided_anew(void)
{
    struct model_options options = {.threads = 1, .mtp = true, .deterministic = true};
    struct model *m = golden_model(DEMO, &options);
    struct id_list ids, wrong;
    struct run r;
    size_t vocab = model_vocab_size(m);
    prompt_number(3, GOLDEN "prompts.json", &ids);
    float *want = guess(m, &ids, 256);
    float *got = calloc((size_t)ids.count * vocab, sizeof *got);
    CHECK_FATAL(got != NULL);
    run_begin(&r, m);
    wrong = ids;
    for (int i = 20; i < wrong.count; i++)
        wrong.ids[i] = (wrong.ids[i] + 77) % (int32_t)vocab;
    advance(&r, &wrong, 0, 30, got);
    advance(&r, &ids, 19, ids.count, got + 19 * vocab);
    CHECK(memcmp(got, want, (size_t)(ids.count - 1) * vocab * sizeof *got) == 0);
    run_end(&r);
    free(want);
    free(got);
    model_free(m);
}

static void test_not_wanted(void)
{
    struct model *m = golden_model(DEMO, NULL);
    struct kv_shape shape;
    model_kv_shape(m, &shape);
    CHECK(!model_has_mtp(m) && shape.layers == 6);
    model_free(m);
    struct model_options options = {.mtp = true};
    m = golden_model(DEMO, &options);
    model_kv_shape(m, &shape);
    CHECK(model_has_mtp(m) && shape.layers == 7);
    model_free(m);
}

int main(void)
{
    static const char *const kernels[] = {NULL, "avx512", "avx2", "portable"};
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++)
        test_logits(kernels[i]);
    test_guesses();
    test_decided_anew();
    test_not_wanted();
    return check_done();
}
