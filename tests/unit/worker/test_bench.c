#include "worker/bench.h"

#include <math.h>

#include "tests/unit/worker/golden.h"

static double limit_of(const struct model *m, int which, const struct limits *l, bool reading)
{
    struct bench_limit out;
    bench_limit(m, &bench_cases[which], l, &out);
    CHECK_INT(out.by_reading, reading);
    return out.tokens_per_s;
}

/* Whatever is slower counts, in proportion. */
static void test_limits(const struct model *m)
{
    struct limits slow_memory = {1e9, {1e15, 1e15, 1e15}}, slow_units = {1e15, {1e9, 1e9, 1e9}};
    for (int i = 0; i < BENCH_CASES; i++) {
        double read = limit_of(m, i, &slow_memory, true);
        double multiply = limit_of(m, i, &slow_units, false);
        slow_memory.bytes_per_s = 2e9;
        CHECK(fabs(limit_of(m, i, &slow_memory, true) / read - 2) < 1e-9);
        slow_memory.bytes_per_s = 1e9;
        CHECK(read > 0 && multiply > 0 && isfinite(read) && isfinite(multiply));
    }
    /* One sequence reads its weights for itself, 16 read most of them together. */
    double one = limit_of(m, 1, &slow_memory, true), many = limit_of(m, 2, &slow_memory, true);
    CHECK(many > 2 * one && many < 16 * one);
}

static void check_machine(const struct limits *l)
{
    CHECK(l->bytes_per_s > 0);
    for (int i = 0; i < ARITHMETIC_KINDS; i++)
        CHECK(l->multiply_adds_per_s[i] > 0);
}

static void test_time(struct model *m, const struct bench_case *c)
{
    struct bench_run run;
    struct error err = {""};
    CHECK_FATAL(bench_time(m, c, &run, &err) == OK);
    CHECK(run.tokens_per_s > 0 && isfinite(run.tokens_per_s));
    check_machine(&run.machine);
    struct bench_limit limit;
    bench_limit(m, c, &run.machine, &limit);
    CHECK(limit.tokens_per_s == run.limit.tokens_per_s);
}

static void test_best(void)
{
    struct limits a = {1, {4, 5, 6}}, b = {2, {3, 7, 6}};
    limits_best(&a, &b);
    CHECK(a.bytes_per_s == 2 && a.multiply_adds_per_s[0] == 4 && a.multiply_adds_per_s[1] == 7 &&
          a.multiply_adds_per_s[2] == 6);
}

int main(void)
{
    struct model_options options = {.threads = 2};
    struct model *m = golden_model("models/demo", &options);
    struct error err = {""};
    test_limits(m);
    test_best();
    struct limits machine = {0};
    CHECK_FATAL(bench_machine(m, &machine, &err) == OK);
    check_machine(&machine);
    test_time(m, &(struct bench_case){"quick", "quick", 3, 5, 4});
    test_time(m, &(struct bench_case){"prompt", "prompt", 1, 9, 0});
    model_free(m);
    return check_done();
}
