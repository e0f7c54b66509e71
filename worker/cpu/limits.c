#include "worker/cpu/limits.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/clock.h"
#include "worker/cpu/pool.h"
#include "worker/cpu/store.h"

typedef float f32x16 __attribute__((vector_size(64)));

enum { RUNS = 3, CHAINS = 10, MULTIPLY_ROUNDS = 1500000 };
static const double READ_BYTES = 5e8; /* of one run */

struct limits_meter {
    struct pool *pool;
    struct store *store;
    float *data;
    size_t bytes; /* of each member */
};

struct job {
    const float *data;
    size_t bytes; /* of each member */
    int rounds;
    enum arithmetic kind;
    _Atomic int lanes; /* multiply-adds of one instruction */
    _Atomic float sink;
};

/* The clones are chosen while the program is being linked, when ThreadSanitizer does not run yet.
 */
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONES
#endif

CLONES static float read_all(const float *p, size_t bytes)
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
    struct job *j = arg;
    for (int i = 0; i < j->rounds; i++)
        j->sink = read_all(j->data + (size_t)member * (j->bytes / 4), j->bytes);
}

static double seconds_of(struct pool *pool, void (*run)(void *, int), struct job *j)
{
    int64_t start = clock_mono_us();
    pool_run(pool, false, run, j);
    return ((double)(clock_mono_us() - start) + 0.5) / 1e6;
}

static double measure_reads(const struct limits_meter *m)
{
    double total = (double)m->bytes * pool_threads(m->pool), best = 0;
    struct job j = {.data = m->data, .bytes = m->bytes, .rounds = (int)(READ_BYTES / total) + 1};
    for (int i = 0; i < RUNS; i++) {
        double rate = total * j.rounds / seconds_of(m->pool, read_member, &j);
        best = rate > best ? rate : best;
    }
    return best;
}

#if defined(__x86_64__)
#define FOR_CHAINS(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9)
/* Else the compiler would see that the sums are equal, and make but one. */
#define DISTINCT(N) __asm__("" : "+x"(s##N));
#define ADD_UP(N) memcpy(out + N, &s##N, sizeof *out);
/* CHAINS sums, so that no instruction waits for the one before it. The weights a and b are read
 * from memory, so that the compiler cannot know them. */
#define MULTIPLY(NAME, TARGET, VECTOR, FACTOR, ZERO, STEP)                                         \
    __attribute__((target(TARGET))) static void NAME(int rounds, const void *factors, float *out)  \
    {                                                                                              \
        FACTOR a, b;                                                                               \
        memcpy(&a, factors, sizeof a);                                                             \
        memcpy(&b, (const char *)factors + 64, sizeof b);                                          \
        VECTOR s0 = ZERO, s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0, s8 = s0,  \
               s9 = s0;                                                                            \
        FOR_CHAINS(DISTINCT)                                                                       \
        for (int i = 0; i < rounds; i++) {                                                         \
            FOR_CHAINS(STEP)                                                                       \
            __asm__ volatile("" : "+x"(a));                                                        \
        }                                                                                          \
        FOR_CHAINS(ADD_UP)                                                                         \
    }
#define F32_512(N) s##N = _mm512_fmadd_ps(s##N, b, a);
#define F32_256(N) s##N = _mm256_fmadd_ps(s##N, b, a);
#define F32_128(N) s##N = _mm_add_ps(_mm_mul_ps(s##N, b), a);
#define BF16_512(N) s##N = _mm512_dpbf16_ps(s##N, (__m512bh)a, (__m512bh)b);
#define INT8_512(N) s##N = _mm512_dpbusd_epi32(s##N, a, b);
#define INT8_256(N)                                                                                \
    s##N = _mm256_add_epi32(                                                                       \
        s##N, _mm256_madd_epi16(_mm256_maddubs_epi16(a, _mm256_xor_si256(b, s##N)), ones));
MULTIPLY(f32_512, "avx512f", __m512, __m512, _mm512_setzero_ps(), F32_512)
MULTIPLY(f32_256, "avx2,fma", __m256, __m256, _mm256_setzero_ps(), F32_256)
MULTIPLY(f32_128, "sse2", __m128, __m128, _mm_setzero_ps(), F32_128)
MULTIPLY(bf16_512, "avx512f,avx512bw,avx512bf16", __m512, __m512i, _mm512_setzero_ps(), BF16_512)
MULTIPLY(int8_512, "avx512f,avx512bw,avx512vnni", __m512i, __m512i, _mm512_setzero_si512(),
         INT8_512)
#define ones _mm256_set1_epi16(1)
MULTIPLY(int8_256, "avx2", __m256i, __m256i, _mm256_setzero_si256(), INT8_256)
#undef ones

static int multiply(enum arithmetic kind, int rounds, const void *factors, float *out)
{
    if (kind == ARITHMETIC_BF16 && __builtin_cpu_supports("avx512bf16"))
        return bf16_512(rounds, factors, out), 32;
    if (kind == ARITHMETIC_INT8 && __builtin_cpu_supports("avx512vnni"))
        return int8_512(rounds, factors, out), 64;
    if (kind == ARITHMETIC_INT8 && __builtin_cpu_supports("avx2"))
        return int8_256(rounds, factors, out), 32;
    if (__builtin_cpu_supports("avx512f"))
        return f32_512(rounds, factors, out), 16;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return f32_256(rounds, factors, out), 8;
    return f32_128(rounds, factors, out), 4;
}
#else
static int multiply(enum arithmetic kind, int rounds, const void *factors, float *out)
{
    f32x16 sum[CHAINS] = {{0}}, a, b;
    memcpy(&a, factors, sizeof a);
    memcpy(&b, (const char *)factors + 64, sizeof b);
    for (int i = 0; i < rounds; i++)
        for (int j = 0; j < CHAINS; j++)
            sum[j] = sum[j] * b + a;
    for (int j = 0; j < CHAINS; j++)
        out[j] = sum[j][0];
    return 16;
}
#endif

static void multiply_member(void *arg, int member)
{
    struct job *j = arg;
    static const float factors[32] = {0.5f, 0.5f, 0.5f, 0.5f, [16] = 0.25f, 0.25f, 0.25f, 0.25f};
    float out[CHAINS];
    j->lanes = multiply(j->kind, MULTIPLY_ROUNDS, factors, out);
    j->sink = out[0] + out[CHAINS - 1];
}

static double measure_arithmetic(struct pool *pool, enum arithmetic kind)
{
    struct job j = {.kind = kind};
    double best = 0;
    for (int i = 0; i < RUNS; i++) {
        double seconds = seconds_of(pool, multiply_member, &j);
        double rate = (double)j.lanes * MULTIPLY_ROUNDS * CHAINS * pool_threads(pool) / seconds;
        best = rate > best ? rate : best;
    }
    return best;
}

enum status limits_meter_new(int threads, size_t bytes, struct limits_meter **out,
                             struct error *err)
{
    struct limits_meter *m = calloc(1, sizeof *m);
    if (!m)
        return error_set(err, NOMEM, "out of memory to measure with");
    m->bytes = (bytes / (size_t)threads + 4096) / 256 * 256;
    m->pool = pool_new(threads);
    m->store = store_new();
    if (m->pool && m->store)
        m->data = store_alloc(m->store, m->bytes * (size_t)threads);
    if (!m->data) {
        limits_meter_free(m);
        return error_set(err, NOMEM, "out of memory or threads to measure with");
    }
    for (size_t i = 0; i < m->bytes / 4 * (size_t)threads; i++)
        m->data[i] = 1;
    *out = m;
    return OK;
}

void limits_meter_free(struct limits_meter *m)
{
    if (!m)
        return;
    store_free(m->store);
    pool_free(m->pool);
    free(m);
}

void limits_measure(const struct limits_meter *m, struct limits *out)
{
    out->bytes_per_s = measure_reads(m);
    for (int kind = 0; kind < ARITHMETIC_KINDS; kind++)
        out->multiply_adds_per_s[kind] = measure_arithmetic(m->pool, (enum arithmetic)kind);
}

void limits_best(struct limits *l, const struct limits *other)
{
    if (other->bytes_per_s > l->bytes_per_s)
        l->bytes_per_s = other->bytes_per_s;
    for (int kind = 0; kind < ARITHMETIC_KINDS; kind++)
        if (other->multiply_adds_per_s[kind] > l->multiply_adds_per_s[kind])
            l->multiply_adds_per_s[kind] = other->multiply_adds_per_s[kind];
}
