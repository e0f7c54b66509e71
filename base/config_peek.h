/*
 * One setting as it stands in the file, unchecked: for a program that looks at what belongs to
 * another one (whether it listens, and where). Its own settings a program reads by config_load.
 */
#ifndef BASE_CONFIG_PEEK_H
#define BASE_CONFIG_PEEK_H

#include <stddef.h>

#include "base/error.h"

/* NOT_FOUND: the file does not have it (err is untouched). LIMITED: longer than out. */
enum status config_peek(const char *path, const char *section, const char *name, char *out,
                        size_t size, struct error *err);

#endif
