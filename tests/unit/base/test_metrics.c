#include "base/metrics.h"

#include <pthread.h>

#include "tests/unit/check.h"

enum { THREADS = 20, ROUNDS = 20000 };

static struct metrics *metrics;

static void *worker(void *arg)
{
    static const int64_t bounds[] = {10, 100};
    struct metric_spec requests = {
        .name = "tollgate_test_requests_total", .help = "Requests.", .labels = {{"code", "200"}}};
    struct metric_spec wait = {
        .name = "tollgate_test_wait_seconds", .help = "Waits.", .scale = 1000};
    struct metric *c = metrics_counter(metrics, &requests);
    struct metric *h = metrics_histogram(metrics, &wait, bounds, 2);
    CHECK(c && h);
    for (int i = 0; i < ROUNDS; i++) {
        metric_add(c, 1);
        metric_observe(h, i % 3 == 0 ? 10 : i % 3 == 1 ? 11 : 1000);
    }
    return NULL;
}

static void refresh(void *gauge)
{
    metric_set(gauge, -7);
}

static const char expected[] =
    "# HELP tollgate_test_open_connections Open \"now\".\\nTruly.\n"
    "# TYPE tollgate_test_open_connections gauge\n"
    "tollgate_test_open_connections{who=\"a\\\"b\\\\c\\nd\",loop=\"1\"} -7\n"
    "tollgate_test_open_connections{who=\"other\"} 0\n"
    "# HELP tollgate_test_requests_total Requests.\n"
    "# TYPE tollgate_test_requests_total counter\n"
    "tollgate_test_requests_total{code=\"200\"} 400000\n"
    "# HELP tollgate_test_wait_seconds Waits.\n"
    "# TYPE tollgate_test_wait_seconds histogram\n"
    "tollgate_test_wait_seconds_bucket{le=\"0.01\"} 133340\n"
    "tollgate_test_wait_seconds_bucket{le=\"0.1\"} 266680\n"
    "tollgate_test_wait_seconds_bucket{le=\"+Inf\"} 400000\n"
    "tollgate_test_wait_seconds_sum 136120.14\n"
    "tollgate_test_wait_seconds_count 400000\n";

static void test_text(void)
{
    pthread_t threads[THREADS];
    metrics = metrics_new();
    CHECK_FATAL(metrics);
    struct metric_spec open = {.name = "tollgate_test_open_connections",
                               .help = "Open \"now\".\nTruly.",
                               .labels = {{"who", "a\"b\\c\nd"}, {"loop", "1"}}};
    struct metric *gauge = metrics_gauge(metrics, &open);
    CHECK(gauge && metrics_gauge(metrics, &open) == gauge);
    open.labels[0].value = "other";
    open.labels[1].name = NULL;
    CHECK(metrics_gauge(metrics, &open) != gauge);
    metrics_on_scrape(metrics, refresh, gauge);
    for (int i = 0; i < THREADS; i++) {
        pthread_create(&threads[i], NULL, worker, NULL);
        if (i == 0)
            pthread_join(threads[0], NULL); /* so that the families have one order */
    }
    for (int i = 1; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    struct buf out;
    buf_init(&out, 1 << 20);
    CHECK(metrics_render(metrics, &out) == OK);
    CHECK_STR(buf_cstr(&out), expected);
    CHECK_INT(metric_value(gauge), -7);
    buf_done(&out);
    buf_init(&out, 64);
    CHECK(metrics_render(metrics, &out) != OK);
    buf_done(&out);
    metrics_free(metrics);
}

/* Past the maximum nothing is counted, and nothing breaks. */
static void test_limit(void)
{
    struct metrics *m = metrics_new();
    char value[16];
    struct metric_spec spec = {
        .name = "tollgate_test_many_total", .help = "Many.", .labels = {{"n", value}}};
    struct metric *last = NULL;
    for (int i = 0; i <= METRICS_SERIES_MAX; i++) {
        snprintf(value, sizeof value, "%d", i);
        last = metrics_counter(m, &spec);
        CHECK(!last == (i == METRICS_SERIES_MAX));
    }
    metric_add(last, 1);
    metric_set(last, 1);
    metric_observe(last, 1);
    CHECK_INT(metric_value(last), 0);
    metrics_free(m);
    metrics_free(NULL);
}

int main(void)
{
    test_text();
    test_limit();
    return check_done();
}
