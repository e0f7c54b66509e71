/*
 * What can be looked at: the same rows for the command line and the API. Ids NULL: of all.
 * Blocking.
 */
#ifndef ADMIN_VIEWS_H
#define ADMIN_VIEWS_H

#include "admin/view.h"

enum status view_tenants(struct pg *pg, const struct uuid *tenant, struct report *r,
                         struct error *err);
enum status view_projects(struct pg *pg, const struct uuid *tenant, const struct uuid *project,
                          struct report *r, struct error *err);

struct key_filter {
    const struct uuid *tenant, *project, *key;
    bool revoked_too;
};
enum status view_keys(struct pg *pg, const struct key_filter *f, struct report *r,
                      struct error *err);
enum status view_admin_keys(struct pg *pg, bool revoked_too, struct report *r, struct error *err);
/* Limits of the tenant, its projects and their live keys, where one is set. */
enum status view_limits(struct pg *pg, const struct uuid *tenant, struct report *r,
                        struct error *err);

/* Credits and payments, latest first. */
enum status view_credits(struct pg *pg, const struct uuid *tenant, struct report *r,
                         struct error *err);

struct usage_filter {
    const struct uuid *tenant;
    const char *model; /* NULL: all */
    int limit;
};
/* Usage events, latest first. */
enum status view_usage_events(struct pg *pg, const struct usage_filter *f, struct report *r,
                              struct error *err);

#endif
