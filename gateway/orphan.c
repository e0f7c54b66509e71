#include "gateway/orphan.h"

#include "base/clock.h"
#include "base/log.h"
#include "gateway/request.h"
#include "gateway/serve.h"

enum { RESETTLE_MS = 60 * 1000, RESETTLE_MAX = 65536, OPEN_MAX = 1 << 20 };

/* One that was settled here and whose record is not on disk yet. */
struct orphan {
    struct list node; /* of gl->orphans */
    struct uuid id;
    uint32_t attempt;
    int worker; /* -1: nobody waits for an acknowledgement */
    int64_t position;
};

struct recovery {
    struct gateway *gateway;
    struct meter_context *open;
    int open_count, open_size;
    struct settle_request *settled; /* the last minute's */
    int64_t *settled_ms;
    int settled_count, settled_size;
    int64_t newest_ms, deadline_ms;
    bool failed;
};

/* --- at start --- */

static bool grow(void **list, int *size, size_t item_bytes)
{
    int next = *size ? *size * 2 : 256;
    void *more = realloc(*list, (size_t)next * item_bytes);
    if (!more)
        return false;
    *list = more;
    *size = next;
    return true;
}

static bool keep_open(struct recovery *r, const struct meter_context *admit)
{
    if (r->open_count == OPEN_MAX)
        return false;
    if (r->open_count == r->open_size && !grow((void **)&r->open, &r->open_size, sizeof *r->open))
        return false;
    r->open[r->open_count++] = *admit;
    return registry_set(r->gateway->registry, &admit->request_id, REGISTRY_OPEN, 0) == OK;
}

static bool keep_settled(struct recovery *r, const struct meter_settle *s)
{
    const struct meter_context *c = &s->context;
    registry_set(r->gateway->registry, &c->request_id, REGISTRY_SETTLED, 0);
    if (s->settled_wall_ms > r->newest_ms)
        r->newest_ms = s->settled_wall_ms;
    if (!c->hold_tokens || s->settled_wall_ms < r->newest_ms - RESETTLE_MS ||
        r->settled_count == RESETTLE_MAX)
        return true;
    if (r->settled_count == r->settled_size) {
        int size = r->settled_size;
        if (!grow((void **)&r->settled, &r->settled_size, sizeof *r->settled) ||
            !grow((void **)&r->settled_ms, &size, sizeof *r->settled_ms))
            return false;
    }
    r->settled_ms[r->settled_count] = s->settled_wall_ms;
    r->settled[r->settled_count++] = (struct settle_request){
        .request_id = c->request_id,
        .key_id = c->key_id,
        .project_id = c->project_id,
        .tenant_id = c->tenant_id,
        .tokens = s->counts.prompt + s->counts.completion,
        .cost_nano = money_nano_up(s->cost_pico),
    };
    return true;
}

static void on_record(const struct meter_context *admit, const struct meter_settle *settle,
                      void *arg)
{
    struct recovery *r = arg;
    bool kept = settle ? keep_settled(r, settle) : keep_open(r, admit);
    r->failed = r->failed || !kept;
}

enum status recovery_read(struct gateway *g, struct recovery **out, struct error *err)
{
    struct recovery *r = calloc(1, sizeof *r);
    if (!r)
        return error_set(err, NOMEM, "out of memory");
    r->gateway = g;
    char dir[1100];
    snprintf(dir, sizeof dir, "%s/gateway/journal", g->settings.state_dir);
    enum status st = journal_recover(dir, on_record, r, err);
    if (st == OK && r->failed)
        st = error_set(err, NOMEM, "out of memory for what the journal left open");
    if (st != OK) {
        recovery_free(r);
        return st;
    }
    *out = r;
    return OK;
}

void recovery_free(struct recovery *r)
{
    if (!r)
        return;
    free(r->open);
    free(r->settled);
    free(r->settled_ms);
    free(r);
}

int recovery_open(const struct recovery *r)
{
    return r->open_count;
}

void recovery_begin(struct gateway_loop *gl)
{
    struct recovery *r = gl->gateway->recovery;
    r->deadline_ms = loop_now_ms(gl->loop) + gl->gateway->settings.recover_wait_ms;
    for (int i = 0; i < r->settled_count; i++)
        if (r->settled_ms[i] >= r->newest_ms - RESETTLE_MS)
            admission_settle(gl->admission, &r->settled[i]);
    r->settled_count = 0;
    if (r->open_count > 0)
        log_info("%d requests were open when the gateway ended; waiting for their workers",
                 r->open_count);
}

/* --- settling them --- */

/* The id must be claimed. worker -1: nobody offered it. */
static void settle_orphan(struct gateway_loop *gl, const struct meter_context *c,
                          const struct token_counts *counts, uint32_t attempt, int worker)
{
    struct orphan *o = calloc(1, sizeof *o);
    struct meter_settle s = {.context = *c,
                             .counts = *counts,
                             .outcome = METER_FAILED,
                             .attempt = attempt,
                             .settled_wall_ms = clock_wall_ms()};
    int64_t position = o ? journal_settle(gl->journal, &s) : 0;
    if (position == 0) { /* it stays open, and is offered again */
        registry_set(gl->gateway->registry, &c->request_id, REGISTRY_OPEN, 0);
        free(o);
        return;
    }
    *o = (struct orphan){
        .id = c->request_id, .attempt = attempt, .worker = worker, .position = position};
    list_append(&gl->orphans, &o->node);
    struct settle_request hold = {.request_id = c->request_id,
                                  .key_id = c->key_id,
                                  .project_id = c->project_id,
                                  .tenant_id = c->tenant_id,
                                  .tokens = counts->prompt + counts->completion};
    admission_settle(gl->admission, &hold);
    stat_add(&gl->stats.journal_records, 1);
    stat_add(&gl->stats.outcomes[METER_FAILED], 1);
    loop_again(gl->loop);
}

void orphan_durable(struct gateway_loop *gl)
{
    int64_t durable = journal_durable(gl->journal);
    while (!list_empty(&gl->orphans)) {
        struct orphan *o = list_entry(gl->orphans.next, struct orphan, node);
        if (o->position > durable)
            return;
        list_remove(&o->node);
        registry_set(gl->gateway->registry, &o->id, REGISTRY_SETTLED, gl->number);
        if (o->worker >= 0)
            link_ack(gl->links[o->worker], &o->id, o->attempt);
        free(o);
    }
}

void orphan_done(struct gateway_loop *gl)
{
    while (!list_empty(&gl->orphans)) {
        struct orphan *o = list_entry(gl->orphans.next, struct orphan, node);
        list_remove(&o->node);
        free(o);
    }
}

void recovery_tick(struct gateway_loop *gl, int64_t now_ms)
{
    struct recovery *r = gl->gateway->recovery;
    static const struct token_counts none;
    if (r->open_count == 0)
        return;
    int kept = 0;
    for (int i = 0; i < r->open_count; i++) {
        const struct meter_context *c = &r->open[i];
        int loop;
        if (registry_get(gl->gateway->registry, &c->request_id, &loop) != REGISTRY_OPEN)
            continue; /* a worker has offered it */
        if (now_ms >= r->deadline_ms &&
            registry_claim(gl->gateway->registry, &c->request_id, gl->number))
            settle_orphan(gl, c, &none, 0, -1);
        else
            r->open[kept++] = *c;
    }
    r->open_count = kept;
}

/* --- what workers offer --- */

struct offer {
    struct gateway_loop *gl; /* where the request runs */
    struct uuid id;
    uint32_t attempt;
    int worker;
    Wire__Outcome outcome;
    struct token_counts counts;
};

static struct token_counts counts_of(const Wire__Counts *c)
{
    if (!c)
        return (struct token_counts){0};
    return (struct token_counts){.prompt = c->prompt,
                                 .cached = c->cached,
                                 .completion = c->completion,
                                 .reasoning = c->reasoning};
}

/* On the loop of the request. Only those that wait for counts take them. */
static void deliver(const struct offer *o)
{
    struct gateway_loop *gl = o->gl;
    if (gl->grace_count == 0)
        return;
    for (struct list *at = gl->requests.next; at != &gl->requests; at = at->next) {
        struct request *r = list_entry(at, struct request, all);
        if (uuid_equal(&r->id, &o->id)) {
            serve_usage(r, &o->counts, o->outcome, o->attempt, o->worker);
            return;
        }
    }
}

static void deliver_posted(void *arg)
{
    struct offer *o = arg;
    deliver(o);
    free(o);
}

static void pass_on(const struct offer *o)
{
    struct offer *copy = malloc(sizeof *copy);
    if (!copy)
        return; /* it is offered again */
    *copy = *o;
    if (loop_post(o->gl->loop, deliver_posted, copy) != OK)
        free(copy);
}

/* Nobody runs it: the process before us did, or a gateway that has gone. */
static void adopt(struct gateway_loop *gl, const Wire__Usage *u, const struct offer *o)
{
    struct meter_context c;
    if (meter_context_unpack(u->billing.data, u->billing.len, &c) != OK ||
        !uuid_equal(&c.request_id, &o->id)) {
        log_error("a worker offers usage whose billing part cannot be read; it stays there");
        return;
    }
    if (registry_claim(gl->gateway->registry, &o->id, gl->number))
        settle_orphan(gl, &c, &o->counts, o->attempt, o->worker);
}

/* A request that was tried twice is recorded by its last attempt. */
static bool is_last_attempt(const Wire__UsageList *m, const Wire__Usage *u)
{
    for (size_t i = 0; i < m->n_usage; i++)
        if (m->usage[i]->attempt > u->attempt &&
            memcmp(m->usage[i]->request_id.data, u->request_id.data, 16) == 0)
            return false;
    return true;
}

static void take_offer(struct gateway_loop *gl, struct link *l, const Wire__UsageList *m,
                       const Wire__Usage *u)
{
    struct offer o = {.attempt = u->attempt,
                      .worker = link_index(l),
                      .outcome = u->outcome,
                      .counts = counts_of(u->counts)};
    memcpy(o.id.bytes, u->request_id.data, sizeof o.id.bytes);
    int loop = 0;
    switch (registry_get(gl->gateway->registry, &o.id, &loop)) {
    case REGISTRY_RUNNING:
        o.gl = &gl->gateway->loops[loop];
        if (loop == gl->number)
            deliver(&o);
        else
            pass_on(&o);
        break;
    case REGISTRY_SETTLED:
        link_ack(l, &o.id, o.attempt);
        break;
    default:
        if (is_last_attempt(m, u))
            adopt(gl, u, &o);
        break;
    }
}

void orphan_usage(struct link *l, const Wire__UsageList *m, void *arg)
{
    struct gateway_loop *gl = arg;
    for (size_t i = 0; i < m->n_usage; i++)
        take_offer(gl, l, m, m->usage[i]);
}
