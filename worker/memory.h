/* How much memory this process has in use, from the kernel's account. Any thread. */
#ifndef WORKER_MEMORY_H
#define WORKER_MEMORY_H

#include <stdint.h>

#include "base/error.h"

struct memory {
    int64_t own_bytes;    /* anonymous: nobody shares it */
    int64_t mapped_bytes; /* of files: other processes that map them share it */
    int64_t peak_bytes;   /* the most of both together since the start */
};

enum status memory_read(struct memory *out, struct error *err);

#endif
