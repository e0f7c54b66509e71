/*
 * Token ids from a file, for runs of a model without a server. Any thread; a list has one owner.
 */
#ifndef WORKER_PROMPTS_H
#define WORKER_PROMPTS_H

#include <stdint.h>

#include "base/error.h"

struct prompt {
    int32_t *ids;
    uint32_t count; /* at least 1 */
};

struct prompts {
    struct prompt *items;
    uint32_t count;
};

/* What ids may be there. */
struct prompts_limits {
    uint32_t vocab;      /* ids are below it */
    uint32_t tokens_max; /* of one prompt */
};

/* A JSON array of arrays of ids. The error names the file and the prompt. */
enum status prompts_read(const char *path, const struct prompts_limits *limits, struct prompts *out,
                         struct error *err);
/* The same, or a JSON array of strings, or (a name that does not end in .json) one text: texts go
 * through dir's tokenizer; added tokens in them count as such, none is put in front. */
enum status prompts_read_texts(const char *path, const char *dir,
                               const struct prompts_limits *limits, struct prompts *out,
                               struct error *err);
void prompts_free(struct prompts *p); /* an empty one is fine */

#endif
