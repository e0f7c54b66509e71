#include <assert.h>

#include "base/log.h"
#include "worker/arguments.h"
#include "worker/generate.h"
#include "worker/offline.h"
#include "worker/offline_text.h"
#include "worker/serve.h"
#include "worker/usage.h"

enum { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_BAD_CALL = 2 };

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

static enum kv_type kv_type_of(const struct arguments *a)
{
    enum kv_type type = KV_F32;
    bool known = !a->kv || kv_type_parse(a->kv, &type);
    assert(known); /* arguments_parse has seen to it */
    return type;
}

/* The option's place among the names, which arguments_parse has seen to; not given: 0. */
static int choice_of(const char *text, const char *const *names)
{
    int i = 0;
    while (text && names[i] && strcmp(names[i], text) != 0)
        i++;
    assert(names[i]);
    return i;
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
    if (a->kv)
        w->kv_type = (int)kv_type_of(a);
    if (a->quantize)
        w->quantize = choice_of(a->quantize, model_weights_names);
    w->large_pages |= a->large_pages;
    if (a->activations)
        w->activations = choice_of(a->activations, model_inputs_names);
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
                              .kv_type = (enum kv_type)w->kv_type,
                              .deterministic = w->deterministic,
                              .weights = (enum model_weights)w->quantize,
                              .large_pages = w->large_pages,
                              .rounded = w->activations == 1,
                              .speculate = w->speculate,
                              .step_tokens = (int)w->step_tokens,
                              .default_output_tokens = (int)w->default_output_tokens};
    struct generate_options g = {.prompt = a->generate,
                                 .tokens = a->tokens > 0 ? a->tokens : 0,
                                 .thinking = a->think,
                                 .temperature = (float)a->temperature};
    return generate_run(&cpu, &g, stdout, err);
}

static const char *prompts_of(const struct arguments *a)
{
    return a->logits ? a->logits : a->greedy ? a->greedy : a->perplexity;
}

static bool is_offline(const struct arguments *a)
{
    return prompts_of(a) || a->check || a->bench;
}

/* Everything that needs a model, but no chat. */
static enum status run_offline(const struct arguments *a, const struct worker_settings *w,
                               struct error *err)
{
    struct offline_options o = {.model_dir = w->model_dir,
                                .prompts_file = prompts_of(a),
                                .threads = (int)w->threads,
                                .kv_type = (enum kv_type)w->kv_type,
                                .kv_bytes = w->kv_bytes,
                                .weights = (enum model_weights)w->quantize,
                                .large_pages = w->large_pages,
                                .rounded = w->activations == 1,
                                .only = a->only};
    if (a->logits)
        return offline_logits(&o, a->out, err);
    if (a->greedy)
        return offline_greedy(&o, a->tokens > 0 ? a->tokens : 32, stdout, err);
    if (a->perplexity)
        return offline_perplexity(&o, stdout, err);
    return a->check ? offline_check(&o, stdout, err) : offline_bench(&o, stdout, err);
}

static enum status with_settings(const struct arguments *a, struct error *err)
{
    struct worker_settings w = {0};
    enum status st = load_settings(a, &w, err);
    if (st != OK)
        return st;
    log_init("worker", (enum log_level)log_level_parse(w.log_level));
    st = a->generate     ? generate(a, &w, err)
         : is_offline(a) ? run_offline(a, &w, err)
                         : serve_run(&w, err);
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
    if (a->settings)
        return print_settings(err);
    if (a->usage_table)
        return usage_print(a->usage_table, stdout, err);
    if (a->tokenize)
        return offline_tokenize(a->model, a->tokenize, stdout, err);
    return with_settings(a, err);
}

int main(int argc, char **argv)
{
    struct arguments a;
    if (!arguments_parse(argc, argv, &a)) {
        fputs("Try: tollgate-worker --help\n", stderr);
        return EXIT_BAD_CALL;
    }
    if (a.help) {
        arguments_print_help(stdout);
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
