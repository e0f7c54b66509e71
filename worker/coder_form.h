/*
 * The values of calls in Qwen3-Coder's form (TOOLS_QWEN_CODER), which stand in a call as text:
 * strings as they are, all else as JSON. What a text means is seen from the parameter's schema.
 * Read once a tool; then any thread.
 */
#ifndef WORKER_CODER_FORM_H
#define WORKER_CODER_FORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

enum coder_types { /* of JSON, as bits */
                   CODER_STRING = 1,
                   CODER_NUMBER = 2,
                   CODER_BOOL = 4,
                   CODER_NULL = 8,
                   CODER_OBJECT = 16,
                   CODER_ARRAY = 32,
                   CODER_ANY = 63,
};

struct coder_parameter {
    char *name;
    uint32_t types; /* that the schema allows */
    bool required;
    char *schema; /* its text, with the definitions that it may refer to */
    char **texts; /* of an enum or const: all that may stand there; NULL: anything */
    int text_count;
    const char *keyword; /* that narrows a string in a way that texts cannot be held to; NULL */
};

struct coder_parameters {
    struct coder_parameter *items;
    int count;
};

/* schema: a tool's parameters, JSON or "". Those of its properties, in order; what is no schema of
 * an object has none. NOMEM. */
enum status coder_read(const char *schema, struct coder_parameters *out);
void coder_done(struct coder_parameters *p); /* zeroed is fine */
/* NULL: there is no such parameter. */
const struct coder_parameter *coder_find(const struct coder_parameters *p, const char *name,
                                         size_t len);
/* Appends the JSON value that a text is; parameter NULL: of any type. */
enum status coder_value(const struct coder_parameter *parameter, const char *text, size_t len,
                        struct buf *out);

#endif
