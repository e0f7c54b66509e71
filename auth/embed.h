/* Files of the source tree that are built into the programs (see auth/embed.cmake). */
#ifndef AUTH_EMBED_H
#define AUTH_EMBED_H

#include <stddef.h>

struct embedded_file {
    const char *name; /* without its folder; NULL ends the list */
    const char *text; /* len bytes and a NUL */
    size_t len;
};

extern const struct embedded_file embedded_migrations[]; /* in order */
extern const struct embedded_file embedded_scripts[];

#endif
