#include <assert.h>

#include "worker/kv.h"
#include "worker/scheduler_private.h"

/* Requests that did not fit, before the others wait for the next turn. */
enum { TRIES_MAX = 16 };

struct tenant *tenant_enter(struct scheduler *s, const char *name)
{
    struct tenant *t = s->tenants;
    while (t && strcmp(t->name, name) != 0)
        t = t->next;
    if (!t) {
        t = calloc(1, sizeof *t);
        if (!t || !(t->name = strdup(name))) {
            free(t);
            return NULL;
        }
        t->next = s->tenants;
        s->tenants = t;
    }
    t->requests++;
    return t;
}

void tenant_leave(struct scheduler *s, struct tenant *t)
{
    assert(t->requests > 0);
    if (--t->requests > 0)
        return;
    assert(t->in_flight == 0);
    struct tenant **at = &s->tenants;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    free(t->name);
    free(t);
}

void queue_push(struct scheduler *s, struct request *r)
{
    r->arrival = s->arrivals++;
    r->ahead = s->queue_tail;
    *(r->ahead ? &r->ahead->behind : &s->queue_head) = r;
    s->queue_tail = r;
    s->queue_count++;
    s->changed = true;
}

void queue_remove(struct scheduler *s, struct request *r)
{
    *(r->ahead ? &r->ahead->behind : &s->queue_head) = r->behind;
    *(r->behind ? &r->behind->ahead : &s->queue_tail) = r->ahead;
    r->ahead = r->behind = NULL;
    s->queue_count--;
    s->changed = true;
    if (s->blocked == r)
        s->blocked = NULL;
}

void queue_expire(struct scheduler *s)
{
    int64_t now = s->options.now_us(s->options.now_arg);
    for (struct request *r = s->queue_head; r;) {
        if (!r->deadline_us || now < r->deadline_us) {
            r = r->behind;
            continue;
        }
        queue_remove(s, r);
        request_end(s, r, SCHED_EXPIRED);
        r = s->queue_head; /* the listener may have changed the queue */
    }
}

static bool goes_first(const struct request *a, const struct request *b)
{
    if (a->priority != b->priority)
        return a->priority > b->priority;
    if (a->tenant->in_flight != b->tenant->in_flight)
        return a->tenant->in_flight < b->tenant->in_flight;
    return a->arrival < b->arrival;
}

static struct request *next_untried(const struct scheduler *s)
{
    struct request *first = NULL;
    for (struct request *r = s->queue_head; r; r = r->behind)
        if (!r->held && !r->tried && (!first || goes_first(r, first)))
            first = r;
    return first;
}

/* One that was overtaken often enough makes all but higher priorities wait. */
static bool must_wait(const struct scheduler *s, const struct request *r)
{
    const struct request *b = s->blocked;
    return b && b != r && b->overtaken >= SCHED_OVERTAKEN_MAX && b->priority >= r->priority;
}

static bool fits(struct scheduler *s, struct request *r)
{
    return s->running_count + (int)r->choices <= s->options.sequences_max && blocks_reserve(s, r);
}

static void begin(struct scheduler *s, struct request *r)
{
    struct request *b = s->blocked;
    if (b && b != r && b->priority >= r->priority)
        b->overtaken++;
    queue_remove(s, r);
    r->tenant->in_flight += (int64_t)r->prompt + (int64_t)r->max_tokens * r->choices;
    r->running = r->choices;
    r->guesses = draft_chosen(s, r);
    for (uint32_t i = 0; i < r->choices; i++) {
        r->sequences[i].state = i ? SEQUENCE_FORK : SEQUENCE_PREFILL;
        s->running[s->running_count++] = &r->sequences[i];
    }
}

/* Whose turn it was first is the one that counts how often it is overtaken; when that was often
 * enough it stays the one, or else requests of several tenants could put each other off. */
static void did_not_fit(struct scheduler *s, struct request *r)
{
    const struct request *b = s->blocked;
    r->tried = true;
    if (!b || b->priority < r->priority || (b->overtaken < SCHED_OVERTAKEN_MAX && goes_first(r, b)))
        s->blocked = r;
}

void queue_admit(struct scheduler *s)
{
    if (!s->changed)
        return;
    for (struct request *r = s->queue_head; r; r = r->behind)
        r->tried = false;
    int failed = 0;
    struct request *r;
    while (failed < TRIES_MAX && s->running_count < s->options.sequences_max &&
           (r = next_untried(s))) {
        if (must_wait(s, r)) {
            r->tried = true;
        } else if (fits(s, r)) {
            begin(s, r);
        } else {
            did_not_fit(s, r);
            failed++;
        }
    }
    s->changed = false;
}
