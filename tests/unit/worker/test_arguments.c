#include "worker/arguments.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/check.h"

enum { WORDS_MAX = 12 };

/* Splits at spaces; returns what arguments_parse does, and in *said what it wrote to stderr. */
static bool parse(const char *line, struct arguments *a, char *said, size_t size)
{
    static char words[256];
    char *argv[WORDS_MAX + 1] = {"tollgate-worker"};
    int argc = 1;
    snprintf(words, sizeof words, "%s", line);
    for (char *at = words; *at && argc < WORDS_MAX;) {
        argv[argc++] = at;
        at += strcspn(at, " ");
        if (*at)
            *at++ = 0;
    }
    FILE *errors = tmpfile();
    CHECK_FATAL(errors);
    fflush(stderr);
    int old = dup(STDERR_FILENO);
    CHECK_FATAL(old >= 0 && dup2(fileno(errors), STDERR_FILENO) >= 0);
    bool parsed = arguments_parse(argc, argv, a);
    fflush(stderr);
    dup2(old, STDERR_FILENO);
    close(old);
    rewind(errors);
    said[fread(said, 1, size - 1, errors)] = 0;
    fclose(errors);
    return parsed;
}

static const struct {
    const char *line, *says; /* says NULL: it is a good call */
} cases[] = {
    {"", NULL},
    {"--help --nonsense", "nonsense"},
    {"--help", NULL},
    {"--version", NULL},
    {"--model m --generate hi --tokens 5 --temperature 0.7 --think", NULL},
    {"--model m --logits f --out o", NULL},
    {"--threads 1024", NULL},
    {"--threads 1025", "--threads wants a number from 0 to 1024, not \"1025\""},
    {"--threads 1.5", "--threads wants"},
    {"--threads 2x", "--threads wants"},
    {"--threads=", "--threads wants"},
    {"--tokens 0", "--tokens wants"},
    {"--temperature 2.1", "--temperature wants a number from 0 to 2"},
    {"--temperature nan", "--temperature wants"},
    {"--backend cpu", NULL},
    {"--backend cp", "--backend is one of: cpu echo; not \"cp\""},
    {"--backend=", "--backend is one of"},
    {"--generate hi", "--generate needs --model DIR"},
    {"--model m --generate hi --greedy f", "only one of --generate and --greedy"},
    {"--settings --usage-table f", "only one of --usage-table and --settings"},
    {"--model m --logits f", "--logits FILE and --out OUT go together"},
    {"--model m --out o", "go together"},
    {"--model", "requires an argument"},
    {"stray", "unexpected argument \"stray\""},
};

int main(void)
{
    struct arguments a;
    char said[512];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool parsed = parse(cases[i].line, &a, said, sizeof said);
        CHECK_INT(parsed, cases[i].says == NULL);
        CHECK(cases[i].says ? strstr(said, cases[i].says) != NULL : *said == 0);
        CHECK(!*said || strchr(said, '\n') == said + strlen(said) - 1);
    }
    CHECK(parse("--model m --generate hi --temperature 0.5 --think", &a, said, sizeof said));
    CHECK_STR(a.model, "m");
    CHECK_STR(a.generate, "hi");
    CHECK(a.think && a.temperature == 0.5 && a.tokens == -1 && a.threads == -1);
    CHECK(!a.backend && !a.logits && !a.settings);
    return check_done();
}
