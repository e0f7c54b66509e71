/*
 * Counters, gauges and histograms, shown as Prometheus text. Names: tollgate_<part>_<what>_<unit>.
 * A registry is made at start and shared by all threads. Looking a series up takes a lock: do it
 * once, keep the pointer. Changing it takes none: each thread has its own cell of the series (up
 * to 16; further threads share them), and a scrape adds them up. Asking for a name and labels
 * that exist gives the same series, so each loop thread may ask for itself.
 *
 * Values are integers in a small unit (microseconds, bytes); `scale` says how many of them make
 * one of the unit in the name. A series is never dropped. At most METRICS_SERIES_MAX; past it,
 * and when memory is out, NULL, which the functions below take as "count nothing".
 */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include <stdint.h>

#include "base/buf.h"

enum { METRICS_SERIES_MAX = 4096, METRICS_LABELS_MAX = 6, METRICS_BOUNDS_MAX = 32 };

struct metrics;
struct metric;

struct metric_label {
    const char *name, *value; /* the value may hold anything; it is escaped */
};

/* name, help and label names must outlive the registry; label values are copied. */
struct metric_spec {
    const char *name, *help;
    struct metric_label labels[METRICS_LABELS_MAX]; /* up to the first without a name */
    int64_t scale;                                  /* 0: 1 */
};

struct metrics *metrics_new(void); /* NULL: out of memory */
void metrics_free(struct metrics *m);

struct metric *metrics_counter(struct metrics *m, const struct metric_spec *spec);
struct metric *metrics_gauge(struct metrics *m, const struct metric_spec *spec);
/* bounds: rising, in small units; a bucket holds the values <= its bound. */
struct metric *metrics_histogram(struct metrics *m, const struct metric_spec *spec,
                                 const int64_t *bounds, int bound_count);
/* Bounds in microseconds from 1 ms to 60 s, for durations (scale 1,000,000). */
extern const int64_t metrics_duration_us[];
extern const int metrics_duration_count;

/* Any thread, without locks. A counter only goes up. */
void metric_add(struct metric *c, int64_t n);         /* counters and gauges */
void metric_set(struct metric *gauge, int64_t value); /* gauges that nobody adds to */
void metric_observe(struct metric *histogram, int64_t value);
int64_t metric_value(const struct metric *m); /* the sum; of a histogram: the observations */

/* Called at the start of each scrape, on its thread, to bring gauges up to date. 16 at most. */
void metrics_on_scrape(struct metrics *m, void (*fn)(void *arg), void *arg);
/* Appends text that is rendered elsewhere, behind the series; one a registry. */
void metrics_on_render(struct metrics *m, enum status (*fn)(struct buf *out, void *arg), void *arg);
/* The text exposition format 0.0.4. NOMEM, LIMITED: what fits is in out. */
enum status metrics_render(struct metrics *m, struct buf *out);

#endif
