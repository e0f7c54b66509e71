#include "gateway/dispatch.h"
#include "gateway/request.h"
#include "tests/unit/check.h"

static void test_best(void)
{
    static const struct {
        struct dispatch_view views[4];
        int count, want;
    } cases[] = {
        {{{0}}, 0, -1},
        {{{.room = false, .outstanding = 0}}, 1, -1},
        {{{.room = true, .outstanding = 9}}, 1, 0},
        {{{true, false, 9}, {true, false, 3}, {true, false, 5}}, 3, 1},
        {{{true, false, 3}, {true, false, 3}}, 2, 0},
        {{{false, false, 0}, {true, false, 100}}, 2, 1},
        /* One that failed the request before: only without another. */
        {{{true, true, 0}, {true, false, 100}}, 2, 1},
        {{{true, false, 100}, {true, true, 0}}, 2, 0},
        {{{true, true, 7}, {false, false, 0}}, 2, 0},
        {{{true, true, 7}, {true, true, 6}}, 2, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_INT(dispatch_best(cases[i].views, cases[i].count), cases[i].want);
}

static void test_places(void)
{
    /* In this order they come; `front`: asked again. */
    static const struct {
        int priority;
        bool front;
    } come[] = {{0, false}, {5, false}, {0, false}, {-3, false},
                {5, false}, {0, true},  {5, true},  {9, false}};
    static const int want[] = {7, 6, 1, 4, 5, 0, 2, 3};
    enum { COUNT = sizeof want / sizeof *want };
    static struct request r[COUNT];
    struct list waiting;
    list_init(&waiting);
    for (int i = 0; i < COUNT; i++) {
        r[i].priority = come[i].priority;
        dispatch_place(&waiting, &r[i], come[i].front);
    }
    int n = 0;
    for (struct list *at = waiting.next; at != &waiting && n < COUNT; at = at->next)
        CHECK(list_entry(at, struct request, fifo) == &r[want[n++]]);
    CHECK_INT(n, COUNT);
}

/* The table of states, whole. */
static void test_steps(void)
{
    static const enum request_state path[] = {REQUEST_PARSED, REQUEST_KEY,        REQUEST_ADMISSION,
                                              REQUEST_QUEUED, REQUEST_DISPATCHED, REQUEST_STREAMING,
                                              REQUEST_GRACE,  REQUEST_SETTLING,   REQUEST_DONE};
    for (size_t i = 0; i + 1 < sizeof path / sizeof *path; i++)
        CHECK(request_step_allowed(path[i], path[i + 1]));
    for (int from = 0; from < REQUEST_STATES; from++) {
        CHECK(!request_step_allowed(REQUEST_DONE, from));
        CHECK(!request_step_allowed(from, REQUEST_PARSED));
        if (from != REQUEST_SETTLING)
            CHECK(!request_step_allowed(REQUEST_SETTLING, from) || from == REQUEST_DONE);
    }
    /* Once work was asked for there is no way round the record. */
    CHECK(!request_step_allowed(REQUEST_DISPATCHED, REQUEST_DONE));
    CHECK(!request_step_allowed(REQUEST_STREAMING, REQUEST_DONE));
    CHECK(!request_step_allowed(REQUEST_GRACE, REQUEST_DONE));
    CHECK(!request_step_allowed(REQUEST_GRACE, REQUEST_DISPATCHED));
    CHECK(!request_step_allowed(REQUEST_SETTLING, REQUEST_GRACE));
}

int main(void)
{
    test_best();
    test_places();
    test_steps();
    return check_done();
}
