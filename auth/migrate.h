/*
 * Brings a database to the schema this program was built with. The migrations are built in and
 * run in the order of their numbers, each in a transaction of its own, under an advisory lock;
 * schema_migrations records the name and SHA-256 of each. A migration that changed after it ran,
 * or that this program does not know, is refused. Blocking.
 */
#ifndef AUTH_MIGRATE_H
#define AUTH_MIGRATE_H

#include "base/error.h"
#include "base/pg.h"

/* Called for each migration that has just run; may be NULL. */
typedef void migrate_fn(const char *name, void *arg);

/* CONFLICT: a recorded migration differs from ours, or is unknown here (a newer program has been
 * at work). *applied: how many ran now; may be NULL. */
enum status migrate_run(struct pg *pg, migrate_fn *fn, void *arg, int *applied, struct error *err);
/* OK: the schema is ours. UNAVAILABLE: migrations are missing, err says how many. CONFLICT: as
 * above. Writes nothing. */
enum status migrate_check(struct pg *pg, struct error *err);

#endif
