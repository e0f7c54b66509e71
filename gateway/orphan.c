#include "gateway/orphan.h"

#include "base/clock.h"
#include "base/log.h"
#include "gateway/request.h"
#include "gateway/serve.h"

enum { RESETTLE_MS = 60 * 1000, RESETTLE_MAX = 65536, OPEN_MAX = 1 << 20, ADOPT_WAIT_MS = 1000 };

/* One that nobody runs: first it waits in gl->adopted for offers of other attempts, since its
 * record is that of the last one; then, settled, in gl->orphans for the disk. */
struct orphan {
    struct list node;
    struct meter_context context;
    struct token_counts counts;
    uint32_t attempt;
    int worker; /* -1: nobody waits for an acknowledgement */
    int64_t due_ms, position;
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

void recovery_begin(struct gateway_loop *gl)
{
    struct recovery *r = gl->gateway->recovery;
    r->deadline_ms = loop_now_ms(gl->loop) + gl->gateway->settings.recover_wait_ms;
    for (int i = 0; i < r->settled_count; i++)
        if (r->settled_ms[i] >= r->newest_ms - RESETTLE_MS)
            admission_settle(gl->admission, &r->settled[i]);
    r->settled_count = 0;
    orphan_describe(gl);
    if (r->open_count > 0)
        log_info("%d requests were open when the gateway ended; waiting for their workers",
                 r->open_count);
}

/* --- settling them --- */

/* Claims it for this loop; NULL: somebody else has it, or memory is out. */
static struct orphan *orphan_new(struct gateway_loop *gl, const struct meter_context *c)
{
    struct orphan *o = calloc(1, sizeof *o);
    if (!o || !registry_claim(gl->gateway->registry, &c->request_id, gl->number)) {
        free(o); /* it stays open, and is offered again */
        return NULL;
    }
    o->context = *c;
    o->worker = -1;
    list_init(&o->node);
    return o;
}

static void settle_orphan(struct gateway_loop *gl, struct orphan *o)
{
    const struct meter_context *c = &o->context;
    const struct token_counts *counts = &o->counts;
    struct meter_settle s = {.context = *c,
                             .counts = *counts,
                             .outcome = METER_FAILED,
                             .attempt = o->attempt,
                             .settled_wall_ms = clock_wall_ms()};
    list_remove(&o->node);
    o->position = journal_settle(gl->journal, &s);
    if (o->position == 0) {
        registry_set(gl->gateway->registry, &c->request_id, REGISTRY_OPEN, 0);
        free(o);
        return;
    }
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
        registry_set(gl->gateway->registry, &o->context.request_id, REGISTRY_SETTLED, gl->number);
        if (o->worker >= 0)
            link_ack(gl->links[o->worker], &o->context.request_id, o->attempt);
        free(o);
    }
}

void orphan_tick(struct gateway_loop *gl, int64_t now_ms)
{
    while (!list_empty(&gl->adopted)) {
        struct orphan *o = list_entry(gl->adopted.next, struct orphan, node);
        if (now_ms < o->due_ms)
            return;
        settle_orphan(gl, o);
    }
}

void orphan_describe(struct gateway_loop *gl)
{
    uint64_t count = gl->number == 0 ? (uint64_t)gl->gateway->recovery->open_count : 0;
    for (const struct list *at = gl->adopted.next; at != &gl->adopted; at = at->next)
        count++;
    for (const struct list *at = gl->orphans.next; at != &gl->orphans; at = at->next)
        count++;
    stat_set(&gl->stats.recovering, count);
}

static void free_all(struct list *l)
{
    while (!list_empty(l)) {
        struct orphan *o = list_entry(l->next, struct orphan, node);
        list_remove(&o->node);
        free(o);
    }
}

void orphan_done(struct gateway_loop *gl)
{
    free_all(&gl->adopted);
    free_all(&gl->orphans);
}

void recovery_tick(struct gateway_loop *gl, int64_t now_ms)
{
    struct recovery *r = gl->gateway->recovery;
    if (r->open_count == 0)
        return;
    int kept = 0;
    for (int i = 0; i < r->open_count; i++) {
        const struct meter_context *c = &r->open[i];
        int loop;
        if (registry_get(gl->gateway->registry, &c->request_id, &loop) != REGISTRY_OPEN)
            continue; /* a worker has offered it */
        struct orphan *o = now_ms >= r->deadline_ms ? orphan_new(gl, c) : NULL;
        if (o)
            settle_orphan(gl, o);
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

static void keep_last_attempt(struct orphan *orphan, const struct offer *o)
{
    if (orphan->worker >= 0 && o->attempt <= orphan->attempt)
        return;
    orphan->counts = o->counts;
    orphan->attempt = o->attempt;
    orphan->worker = o->worker;
}

/* On the loop of the request. Only those that wait for counts take them. */
static void deliver(const struct offer *o)
{
    struct gateway_loop *gl = o->gl;
    for (struct list *at = gl->adopted.next; at != &gl->adopted; at = at->next) {
        struct orphan *orphan = list_entry(at, struct orphan, node);
        if (uuid_equal(&orphan->context.request_id, &o->id)) {
            keep_last_attempt(orphan, o);
            return;
        }
    }
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
    struct orphan *orphan = orphan_new(gl, &c);
    if (!orphan)
        return;
    keep_last_attempt(orphan, o);
    orphan->due_ms = loop_now_ms(gl->loop) + ADOPT_WAIT_MS;
    list_append(&gl->adopted, &orphan->node);
    orphan_describe(gl);
}

static void take_offer(struct gateway_loop *gl, struct link *l, const Wire__Usage *u)
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
        adopt(gl, u, &o);
        break;
    }
}

void orphan_usage(struct link *l, const Wire__UsageList *m, void *arg)
{
    struct gateway_loop *gl = arg;
    for (size_t i = 0; i < m->n_usage; i++)
        take_offer(gl, l, m->usage[i]);
}
