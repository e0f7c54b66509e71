/* runs: thread */
/* Plans made on a thread of their own: found when kept, refused with their place, dropped at any
 * moment, in turns among tenants, and within a bound. */
#include "worker/plan_orders.h"

#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/check.h"
#include "tests/unit/worker/text_fixture.h"
#include "worker/plan_cache.h"
#include "worker/tokenizer_private.h"

enum { VOCAB = 320 };

static atomic_int wakes;

static void woken(void *arg)
{
    atomic_fetch_add(&wakes, 1);
}

static struct job job_of(const char *schema, const char *tenant)
{
    return (struct job){
        .format = FORMAT_JSON_SCHEMA, .schema = schema, .tool_name = "", .tenant = tenant};
}

static struct plan_order *wait_next(struct plan_orders *o)
{
    struct plan_order *order = NULL;
    for (int i = 0; i < 20000 && !(order = plan_orders_next(o)); i++)
        usleep(1000);
    CHECK_FATAL(order);
    return order;
}

static void test_one(struct planner *p, struct plan_orders *o)
{
    struct job job = job_of("{\"type\": \"integer\", \"minimum\": 3}", "a");
    struct plan *plan = NULL, *again = NULL;
    struct job_fault fault;
    int owner;
    CHECK_INT(planner_find(p, &job, false, &plan, &fault), UNAVAILABLE);
    struct plan_order *order = plan_orders_add(o, &job, true, &owner);
    CHECK(wait_next(o) == order && plan_order_owner(order) == &owner);
    CHECK_INT(plan_order_take(order, &plan), OK);
    CHECK_FATAL(plan && plan->format && plan->in_reasoning);
    plan_order_drop(order);
    CHECK_INT(planner_find(p, &job, false, &again, &fault), OK);
    CHECK(again->format == plan->format && !again->in_reasoning);
    plan_free(plan);
    plan_free(again);
    CHECK(atomic_load(&wakes) > 0);
}

static void test_refused(struct plan_orders *o)
{
    struct job job = job_of("{\"properties\": {\"a\": {\"not\": {}}}}", "a");
    struct plan *plan = NULL;
    struct plan_order *order = plan_orders_add(o, &job, false, NULL);
    CHECK(wait_next(o) == order);
    CHECK_INT(plan_order_take(order, &plan), INVALID);
    CHECK(!plan);
    CHECK_STR(plan_order_fault(order)->param,
              "response_format.json_schema.schema.properties.a.not");
    CHECK(strstr(plan_order_fault(order)->error.text, "not supported"));
    plan_order_drop(order);
}

/* A schema that takes a while. */
static void slow_schema(char *text, size_t size, int i)
{
    snprintf(text, size, "{\"pattern\": \"^(a|b)*a(a|b){11}x{%d}$\"}", i + 1);
}

/* Wherever an order is when it is dropped. */
static void test_drops(struct plan_orders *o)
{
    char text[64];
    for (int round = 0; round < 20; round++) {
        struct plan_order *orders[6];
        for (int i = 0; i < 6; i++) {
            slow_schema(text, sizeof text, round * 6 + i);
            struct job job = job_of(text, i % 2 ? "a" : "b");
            orders[i] = plan_orders_add(o, &job, false, &orders[i]);
        }
        usleep((useconds_t)round * 700);
        struct plan_order *done = round % 3 ? NULL : plan_orders_next(o);
        for (int i = 5; i >= 0; i--)
            plan_order_drop(orders[i]);
        CHECK(!done || plan_order_owner(done));
        CHECK(!plan_orders_next(o));
    }
}

/* One tenant's many do not keep the others waiting to their end. */
static void test_turns(struct plan_orders *o)
{
    char text[64];
    struct plan_order *orders[9];
    for (int i = 0; i < 9; i++) {
        slow_schema(text, sizeof text, 200 + i);
        struct job job = job_of(text, i < 7 ? "many" : i == 7 ? "one" : "other");
        orders[i] = plan_orders_add(o, &job, false, (void *)(uintptr_t)(i + 1));
    }
    int place[9];
    for (int n = 0; n < 9; n++)
        place[(uintptr_t)plan_order_owner(wait_next(o)) - 1] = n;
    CHECK(place[7] <= 4 && place[8] <= 4);
    for (int i = 0; i < 6; i++)
        CHECK(place[i] < place[i + 1]);
    for (int i = 0; i < 9; i++)
        plan_order_drop(orders[i]);
}

/* Grammars in use are never dropped; when they fill the cache there is no room for more. */
static void test_bound(struct planner *p)
{
    enum { PLANS = PLAN_CACHE_ENTRIES + 8 };
    static struct plan *plans[PLANS];
    char text[64];
    struct job_fault fault;
    int made = 0, refused = 0;
    for (int i = 0; i < PLANS; i++) {
        snprintf(text, sizeof text, "{\"const\": \"n%d\"}", i);
        struct job job = job_of(text, "a");
        enum status st = planner_plan(p, &job, false, &plans[i], &fault);
        CHECK(st == OK || st == LIMITED);
        made += st == OK;
        refused += st == LIMITED;
    }
    CHECK(made > 100 && refused > 0);
    for (int i = 0; i < PLANS; i++) {
        struct plan *again = NULL;
        snprintf(text, sizeof text, "{\"const\": \"n%d\"}", i);
        struct job job = job_of(text, "a");
        if (plans[i]) {
            CHECK_INT(planner_find(p, &job, false, &again, &fault), OK);
            CHECK(again && again->format == plans[i]->format);
        }
        plan_free(again);
    }
    for (int i = 0; i < PLANS; i++)
        plan_free(plans[i]);
    struct job job = job_of("{\"const\": \"new\"}", "a");
    struct plan *plan = NULL;
    CHECK_INT(planner_plan(p, &job, false, &plan, &fault), OK); /* there is room again */
    plan_free(plan);
}

int main(void)
{
    struct tokenizer *tokenizer = NULL;
    struct buf text;
    struct error err = {0};
    struct planner *p = NULL;
    struct plan_orders *o = NULL;
    struct chat_markers markers = {.stop_count = 1};
    fixture_tokenizer(&text);
    CHECK_FATAL(tokenizer_parse((const char *)buf_head(&text), buf_len(&text), &tokenizer, &err) ==
                OK);
    buf_done(&text);
    markers.stop_ids[0] = 302;
    struct planner_options options = {
        .tokenizer = tokenizer, .markers = &markers, .vocab = VOCAB, .wake = woken};
    CHECK_INT(planner_new(&options, &p, &err), OK);
    CHECK_STR(err.text, "");
    CHECK_INT(plan_orders_new(p, woken, NULL, &o, &err), OK);
    test_one(p, o);
    test_refused(o);
    test_drops(o);
    test_turns(o);
    test_bound(p);
    struct job job = job_of("{\"pattern\": \"^(a|b)*a(a|b){12}$\"}", "a");
    plan_order_drop(plan_orders_add(o, &job, false, NULL)); /* maybe at work when all ends */
    plan_orders_free(o);
    planner_free(p);
    tokenizer_free(tokenizer);
    return check_done();
}
