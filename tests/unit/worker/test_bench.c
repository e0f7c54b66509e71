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

int main(void)
{
    struct model_options options = {.threads = 2};
    struct model *m = golden_model("models/demo", &options);
    struct error err = {""};
    test_limits(m);
    struct limits machine = {0};
    CHECK_FATAL(bench_machine(m, &bench_cases[0], &machine, &err) == OK);
    CHECK(machine.bytes_per_s > 0);
    for (int i = 0; i < ARITHMETIC_KINDS; i++)
        CHECK(machine.multiply_adds_per_s[i] > 0);
    struct bench_case quick = {"quick", "quick", 3, 5, 4}, prompt = {"prompt", "prompt", 1, 9, 0};
    double rate = 0;
    CHECK_FATAL(bench_time(m, &quick, &rate, &err) == OK);
    CHECK(rate > 0 && isfinite(rate));
    CHECK_FATAL(bench_time(m, &prompt, &rate, &err) == OK);
    CHECK(rate > 0 && isfinite(rate));
    model_free(m);
    return check_done();
}
