/*
 * Questions to PostgreSQL whose rows become a report: what `list` and `show` commands and the
 * read-only calls of the API answer. Blocking.
 */
#ifndef ADMIN_VIEW_H
#define ADMIN_VIEW_H

#include "admin/report.h"
#include "base/pg.h"

struct view {
    const char *sql;
    /* The columns of the rows in order, as "name kind name kind ...", kind one of
     * text, int, bool; time (epoch milliseconds as bigint); list (a JSON array of strings);
     * json; money (pico-units: gives NAME in units of the currency and NAME_pico).
     * A '-' in front of the name keeps it out of tables. */
    const char *columns;
};

/* Appends the rows. err as pg_query. */
enum status view_read(struct pg *pg, const struct view *v, int count, const char *const *params,
                      struct report *r, struct error *err);

/* By name or by id; NOT_FOUND: err says so and how to see which there are. */
enum status find_tenant(struct pg *pg, const char *name, struct uuid *out, struct error *err);
enum status find_project(struct pg *pg, const char *tenant, const char *name, struct uuid *out,
                         struct error *err);
/* A key that is not revoked, by name, id or display prefix. */
enum status find_key(struct pg *pg, const struct uuid *project, const char *name, struct uuid *out,
                     struct error *err);

#endif
