/* The settings of tollgate-billing: sections [common] and [billing] of the settings file. */
#ifndef BILLING_SETTINGS_H
#define BILLING_SETTINGS_H

#include "base/config.h"

struct billing_settings {
    char *database_url, *redis_url, *redis_password;
    char *state_dir, *log_level;
    struct setting_list journal_dirs;
    char *admin_listen;
    int64_t ship_interval_ms;
    int64_t keep_segments;
    int64_t query_timeout_ms;
    int64_t late_ready_ms;
};

extern const struct setting billing_settings_table[];
extern const size_t billing_settings_count;

#endif
