#include "gateway/stats.h"

static const int64_t bounds_ms[STATS_BUCKETS] = {
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000, 60000, 300000};

void stats_observe(struct stats_histogram *h, int64_t ms)
{
    int i = 0;
    while (i < STATS_BUCKETS && ms > bounds_ms[i])
        i++;
    stat_add(&h->bucket[i], 1);
    stat_add(&h->sum_ms, ms > 0 ? (uint64_t)ms : 0);
}

struct writer {
    struct buf *out;
    const struct stats *const *loops;
    int count;
    enum status st;
};

static uint64_t sum(const struct writer *w, size_t offset)
{
    uint64_t total = 0;
    for (int i = 0; i < w->count; i++)
        total += stat_get((const stat_count *)((const char *)w->loops[i] + offset));
    return total;
}

static void family(struct writer *w, const char *name, const char *type, const char *help)
{
    if (w->st == OK)
        w->st = buf_addf(w->out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void sample(struct writer *w, const char *name, const char *labels, size_t offset)
{
    if (w->st == OK)
        w->st = buf_addf(w->out, "%s%s %llu\n", name, labels, (unsigned long long)sum(w, offset));
}

static void histogram(struct writer *w, const char *name, size_t offset)
{
    uint64_t total = 0;
    for (int i = 0; i <= STATS_BUCKETS && w->st == OK; i++) {
        total += sum(w, offset + offsetof(struct stats_histogram, bucket) +
                            (size_t)i * sizeof(stat_count));
        if (i < STATS_BUCKETS)
            w->st = buf_addf(w->out, "%s_bucket{le=\"%g\"} %llu\n", name,
                             (double)bounds_ms[i] / 1000, (unsigned long long)total);
        else
            w->st = buf_addf(w->out, "%s_bucket{le=\"+Inf\"} %llu\n%s_count %llu\n", name,
                             (unsigned long long)total, name, (unsigned long long)total);
    }
    uint64_t ms = sum(w, offset + offsetof(struct stats_histogram, sum_ms));
    if (w->st == OK)
        w->st = buf_addf(w->out, "%s_sum %llu.%03d\n", name, (unsigned long long)(ms / 1000),
                         (int)(ms % 1000));
}

static void labelled(struct writer *w)
{
    static const char *const classes[STATS_CLASSES] = {"{class=\"gone\"}", "{class=\"1xx\"}",
                                                       "{class=\"2xx\"}",  "{class=\"3xx\"}",
                                                       "{class=\"4xx\"}",  "{class=\"5xx\"}"};
    static const char *const verdicts[] = {"{verdict=\"ok\"}",      "{verdict=\"requests\"}",
                                           "{verdict=\"tokens\"}",  "{verdict=\"concurrency\"}",
                                           "{verdict=\"balance\"}", "{verdict=\"unavailable\"}"};
    static const char *const outcomes[] = {"", "{outcome=\"finished\"}", "{outcome=\"cancelled\"}",
                                           "{outcome=\"failed\"}"};
    const char *name = "tollgate_gateway_responses_total";
    family(w, name, "counter", "Answers by class of status; gone: the client left before one.");
    for (size_t i = 0; i < STATS_CLASSES; i++)
        sample(w, name, classes[i], offsetof(struct stats, responses) + i * sizeof(stat_count));
    name = "tollgate_gateway_admissions_total";
    family(w, name, "counter", "Answers of admission by verdict.");
    for (size_t i = 0; i <= ADMIT_UNAVAILABLE; i++)
        sample(w, name, verdicts[i], offsetof(struct stats, admissions) + i * sizeof(stat_count));
    name = "tollgate_gateway_settled_total";
    family(w, name, "counter", "Settled requests by outcome.");
    for (size_t i = 1; i < 4; i++)
        sample(w, name, outcomes[i], offsetof(struct stats, outcomes) + i * sizeof(stat_count));
}

enum status stats_put(struct buf *out, const struct stats *const *loops, int count)
{
    static const struct {
        const char *name, *type, *help;
        size_t offset;
    } plain[] = {
#define STAT(name, type, help, field)                                                              \
    {"tollgate_gateway_" name, type, help, offsetof(struct stats, field)}
        STAT("prompt_tokens_total", "counter", "Prompt tokens settled.", prompt_tokens),
        STAT("cached_tokens_total", "counter", "Of these, from the prefix cache.", cached_tokens),
        STAT("completion_tokens_total", "counter", "Completion tokens settled.", completion_tokens),
        STAT("reasoning_tokens_total", "counter", "Of these, reasoning.", reasoning_tokens),
        STAT("retries_total", "counter", "Requests sent to a worker again.", retries),
        STAT("auth_failures_total", "counter", "Requests with a bad key.", auth_failures),
        STAT("over_hold_total", "counter", "Requests that used more than was held.", over_hold),
        STAT("journal_records_total", "counter", "Records appended.", journal_records),
        STAT("in_flight_requests", "gauge", "Requests at work.", in_flight),
        STAT("queued_requests", "gauge", "Requests waiting for a worker.", queued),
        STAT("unsettled_requests", "gauge", "Requests whose record is not on disk yet.", unsettled),
        STAT("recovering_requests", "gauge",
             "Requests of a process that ended, whose record is not on disk yet.", recovering),
        STAT("worker_links", "gauge", "Connected workers, over all loops.", links_up),
        STAT("journal_lag_bytes", "gauge", "Written, but not on disk yet.", journal_lag_bytes),
#undef STAT
    };
    struct writer w = {out, loops, count, OK};
    labelled(&w);
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        family(&w, plain[i].name, plain[i].type, plain[i].help);
        sample(&w, plain[i].name, "", plain[i].offset);
    }
    family(&w, "tollgate_gateway_request_seconds", "histogram", "From request to whole answer.");
    histogram(&w, "tollgate_gateway_request_seconds", offsetof(struct stats, total));
    family(&w, "tollgate_gateway_first_token_seconds", "histogram", "From request to first token.");
    histogram(&w, "tollgate_gateway_first_token_seconds", offsetof(struct stats, first_token));
    return w.st;
}
