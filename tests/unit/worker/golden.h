/* Reading what the models must compute, and comparing with it. For the tests of the engine. */
#ifndef TESTS_UNIT_WORKER_GOLDEN_H
#define TESTS_UNIT_WORKER_GOLDEN_H

#include <math.h>
#include <stdint.h>

#include "base/json.h"
#include "tests/unit/check.h"
#include "worker/model/model.h"

struct id_list {
    int32_t ids[2048];
    int count;
};

static inline struct json *golden_json(const char *path)
{
    struct json *root = NULL;
    struct error err = {""};
    enum status st = json_parse_file(path, 16 << 20, &root, &err);
    if (st != OK)
        fprintf(stderr, "%s\n", err.text);
    CHECK_FATAL(st == OK);
    return root;
}

static inline void golden_ids(const struct json *list, struct id_list *out)
{
    out->count = 0;
    for (const struct json *v = json_first(list); v; v = json_next(v)) {
        int64_t id = 0;
        CHECK_FATAL(out->count < 2048 && json_int(v, 0, 1 << 22, &id));
        out->ids[out->count++] = (int32_t)id;
    }
}

/* All of a file of float32; freed by the caller. */
static inline float *golden_floats(const char *path, size_t *count)
{
    FILE *f = fopen(path, "rbe");
    CHECK_FATAL(f != NULL);
    fseek(f, 0, SEEK_END);
    *count = (size_t)ftell(f) / sizeof(float);
    rewind(f);
    float *values = calloc(*count, sizeof *values);
    CHECK_FATAL(values && fread(values, sizeof *values, *count, f) == *count);
    fclose(f);
    return values;
}

/* The largest difference, as a share of the largest of want. */
static inline double golden_difference(const float *got, const float *want, size_t n)
{
    double most = 0, worst = 0;
    for (size_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)want[i]));
        double d = fabs((double)got[i] - (double)want[i]);
        worst = d > worst || isnan(d) ? d : worst;
    }
    return worst / most;
}

static inline struct model *golden_model(const char *dir, const struct model_options *options)
{
    struct model *m = NULL;
    struct error err = {""};
    enum status st = model_load(dir, options, &m, &err);
    if (st != OK)
        fprintf(stderr, "%s\n", err.text);
    CHECK_FATAL(st == OK);
    return m;
}

/* The logits of a whole prompt, run in chunks of so many rows; freed by the caller. */
static inline float *golden_run(struct model *m, const struct id_list *p, int chunk)
{
    struct kv_shape shape;
    struct kv *kv = NULL;
    struct error err;
    int32_t blocks[128];
    struct batch_row rows[2048];
    size_t vocab = model_vocab_size(m);
    model_kv_shape(m, &shape);
    CHECK_FATAL(kv_new(&shape, 128, &kv, &err) == OK && kv_take(kv, 128, blocks));
    CHECK_FATAL(model_reserve(m, chunk, &err) == OK);
    float *logits = calloc((size_t)p->count * vocab, sizeof *logits);
    CHECK_FATAL(logits != NULL);
    for (int done = 0; done < p->count;) {
        int n = 0, first = done;
        for (; n < chunk && done < p->count; n++, done++)
            rows[n] = (struct batch_row){
                .token = p->ids[done], .position = done, .blocks = blocks, .wants_logits = true};
        model_forward(m, kv, rows, n, logits + (size_t)first * vocab);
    }
    kv_free(kv);
    return logits;
}

#endif
