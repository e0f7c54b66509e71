/*
 * Values of settings: text to field and back. The private half of base/config.h; a fuzz target
 * and the tests come in here too, for settings that are not in a file.
 */
#ifndef BASE_CONFIG_VALUE_H
#define BASE_CONFIG_VALUE_H

#include "base/config.h"

struct config_table {
    const struct setting *settings;
    size_t count;
    const char *const *sections;
};

/* As config_load, from memory; name stands for the path in errors. */
enum status config_parse(const char *name, const char *text, size_t len,
                         const struct config_table *table, void *settings, struct error *err);

/* Sets the field of one setting. The value of a SETTING_SECRET is never in the error. */
enum status config_value_set(const struct setting *s, const char *text, size_t len, void *settings,
                             struct error *err);
void config_value_clear(const struct setting *s, void *settings);
bool config_value_equal(const struct setting *s, const void *a, const void *b);
enum status config_value_describe(const struct setting *s, struct buf *out); /* one table row */

#endif
