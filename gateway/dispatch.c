#include "gateway/dispatch.h"

#include <assert.h>

#include "gateway/loop.h"
#include "gateway/request.h"
#include "gateway/serve.h"

int dispatch_best(const struct dispatch_view *views, int count)
{
    int best = -1;
    for (int i = 0; i < count; i++) {
        if (!views[i].room)
            continue;
        if (best < 0 || (views[best].avoid && !views[i].avoid) ||
            (views[best].avoid == views[i].avoid && views[i].outstanding < views[best].outstanding))
            best = i;
    }
    return best;
}

bool dispatch_model(const struct gateway_loop *gl, const char *name, struct link_model *out)
{
    bool found = false;
    for (int i = 0; i < gl->link_count; i++) {
        const struct link_model *m = link_find_model(gl->links[i], name);
        if (!m)
            continue;
        if (!found)
            *out = *m;
        found = true;
#define WIDEN(field) out->field = m->field > out->field ? m->field : out->field
        WIDEN(context_tokens);
        WIDEN(max_output_tokens);
        WIDEN(prompt_overhead_tokens);
        WIDEN(message_overhead_tokens);
        WIDEN(tools_overhead_tokens);
        WIDEN(tool_overhead_tokens);
#undef WIDEN
    }
    return found;
}

bool dispatch_other(const struct gateway_loop *gl, const struct request *r, const struct link *l)
{
    for (int i = 0; i < gl->link_count; i++)
        if (gl->links[i] != l && link_serves(gl->links[i]) &&
            link_find_model(gl->links[i], r->chat.model))
            return true;
    return false;
}

static struct link *choose(const struct gateway_loop *gl, const struct request *r, int64_t now_ms)
{
    struct dispatch_view views[GATEWAY_WORKERS_MAX];
    /* Somebody else could run it: then the one that failed it is passed over, room or not. */
    bool pass_over = r->avoid && dispatch_other(gl, r, r->avoid);
    for (int i = 0; i < gl->link_count; i++) {
        struct link *l = gl->links[i];
        bool avoid = l == r->avoid;
        views[i] = (struct dispatch_view){
            .room = link_has_room(l, now_ms) && link_find_model(l, r->chat.model) &&
                    !(avoid && pass_over),
            .avoid = avoid,
            .outstanding = link_outstanding(l),
        };
    }
    int best = dispatch_best(views, gl->link_count);
    return best < 0 ? NULL : gl->links[best];
}

static struct dispatch_queue *queue_of(struct dispatch *d, const char *model)
{
    for (int i = 0; i < d->count; i++)
        if (strcmp(d->queues[i].model, model) == 0)
            return &d->queues[i];
    if (d->count == DISPATCH_MODELS_MAX)
        return NULL;
    struct dispatch_queue *q = &d->queues[d->count++];
    snprintf(q->model, sizeof q->model, "%s", model);
    list_init(&q->waiting);
    return q;
}

static int priority_at(const struct list *at)
{
    return list_entry(at, struct request, fifo)->priority;
}

void dispatch_place(struct list *waiting, struct request *r, bool front)
{
    struct list *at = front ? waiting->next : waiting->prev;
    if (front) {
        while (at != waiting && priority_at(at) > r->priority)
            at = at->next;
        list_append(at, &r->fifo);
    } else {
        while (at != waiting && priority_at(at) < r->priority)
            at = at->prev;
        list_prepend(at, &r->fifo);
    }
}

static enum status enqueue(struct gateway_loop *gl, struct request *r, bool front, int64_t wait_ms)
{
    struct dispatch_queue *q = queue_of(&gl->dispatch, r->chat.model);
    if (!q || (!front && q->count >= gl->tunables.queue_max))
        return LIMITED;
    dispatch_place(&q->waiting, r, front);
    q->count++;
    stat_set(&gl->stats.queued, (uint64_t)++gl->dispatch.waiting);
    request_set_state(r, REQUEST_QUEUED);
    r->deadline_ms = loop_now_ms(gl->loop) + wait_ms;
    return OK;
}

enum status dispatch_submit(struct gateway_loop *gl, struct request *r)
{
    struct dispatch_queue *q = queue_of(&gl->dispatch, r->chat.model);
    struct link *l = q && q->count == 0 ? choose(gl, r, loop_now_ms(gl->loop)) : NULL;
    if (l && serve_send(r, l) == OK)
        return OK;
    return enqueue(gl, r, false, gl->tunables.queue_wait_ms);
}

enum status dispatch_again(struct gateway_loop *gl, struct request *r, int64_t wait_ms)
{
    return enqueue(gl, r, true, wait_ms);
}

void dispatch_remove(struct gateway_loop *gl, struct request *r)
{
    assert(r->state == REQUEST_QUEUED);
    struct dispatch_queue *q = queue_of(&gl->dispatch, r->chat.model);
    list_remove(&r->fifo);
    q->count--;
    stat_set(&gl->stats.queued, (uint64_t)--gl->dispatch.waiting);
}

static void pump(struct gateway_loop *gl, struct dispatch_queue *q, int64_t now_ms)
{
    while (q->count > 0) {
        struct request *r = list_entry(q->waiting.next, struct request, fifo);
        struct link *l = choose(gl, r, now_ms);
        if (!l)
            return;
        dispatch_remove(gl, r);
        if (serve_send(r, l) == OK)
            continue;
        enum status st = enqueue(gl, r, true, r->deadline_ms - now_ms);
        assert(st == OK);
        return;
    }
}

void dispatch_turn(struct gateway_loop *gl)
{
    if (gl->dispatch.waiting == 0)
        return;
    int64_t now_ms = loop_now_ms(gl->loop);
    for (int i = 0; i < gl->dispatch.count; i++)
        pump(gl, &gl->dispatch.queues[i], now_ms);
}

static bool served(const struct gateway_loop *gl, const char *model)
{
    for (int i = 0; i < gl->link_count; i++)
        if (link_serves(gl->links[i]) && link_find_model(gl->links[i], model))
            return true;
    return false;
}

static void tick_queue(struct gateway_loop *gl, struct dispatch_queue *q, int64_t now_ms)
{
    if (q->count == 0 || served(gl, q->model))
        q->unserved_ms = 0;
    else if (q->unserved_ms == 0)
        q->unserved_ms = now_ms;
    bool given_up = (q->unserved_ms && now_ms - q->unserved_ms > gl->tunables.settle_grace_ms) ||
                    journal_failed(gl->journal, NULL);
    struct list *next;
    for (struct list *at = q->waiting.next; at != &q->waiting; at = next) {
        struct request *r = list_entry(at, struct request, fifo);
        next = at->next;
        if (given_up || now_ms > r->deadline_ms)
            serve_gave_up(r);
    }
}

void dispatch_tick(struct gateway_loop *gl, int64_t now_ms)
{
    for (int i = 0; i < gl->dispatch.count; i++)
        tick_queue(gl, &gl->dispatch.queues[i], now_ms);
}
