/*
 * The gateway's settings: [common] and [gateway] of the settings file. Loaded by main, read by
 * all; what a loop needs on its path and a reload may change is copied into its tunables.
 */
#ifndef GATEWAY_SETTINGS_H
#define GATEWAY_SETTINGS_H

#include "base/config.h"

enum journal_sync { JOURNAL_SYNC_INTERVAL, JOURNAL_SYNC_BEFORE_REPLY };

/* A loop's own copy; replaced on its thread by a reload. */
struct tunables {
    int64_t keepalive_ms;        /* silence towards a waiting client, at most */
    int64_t settle_grace_ms;     /* wait for a lost worker's counts */
    int64_t worker_silent_ms;    /* without a completed step or a PONG */
    int64_t queue_max;           /* requests waiting for a worker, per model and loop */
    int64_t queue_wait_ms;       /* then 503 */
    int64_t auth_failures_max;   /* per address and minute; 0: no limit */
    int64_t stream_credit_bytes; /* text a worker may send ahead of the client */
    int64_t answer_bytes_max;    /* text of an answer that is not streamed */
    int64_t messages_max, stop_max, tools_max, choices_max, json_depth, json_nodes;
};

struct settings {
    char *database_url, *redis_url, *redis_password, *state_dir, *log_level;
    char *listen, *admin_listen, *certificate_file, *key_file;
    struct setting_list workers;
    char *worker_certificate_file, *worker_key_file, *worker_ca_file; /* all three, or none */
    int64_t loops;
    int journal_sync; /* enum journal_sync */
    int64_t journal_sync_interval_ms, journal_segment_bytes, journal_reserve_bytes;
    int64_t header_bytes, header_fields, body_bytes;
    int64_t handshake_timeout_ms, header_timeout_ms, body_timeout_ms, idle_timeout_ms,
        write_timeout_ms;
    int64_t connections_max, output_mark_bytes, output_max_bytes;
    int64_t key_cache_entries, key_ttl_ms, key_ttl_blind_ms;
    int64_t redis_timeout_ms, database_timeout_ms;
    int64_t price_refresh_ms, recover_wait_ms, drain_ms;
    struct tunables tunables;
};

extern const struct setting settings_table[];
extern const size_t settings_count;

enum status settings_load(const char *path, struct settings *out, struct error *err);
void settings_done(struct settings *s);

#endif
