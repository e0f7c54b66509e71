#include "worker/arguments.h"

#include <getopt.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

enum kind { KIND_TEXT, KIND_CHOICE, KIND_INT, KIND_NUMBER, KIND_FLAG };

enum {
    OFFLINE = 1, /* a thing to do instead of serving */
    NEEDS_MODEL = 2,
};

struct known {
    const char *name;
    enum kind kind;
    size_t field;
    const char *value; /* what the help calls it; KIND_CHOICE: the choices, by spaces */
    const char *help;
    double least, most;
    int flags;
};

#define FIELD(field) offsetof(struct arguments, field)

/* clang-format off */
static const struct known known[] = {
    {"config", KIND_TEXT, FIELD(config), "FILE", "settings file, sections [common] and [worker]",
     0, 0, 0},
    {"model", KIND_TEXT, FIELD(model), "DIR", "the model's folder", 0, 0, 0},
    {"model-name", KIND_TEXT, FIELD(model_name), "NAME", "what requests call it", 0, 0, 0},
    {"backend", KIND_CHOICE, FIELD(backend), "cpu echo", "what answers requests", 0, 0, 0},
    {"listen", KIND_TEXT, FIELD(listen), "ADDRESS", "unix:/path or host:port", 0, 0, 0},
    {"state-dir", KIND_TEXT, FIELD(state_dir), "DIR", "where worker/usage.table is kept", 0, 0, 0},
    {"threads", KIND_INT, FIELD(threads), "N", "of the engine (0: one for each processor)",
     0, 1024, 0},
    {"kv", KIND_CHOICE, FIELD(kv), "f32 bf16 int8", "how the KV cache stores a value", 0, 0, 0},
    {"quantize", KIND_CHOICE, FIELD(quantize), "none int8 int4", "weights, when they are loaded",
     0, 0, 0},
    {"large-pages", KIND_FLAG, FIELD(large_pages), NULL,
     "copy the weights: faster, but workers do not share them", 0, 0, 0},
    {"activations", KIND_CHOICE, FIELD(activations), "exact bf16",
     "bf16: round what bf16 weights are multiplied with", 0, 0, 0},

    {"generate", KIND_TEXT, FIELD(generate), "TEXT", "print an answer", 0, 0,
     OFFLINE | NEEDS_MODEL},
    {"tokenize", KIND_TEXT, FIELD(tokenize), "FILE", "JSON strings to token ids", 0, 0,
     OFFLINE | NEEDS_MODEL},
    {"logits", KIND_TEXT, FIELD(logits), "FILE", "JSON token ids to float32 logits in --out", 0, 0,
     OFFLINE | NEEDS_MODEL},
    {"greedy", KIND_TEXT, FIELD(greedy), "FILE", "JSON token ids to the likeliest next ones", 0, 0,
     OFFLINE | NEEDS_MODEL},
    {"check", KIND_FLAG, FIELD(check), NULL,
     "verify the model; print its shape, memory and limits", 0, 0, OFFLINE | NEEDS_MODEL},
    {"bench", KIND_FLAG, FIELD(bench), NULL, "print how fast it is here, against the limits", 0, 0,
     OFFLINE | NEEDS_MODEL},
    {"perplexity", KIND_TEXT, FIELD(perplexity), "FILE",
     "how well it predicts a text, or JSON texts or token ids", 0, 0, OFFLINE | NEEDS_MODEL},
    {"usage-table", KIND_TEXT, FIELD(usage_table), "FILE", "print a worker's own account", 0, 0,
     OFFLINE},
    {"settings", KIND_FLAG, FIELD(settings), NULL, "print the table of settings", 0, 0, OFFLINE},
    {"version", KIND_FLAG, FIELD(version), NULL, "print the version", 0, 0, 0},
    {"help", KIND_FLAG, FIELD(help), NULL, "print this", 0, 0, 0},

    {"out", KIND_TEXT, FIELD(out), "OUT", "file for --logits", 0, 0, 0},
    {"only", KIND_CHOICE, FIELD(only), "prefill decode batch", "one case of --bench", 0, 0, 0},
    {"tokens", KIND_INT, FIELD(tokens), "N", "most tokens of --greedy (32) and --generate",
     1, 1 << 20, 0},
    {"temperature", KIND_NUMBER, FIELD(temperature), "T",
     "of --generate (default 0: the likeliest token)", 0, 2, 0},
    {"think", KIND_FLAG, FIELD(think), NULL, "--generate shows reasoning first", 0, 0, 0},
};
/* clang-format on */

enum { KNOWN = sizeof known / sizeof *known };

static const struct {
    const char *first, *title; /* the option that a group begins with */
} groups[] = {
    {"config", "a worker:"},
    {"generate", "instead of serving, one of:"},
    {"out", "for these:"},
};

static const char examples[] =
    "\nexamples:\n"
    "  tollgate-worker --config /etc/tollgate/tollgate.conf\n"
    "  tollgate-worker --model models/demo --generate 'What is 12 + 30?' --tokens 50\n"
    "  tollgate-worker --model models/demo --check\n"
    "  tollgate-worker --backend echo --model-name m --listen unix:/tmp/w.sock --state-dir /tmp/w\n"
    "  tollgate-worker --usage-table /var/lib/tollgate/worker/usage.table | tail -n 1\n"
    "\n"
    "exit status: 0 done, 1 it could not be done (one line says why), 2 a wrong call\n";

static void print_option(const struct known *k, FILE *out)
{
    char left[48];
    snprintf(left, sizeof left, "%s %s", k->name,
             k->kind == KIND_CHOICE ? "NAME"
             : k->value             ? k->value
                                    : "");
    fprintf(out, "  --%-20s %s", left, k->help);
    if (k->kind == KIND_CHOICE)
        fprintf(out, ": %s", k->value);
    fputc('\n', out);
}

void arguments_print_help(FILE *out)
{
    fputs("usage: tollgate-worker [--config FILE] [options]   serve a model to gateways\n"
          "       tollgate-worker --model DIR --generate TEXT, or another of the things below\n",
          out);
    size_t group = 0;
    for (size_t i = 0; i < KNOWN; i++) {
        if (group < sizeof groups / sizeof *groups &&
            strcmp(groups[group].first, known[i].name) == 0)
            fprintf(out, "\n%s\n", groups[group++].title);
        print_option(&known[i], out);
    }
    fputs(examples, out);
}

static bool bad_call(const char *format, const char *name, const char *text)
{
    fputs("tollgate-worker: ", stderr);
    fprintf(stderr, format, name, text);
    fputc('\n', stderr);
    return false;
}

static bool parse_number(const struct known *k, const char *text, double *out)
{
    char *end;
    double v = strtod(text, &end);
    bool whole = k->kind == KIND_NUMBER || v == (double)(long long)v;
    if (*text == 0 || *end != 0 || !(v >= k->least && v <= k->most) || !whole) {
        fprintf(stderr, "tollgate-worker: --%s wants a number from %g to %g, not \"%s\"\n", k->name,
                k->least, k->most, text);
        return false;
    }
    *out = v;
    return true;
}

static bool is_choice(const char *choices, const char *text)
{
    size_t len = strlen(text);
    for (const char *at = choices; len && (at = strstr(at, text)); at += len)
        if ((at == choices || at[-1] == ' ') && (at[len] == ' ' || at[len] == 0))
            return true;
    return false;
}

static bool store(const struct known *k, const char *text, struct arguments *a)
{
    char *field = (char *)a + k->field;
    double number;
    switch (k->kind) {
    case KIND_CHOICE:
        if (!is_choice(k->value, text)) {
            fprintf(stderr, "tollgate-worker: --%s is one of: %s; not \"%s\"\n", k->name, k->value,
                    text);
            return false;
        }
        /* fall through */
    case KIND_TEXT:
        *(const char **)field = text;
        return true;
    case KIND_FLAG:
        *(bool *)field = true;
        return true;
    default:
        if (!parse_number(k, text, &number))
            return false;
        if (k->kind == KIND_INT)
            *(int *)field = (int)number;
        else
            *(double *)field = number;
        return true;
    }
}

static bool is_given(const struct known *k, const struct arguments *a)
{
    const char *field = (const char *)a + k->field;
    return k->kind == KIND_FLAG ? *(const bool *)field : *(const char *const *)field != NULL;
}

static bool check(const struct arguments *a)
{
    const struct known *chosen = NULL;
    for (size_t i = 0; i < KNOWN; i++) {
        if (!(known[i].flags & OFFLINE) || !is_given(&known[i], a))
            continue;
        if (chosen)
            return bad_call("only one of --%s and --%s at a time", chosen->name, known[i].name);
        chosen = &known[i];
    }
    if (chosen && chosen->flags & NEEDS_MODEL && !a->model)
        return bad_call("--%s needs --model %s", chosen->name, "DIR");
    if (a->only && !a->bench)
        return bad_call("--%s goes with --%s", "only", "bench");
    if (!a->logits != !a->out)
        return bad_call("--%s FILE and --%s OUT go together", "logits", "out");
    return true;
}

bool arguments_parse(int argc, char **argv, struct arguments *out)
{
    struct option options[KNOWN + 1] = {{0}};
    for (size_t i = 0; i < KNOWN; i++)
        options[i] = (struct option){known[i].name, known[i].kind != KIND_FLAG, NULL, (int)i + 256};
    *out = (struct arguments){.threads = -1, .tokens = -1};
    int option;
    optind = 0; /* glibc: begins anew */
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        if (option < 256 || !store(&known[option - 256], optarg, out))
            return false; /* getopt has said why, or store */
    if (optind < argc)
        return bad_call("unexpected argument \"%s\"%s", argv[optind], "");
    return out->help || out->version || check(out);
}
