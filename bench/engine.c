/*
 * How fast the engine is, against what the machine can do. First the limits: how fast all
 * threads together read memory (far larger than the caches, and as large as the model's active
 * weights, which may fit into them), and how many float32 multiply-adds they do. Then the model:
 * prefill and decode through the scheduler. The share is of the slower limit: the time that
 * reading the weights once per step, or doing the arithmetic, takes at the least.
 */
#include <math.h>
#include <stdatomic.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/clock.h"
#include "worker/cpu/pool.h"
#include "worker/model/model.h"
#include "worker/scheduler.h"

typedef float f32x16 __attribute__((vector_size(64)));

struct reading {
    const float *data;
    size_t bytes; /* of each member */
    int rounds;
    _Atomic float sink;
    _Atomic int lanes;
};

__attribute__((target_clones("avx512f", "avx2", "default"))) static float read_all(const float *p,
                                                                                   size_t bytes)
{
    f32x16 sum[4] = {{0}};
    for (size_t i = 0; i + 64 <= bytes / 4; i += 64)
        for (int j = 0; j < 4; j++) {
            f32x16 v;
            memcpy(&v, p + i + 16 * j, sizeof v);
            sum[j] += v;
        }
    return sum[0][0] + sum[1][1] + sum[2][2] + sum[3][3];
}

static void read_member(void *arg, int member)
{
    struct reading *r = arg;
    for (int i = 0; i < r->rounds; i++)
        r->sink = read_all(r->data + (size_t)member * (r->bytes / 4), r->bytes);
}

/* Bytes per second. */
static double measure_reads(struct pool *pool, const float *data, size_t total_bytes, double total)
{
    int threads = pool_threads(pool);
    struct reading r = {.data = data, .bytes = total_bytes / (size_t)threads / 256 * 256};
    r.rounds = (int)(total / (double)total_bytes) + 1;
    double best = 0;
    for (int i = 0; i < 5; i++) {
        int64_t start = clock_mono_us();
        pool_run(pool, false, read_member, &r);
        double rate =
            (double)r.bytes * threads * r.rounds * 1e6 / (double)(clock_mono_us() - start);
        best = rate > best ? rate : best;
    }
    return best;
}

enum { CHAINS = 10, MULTIPLY_ROUNDS = 4000000 };

#if defined(__x86_64__)
#define FOR_CHAINS(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9)
#define MULTIPLY(NAME, TARGET, VECTOR, SET, FMA)                                                   \
    __attribute__((target(TARGET))) static void NAME(int rounds, float *out)                       \
    {                                                                                              \
        VECTOR a = SET(0.5f), b = SET(0.25f);                                                      \
        VECTOR s0 = SET(0), s1 = SET(1), s2 = SET(2), s3 = SET(3), s4 = SET(4), s5 = SET(5),       \
               s6 = SET(6), s7 = SET(7), s8 = SET(8), s9 = SET(9);                                 \
        for (int i = 0; i < rounds; i++) {                                                         \
            FOR_CHAINS(FMA)                                                                        \
        }                                                                                          \
        s0 = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9;                                      \
        memcpy(out, &s0, sizeof s0);                                                               \
    }
#define FMA_512(N) s##N = _mm512_fmadd_ps(s##N, b, a);
#define FMA_256(N) s##N = _mm256_fmadd_ps(s##N, b, a);
#define FMA_128(N) s##N = _mm_add_ps(_mm_mul_ps(s##N, b), a);
MULTIPLY(multiply_512, "avx512f", __m512, _mm512_set1_ps, FMA_512)
MULTIPLY(multiply_256, "avx2,fma", __m256, _mm256_set1_ps, FMA_256)
MULTIPLY(multiply_128, "sse2", __m128, _mm_set1_ps, FMA_128)

/* Returns how many lanes there are. */
static int multiply_all(int rounds, float *out)
{
    if (__builtin_cpu_supports("avx512f")) {
        multiply_512(rounds, out);
        return 16;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        multiply_256(rounds, out);
        return 8;
    }
    multiply_128(rounds, out);
    return 4;
}
#else
static int multiply_all(int rounds, float *out)
{
    f32x16 sum[CHAINS] = {{0}};
    for (int i = 0; i < rounds; i++)
        for (int j = 0; j < CHAINS; j++)
            sum[j] = sum[j] * 0.25f + 0.5f;
    memcpy(out, sum, sizeof *sum);
    return 16;
}
#endif

static void multiply_member(void *arg, int member)
{
    struct reading *r = arg;
    float out[16];
    r->lanes = multiply_all(MULTIPLY_ROUNDS, out);
    r->sink = out[0];
}

/* Multiply-adds per second. */
static double measure_arithmetic(struct pool *pool)
{
    struct reading r = {0};
    double best = 0;
    for (int i = 0; i < 5; i++) {
        int64_t start = clock_mono_us();
        pool_run(pool, false, multiply_member, &r);
        double rate = (double)r.lanes * MULTIPLY_ROUNDS * CHAINS * pool_threads(pool) * 1e6 /
                      (double)(clock_mono_us() - start);
        best = rate > best ? rate : best;
    }
    return best;
}

struct limits {
    double memory, cached, arithmetic;
};

static bool count_token(void *arg, const struct sched_token *token)
{
    ++*(int64_t *)arg;
    return false;
}

static void ignore_end(void *arg, uint64_t id, uint32_t choice, enum sched_end end)
{
}

static void fail(const char *what, const struct error *err)
{
    fprintf(stderr, "%s: %s\n", what, err->text);
    exit(1);
}

static struct scheduler *open_scheduler(struct model *m, int step_tokens, int64_t *made)
{
    struct kv_shape shape;
    model_kv_shape(m, &shape);
    struct sched_options o = {.sequences_max = 16,
                              .step_tokens = step_tokens,
                              .kv_bytes = (int64_t)kv_block_bytes(&shape) * 16 * 128,
                              .queue_max = 64};
    struct sched_events events = {.token = count_token, .ended = ignore_end, .arg = made};
    struct scheduler *s = NULL;
    struct error err;
    if (scheduler_new(m, &o, &events, &s, &err) != OK)
        fail("scheduler", &err);
    return s;
}

static void submit(struct scheduler *s, struct model *m, uint64_t id, uint32_t prompt,
                   uint32_t tokens)
{
    int32_t ids[2048];
    struct error err;
    for (uint32_t i = 0; i < prompt; i++)
        ids[i] = (int32_t)((id * 7919 + i * 104729 + 13) % model_vocab_size(m));
    struct sched_request r = {
        .id = id, .prompt = ids, .prompt_count = prompt, .max_tokens = tokens};
    if (scheduler_submit(s, &r, &err) != OK)
        fail("submit", &err);
}

/* The least of several runs, in seconds, of making `tokens` tokens in each of `batch` sequences
 * behind a prompt that is not timed. */
static double time_decode(struct model *m, int batch, uint32_t prompt, uint32_t tokens)
{
    double best = 1e9;
    for (int run = 0; run < 5; run++) {
        int64_t made = 0;
        struct scheduler *s = open_scheduler(m, 256, &made);
        for (int i = 0; i < batch; i++)
            submit(s, m, (uint64_t)i, prompt, tokens + 1);
        while (made < batch)
            scheduler_step(s);
        int64_t left = made - batch;
        int64_t start = clock_mono_us();
        while (scheduler_step(s))
            ;
        double seconds = (double)(clock_mono_us() - start) / 1e6;
        seconds *= (double)batch * tokens / (double)((int64_t)batch * tokens - left);
        best = seconds < best ? seconds : best;
        scheduler_free(s);
    }
    return best;
}

static double time_prefill(struct model *m, int batch, uint32_t prompt)
{
    double best = 1e9;
    for (int run = 0; run < 5; run++) {
        int64_t made = 0;
        struct scheduler *s = open_scheduler(m, 256, &made);
        for (int i = 0; i < batch; i++)
            submit(s, m, (uint64_t)i, prompt, 1);
        int64_t start = clock_mono_us();
        while (scheduler_step(s))
            ;
        double seconds = (double)(clock_mono_us() - start) / 1e6;
        best = seconds < best ? seconds : best;
        scheduler_free(s);
    }
    return best;
}

static void print_row(const char *what, int batch, double rate, double limit, const char *by)
{
    printf("| %s | %d | %.0f | %.0f (%s) | %.0f %% |\n", what, batch, rate, limit, by,
           100 * rate / limit);
}

static void measure_model(struct model *m, const struct limits *l)
{
    const uint32_t prompt = 128, tokens = 128;
    static const int batches[] = {1, 4, 16};
    printf("\n| | sequences | tokens/s | limit | share |\n|---|---|---|---|---|\n");
    for (int i = 0; i < 3; i++) {
        struct model_work work;
        model_work(m, batches[i] * (int)prompt > 256 ? 256 : batches[i] * (int)prompt, 64, &work);
        double rate = batches[i] * prompt / time_prefill(m, batches[i], prompt);
        print_row("prefill", batches[i], rate, l->arithmetic / work.multiply_adds_per_row,
                  "arithmetic");
    }
    for (int i = 0; i < 3; i++) {
        struct model_work work;
        int batch = batches[i];
        model_work(m, batch, (int)(prompt + tokens / 2), &work);
        double rate = batch * tokens / time_decode(m, batch, prompt, tokens);
        double read = work.bytes_per_step / (work.bytes_per_step < 24e6 ? l->cached : l->memory);
        double multiply = batch * work.multiply_adds_per_row / l->arithmetic;
        print_row("decode", batch, rate, batch / (read > multiply ? read : multiply),
                  read > multiply ? "reading" : "arithmetic");
    }
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: bench-engine MODEL_DIR [THREADS [KERNELS]]\n");
        return 2;
    }
    struct model_options options = {.threads = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0,
                                    .kernels = argc > 3 ? argv[3] : NULL};
    struct error err;
    struct model *m = NULL;
    if (model_load(argv[1], &options, &m, &err) != OK)
        fail("load", &err);
    struct model_work work;
    model_work(m, 1, 1, &work);
    size_t big = (size_t)512 << 20;
    float *data = aligned_alloc(64, big);
    if (!data)
        return 1;
    for (size_t i = 0; i < big / 4; i++)
        data[i] = 1;
    struct pool *pool = pool_new(model_threads(m));
    struct limits l = {measure_reads(pool, data, big, 1e9),
                       measure_reads(pool, data, (size_t)work.bytes_per_step, 4e9),
                       measure_arithmetic(pool)};
    pool_free(pool);
    free(data);
    printf("threads %d, kernels %s\n", model_threads(m), model_kernels(m));
    printf("memory %.1f GB/s; %.1f MB, the weights of a token: %.1f GB/s; "
           "float32 multiply-adds %.1f G/s\n",
           l.memory / 1e9, work.bytes_per_step / 1e6, l.cached / 1e9, l.arithmetic / 1e9);
    measure_model(m, &l);
    model_free(m);
    return 0;
}
