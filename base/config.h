/*
 * Settings. One file for all programs, in sections:
 *
 *     # comment
 *     [common]
 *     database_url = postgresql:///tollgate?host=/run/tollgate
 *     [gateway]
 *     listen = 0.0.0.0:8443
 *
 * Each program has one table that says name, type, bounds, default and whether a reload may
 * change it. An unknown section or setting, a value out of bounds, a setting given twice: an
 * error that names file and line. `bytes`, `ms` take units (64k, 8m, 10s, 5m). A comment has a
 * line of its own: a # behind a value belongs to the value. Any thread; no state of its own.
 */
#ifndef BASE_CONFIG_H
#define BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

enum setting_type {
    SETTING_INT,    /* int64_t */
    SETTING_BYTES,  /* int64_t, with k, m, g */
    SETTING_MS,     /* int64_t, with ms, s, m, h */
    SETTING_BOOL,   /* bool: yes/no, true/false, on/off */
    SETTING_STRING, /* char *, owned by the settings struct */
    SETTING_SECRET, /* char *, never printed */
    SETTING_ENUM,   /* int: index into `names` */
    SETTING_LIST,   /* struct setting_list: comma-separated strings */
};

struct setting_list {
    char **items;
    int count;
};

struct setting {
    const char *section, *name;
    enum setting_type type;
    size_t offset;            /* of the field in the program's settings struct */
    const char *default_text; /* parsed like the file's; NULL: must be given */
    int64_t least, most;      /* numbers; string length; list length (most 0: 4096, 1024) */
    const char *const *names; /* SETTING_ENUM, NULL-terminated */
    bool reloadable;
    const char *help; /* one line, for docs and `--settings` */
};

/* Fills *settings (zeroed by the caller) from the file and the defaults. path NULL: defaults.
 * sections: all sections any program knows, NULL-terminated; others are errors. Settings of
 * sections that are not in the table are skipped. */
enum status config_load(const char *path, const struct setting *table, size_t count,
                        const char *const *sections, void *settings, struct error *err);
void config_done(const struct setting *table, size_t count, void *settings);
/* CONFLICT, naming the setting, where one that is not reloadable differs. */
enum status config_check_reload(const struct setting *table, size_t count, const void *old,
                                const void *next, struct error *err);
/* A markdown table of the settings, for docs/operations.md. */
enum status config_describe(const struct setting *table, size_t count, struct buf *out);

extern const char *const config_sections[]; /* common, gateway, worker, billing, admin */

#endif
