/*
 * PostgreSQL through libpq (included in base/pg.c and base/pg_async.c alone). Parameters always
 * travel apart from the SQL text; there is no way to build a query from strings here.
 */
#ifndef BASE_PG_H
#define BASE_PG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/id.h"
#include "base/loop.h"

struct pg;        /* a blocking connection: command-line tools, threads without a loop */
struct pg_result; /* rows as text */

struct pg *pg_connect(const char *url, int64_t timeout_ms, struct error *err); /* NULL: err */
void pg_free(struct pg *pg);                                                   /* NULL is fine */
bool pg_ok(const struct pg *pg); /* the connection stands */
/* Past it a query ends with TIMED_OUT and the connection is lost. 60 s at first; 0: none. */
void pg_set_timeout(struct pg *pg, int64_t query_timeout_ms);
/* params: text, NULL for SQL NULL. *out may be NULL when no rows are wanted. Status: OK;
 * CONFLICT for unique/exclusion/check/foreign-key violations; UNAVAILABLE when the connection is
 * lost or the server refuses work; INVALID for bad data; IO_FAILED else. err names the constraint.
 */
enum status pg_query(struct pg *pg, const char *sql, int count, const char *const *params,
                     struct pg_result **out, struct error *err);
/* Several statements without parameters or results (migrations). */
enum status pg_script(struct pg *pg, const char *sql, struct error *err);
enum status pg_begin(struct pg *pg, struct error *err);
enum status pg_commit(struct pg *pg, struct error *err); /* UNAVAILABLE: in doubt */
void pg_rollback(struct pg *pg);                         /* fine outside a transaction */
/* COPY table FROM STDIN: begin, rows as COPY text, end. */
enum status pg_copy_begin(struct pg *pg, const char *copy_sql, struct error *err);
enum status pg_copy_data(struct pg *pg, const char *data, size_t len, struct error *err);
enum status pg_copy_end(struct pg *pg, struct error *err);
/* Waits up to timeout_ms for a NOTIFY; *payload is valid until the next call. NOT_FOUND: none. */
enum status pg_wait_notify(struct pg *pg, int64_t timeout_ms, const char **payload,
                           struct error *err);

int pg_rows(const struct pg_result *r);
const char *pg_text(const struct pg_result *r, int row, int column); /* NULL: SQL NULL */
int64_t pg_int(const struct pg_result *r, int row, int column);      /* 0: SQL NULL */
bool pg_bool(const struct pg_result *r, int row, int column);
bool pg_uuid(const struct pg_result *r, int row, int column, struct uuid *out);
void pg_result_free(struct pg_result *r); /* NULL is fine */

/* The asynchronous kind, of one loop: queries queue up and run one after another; it reconnects
 * by itself; each query has a deadline that includes its wait. Loop thread only. */
struct pg_async;
typedef void pg_fn(enum status st, const struct pg_result *result, void *arg);

struct pg_async *pg_async_new(struct loop *loop, const char *url, int queue_max,
                              int64_t query_timeout_ms, struct error *err);
void pg_async_free(struct pg_async *pg); /* callbacks get CLOSED; NULL is fine */
/* Calls fn exactly once, before returning only when memory is out (UNAVAILABLE). The params are
 * copied. */
void pg_async_query(struct pg_async *pg, const char *sql, int count, const char *const *params,
                    pg_fn *fn, void *arg);

#endif
