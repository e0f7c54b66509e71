/* A secret: its own type, so that it is never printed by accident, and wiped when freed. */
#ifndef BASE_SECRET_H
#define BASE_SECRET_H

#include <stddef.h>

#include "base/crypto.h"

enum { SECRET_MAX = 128 };

struct secret {
    char text[SECRET_MAX]; /* NUL-terminated */
};

static inline void secret_wipe(struct secret *s)
{
    crypto_wipe(s, sizeof *s);
}

#endif
