/*
 * Expected failures. A function that can fail returns an enum status and, where the reader of
 * the failure needs words, writes one line into the caller's struct error. On success the
 * error is untouched; on failure the output parameters are. Our own bugs are asserts.
 * Any thread.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include "base/banned.h"

enum status {
    OK = 0,
    NOMEM,       /* out of memory */
    INVALID,     /* the input is wrong; the error names the place */
    NOT_FOUND,   /* no such thing */
    CONFLICT,    /* it exists already, or its state does not allow this */
    LIMITED,     /* a queue, table or quota is full */
    DENIED,      /* not allowed */
    UNAVAILABLE, /* a part we depend on is away; trying later may help */
    TIMED_OUT,
    CLOSED,    /* the other side has gone */
    CORRUPT,   /* stored data does not read back as it was written */
    IO_FAILED, /* a system call failed */
};

struct error {
    char text[512];
};

/* Formats the text and returns status, so that `return error_set(err, INVALID, ...)` works.
 * A NULL err is fine. Control characters in the text become '?'. */
enum status error_set(struct error *err, enum status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* As error_set, with ": " and strerror(errnum) behind the text; the status is IO_FAILED. */
enum status error_errno(struct error *err, int errnum, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts text and ": " in front of what err holds. */
void error_prefix(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

const char *status_name(enum status status);

#endif
