#include "gateway/settings.h"

#include "gateway/api/chat.h"

#define FIELD(field) offsetof(struct settings, field)
#define TUNE(field) offsetof(struct settings, tunables.field)

static const char *const sync_names[] = {"interval", "before_reply", NULL};
enum { KIB = 1 << 10, MIB = 1 << 20, SECOND = 1000, MINUTE = 60 * SECOND };

/* clang-format off */
const struct setting settings_table[] = {
    {"common", "database_url", SETTING_SECRET, FIELD(database_url), NULL, 1, 1024, NULL, false,
     "PostgreSQL, as libpq takes it"},
    {"common", "redis_url", SETTING_STRING, FIELD(redis_url), NULL, 1, 1024, NULL, false,
     "redis://host:port/db or unix:/path"},
    {"common", "redis_password", SETTING_SECRET, FIELD(redis_password), "", 0, 128, NULL, false,
     "empty: none"},
    {"common", "state_dir", SETTING_STRING, FIELD(state_dir), NULL, 1, 512, NULL, false,
     "folder of all state; the gateway uses its subfolder gateway/"},
    {"common", "log_level", SETTING_STRING, FIELD(log_level), "info", 4, 5, NULL, false,
     "debug, info, warn, error"},
    {"gateway", "listen", SETTING_STRING, FIELD(listen), "0.0.0.0:8443", 1, 256, NULL, false,
     "address of the TLS listener"},
    {"gateway", "admin_listen", SETTING_STRING, FIELD(admin_listen), "127.0.0.1:9464", 1, 256,
     NULL, false, "address of /livez, /readyz and /metrics"},
    {"gateway", "certificate_file", SETTING_STRING, FIELD(certificate_file), NULL, 1, 1024, NULL,
     false, "PEM, the chain behind the certificate; read again on SIGHUP"},
    {"gateway", "key_file", SETTING_STRING, FIELD(key_file), NULL, 1, 1024, NULL, false,
     "PEM; read again on SIGHUP"},
    {"gateway", "workers", SETTING_LIST, FIELD(workers), NULL, 1, 64, NULL, false,
     "unix:/path or host:port of each worker"},
    {"gateway", "worker_certificate_file", SETTING_STRING, FIELD(worker_certificate_file), "", 0,
     1024, NULL, false,
     "PEM; with the next two, links over TCP are TLS with certificates on both sides; all three are "
     "read again on SIGHUP"},
    {"gateway", "worker_key_file", SETTING_STRING, FIELD(worker_key_file), "", 0, 1024, NULL, false,
     "PEM"},
    {"gateway", "worker_ca_file", SETTING_STRING, FIELD(worker_ca_file), "", 0, 1024, NULL, false,
     "PEM; who may sign the certificates of workers, which must name the host in `workers`"},
    {"gateway", "loops", SETTING_INT, FIELD(loops), "0", 0, 64, NULL, false,
     "loop threads; 0: one for each processor"},
    {"gateway", "journal_sync", SETTING_ENUM, FIELD(journal_sync), "interval", 0, 0, sync_names,
     false, "what an answer's end waits for: interval (written) or before_reply (on disk)"},
    {"gateway", "journal_sync_interval_ms", SETTING_MS, FIELD(journal_sync_interval_ms), "5ms", 0,
     10 * SECOND, NULL, false, "pause between syncs of the journal"},
    {"gateway", "journal_segment_bytes", SETTING_BYTES, FIELD(journal_segment_bytes), "64m", MIB,
     1024LL * MIB, NULL, false, "size of a journal file"},
    {"gateway", "journal_reserve_bytes", SETTING_BYTES, FIELD(journal_reserve_bytes), "8m", 64 * KIB,
     1024LL * MIB, NULL, false, "disk space set aside to settle what is admitted"},
    {"gateway", "header_bytes", SETTING_BYTES, FIELD(header_bytes), "32k", KIB, MIB, NULL, false,
     "request line and header fields of a request"},
    {"gateway", "header_fields", SETTING_INT, FIELD(header_fields), "100", 8, 1000, NULL, false,
     "header fields of a request"},
    {"gateway", "body_bytes", SETTING_BYTES, FIELD(body_bytes), "8m", KIB, 64 * MIB, NULL, false,
     "body of a request"},
    {"gateway", "handshake_timeout_ms", SETTING_MS, FIELD(handshake_timeout_ms), "5s", 100, MINUTE,
     NULL, false, "for the whole TLS handshake"},
    {"gateway", "header_timeout_ms", SETTING_MS, FIELD(header_timeout_ms), "10s", 100, 5 * MINUTE,
     NULL, false, "for the whole header"},
    {"gateway", "body_timeout_ms", SETTING_MS, FIELD(body_timeout_ms), "60s", 100, 60 * MINUTE,
     NULL, false, "for the whole body"},
    {"gateway", "idle_timeout_ms", SETTING_MS, FIELD(idle_timeout_ms), "75s", 100, 60 * MINUTE,
     NULL, false, "of a connection between requests"},
    {"gateway", "write_timeout_ms", SETTING_MS, FIELD(write_timeout_ms), "60s", 100, 60 * MINUTE,
     NULL, false, "without progress towards a client"},
    {"gateway", "connections_max", SETTING_INT, FIELD(connections_max), "10000", 1, 1000000, NULL,
     false, "per loop"},
    {"gateway", "output_mark_bytes", SETTING_BYTES, FIELD(output_mark_bytes), "64k", KIB, 16 * MIB,
     NULL, false, "unsent bytes of a stream above which the worker gets no more credit"},
    {"gateway", "output_max_bytes", SETTING_BYTES, FIELD(output_max_bytes), "64m", 64 * KIB,
     1024LL * MIB, NULL, false, "unsent bytes of an answer past which it is cut off"},
    {"gateway", "key_cache_entries", SETTING_INT, FIELD(key_cache_entries), "100000", 16, 10000000,
     NULL, false, "API keys remembered, per loop"},
    {"gateway", "key_ttl_ms", SETTING_MS, FIELD(key_ttl_ms), "60s", 100, 60 * MINUTE, NULL, false,
     "age of a remembered key while invalidations arrive"},
    {"gateway", "key_ttl_blind_ms", SETTING_MS, FIELD(key_ttl_blind_ms), "1s", 50, MINUTE, NULL,
     false, "age of a remembered key while they do not"},
    {"gateway", "redis_timeout_ms", SETTING_MS, FIELD(redis_timeout_ms), "1s", 10, MINUTE, NULL,
     false, "for a connect, and for each command"},
    {"gateway", "database_timeout_ms", SETTING_MS, FIELD(database_timeout_ms), "2s", 10, MINUTE,
     NULL, false, "for each query of a key"},
    {"gateway", "price_refresh_ms", SETTING_MS, FIELD(price_refresh_ms), "1s", 100, 10 * MINUTE,
     NULL, false, "how often prices are read again"},
    {"gateway", "recover_wait_ms", SETTING_MS, FIELD(recover_wait_ms), "60s", 0, 60 * MINUTE, NULL,
     false, "after a restart: wait for workers' counts of unfinished requests"},
    {"gateway", "drain_ms", SETTING_MS, FIELD(drain_ms), "30s", 0, 60 * MINUTE, NULL, true,
     "on SIGTERM: time for running requests to finish"},
    {"gateway", "keepalive_ms", SETTING_MS, TUNE(keepalive_ms), "10s", 100, 10 * MINUTE, NULL,
     true, "silence after which a waiting client gets a keep-alive"},
    {"gateway", "settle_grace_ms", SETTING_MS, TUNE(settle_grace_ms), "15s", 0, 10 * MINUTE, NULL,
     true, "wait for the counts of a worker that was lost under a request"},
    {"gateway", "worker_silent_ms", SETTING_MS, TUNE(worker_silent_ms), "10s", 200, 10 * MINUTE,
     NULL, true, "a worker without a completed step for so long gets no work; 504"},
    {"gateway", "queue_max", SETTING_INT, TUNE(queue_max), "1024", 0, 1000000, NULL, true,
     "requests waiting for a place at a worker, per model and loop; past it 503"},
    {"gateway", "queue_wait_ms", SETTING_MS, TUNE(queue_wait_ms), "2m", 100, 60 * MINUTE, NULL,
     true, "longest wait for a place; then 503"},
    {"gateway", "auth_failures_max", SETTING_INT, TUNE(auth_failures_max), "100", 0, 1000000, NULL,
     true, "bad keys from one address, per minute and loop; past it 429; 0: no limit"},
    {"gateway", "stream_credit_bytes", SETTING_BYTES, TUNE(stream_credit_bytes), "64k", 256,
     16 * MIB, NULL, true, "text a worker may send ahead of the client"},
    {"gateway", "answer_bytes_max", SETTING_BYTES, TUNE(answer_bytes_max), "16m", 64 * KIB,
     256 * MIB, NULL, true, "text of an answer that is not streamed"},
    {"gateway", "messages_max", SETTING_INT, TUNE(messages_max), "4096", 1, 16384, NULL, true,
     "messages of a request"},
    {"gateway", "stop_max", SETTING_INT, TUNE(stop_max), "16", 1, 16, NULL, true,
     "stop strings of a request"},
    {"gateway", "tools_max", SETTING_INT, TUNE(tools_max), "128", 1, CHAT_TOOLS_MAX, NULL, true,
     "tools of a request"},
    {"gateway", "choices_max", SETTING_INT, TUNE(choices_max), "8", 1, CHAT_CHOICES_MAX, NULL, true,
     "answers to one prompt (n)"},
    {"gateway", "json_depth", SETTING_INT, TUNE(json_depth), "64", 4, 512, NULL, true,
     "nesting of a JSON body"},
    {"gateway", "json_nodes", SETTING_INT, TUNE(json_nodes), "100000", 100, 10000000, NULL, true,
     "values in a JSON body"},
};
/* clang-format on */
const size_t settings_count = sizeof settings_table / sizeof *settings_table;

enum status settings_load(const char *path, struct settings *out, struct error *err)
{
    struct settings next = {0};
    enum status st = config_load(path, settings_table, settings_count, config_sections, &next, err);
    if (st != OK)
        return st;
    *out = next;
    return OK;
}

void settings_done(struct settings *s)
{
    config_done(settings_table, settings_count, s);
}
