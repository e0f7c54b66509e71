#include <getopt.h>

#include "base/log.h"
#include "worker/generate.h"
#include "worker/offline.h"
#include "worker/offline_text.h"
#include "worker/serve.h"
#include "worker/usage.h"


enum { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_BAD_CALL = 2 };

static const char usage_text[] =
    "usage: tollgate-worker [--config FILE] [options]           serve a model to gateways\n"
    "       tollgate-worker --model DIR --generate TEXT         print an answer\n"
    "       tollgate-worker --model DIR --tokenize FILE         JSON strings to token ids\n"
    "       tollgate-worker --model DIR --logits FILE --out OUT JSON token ids to float32 logits\n"
    "       tollgate-worker --model DIR --greedy FILE           JSON token ids to the next ones\n"
    "       tollgate-worker --usage-table FILE                  print a worker's own account\n"
    "\n"
    "  --config FILE      settings file, sections [common] and [worker]\n"
    "  --backend NAME     cpu (default) or echo\n"
    "  --model DIR        the model's folder\n"
    "  --model-name NAME  what requests call it\n"
    "  --listen ADDRESS   unix:/path or host:port\n"
    "  --state-dir DIR    where worker/usage.table is kept\n"
    "  --threads N        of the engine (0: one for each processor)\n"
    "  --tokens N         most tokens of --greedy (default 32) and --generate\n"
    "  --temperature T    of --generate (default 0: the likeliest token)\n"
    "  --think            --generate shows reasoning first\n"
    "  --settings         print the table of settings\n"
    "  --version, --help\n"
    "\n"
    "examples:\n"
    "  tollgate-worker --config /etc/tollgate/tollgate.conf\n"
    "  tollgate-worker --model models/demo --generate 'What is 12 + 30?' --tokens 50\n"
    "  tollgate-worker --backend echo --model-name m --listen unix:/tmp/w.sock --state-dir /tmp/w\n"
    "  tollgate-worker --usage-table /var/lib/tollgate/worker/usage.table | tail -n 1\n"
    "\n"
    "exit status: 0 done, 1 it could not be done (one line says why), 2 a wrong call\n";

struct arguments {
    const char *config, *model, *model_name, *backend, *listen, *state_dir;
    const char *tokenize, *logits, *out, *greedy, *generate, *usage_table;
    int threads, tokens; /* -1: not given */
    float temperature;
    bool think, settings, version, help;
};

enum {
    OPT_CONFIG = 1,
    OPT_MODEL,
    OPT_MODEL_NAME,
    OPT_BACKEND,
    OPT_LISTEN,
    OPT_STATE_DIR,
    OPT_TOKENIZE,
    OPT_LOGITS,
    OPT_OUT,
    OPT_GREEDY,
    OPT_GENERATE,
    OPT_USAGE_TABLE,
    OPT_THREADS,
    OPT_TOKENS,
    OPT_TEMPERATURE,
    OPT_THINK,
    OPT_SETTINGS,
    OPT_VERSION,
    OPT_HELP,
};

static const struct option options[] = {
    {"config", required_argument, NULL, OPT_CONFIG},
    {"model", required_argument, NULL, OPT_MODEL},
    {"model-name", required_argument, NULL, OPT_MODEL_NAME},
    {"backend", required_argument, NULL, OPT_BACKEND},
    {"listen", required_argument, NULL, OPT_LISTEN},
    {"state-dir", required_argument, NULL, OPT_STATE_DIR},
    {"tokenize", required_argument, NULL, OPT_TOKENIZE},
    {"logits", required_argument, NULL, OPT_LOGITS},
    {"out", required_argument, NULL, OPT_OUT},
    {"greedy", required_argument, NULL, OPT_GREEDY},
    {"generate", required_argument, NULL, OPT_GENERATE},
    {"usage-table", required_argument, NULL, OPT_USAGE_TABLE},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"tokens", required_argument, NULL, OPT_TOKENS},
    {"temperature", required_argument, NULL, OPT_TEMPERATURE},
    {"think", no_argument, NULL, OPT_THINK},
    {"settings", no_argument, NULL, OPT_SETTINGS},
    {"version", no_argument, NULL, OPT_VERSION},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static bool parse_int(const char *name, const char *text, int least, int most, int *out)
{
    char *end;
    long v = strtol(text, &end, 10);
    if (*text == 0 || *end != 0 || v < least || v > most) {
        fprintf(stderr, "tollgate-worker: --%s wants a number from %d to %d, not \"%s\"\n", name,
                least, most, text);
        return false;
    }
    *out = (int)v;
    return true;
}

static bool parse_temperature(const char *text, float *out)
{
    char *end;
    float v = strtof(text, &end);
    if (*text == 0 || *end != 0 || !(v >= 0 && v <= 2)) {
        fprintf(stderr, "tollgate-worker: --temperature wants a number from 0 to 2, not \"%s\"\n",
                text);
        return false;
    }
    *out = v;
    return true;
}

/* Where the text of an option goes; NULL: it is no text. */
static const char **text_of(struct arguments *a, int option)
{
    switch (option) {
    case OPT_CONFIG:
        return &a->config;
    case OPT_MODEL:
        return &a->model;
    case OPT_MODEL_NAME:
        return &a->model_name;
    case OPT_BACKEND:
        return &a->backend;
    case OPT_LISTEN:
        return &a->listen;
    case OPT_STATE_DIR:
        return &a->state_dir;
    case OPT_TOKENIZE:
        return &a->tokenize;
    case OPT_LOGITS:
        return &a->logits;
    case OPT_OUT:
        return &a->out;
    case OPT_GREEDY:
        return &a->greedy;
    case OPT_GENERATE:
        return &a->generate;
    case OPT_USAGE_TABLE:
        return &a->usage_table;
    default:
        return NULL;
    }
}

static bool set_other(struct arguments *a, int option)
{
    switch (option) {
    case OPT_THREADS:
        return parse_int("threads", optarg, 0, 1024, &a->threads);
    case OPT_TOKENS:
        return parse_int("tokens", optarg, 1, 1 << 20, &a->tokens);
    case OPT_TEMPERATURE:
        return parse_temperature(optarg, &a->temperature);
    case OPT_THINK:
        a->think = true;
        return true;
    case OPT_SETTINGS:
        a->settings = true;
        return true;
    case OPT_VERSION:
        a->version = true;
        return true;
    case OPT_HELP:
        a->help = true;
        return true;
    default:
        return false; /* getopt has said why */
    }
}

static bool bad_call(const char *why)
{
    fprintf(stderr, "tollgate-worker: %s\n", why);
    return false;
}

static bool check_arguments(const struct arguments *a)
{
    int modes =
        !!a->tokenize + !!a->logits + !!a->greedy + !!a->generate + !!a->usage_table + a->settings;
    if (modes > 1)
        return bad_call("only one of --tokenize, --logits, --greedy, --generate, --usage-table "
                        "and --settings at a time");
    if ((a->tokenize || a->logits || a->greedy || a->generate) && !a->model)
        return bad_call("this needs --model DIR");
    if (!a->logits != !a->out)
        return bad_call("--logits FILE and --out OUT go together");
    if (a->backend && strcmp(a->backend, "cpu") != 0 && strcmp(a->backend, "echo") != 0)
        return bad_call("--backend is cpu or echo");
    return true;
}

static bool parse_arguments(int argc, char **argv, struct arguments *a)
{
    int option;
    *a = (struct arguments){.threads = -1, .tokens = -1};
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        const char **text = text_of(a, option);
        if (text)
            *text = optarg;
        else if (!set_other(a, option))
            return false;
    }
    if (optind < argc) {
        fprintf(stderr, "tollgate-worker: unexpected argument \"%s\"\n", argv[optind]);
        return false;
    }
    return a->help || a->version || check_arguments(a);
}

static enum status replace(char **setting, const char *text, struct error *err)
{
    if (!text)
        return OK;
    char *copy = strdup(text);
    if (!copy)
        return error_set(err, NOMEM, "out of memory");
    free(*setting);
    *setting = copy;
    return OK;
}

/* The settings file, then what the command line says otherwise. */
static enum status load_settings(const struct arguments *a, struct worker_settings *w,
                                 struct error *err)
{
    enum status st = config_load(a->config, worker_settings_table, worker_settings_count,
                                 config_sections, w, err);
    if (st != OK)
        return st;
    st = replace(&w->model_dir, a->model, err);
    if (st == OK)
        st = replace(&w->model_name, a->model_name, err);
    if (st == OK)
        st = replace(&w->listen, a->listen, err);
    if (st == OK)
        st = replace(&w->state_dir, a->state_dir, err);
    if (a->backend)
        w->backend = strcmp(a->backend, "echo") == 0 ? BACKEND_ECHO : BACKEND_CPU;
    if (a->threads >= 0)
        w->threads = a->threads;
    if (st == OK && log_level_parse(w->log_level) < 0)
        st = error_set(err, INVALID, "log_level is debug, info, warn or error");
    if (st != OK)
        config_done(worker_settings_table, worker_settings_count, w);
    return st;
}

static enum status generate(const struct arguments *a, const struct worker_settings *w,
                            struct error *err)
{
    struct cpu_options cpu = {.model_dir = w->model_dir,
                              .threads = (int)w->threads,
                              .sequences_max = 1,
                              .kv_bytes = w->kv_bytes,
                              .step_tokens = (int)w->step_tokens,
                              .default_output_tokens = (int)w->default_output_tokens};
    struct generate_options g = {.prompt = a->generate,
                                 .tokens = a->tokens > 0 ? a->tokens : 0,
                                 .thinking = a->think,
                                 .temperature = a->temperature};
    return generate_run(&cpu, &g, stdout, err);
}

static enum status with_settings(const struct arguments *a, struct error *err)
{
    struct worker_settings w = {0};
    enum status st = load_settings(a, &w, err);
    if (st != OK)
        return st;
    log_init("worker", (enum log_level)log_level_parse(w.log_level));
    st = a->generate ? generate(a, &w, err) : serve_run(&w, err);
    config_done(worker_settings_table, worker_settings_count, &w);
    return st;
}

static enum status print_settings(struct error *err)
{
    struct buf out;
    buf_init(&out, 1 << 20);
    enum status st = config_describe(worker_settings_table, worker_settings_count, &out);
    if (st == OK)
        fwrite(buf_head(&out), 1, buf_len(&out), stdout);
    else
        error_set(err, st, "cannot describe the settings");
    buf_done(&out);
    return st;
}

static enum status run(const struct arguments *a, struct error *err)
{
    struct offline_options o = {.model_dir = a->model,
                                .prompts_file = a->logits ? a->logits : a->greedy,
                                .threads = a->threads > 0 ? a->threads : 0};
    if (a->settings)
        return print_settings(err);
    if (a->usage_table)
        return usage_print(a->usage_table, stdout, err);
    if (a->tokenize)
        return offline_tokenize(a->model, a->tokenize, stdout, err);
    if (a->logits)
        return offline_logits(&o, a->out, err);
    if (a->greedy)
        return offline_greedy(&o, a->tokens > 0 ? a->tokens : 32, stdout, err);
    return with_settings(a, err);
}

int main(int argc, char **argv)
{
    struct arguments a;
    if (!parse_arguments(argc, argv, &a)) {
        fputs("Try: tollgate-worker --help\n", stderr);
        return EXIT_BAD_CALL;
    }
    if (a.help) {
        fputs(usage_text, stdout);
        return EXIT_DONE;
    }
    if (a.version) {
        puts("tollgate-worker " TOLLGATE_VERSION);
        return EXIT_DONE;
    }
    struct error err = {""};
    if (run(&a, &err) == OK)
        return EXIT_DONE;
    fprintf(stderr, "tollgate-worker: %s\n", err.text);
    return EXIT_REFUSED;
}
