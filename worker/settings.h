/* The worker's settings: sections [common] and [worker] of the settings file. */
#ifndef WORKER_SETTINGS_H
#define WORKER_SETTINGS_H

#include "base/config.h"

enum worker_backend { BACKEND_CPU, BACKEND_ECHO };

struct worker_settings {
    char *database_url, *redis_url, *redis_password; /* of other programs, which share the file */
    char *state_dir, *log_level;
    char *listen, *admin_listen;
    char *certificate_file, *key_file, *client_ca_file; /* all three, or none */
    int backend;                                        /* enum worker_backend */
    int kv_type;                                        /* enum kv_type */
    int quantize;                                       /* enum model_weights */
    int activations;                                    /* 1: rounded to bf16 */
    bool large_pages, deterministic;
    int speculate; /* enum sched_speculation */
    char *model_dir, *model_name;
    int64_t threads, sequences_max, kv_bytes, step_tokens, default_output_tokens;
    int64_t usage_slots, streams_max, links_max, link_output_bytes;
    int64_t hello_timeout_ms, stall_timeout_ms, offer_ms, foreign_offer_ms, drain_ms;
    int64_t ready_step_age_ms;
};

extern const struct setting worker_settings_table[];
extern const size_t worker_settings_count;

#endif
