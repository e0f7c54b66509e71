/*
 * The asynchronous client: one connection, one query at a time, the others in a queue.
 *
 *   DOWN:       the last attempt failed; a pause; queries are answered UNAVAILABLE
 *   CONNECTING: queries wait
 *   READY:      the first of the queue is running, if there is one
 *
 * All queries have the same time, so the first of the queue is always the first to be due.
 */
#include "base/pg.h"

#include <assert.h>

#include "base/pg_internal.h"

enum { CONNECT_TIMEOUT_MS = 3000, PAUSE_LEAST_MS = 100, PAUSE_MOST_MS = 3000 };

struct query {
    struct query *next;
    pg_fn *fn;
    void *arg;
    int64_t deadline_ms;
    enum status refused; /* why it never ran */
    const char *sql;
    int count;
    const char *params[]; /* their text follows */
};

enum pg_async_state { PG_DOWN, PG_CONNECTING, PG_READY };

struct pg_async {
    struct loop *loop;
    char *url;
    int queue_max, queued;
    int64_t query_timeout_ms;
    enum pg_async_state state;
    PGconn *conn;
    struct loop_io *io;
    struct query *first, **last; /* the first runs when `running` */
    struct query *refused, **refused_last;
    bool running, busy, failed;
    PGresult *kept;
    struct loop_timer *deadline, *again, *soon;
    bool deadline_armed;
    int64_t connect_deadline_ms, pause_ms;
};

static void start_next(struct pg_async *pg);

static void answer(struct pg_async *pg, struct query *q, enum status st, PGresult *res)
{
    struct pg_result result = {.res = res};
    bool was_busy = pg->busy;
    pg->busy = true;
    q->fn(st, st == OK ? &result : NULL, q->arg);
    pg->busy = was_busy;
    free(q);
}

static struct query *take_first(struct pg_async *pg)
{
    struct query *q = pg->first;
    pg->first = q->next;
    if (!pg->first)
        pg->last = &pg->first;
    pg->queued--;
    return q;
}

static void set_state(struct pg_async *pg, enum pg_async_state state)
{
    static const bool allowed[3][3] = {
        [PG_DOWN] = {[PG_CONNECTING] = true},
        [PG_CONNECTING] = {[PG_READY] = true, [PG_DOWN] = true},
        [PG_READY] = {[PG_DOWN] = true},
    };
    assert(allowed[pg->state][state]);
    pg->state = state;
}

static void arm_deadline(struct pg_async *pg, int64_t at_ms)
{
    if (pg->deadline_armed)
        return;
    pg->deadline_armed = true;
    loop_timer_start(pg->deadline, at_ms - loop_now_ms(pg->loop));
}

static void drop_connection(struct pg_async *pg)
{
    loop_io_free(pg->io);
    pg->io = NULL;
    PQclear(pg->kept);
    pg->kept = NULL;
    PQfinish(pg->conn);
    pg->conn = NULL;
    pg->failed = false;
    loop_timer_stop(pg->deadline);
    pg->deadline_armed = false;
}

/* The connection, or the attempt at one, has failed. The running query's outcome is unknown. */
static void go_down(struct pg_async *pg)
{
    drop_connection(pg);
    set_state(pg, PG_DOWN);
    loop_timer_start(pg->again, pg->pause_ms);
    pg->pause_ms = pg->pause_ms * 2 > PAUSE_MOST_MS ? PAUSE_MOST_MS : pg->pause_ms * 2;
    bool running = pg->running;
    pg->running = false;
    int64_t now_ms = loop_now_ms(pg->loop);
    for (int left = pg->queued; left > 0; left--) {
        enum status late = pg->first->deadline_ms <= now_ms ? TIMED_OUT : UNAVAILABLE;
        struct query *q = take_first(pg);
        answer(pg, q, running && late == UNAVAILABLE ? CLOSED : late, NULL);
        running = false;
    }
}

static void deadline_due(void *arg)
{
    struct pg_async *pg = arg;
    pg->deadline_armed = false;
    int64_t next_ms = 0;
    if (pg->state == PG_CONNECTING)
        next_ms = pg->connect_deadline_ms;
    else if (pg->first)
        next_ms = pg->first->deadline_ms;
    else
        return;
    if (next_ms <= loop_now_ms(pg->loop))
        go_down(pg);
    else
        arm_deadline(pg, next_ms);
}

static void finish_query(struct pg_async *pg)
{
    PGresult *res = pg->kept;
    pg->kept = NULL;
    pg->running = false;
    struct query *q = take_first(pg);
    ExecStatusType s = PQresultStatus(res);
    enum status st = OK;
    if (s != PGRES_TUPLES_OK && s != PGRES_COMMAND_OK)
        st = pg_failure(pg->conn, res, NULL);
    answer(pg, q, st, res);
    PQclear(res);
}

/* false: the connection is lost. */
static bool read_results(struct pg_async *pg)
{
    if (!PQconsumeInput(pg->conn))
        return false;
    while (pg->running && !PQisBusy(pg->conn)) {
        PGresult *res = PQgetResult(pg->conn);
        if (res) {
            PQclear(pg->kept);
            pg->kept = res;
            if (PQstatus(pg->conn) == CONNECTION_BAD)
                return false;
            continue;
        }
        finish_query(pg);
        start_next(pg);
    }
    PGnotify *n;
    while ((n = PQnotifies(pg->conn)))
        PQfreemem(n);
    return PQstatus(pg->conn) == CONNECTION_OK;
}

static void ready_io(int fd, int ready, void *arg)
{
    struct pg_async *pg = arg;
    if (pg->failed || ((ready & LOOP_READ) && !read_results(pg))) {
        go_down(pg);
        return;
    }
    int left = PQflush(pg->conn);
    if (left < 0)
        go_down(pg);
    else
        loop_io_want(pg->io, LOOP_READ | (left ? LOOP_WRITE : 0));
}

static void start_next(struct pg_async *pg)
{
    if (pg->state != PG_READY || pg->running || !pg->first)
        return;
    struct query *q = pg->first;
    arm_deadline(pg, q->deadline_ms);
    pg->running = true;
    if (!PQsendQueryParams(pg->conn, q->sql, q->count, NULL, q->params, NULL, NULL, 0) ||
        PQflush(pg->conn) < 0) {
        pg->failed = true; /* said by soon_due: not inside the caller's call */
        loop_timer_start(pg->soon, 0);
        return;
    }
    loop_io_want(pg->io, LOOP_READ | LOOP_WRITE);
}

static void connect_io(int fd, int ready, void *arg);

/* libpq may have opened another socket at each step, under the same number. */
static bool watch(struct pg_async *pg, int interest, loop_io_fn *fn)
{
    loop_io_free(pg->io);
    pg->io = loop_io_new(pg->loop, PQsocket(pg->conn), fn, pg);
    if (pg->io)
        loop_io_want(pg->io, interest);
    return pg->io;
}

static void connect_io(int fd, int ready, void *arg)
{
    struct pg_async *pg = arg;
    loop_io_free(pg->io); /* before libpq may close the socket */
    pg->io = NULL;
    PostgresPollingStatusType step = PQconnectPoll(pg->conn);
    bool fine = true;
    if (step == PGRES_POLLING_READING) {
        fine = watch(pg, LOOP_READ, connect_io);
    } else if (step == PGRES_POLLING_WRITING) {
        fine = watch(pg, LOOP_WRITE, connect_io);
    } else {
        fine = step == PGRES_POLLING_OK && PQsetnonblocking(pg->conn, 1) == 0 &&
               watch(pg, LOOP_READ, ready_io);
    }
    if (!fine) {
        go_down(pg);
        return;
    }
    if (step != PGRES_POLLING_OK)
        return;
    set_state(pg, PG_READY);
    pg->pause_ms = PAUSE_LEAST_MS;
    loop_timer_stop(pg->deadline);
    pg->deadline_armed = false;
    start_next(pg);
}

static void ignore_notice(void *arg, const PGresult *res)
{
}

static void start_connect(struct pg_async *pg)
{
    pg->connect_deadline_ms = loop_now_ms(pg->loop) + CONNECT_TIMEOUT_MS;
    pg->conn = PQconnectStart(pg->url);
    if (!pg->conn || PQstatus(pg->conn) == CONNECTION_BAD || !watch(pg, LOOP_WRITE, connect_io)) {
        pg->failed = true;
        loop_timer_start(pg->soon, 0);
        return;
    }
    PQsetNoticeReceiver(pg->conn, ignore_notice, NULL);
    arm_deadline(pg, pg->connect_deadline_ms);
}

static void again_due(void *arg)
{
    struct pg_async *pg = arg;
    set_state(pg, PG_CONNECTING);
    start_connect(pg);
}

static void soon_due(void *arg)
{
    struct pg_async *pg = arg;
    if (pg->failed)
        go_down(pg);
    struct query *q = pg->refused;
    pg->refused = NULL;
    pg->refused_last = &pg->refused;
    while (q) {
        struct query *next = q->next;
        answer(pg, q, q->refused, NULL);
        q = next;
    }
}

struct pg_async *pg_async_new(struct loop *loop, const char *url, int queue_max,
                              int64_t query_timeout_ms, struct error *err)
{
    struct pg_async *pg = calloc(1, sizeof *pg);
    if (!pg) {
        error_set(err, NOMEM, "out of memory for a PostgreSQL connection");
        return NULL;
    }
    pg->loop = loop;
    pg->queue_max = queue_max;
    pg->query_timeout_ms = query_timeout_ms;
    pg->state = PG_CONNECTING;
    pg->pause_ms = PAUSE_LEAST_MS;
    pg->last = &pg->first;
    pg->refused_last = &pg->refused;
    pg->url = strdup(url);
    pg->deadline = loop_timer_new(loop, deadline_due, pg);
    pg->again = loop_timer_new(loop, again_due, pg);
    pg->soon = loop_timer_new(loop, soon_due, pg);
    if (!pg->url || !pg->deadline || !pg->again || !pg->soon) {
        error_set(err, NOMEM, "out of memory for a PostgreSQL connection");
        pg_async_free(pg);
        return NULL;
    }
    start_connect(pg);
    return pg;
}

void pg_async_free(struct pg_async *pg)
{
    if (!pg)
        return;
    assert(!pg->busy); /* a callback does not free the object it was called for */
    if (pg->deadline)
        drop_connection(pg);
    pg->state = PG_DOWN;
    while (pg->first)
        answer(pg, take_first(pg), CLOSED, NULL);
    for (struct query *q = pg->refused; q;) {
        struct query *next = q->next;
        answer(pg, q, CLOSED, NULL);
        q = next;
    }
    loop_timer_free(pg->deadline);
    loop_timer_free(pg->again);
    loop_timer_free(pg->soon);
    if (pg->url)
        explicit_bzero(pg->url, strlen(pg->url));
    free(pg->url);
    free(pg);
}

/* One block: the query, its parameter table, its text. */
static struct query *copy_query(const char *sql, int count, const char *const *params)
{
    size_t bytes = strlen(sql) + 1;
    for (int i = 0; i < count; i++)
        bytes += params[i] ? strlen(params[i]) + 1 : 0;
    size_t table = (size_t)count * sizeof(char *);
    struct query *q = calloc(1, sizeof *q + table + bytes);
    if (!q)
        return NULL;
    char *to = (char *)q->params + table;
    q->count = count;
    q->sql = memcpy(to, sql, strlen(sql) + 1);
    to += strlen(sql) + 1;
    for (int i = 0; i < count; i++) {
        if (!params[i])
            continue;
        size_t n = strlen(params[i]) + 1;
        q->params[i] = memcpy(to, params[i], n);
        to += n;
    }
    return q;
}

void pg_async_query(struct pg_async *pg, const char *sql, int count, const char *const *params,
                    pg_fn *fn, void *arg)
{
    assert(count <= PG_PARAMS_MAX);
    struct query *q = copy_query(sql, count, params);
    if (!q) {
        fn(UNAVAILABLE, NULL, arg);
        return;
    }
    q->fn = fn;
    q->arg = arg;
    q->deadline_ms = loop_now_ms(pg->loop) + pg->query_timeout_ms;
    if (pg->state == PG_DOWN || pg->queued >= pg->queue_max) {
        q->refused = pg->state == PG_DOWN ? UNAVAILABLE : LIMITED;
        *pg->refused_last = q;
        pg->refused_last = &q->next;
        loop_timer_start(pg->soon, 0);
        return;
    }
    *pg->last = q;
    pg->last = &q->next;
    pg->queued++;
    start_next(pg);
}
