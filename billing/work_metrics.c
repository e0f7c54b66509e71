#include "billing/work_metrics.h"

static const struct {
    const char *name, *help;
    bool counter;
} table[WORK_METRICS] = {
    {"tollgate_billing_leading", "1 while this process leads on its database", false},
    {"tollgate_billing_shards_stopped", "Journal shards that stand still for an error", false},
    {"tollgate_billing_behind_bytes", "Written to journals and not shipped", false},
    {"tollgate_billing_batches_total", "Batches stored", true},
    {"tollgate_billing_settles_total", "Settled requests read from journals", true},
    {"tollgate_billing_events_total", "Usage events stored", true},
    {"tollgate_billing_conflicts_total", "Journal records that disagree with what is stored", true},
    {"tollgate_billing_segments_deleted_total", "Shipped journal files deleted", true},
    {"tollgate_billing_balances_missing", "Prepaid balances still to be set in Redis", false},
    {"tollgate_billing_balances_rebuilt_total", "Balances set in Redis from the ledger", true},
    {"tollgate_billing_credits_applied_total", "Credits passed on to Redis", true},
    {"tollgate_billing_holds_settled_total", "Holds settled in place of their gateway", true},
    {"tollgate_billing_holds_released_total", "Holds given back that no journal knows", true},
};

void work_metrics_init(struct work_metrics *m, struct metrics *registry)
{
    for (int i = 0; i < WORK_METRICS; i++) {
        struct metric_spec spec = {.name = table[i].name, .help = table[i].help};
        m->series[i] =
            table[i].counter ? metrics_counter(registry, &spec) : metrics_gauge(registry, &spec);
    }
}

void work_metrics_set(struct work_metrics *m, const struct work_status *s)
{
    const struct ship_counts *t = &s->ship.total;
    const int64_t values[WORK_METRICS] = {
        s->state == WORK_LEADING,
        s->ship.stopped,
        s->ship.behind_bytes,
        s->ship.batches_total,
        t->settles,
        t->events,
        t->conflicts,
        s->ship.segments_deleted_total,
        s->balances.missing,
        s->balances.rebuilt_total,
        s->balances.credits_total,
        s->balances.settled_total,
        s->balances.released_total,
    };
    /* This thread alone changes them. */
    for (int i = 0; i < WORK_METRICS; i++) {
        if (table[i].counter)
            metric_add(m->series[i], values[i] - metric_value(m->series[i]));
        else
            metric_set(m->series[i], values[i]);
    }
}
