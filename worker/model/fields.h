/*
 * Reading config.json: each field by name, type and bounds. The first thing wrong is kept, with
 * the file and the field in its text; reading goes on with least values, so that callers check
 * once, at the end.
 */
#ifndef WORKER_MODEL_FIELDS_H
#define WORKER_MODEL_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"

struct fields {
    const char *path;   /* of the file, for errors */
    const char *prefix; /* of the object in it: "" or "rope_scaling." */
    const struct json *object;
    enum status status;
    struct error *err;
};

bool fields_has(const struct fields *f, const char *name); /* there, and not null */
int fields_int(struct fields *f, const char *name, int least, int most);
int fields_int_or(struct fields *f, const char *name, int least, int most, int missing);
double fields_number(struct fields *f, const char *name, double least, double most);
double fields_number_or(struct fields *f, const char *name, double least, double most,
                        double missing);
bool fields_bool_or(struct fields *f, const char *name, bool missing);
/* The text of a field; NULL: missing, or not a string. */
const char *fields_text(const struct fields *f, const char *name);
/* It must be that text; missing is fine when `optional`. */
void fields_must_be(struct fields *f, const char *name, const char *text, bool optional);
/* A bool that must be false or missing. */
void fields_must_be_off(struct fields *f, const char *name);
/* Records a fault of a field, unless one is recorded. */
void fields_fail(struct fields *f, const char *name, const char *why);
/* Whole multiples of `unit` only. */
void fields_must_divide(struct fields *f, const char *name, int value, int unit);

#endif
