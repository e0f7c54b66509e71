/* What `up` and `doctor` know of the daemons: their files and their admin listeners. */
#ifndef ADMIN_CLI_PARTS_H
#define ADMIN_CLI_PARTS_H

#include <stddef.h>

#include "base/address.h"

enum { PARTS = 4 };

/* The file of tollgate-NAME: beside this program. */
enum status parts_program(const char *name, char *out, size_t size, struct error *err);
/* [name] admin_listen, or its default. */
enum status parts_probe_address(const char *config, const char *name, struct address *out,
                                struct error *err);
/* [name] drain_ms: how long it may take to end. */
int64_t parts_drain_ms(const char *config, const char *name);

#endif
