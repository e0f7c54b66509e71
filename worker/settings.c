#include "worker/settings.h"

#include "worker/model/model.h"

#define FIELD(field) offsetof(struct worker_settings, field)

static const char *const backend_names[] = {"cpu", "echo", NULL};
static const char *const speculate_names[] = {"off", "auto", "on", NULL}; /* sched_speculation */
enum { KIB = 1 << 10, MIB = 1 << 20, SECOND = 1000, MINUTE = 60 * SECOND };
#define GIB (INT64_C(1) << 30)

/* clang-format off */
const struct setting worker_settings_table[] = {
    {"common", "database_url", SETTING_SECRET, FIELD(database_url), "", 0, 1024, NULL, false,
     "not used by the worker"},
    {"common", "redis_url", SETTING_STRING, FIELD(redis_url), "", 0, 1024, NULL, false,
     "not used by the worker"},
    {"common", "redis_password", SETTING_SECRET, FIELD(redis_password), "", 0, 128, NULL, false,
     "not used by the worker"},
    {"common", "state_dir", SETTING_STRING, FIELD(state_dir), "/var/lib/tollgate", 1, 512, NULL,
     false, "folder of all state; the worker uses its subfolder worker/"},
    {"common", "log_level", SETTING_STRING, FIELD(log_level), "info", 4, 5, NULL, false,
     "debug, info, warn, error"},
    {"worker", "listen", SETTING_STRING, FIELD(listen), "unix:/run/tollgate/worker.sock", 1, 256,
     NULL, false, "where gateways connect: unix:/path or host:port"},
    {"worker", "certificate_file", SETTING_STRING, FIELD(certificate_file), "", 0, 1024, NULL, false,
     "PEM; with the next two, links over TCP are TLS with certificates on both sides; all three are "
     "read again on SIGHUP"},
    {"worker", "key_file", SETTING_STRING, FIELD(key_file), "", 0, 1024, NULL, false, "PEM"},
    {"worker", "client_ca_file", SETTING_STRING, FIELD(client_ca_file), "", 0, 1024, NULL, false,
     "PEM; who may sign the certificates of gateways"},
    {"worker", "admin_listen", SETTING_STRING, FIELD(admin_listen), "", 0, 256, NULL, false,
     "address of /livez, /readyz and /metrics; empty: none"},
    {"worker", "backend", SETTING_ENUM, FIELD(backend), "cpu", 0, 0, backend_names, false,
     "cpu runs a model; echo answers with fixed words, for measurements"},
    {"worker", "model_dir", SETTING_STRING, FIELD(model_dir), "", 0, 1024, NULL, false,
     "folder with config.json, tokenizer.json and safetensors"},
    {"worker", "model_name", SETTING_STRING, FIELD(model_name), "", 0, 127, NULL, false,
     "what requests call the model; empty: the folder's name"},
    {"worker", "threads", SETTING_INT, FIELD(threads), "0", 0, 1024, NULL, false,
     "of the engine; 0: one for each processor"},
    {"worker", "sequences_max", SETTING_INT, FIELD(sequences_max), "16", 1, 1024, NULL, false,
     "sequences that run at once"},
    {"worker", "kv_bytes", SETTING_BYTES, FIELD(kv_bytes), "256m", MIB, 4096 * GIB, NULL, false,
     "memory of the KV cache"},
    {"worker", "kv_type", SETTING_ENUM, FIELD(kv_type), "f32", 0, 0, kv_type_names, false,
     "how the cache stores a value: f32 exactly; bf16 and int8 hold 2 and about 3.6 times as many"},
    {"worker", "deterministic", SETTING_BOOL, FIELD(deterministic), "no", 0, 0, NULL, false,
     "the same tokens whatever else runs at the same time; long prompts take a little longer"},
    {"worker", "quantize", SETTING_ENUM, FIELD(quantize), "none", 0, 0, model_weights_names, false,
     "weights, when they are loaded: none leaves them in the mapped file, for workers to share"},
    {"worker", "large_pages", SETTING_BOOL, FIELD(large_pages), "no", 0, 0, NULL, false,
     "copy weights that are not quantised into memory of large pages: faster, but not shared"},
    {"worker", "activations", SETTING_ENUM, FIELD(activations), "exact", 0, 0, model_inputs_names,
     false, "what bf16 weights are multiplied with: exact, or rounded to bf16, which is faster"},
    {"worker", "speculate", SETTING_ENUM, FIELD(speculate), "auto", 0, 0, speculate_names, false,
     "guess tokens ahead with the model's own layer, if it has one: off, auto (where it pays), on"},
    {"worker", "step_tokens", SETTING_INT, FIELD(step_tokens), "256", 1, 65536, NULL, false,
     "tokens that one engine step computes, at least sequences_max"},
    {"worker", "default_output_tokens", SETTING_INT, FIELD(default_output_tokens), "1024", 1,
     1 << 20, NULL, false, "completion tokens of a request that names no limit"},
    {"worker", "usage_slots", SETTING_INT, FIELD(usage_slots), "16384", 16, 1 << 20, NULL, false,
     "requests that the usage table holds; it grows but never shrinks"},
    {"worker", "streams_max", SETTING_INT, FIELD(streams_max), "8192", 1, 65536, NULL, false,
     "requests at once, waiting ones too"},
    {"worker", "links_max", SETTING_INT, FIELD(links_max), "1024", 1, 65535, NULL, false,
     "connections of gateways (each loop of a gateway has one)"},
    {"worker", "link_output_bytes", SETTING_BYTES, FIELD(link_output_bytes), "16m", 2 * MIB, GIB,
     NULL, false, "unread output past which a gateway is cut off"},
    {"worker", "hello_timeout_ms", SETTING_MS, FIELD(hello_timeout_ms), "5s", 100, MINUTE, NULL,
     false, "for a gateway's first frame"},
    {"worker", "stall_timeout_ms", SETTING_MS, FIELD(stall_timeout_ms), "30s", 100, 60 * MINUTE,
     NULL, false, "a gateway that reads nothing for so long is cut off"},
    {"worker", "offer_ms", SETTING_MS, FIELD(offer_ms), "3s", 100, 60 * MINUTE, NULL, false,
     "between two offers of the same unacknowledged usage"},
    {"worker", "foreign_offer_ms", SETTING_MS, FIELD(foreign_offer_ms), "10m", 100, 1440 * MINUTE,
     NULL, false, "usage of a gateway that is away for so long is offered to any"},
    {"worker", "drain_ms", SETTING_MS, FIELD(drain_ms), "20s", 0, 60 * MINUTE, NULL, false,
     "for running requests to finish after SIGTERM"},
    {"worker", "ready_step_age_ms", SETTING_MS, FIELD(ready_step_age_ms), "30s", 100, 60 * MINUTE,
     NULL, false, "not ready when an engine step takes longer"},
};
/* clang-format on */

const size_t worker_settings_count = sizeof worker_settings_table / sizeof *worker_settings_table;
