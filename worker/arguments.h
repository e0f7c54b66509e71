/*
 * The command line of tollgate-worker. One table names every option, its bounds and its help, so
 * that a new one is a line there and a field here. Texts belong to argv.
 */
#ifndef WORKER_ARGUMENTS_H
#define WORKER_ARGUMENTS_H

#include <stdbool.h>
#include <stdio.h>

struct arguments {
    const char *config, *model, *model_name, *backend, *listen, *state_dir; /* NULL: not given */
    const char *kv, *quantize, *activations;
    bool large_pages;
    /* What to do instead of serving: at most one of these is given. */
    const char *generate, *tokenize, *logits, *greedy, *perplexity, *usage_table;
    bool check, bench, settings, version, help;
    /* How. */
    const char *out, *only;
    int threads, tokens; /* -1: not given */
    double temperature;
    bool think;
};

/* false: it has said on stderr what is wrong with the call. */
bool arguments_parse(int argc, char **argv, struct arguments *out);
void arguments_print_help(FILE *out);

#endif
