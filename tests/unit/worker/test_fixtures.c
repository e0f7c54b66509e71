/*
 * Models of every family with other features than the demo model's, where the shared fixtures are
 * at hand: YaRN, no query compression, shards, FP8 blocks that heads cut across, grouped queries.
 */
#include <unistd.h>

#include "tests/unit/worker/golden.h"
#include "worker/offline.h"

static char root[3000];

static void check_one(const char *name, const char *kernels)
{
    char dir[3100], path[3200];
    snprintf(dir, sizeof dir, "%s/fixtures/models/%s", root, name);
    snprintf(path, sizeof path, "%s/golden.json", dir);
    struct model_options options = {.kernels = kernels};
    struct model *m = NULL;
    struct error err;
    if (kernels && model_load(dir, &options, &m, &err) != OK)
        return; /* not of this machine */
    if (!kernels)
        m = golden_model(dir, NULL);
    struct json *golden = golden_json(path);
    snprintf(path, sizeof path, "%s/logits.f32", dir);
    size_t count, at = 0;
    float *want = golden_floats(path, &count);
    for (const struct json *v = json_first(json_get(golden, "prompts")); v; v = json_next(v)) {
        struct id_list p;
        golden_ids(v, &p);
        size_t n = (size_t)p.count * model_vocab_size(m);
        float *got = golden_run(m, &p, 50);
        CHECK_FATAL(at + n <= count);
        double worst = golden_difference(got, want + at, n);
        if (worst >= 1e-5)
            fprintf(stderr, "%s, %s: %g\n", name, model_kernels(m), worst);
        CHECK(worst < 1e-5);
        at += n;
        free(got);
    }
    CHECK(at == count);
    free(want);
    model_free(m);
    json_free(golden);
}

struct routes {
    const struct json *layers; /* by number: by prompt: experts and weights by token */
    int prompt, checked;
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
    char key[16];
    snprintf(key, sizeof key, "%d", layer);
    const struct json *of = item(json_get(r->layers, key), r->prompt);
    const struct json *e = item(json_get(of, "experts"), row);
    const struct json *w = json_first(item(json_get(of, "weights"), row));
    CHECK_FATAL(w && json_count(e) == count);
    for (e = json_first(e); e; e = json_next(e), w = json_next(w)) {
        bool found = false;
        for (int i = 0; i < count; i++)
            found |= experts[i] == (int)json_number(e) &&
                     fabs((double)weights[i] - json_number(w)) < 1e-4 * fmax(1, json_number(w));
        CHECK(found);
        r->checked++;
    }
}

static void check_routes(const char *name)
{
    char dir[3100], path[3200];
    snprintf(dir, sizeof dir, "%s/fixtures/models/%s", root, name);
    snprintf(path, sizeof path, "%s/golden.json", dir);
    struct json *golden = golden_json(path);
    struct routes routes = {.layers = json_get(golden, "routing_of_first_three_prompts")};
    struct model_options options = {.threads = 1, .routed = check_route, .routed_arg = &routes};
    struct model *m = routes.layers ? golden_model(dir, &options) : NULL;
    for (; m && routes.prompt < 3; routes.prompt++) {
        struct id_list p;
        golden_ids(item(json_get(golden, "prompts"), routes.prompt), &p);
        free(golden_run(m, &p, p.count));
    }
    CHECK(!m || routes.checked > 0);
    model_free(m);
    json_free(golden);
}

static void check_greedy(const char *name)
{
    char dir[3100], path[3200], file[] = "/tmp/prompts-XXXXXX";
    snprintf(dir, sizeof dir, "%s/fixtures/models/%s", root, name);
    snprintf(path, sizeof path, "%s/golden.json", dir);
    struct json *golden = golden_json(path);
    const struct json *want = json_get(golden, "greedy_of_first_four");
    int fd = mkstemp(file), n = 0;
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    CHECK_FATAL(f != NULL);
    fputc('[', f);
    for (const struct json *p = json_first(json_get(golden, "prompts")); n < 4; p = json_next(p)) {
        fputs(n++ ? ",[" : "[", f);
        for (const struct json *v = json_first(p); v; v = json_next(v))
            fprintf(f, "%s%d", v == json_first(p) ? "" : ",", (int)json_number(v));
        fputc(']', f);
    }
    fputs("]", f);
    fclose(f);
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    struct offline_options o = {.model_dir = dir, .prompts_file = file};
    struct error err = {""};
    CHECK(offline_greedy(&o, json_count(json_first(want)), out, &err) == OK);
    fclose(out);
    struct json *got = NULL;
    CHECK_FATAL(json_parse(text, len, NULL, &got, &err) == OK);
    const struct json *g = json_first(got), *w = json_first(want);
    for (; w; g = json_next(g), w = json_next(w)) {
        struct id_list a, b;
        golden_ids(g, &a);
        golden_ids(w, &b);
        CHECK(a.count == b.count && memcmp(a.ids, b.ids, (size_t)a.count * sizeof *a.ids) == 0);
    }
    json_free(got);
    json_free(golden);
    free(text);
    unlink(file);
}

int main(void)
{
    static const char *const names[] = {"deepseek-v2-groups",
                                        "deepseek-v2-lite",
                                        "deepseek-v3",
                                        "deepseek-v3-fp8",
                                        "deepseek-v3-no-q-lora",
                                        "deepseek-v3-sharded",
                                        "llama2-f16",
                                        "llama2-f32",
                                        "llama3",
                                        "mixtral",
                                        "qwen2",
                                        "qwen2-tied",
                                        "qwen3",
                                        "qwen3-moe"};
    static const char *const kernels[] = {NULL, "portable", "avx2", "avx512"};
    const char *shared = getenv("TOLLGATE_SHARED");
    snprintf(root, sizeof root, "%s", shared ? shared : "../shared");
    if (access(root, R_OK) != 0)
        CHECK_SKIP("no shared fixtures here");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        for (size_t k = 0; k < sizeof kernels / sizeof *kernels; k++)
            check_one(names[i], kernels[k]);
        check_routes(names[i]);
        check_greedy(names[i]);
    }
    return check_done();
}
