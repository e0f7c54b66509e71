/*
 * Proves that the books agree, and names each difference: journal = usage events = prices = ledger
 * = invoice lines, and where it is given, the workers' own counts. Reads only. Blocking.
 */
#ifndef BILLING_RECONCILE_H
#define BILLING_RECONCILE_H

#include <stdint.h>

#include "base/error.h"
#include "base/pg.h"

struct reconcile_options {
    const char *journal_dir; /* NULL: the journal is not compared */
    const char *worker_file; /* what `tollgate-worker --usage-table` printed; NULL: not compared */
};

struct reconcile_check {
    const char *name;    /* "journal = events", ... */
    int64_t compared;    /* how many things were compared */
    int64_t differences; /* all of them; the first 100 were given to on_difference */
};

struct reconcile_report {
    void (*on_check)(const struct reconcile_check *check, void *arg);
    /* what: one line that names the things and both values. */
    void (*on_difference)(const char *check, const char *what, void *arg);
    void *arg;
};

/* OK: everything agrees. CONFLICT: there are differences, all reported. Anything else: the
 * comparison could not be made. */
enum status reconcile_run(struct pg *pg, const struct reconcile_options *options,
                          const struct reconcile_report *report, struct error *err);

#endif
