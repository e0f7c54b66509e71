/*
 * A thread that makes plans (plan.h), so that the engine's does not wait while schemas are
 * compiled. Orders are served in turns among tenants, and of a tenant as they came. An order
 * belongs to the engine thread, which alone calls the functions here; what it orders is copied.
 */
#ifndef WORKER_PLAN_ORDERS_H
#define WORKER_PLAN_ORDERS_H

#include "worker/plan.h"

struct plan_orders;
struct plan_order;

/* The planner outlives it. wake: called on the orders' thread each time that a plan was made;
 * NULL: nobody waits. */
enum status plan_orders_new(struct planner *p, void (*wake)(void *arg), void *arg,
                            struct plan_orders **out, struct error *err);
/* NULL is fine; all orders were dropped. Joins the thread, after the order it works at. */
void plan_orders_free(struct plan_orders *o);

/* owner: what plan_order_owner returns. NULL: out of memory. */
struct plan_order *plan_orders_add(struct plan_orders *o, const struct job *job,
                                   bool starts_in_reasoning, void *owner);
/* One that is done and that was not returned before; NULL: none. */
struct plan_order *plan_orders_next(struct plan_orders *o);
void *plan_order_owner(const struct plan_order *order);
/* As planner_plan; the plan is the caller's from then on. Once, of an order that is done. */
enum status plan_order_take(struct plan_order *order, struct plan **out);
/* Why it was refused; valid as long as the order. */
const struct job_fault *plan_order_fault(const struct plan_order *order);
/* The order is gone, whatever has become of it. NULL is fine. */
void plan_order_drop(struct plan_order *order);

#endif
