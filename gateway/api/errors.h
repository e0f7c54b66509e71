/*
 * Error answers of the OpenAI surface: {"error": {"message", "type", "param", "code"}}, all four
 * present. Plain values; any thread.
 */
#ifndef GATEWAY_API_ERRORS_H
#define GATEWAY_API_ERRORS_H

#include "auth/admission.h"
#include "base/buf.h"

struct api_error {
    int status;
    const char *type;
    const char *code;  /* NULL: null */
    char param[128];   /* empty: null */
    char message[640]; /* never a key, nor anything else that is secret */
    int64_t retry_ms;  /* retry-after; 0: none */
    bool no_retry;     /* x-should-retry: false */
};

/* Fills *e: the type that goes with the status, and the message. */
void api_error_set(struct api_error *e, int status, const char *code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* A 400 about a field of the body. Returns false, so that `return api_error_param(...)` works. */
bool api_error_param(struct api_error *e, const char *param, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* 503, to be tried again after retry_ms. */
void api_error_overloaded(struct api_error *e, int64_t retry_ms, const char *message);
/* The one 401. */
void api_error_key(struct api_error *e);
/* What admission refused. */
void api_error_admission(struct api_error *e, const struct admit_result *result);

/* {"error": {...}} */
enum status api_error_body(struct buf *out, const struct api_error *e);
/* For requests that the server refused itself. */
void api_error_refused(int status, const char *text, struct buf *body);

#endif
