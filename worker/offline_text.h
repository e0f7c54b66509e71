/* Runs of a model's tokenizer alone, for checks. */
#ifndef WORKER_OFFLINE_TEXT_H
#define WORKER_OFFLINE_TEXT_H

#include <stdio.h>

#include "base/error.h"

/* file: a JSON array of strings. Prints a JSON array of arrays of token ids; text that equals an
 * added token becomes that token. dir is the model's folder. */
enum status offline_tokenize(const char *dir, const char *file, FILE *out, struct error *err);

#endif
