#include "admin/cli/cli.h"

#include <fcntl.h>
#include <unistd.h>

#include "tests/unit/check.h"

/* What the last command saw. */
static struct {
    int runs;
    char name[64], size[64], when[CLI_TIME_SIZE];
    bool fast, json;
    int64_t count;
    enum status time_status;
} seen;

static enum status run_make(struct cli *c)
{
    seen.runs++;
    seen.json = c->json;
    seen.fast = cli_flag(c, "fast");
    snprintf(seen.name, sizeof seen.name, "%s", c->arguments[0]);
    snprintf(seen.size, sizeof seen.size, "%s", cli_value(c, "size"));
    seen.count = -1;
    enum status st = cli_value_int(c, "count", 1, 100, &seen.count);
    if (st == OK)
        st = cli_value_time(c, "when", 1, seen.when);
    return st;
}

static enum status run_refuse(struct cli *c)
{
    return error_set(&c->err, CONFLICT, "it exists already");
}

static const struct cli_command commands[] = {
    {.name = "make",
     .arguments = "NAME --size N",
     .summary = "makes",
     .example = "tollgate thing make a --size 1",
     .options = {"size!", "count=", "when=", "fast"},
     .least = 1,
     .most = 1,
     .run = run_make},
    {.name = "refuse", .arguments = "", .summary = "refuses", .example = "", .run = run_refuse},
};
static const struct cli_group thing = {
    .name = "thing", .summary = "things", .commands = commands, .count = 2};
const struct cli_group *const cli_groups[] = {&thing, NULL};

#define RUN(...) run((char *[]){(char *)"tollgate", __VA_ARGS__, NULL})

static int run(char **argv)
{
    int argc = 0;
    while (argv[argc])
        argc++;
    seen.runs = 0;
    return cli_main(argc, argv);
}

static void test_calls(void)
{
    CHECK_INT(RUN("thing", "make", "a", "--size", "3"), 0);
    CHECK(seen.runs == 1 && !seen.json && !seen.fast && seen.count == -1);
    CHECK_STR(seen.name, "a");
    CHECK_STR(seen.size, "3");
    CHECK_INT(RUN("--json", "thing", "make", "--size=x=y", "--fast", "--count", "7", "b"), 0);
    CHECK(seen.runs == 1 && seen.json && seen.fast && seen.count == 7);
    CHECK_STR(seen.size, "x=y");
    CHECK_STR(seen.name, "b");
    CHECK_INT(RUN("thing", "refuse", "--json"), 1);
}

static void test_bad_calls(void)
{
    CHECK_INT(run((char *[]){(char *)"tollgate", NULL}), 2);
    CHECK_INT(RUN("none"), 2);
    CHECK_INT(RUN("thing"), 2);
    CHECK_INT(RUN("thing", "none"), 2);
    CHECK_INT(RUN("--fast", "thing", "make", "a", "--size", "1"), 2);
    CHECK_INT(RUN("thing", "make", "a"), 2);
    CHECK_INT(RUN("thing", "make", "--size", "1"), 2);
    CHECK_INT(RUN("thing", "make", "a", "b", "--size", "1"), 2);
    CHECK_INT(RUN("thing", "make", "a", "--size"), 2);
    CHECK_INT(RUN("thing", "make", "a", "--size="), 2);
    CHECK_INT(RUN("thing", "make", "a", "--size", "1", "--size", "2"), 2);
    CHECK_INT(RUN("thing", "make", "a", "--size", "1", "--none"), 2);
    CHECK_INT(RUN("thing", "make", "a", "--size", "1", "--fast=1"), 2);
    CHECK_INT(RUN("thing", "make", "a", "--size", "1", "--config"), 2);
    CHECK_INT(seen.runs, 0);
    CHECK_INT(RUN("thing", "make", "a", "--size", "1", "--count", "0"), 2);
    CHECK_INT(RUN("thing", "make", "a", "--size", "1", "--count", "7x"), 2);
    CHECK_INT(RUN("thing", "make", "a", "--size", "1", "--when", "soon"), 2);
    CHECK_INT(RUN("thing", "make", "a", "--size", "1", "--config", "/nowhere/file"), 1);
}

static const struct {
    const char *text, *want; /* want NULL: refused; "": any time */
} times[] = {
    {"2026-11-01", "2026-11-01T00:00:00.000Z"},
    {"2026-11-01T10:20", "2026-11-01T10:20:00.000Z"},
    {"2026-11-01T10:20:30Z", "2026-11-01T10:20:30.000Z"},
    {"2024-02-29", "2024-02-29T00:00:00.000Z"},
    {"2026-02-29", NULL},
    {"2026-13-01", NULL},
    {"2026-11-31", NULL},
    {"2026-11-01T24:00:00Z", NULL},
    {"2026-11-01T10:20:30+01:00", NULL},
    {"2026-11-1", NULL},
    {"now", ""},
    {"30d", ""},
    {"12h", ""},
    {"d", NULL},
    {"1000000d", NULL},
    {"-1d", NULL},
};

static void test_times(void)
{
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        int code = RUN("thing", "make", "a", "--size", "1", "--when", (char *)times[i].text);
        CHECK_INT(code, times[i].want ? 0 : 2);
        if (times[i].want && *times[i].want)
            CHECK_STR(seen.when, times[i].want);
    }
}

static void test_help(void)
{
    CHECK_INT(RUN("--help"), 0);
    CHECK_INT(RUN("thing", "--help"), 0);
    CHECK_INT(RUN("thing", "make", "--help"), 0);
    CHECK_INT(RUN("--version"), 0);
    CHECK_INT(RUN("--settings"), 0);
    CHECK_INT(seen.runs, 0);
}

int main(void)
{
    unsetenv("TOLLGATE_CONFIG");
    /* What is printed is for people; the exit codes are what is checked here. */
    int kept = dup(2), null = open("/dev/null", O_WRONLY);
    CHECK_FATAL(kept >= 0 && null >= 0);
    dup2(null, 2);
    test_calls();
    test_bad_calls();
    test_times();
    test_help();
    dup2(kept, 2);
    close(kept);
    close(null);
    return check_done();
}
