#include "worker/status.h"

#include "base/health.h"

struct named {
    const char *name, *help, *label, *value; /* label may be NULL */
    int64_t scale;
    bool is_gauge;
};

#define REQUESTS "tollgate_worker_requests_total", "requests by how they ended", "outcome"
#define TOKENS "tollgate_worker_tokens_total", "tokens of ended requests", "kind"
#define SEQUENCES "tollgate_worker_sequences_count", "sequences in the engine", "state"

/* In the order of `update`. */
static const struct named names[] = {
    {REQUESTS, "finished", 0, false},
    {REQUESTS, "cancelled", 0, false},
    {REQUESTS, "failed", 0, false},
    {REQUESTS, "link_lost", 0, false},
    {REQUESTS, "refused", 0, false},
    {TOKENS, "prompt", 0, false},
    {TOKENS, "completion", 0, false},
    {"tollgate_worker_links_cut_total", "links closed for a fault", NULL, NULL, 0, false},
    {"tollgate_worker_steps_total", "engine steps", NULL, NULL, 0, false},
    {SEQUENCES, "running", 0, true},
    {SEQUENCES, "waiting", 0, true},
    {"tollgate_worker_outstanding_tokens", "tokens still to compute", NULL, NULL, 0, true},
    {"tollgate_worker_drafted_tokens_total", "tokens guessed ahead", NULL, NULL, 0, false},
    {"tollgate_worker_accepted_tokens_total", "tokens guessed ahead that were right", NULL, NULL, 0,
     false},
    {"tollgate_worker_step_age_seconds", "since the last engine step; 0: idle", NULL, NULL, 1000,
     true},
    {"tollgate_worker_links_count", "connected gateway loops", NULL, NULL, 0, true},
    {"tollgate_worker_streams_count", "requests under way", NULL, NULL, 0, true},
    {"tollgate_worker_unacked_usage_count", "ended requests not yet acknowledged", NULL, NULL, 0,
     true},
    {"tollgate_worker_draining_count", "1: stopping", NULL, NULL, 0, true},
};
enum { NAMES = sizeof names / sizeof *names };

/* A number of ours and the series that shows it. */
struct series {
    struct metric *metric;
    uint64_t shown; /* of a counter */
};

struct status_page {
    const struct server *server;
    struct engine *engine;
    int64_t ready_step_age_ms;
    struct metrics *metrics;
    struct health *health;
    struct series series[NAMES];
    int at; /* in update */
};

static void show(struct status_page *p, uint64_t value)
{
    struct series *s = &p->series[p->at];
    if (names[p->at++].is_gauge) {
        metric_set(s->metric, (int64_t)value);
    } else {
        metric_add(s->metric, (int64_t)(value - s->shown));
        s->shown = value;
    }
}

static void update(void *arg)
{
    struct status_page *p = arg;
    struct server_stats s;
    struct engine_load e;
    server_stats(p->server, &s);
    engine_load(p->engine, &e);
    p->at = 0;
    show(p, s.finished);
    show(p, s.cancelled);
    show(p, s.failed);
    show(p, s.link_lost);
    show(p, s.refused);
    show(p, s.prompt_tokens);
    show(p, s.completion_tokens);
    show(p, s.links_cut);
    show(p, e.steps);
    show(p, e.backend.running);
    show(p, e.backend.waiting);
    show(p, e.backend.outstanding_tokens);
    show(p, e.backend.drafted);
    show(p, e.backend.accepted);
    show(p, (uint64_t)e.step_age_ms);
    show(p, (uint64_t)s.links);
    show(p, (uint64_t)s.streams);
    show(p, s.unacked);
    show(p, s.draining);
}

static bool ready(struct buf *why, void *arg)
{
    struct status_page *p = arg;
    struct server_stats s;
    struct engine_load e;
    server_stats(p->server, &s);
    engine_load(p->engine, &e);
    if (s.draining)
        buf_adds(why, "stopping");
    else if (e.step_age_ms > p->ready_step_age_ms)
        buf_addf(why, "the engine's step has taken %lld ms", (long long)e.step_age_ms);
    else
        return true;
    return false;
}

static void add_series(struct status_page *p)
{
    for (int i = 0; i < NAMES; i++) {
        const struct named *n = &names[i];
        struct metric_spec spec = {.name = n->name, .help = n->help, .scale = n->scale};
        if (n->label)
            spec.labels[0] = (struct metric_label){n->label, n->value};
        p->series[i].metric =
            n->is_gauge ? metrics_gauge(p->metrics, &spec) : metrics_counter(p->metrics, &spec);
    }
}

enum status status_new(struct loop *loop, const struct server *server, struct engine *engine,
                       const struct status_options *options, struct status_page **out,
                       struct error *err)
{
    struct status_page *p = calloc(1, sizeof *p);
    if (p)
        p->metrics = metrics_new();
    if (!p || !p->metrics) {
        free(p);
        return error_set(err, NOMEM, "out of memory for the status page");
    }
    p->server = server;
    p->engine = engine;
    p->ready_step_age_ms = options->ready_step_age_ms;
    add_series(p);
    metrics_on_scrape(p->metrics, update, p);
    struct health_options o = {
        .listen = options->listen, .metrics = p->metrics, .ready = ready, .arg = p};
    p->health = health_new(loop, &o, err);
    if (!p->health) {
        status_free(p);
        return IO_FAILED;
    }
    *out = p;
    return OK;
}

void status_free(struct status_page *p)
{
    if (!p)
        return;
    health_free(p->health);
    metrics_free(p->metrics);
    free(p);
}
