/* What tollgate-billing tells Prometheus. Private to billing/work.c. */
#ifndef BILLING_WORK_METRICS_H
#define BILLING_WORK_METRICS_H

#include "billing/work.h"

enum { WORK_METRICS = 13 };

struct work_metrics {
    struct metric *series[WORK_METRICS];
};

void work_metrics_init(struct work_metrics *m, struct metrics *registry);
void work_metrics_set(struct work_metrics *m, const struct work_status *s);

#endif
