#include "worker/plan_orders.h"

#include <assert.h>
#include <pthread.h>

#include "base/arena.h"
#include "worker/grammar/background.h"

enum { ORDER_BYTES_MAX = 64 << 20 };

enum order_place { ORDER_WAITS, ORDER_AT_WORK, ORDER_DONE, ORDER_TOLD };

struct plan_order {
    struct plan_orders *orders;
    void *owner;
    struct arena *arena; /* of what follows */
    struct job job;      /* only what a plan is made of, and the tenant */
    bool starts_in_reasoning;
    struct plan *plan;
    enum status status;
    struct job_fault fault;
    /* Guarded by the orders' lock. */
    enum order_place place;
    bool dropped;
    struct plan_order *behind;
};

struct queue {
    struct plan_order *first, *last;
};

struct plan_orders {
    struct planner *planner;
    void (*wake)(void *arg);
    void *arg;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t work;
    struct queue waiting, done;
    char *last_tenant; /* whose order was served last; NULL: nobody's */
    bool stop;
};

/* ---- queues ---- */

static void push(struct queue *q, struct plan_order *order)
{
    order->behind = NULL;
    *(q->last ? &q->last->behind : &q->first) = order;
    q->last = order;
}

static void take_out(struct queue *q, struct plan_order *order)
{
    struct plan_order **at = &q->first, *before = NULL;
    while (*at != order) {
        before = *at;
        at = &before->behind;
    }
    *at = order->behind;
    if (q->last == order)
        q->last = before;
}

static void order_free(struct plan_order *order)
{
    plan_free(order->plan);
    arena_free(order->arena);
    free(order);
}

/* ---- the thread; the lock is held on entry and exit ---- */

/* The first order of another tenant than the last one's, if there is any. */
static struct plan_order *choose(struct plan_orders *o)
{
    struct plan_order *order = o->waiting.first;
    while (order && o->last_tenant && strcmp(order->job.tenant, o->last_tenant) == 0)
        order = order->behind;
    return order ? order : o->waiting.first;
}

static void serve(struct plan_orders *o)
{
    struct plan_order *order = choose(o);
    take_out(&o->waiting, order);
    order->place = ORDER_AT_WORK;
    free(o->last_tenant);
    o->last_tenant = strdup(order->job.tenant); /* without memory the turns are less even */
    pthread_mutex_unlock(&o->lock);
    order->status = planner_plan(o->planner, &order->job, order->starts_in_reasoning, &order->plan,
                                 &order->fault);
    pthread_mutex_lock(&o->lock);
    if (order->dropped) {
        order_free(order);
        return;
    }
    order->place = ORDER_DONE;
    push(&o->done, order);
    if (o->wake) {
        pthread_mutex_unlock(&o->lock);
        o->wake(o->arg);
        pthread_mutex_lock(&o->lock);
    }
}

static void *run(void *arg)
{
    struct plan_orders *o = arg;
    background_thread();
    pthread_mutex_lock(&o->lock);
    while (!o->stop) {
        if (o->waiting.first)
            serve(o);
        else
            pthread_cond_wait(&o->work, &o->lock);
    }
    pthread_mutex_unlock(&o->lock);
    return NULL;
}

enum status plan_orders_new(struct planner *p, void (*wake)(void *arg), void *arg,
                            struct plan_orders **out, struct error *err)
{
    struct plan_orders *o = calloc(1, sizeof *o);
    if (!o)
        return error_set(err, NOMEM, "out of memory");
    o->planner = p;
    o->wake = wake;
    o->arg = arg;
    pthread_mutex_init(&o->lock, NULL);
    pthread_cond_init(&o->work, NULL);
    int rc = pthread_create(&o->thread, NULL, run, o);
    o->started = rc == 0;
    if (rc != 0) {
        plan_orders_free(o);
        return error_errno(err, rc, "cannot start the thread that compiles schemas");
    }
    *out = o;
    return OK;
}

void plan_orders_free(struct plan_orders *o)
{
    if (!o)
        return;
    if (o->started) {
        pthread_mutex_lock(&o->lock);
        o->stop = true;
        pthread_cond_signal(&o->work);
        pthread_mutex_unlock(&o->lock);
        pthread_join(o->thread, NULL);
    }
    assert(!o->waiting.first && !o->done.first);
    free(o->last_tenant);
    pthread_cond_destroy(&o->work);
    pthread_mutex_destroy(&o->lock);
    free(o);
}

/* ---- orders ---- */

static bool copy_tools(struct arena *a, const struct job *from, struct job *to)
{
    struct tool *tools = arena_alloc(a, (size_t)from->tool_count * sizeof *tools + 1);
    for (int i = 0; tools && i < from->tool_count; i++) {
        tools[i] = (struct tool){.name = arena_strdup(a, from->tools[i].name),
                                 .description = "",
                                 .parameters = arena_strdup(a, from->tools[i].parameters),
                                 .strict = from->tools[i].strict};
        if (!tools[i].name || !tools[i].parameters)
            return false;
    }
    to->tools = tools;
    return tools != NULL;
}

static bool copy_job(struct arena *a, const struct job *from, struct job *to)
{
    *to = (struct job){.id = from->id,
                       .thinking = from->thinking,
                       .tool_count = from->tool_count,
                       .tool_choice = from->tool_choice,
                       .one_call = from->one_call,
                       .format = from->format,
                       .tool_name = arena_strdup(a, from->tool_name),
                       .schema = arena_strdup(a, from->schema),
                       .tenant = arena_strdup(a, from->tenant)};
    return to->tool_name && to->schema && to->tenant && copy_tools(a, from, to);
}

struct plan_order *plan_orders_add(struct plan_orders *o, const struct job *job,
                                   bool starts_in_reasoning, void *owner)
{
    struct plan_order *order = calloc(1, sizeof *order);
    if (!order)
        return NULL;
    order->orders = o;
    order->owner = owner;
    order->starts_in_reasoning = starts_in_reasoning;
    order->arena = arena_new(ORDER_BYTES_MAX);
    if (!order->arena || !copy_job(order->arena, job, &order->job)) {
        order_free(order);
        return NULL;
    }
    pthread_mutex_lock(&o->lock);
    push(&o->waiting, order);
    pthread_cond_signal(&o->work);
    pthread_mutex_unlock(&o->lock);
    return order;
}

struct plan_order *plan_orders_next(struct plan_orders *o)
{
    pthread_mutex_lock(&o->lock);
    struct plan_order *order = o->done.first;
    if (order) {
        take_out(&o->done, order);
        order->place = ORDER_TOLD;
    }
    pthread_mutex_unlock(&o->lock);
    return order;
}

void *plan_order_owner(const struct plan_order *order)
{
    return order->owner;
}

enum status plan_order_take(struct plan_order *order, struct plan **out)
{
    assert(order->place == ORDER_TOLD);
    if (order->status == OK) {
        *out = order->plan;
        order->plan = NULL;
    }
    return order->status;
}

const struct job_fault *plan_order_fault(const struct plan_order *order)
{
    return &order->fault;
}

void plan_order_drop(struct plan_order *order)
{
    if (!order)
        return;
    struct plan_orders *o = order->orders;
    pthread_mutex_lock(&o->lock);
    bool at_work = order->place == ORDER_AT_WORK;
    order->dropped = true;
    if (order->place == ORDER_WAITS)
        take_out(&o->waiting, order);
    else if (order->place == ORDER_DONE)
        take_out(&o->done, order);
    pthread_mutex_unlock(&o->lock);
    if (!at_work)
        order_free(order);
}
