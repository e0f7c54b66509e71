/* What --check, --bench and --perplexity print. */
#include "worker/offline.h"

#include <errno.h>
#include <math.h>

#include "base/clock.h"
#include "worker/bench.h"
#include "worker/memory.h"
#include "worker/perplexity.h"
#include "worker/tokenizer.h"

enum { TOKENS_MAX = 1 << 24 };

/* "1.28 B", "6.9 M", "512": three digits that say most. */
static const char *short_number(double n, char *out, size_t size)
{
    static const struct {
        double from;
        const char *unit;
    } units[] = {{1e12, " T"}, {1e9, " B"}, {1e6, " M"}, {1e4, " K"}, {0, ""}};
    int i = 0;
    while (n < units[i].from)
        i++;
    double v = units[i].from > 0 ? n / (i == 3 ? 1e3 : units[i].from) : n;
    snprintf(out, size,
             v >= 100 || i == 4 ? "%.0f%s"
             : v >= 10          ? "%.1f%s"
                                : "%.2f%s",
             v, units[i].unit);
    return out;
}

static const char *size_text(double bytes, char *out, size_t size)
{
    if (bytes >= 1e9)
        snprintf(out, size, "%.2f GB", bytes / 1e9);
    else if (bytes >= 1e5)
        snprintf(out, size, "%.1f MB", bytes / 1e6);
    else
        snprintf(out, size, "%.0f bytes", bytes);
    return out;
}
#define NUMBER(n) short_number((double)(n), (char[24]){0}, 24)
#define SIZE(n) size_text((double)(n), (char[24]){0}, 24)

static enum status flushed(FILE *out, struct error *err)
{
    return fflush(out) == 0 && !ferror(out) ? OK : error_errno(err, errno, "writing the report");
}

static void print_shape(const struct offline_options *o, const struct model *m,
                        const struct model_info *i, FILE *out)
{
    fprintf(out, "architecture   %s, %d layers of %d, %d heads", i->architecture, i->layers,
            i->hidden, i->heads);
    if (i->kv_heads)
        fprintf(out, " (%d for keys and values)\n", i->kv_heads);
    else
        fputs(" with latent attention\n", out);
    if (i->experts)
        fprintf(out, "experts        %d, %d chosen for a token, %d shared\n", i->experts, i->chosen,
                i->shared);
    fprintf(out, "vocabulary     %u tokens%s\n", model_vocab_size(m),
            i->tied_embeddings ? ", embedding and head are one" : "");
    fprintf(out, "context        %u tokens\n", model_context_tokens(m));
    fprintf(out, "parameters     %s, %s active for a token\n", NUMBER(i->parameters),
            NUMBER(i->active_parameters));
    fputs("weights        ", out);
    const char *comma = "";
    for (int t = 0; t < DTYPE_OTHER; t++) {
        if (!i->bytes_of[t])
            continue;
        fprintf(out, "%s%s %s", comma, dtype_name((enum dtype)t), SIZE(i->bytes_of[t]));
        comma = ", ";
    }
    fprintf(out, "; every tensor has its shape and is finite; used %s\n",
            o->weights == MODEL_AS_STORED ? "as stored" : model_weights_names[o->weights]);
}

static void print_cache(const struct model *m, const struct model_info *i, int64_t kv_bytes,
                        FILE *out)
{
    struct kv_shape shape;
    model_kv_shape(m, &shape);
    double tokens = (double)(kv_bytes / (int64_t)kv_block_bytes(&shape)) * KV_BLOCK_TOKENS;
    fprintf(out, "KV cache       %s, %s a token; %s hold %s tokens, %.1f times the context\n",
            kv_type_names[shape.type], SIZE(i->kv_bytes_per_token), SIZE(kv_bytes), NUMBER(tokens),
            tokens / model_context_tokens(m));
}

static enum status print_memory(const char *label, FILE *out, struct error *err)
{
    struct memory use;
    enum status st = memory_read(&use, err);
    if (st == OK)
        fprintf(out,
                "%-14s %s of its own, %s mapped from files (shared with other workers); "
                "peak %s\n",
                label, SIZE(use.own_bytes), SIZE(use.mapped_bytes), SIZE(use.peak_bytes));
    return st;
}

static void print_machine(const struct model *m, const struct limits *l, FILE *out)
{
    fprintf(out,
            "machine        %d threads, %s kernels; reads %.1f GB/s; multiply-adds %.0f G/s "
            "(f32), %.0f (bf16), %.0f (int8)\n",
            model_threads(m), model_kernels(m), l->bytes_per_s / 1e9,
            l->multiply_adds_per_s[ARITHMETIC_F32] / 1e9,
            l->multiply_adds_per_s[ARITHMETIC_BF16] / 1e9,
            l->multiply_adds_per_s[ARITHMETIC_INT8] / 1e9);
}

static const char *bound(const struct bench_limit *l)
{
    return l->by_reading ? "reading" : "arithmetic";
}

/* The folder may have none; one that is there must be good, and fit the model. */
static enum status check_tokenizer(const struct offline_options *o, const struct model *m,
                                   FILE *out, struct error *err)
{
    char path[4096];
    struct tokenizer *t = NULL;
    snprintf(path, sizeof path, "%s/tokenizer.json", o->model_dir);
    FILE *f = fopen(path, "re");
    if (!f) {
        fputs("tokenizer      none: this folder cannot be served, only asked with token ids\n",
              out);
        return OK;
    }
    fclose(f);
    enum status st = tokenizer_load(o->model_dir, &t, err);
    if (st == OK && tokenizer_vocab_size(t) > (int)model_vocab_size(m))
        st = error_set(err, INVALID, "%s: has ids up to %d, the model's vocabulary is %u", path,
                       tokenizer_vocab_size(t) - 1, model_vocab_size(m));
    else if (st == OK)
        fprintf(out, "tokenizer      %d tokens\n", tokenizer_vocab_size(t));
    tokenizer_free(t);
    return st;
}

static enum status print_check(const struct offline_options *o, const struct model *m,
                               double seconds, FILE *out, struct error *err)
{
    struct limits machine;
    struct model_info info;
    model_describe(m, &info);
    fprintf(out, "model          %s\n", o->model_dir);
    print_shape(o, m, &info, out);
    enum status st = check_tokenizer(o, m, out, err);
    if (st == OK)
        st = print_memory("memory", out, err);
    print_cache(m, &info, o->kv_bytes, out);
    fprintf(out, "loaded in      %.2f s\n", seconds);
    if (st == OK)
        st = bench_machine(m, &machine, err);
    if (st != OK)
        return st;
    print_machine(m, &machine, out);
    fputs("speed          at the most, in tokens/s (--bench measures it):\n", out);
    for (int i = 0; i < BENCH_CASES; i++) {
        struct bench_limit l;
        bench_limit(m, &bench_cases[i], &machine, &l);
        fprintf(out, "               %-22s %8.1f, bound by %s\n", bench_cases[i].title,
                l.tokens_per_s, bound(&l));
    }
    return flushed(out, err);
}

enum status offline_check(const struct offline_options *o, FILE *out, struct error *err)
{
    struct model *m = NULL;
    int64_t start = clock_mono_us();
    enum status st = offline_load(o, &m, err);
    if (st == OK)
        st = print_check(o, m, (double)(clock_mono_us() - start) / 1e6, out, err);
    model_free(m);
    return st;
}

static enum status bench_one(struct model *m, const struct bench_case *c, FILE *out,
                             struct error *err)
{
    struct bench_run run;
    enum status st = bench_time(m, c, &run, err);
    if (st != OK)
        return st;
    fprintf(out, "%-22s %9.1f %9.1f   %-10s %5.0f %% %9.1f\n", c->title, run.tokens_per_s,
            run.limit.tokens_per_s, bound(&run.limit),
            100 * run.tokens_per_s / run.limit.tokens_per_s, run.machine.bytes_per_s / 1e9);
    return flushed(out, err);
}

static bool fits(const struct model *m, const struct bench_case *c)
{
    return (uint32_t)(c->prompt + c->made) < model_context_tokens(m);
}

static enum status bench_all(const struct offline_options *o, struct model *m, FILE *out,
                             struct error *err)
{
    struct limits machine;
    enum status st = bench_machine(m, &machine, err);
    if (st != OK)
        return st;
    print_machine(m, &machine, out);
    fprintf(out, "\n%-22s %9s %9s   %-10s %7s %9s\n", "", "tokens/s", "limit", "bound by", "share",
            "reads GB/s");
    for (int i = 0; st == OK && i < BENCH_CASES; i++) {
        const struct bench_case *c = &bench_cases[i];
        if (o->only && strcmp(o->only, c->name) != 0)
            continue;
        if (fits(m, c))
            st = bench_one(m, c, out, err);
        else
            fprintf(out, "%-22s does not fit the context\n", c->title);
    }
    fputc('\n', out);
    if (st == OK)
        st = print_memory("memory", out, err);
    return st == OK ? flushed(out, err) : st;
}

enum status offline_bench(const struct offline_options *o, FILE *out, struct error *err)
{
    struct model *m = NULL;
    enum status st = offline_load(o, &m, err);
    if (st == OK)
        st = bench_all(o, m, out, err);
    model_free(m);
    return st;
}

static uint32_t window_of(const struct model *m)
{
    uint32_t context = model_context_tokens(m);
    return context < PERPLEXITY_WINDOW ? context : PERPLEXITY_WINDOW;
}

enum status offline_perplexity(const struct offline_options *o, FILE *out, struct error *err)
{
    struct model *m = NULL;
    struct prompts documents = {0};
    struct perplexity p;
    enum status st = offline_load(o, &m, err);
    if (st != OK)
        return st;
    struct prompts_limits limits = {model_vocab_size(m), TOKENS_MAX};
    int64_t start = clock_mono_us();
    st = prompts_read_texts(o->prompts_file, o->model_dir, &limits, &documents, err);
    if (st == OK) {
        st = perplexity_measure(m, &documents, window_of(m), &p, err);
        if (st == INVALID)
            error_prefix(err, "%s", o->prompts_file);
    }
    if (st == OK) {
        double seconds = (double)(clock_mono_us() - start) / 1e6;
        fprintf(out, "documents        %u, in windows of %u tokens\n", documents.count,
                window_of(m));
        fprintf(out, "tokens           %llu predicted\n", (unsigned long long)p.tokens);
        fprintf(out, "mean surprise    %.6f nats a token\n", p.mean);
        fprintf(out, "perplexity       %.5f\n", p.value);
        fprintf(out, "time             %.1f s, %.0f tokens/s\n", seconds,
                (double)p.tokens / seconds);
        st = flushed(out, err);
    }
    prompts_free(&documents);
    model_free(m);
    return st;
}
