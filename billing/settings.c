#include "billing/settings.h"

#define FIELD(field) offsetof(struct billing_settings, field)

enum { SECOND = 1000, MINUTE = 60 * SECOND };

/* clang-format off */
const struct setting billing_settings_table[] = {
    {"common", "database_url", SETTING_SECRET, FIELD(database_url), NULL, 1, 1024, NULL, false,
     "PostgreSQL, as libpq takes it"},
    {"common", "redis_url", SETTING_STRING, FIELD(redis_url), NULL, 1, 1024, NULL, false,
     "redis://host:port/db or unix:/path"},
    {"common", "redis_password", SETTING_SECRET, FIELD(redis_password), "", 0, 128, NULL, false,
     "empty: none"},
    {"common", "state_dir", SETTING_STRING, FIELD(state_dir), NULL, 1, 512, NULL, false,
     "folder of all state; billing reads the journals in gateway/journal/"},
    {"common", "log_level", SETTING_STRING, FIELD(log_level), "info", 4, 5, NULL, false,
     "debug, info, warn, error"},
    {"billing", "journal_dirs", SETTING_LIST, FIELD(journal_dirs), "", 0, 64, NULL, false,
     "folders of the gateways' journals; empty: gateway/journal in state_dir"},
    {"billing", "admin_listen", SETTING_STRING, FIELD(admin_listen), "127.0.0.1:9466", 1, 256, NULL,
     false, "address of /livez, /readyz and /metrics"},
    {"billing", "ship_interval_ms", SETTING_MS, FIELD(ship_interval_ms), "500ms", 10, MINUTE, NULL,
     false, "pause between two rounds of shipping"},
    {"billing", "keep_segments", SETTING_INT, FIELD(keep_segments), "16", 1, 1000000, NULL, false,
     "shipped journal files that are left in place for each shard"},
    {"billing", "query_timeout_ms", SETTING_MS, FIELD(query_timeout_ms), "30s", SECOND, 10 * MINUTE,
     NULL, false, "for one statement in PostgreSQL"},
    {"billing", "late_ready_ms", SETTING_MS, FIELD(late_ready_ms), "10s", SECOND, 60 * MINUTE, NULL,
     false, "not ready when no round of shipping has succeeded for so long"},
};
/* clang-format on */

const size_t billing_settings_count =
    sizeof billing_settings_table / sizeof *billing_settings_table;
