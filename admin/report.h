/*
 * What a command or an API call answers: rows of named values, printed as a table, as fields or
 * as JSON, always the same values. Running out of memory is remembered and told at the end.
 * One owner.
 */
#ifndef ADMIN_REPORT_H
#define ADMIN_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/error.h"

struct report;

struct report *report_new(void);    /* NULL: out of memory */
void report_free(struct report *r); /* NULL is fine */
int report_rows(const struct report *r);

void report_row(struct report *r); /* begins a row; the values below belong to it */
/* name: of the JSON member; with spaces for '_' also the heading. value NULL: null, shown "-". */
void report_text(struct report *r, const char *name, const char *value);
void report_int(struct report *r, const char *name, int64_t value);
void report_bool(struct report *r, const char *name, bool value);
/* Amounts: exact decimal text, a string in JSON, right-aligned in tables. */
void report_amount(struct report *r, const char *name, const char *value);
/* json is written as it is; shown is for people. */
void report_json(struct report *r, const char *name, const char *json, const char *shown);
/* The last value is not in tables; or in JSON alone. */
void report_hide(struct report *r);
void report_hide_all(struct report *r);

void report_print_table(const struct report *r, FILE *out);  /* a row a line */
void report_print_fields(const struct report *r, FILE *out); /* a value a line */
/* single: the first row as an object; else an array of objects. */
enum status report_write_json(const struct report *r, bool single, struct buf *out);

#endif
