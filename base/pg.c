#include "base/pg.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>

#include "base/clock.h"
#include "base/pg_internal.h"

enum { QUERY_TIMEOUT_MS = 60 * 1000 };

struct pg {
    PGconn *conn;
    PGnotify *notify; /* the last one handed out */
    bool broken;      /* a query ran past its time: the protocol state is unknown */
    int64_t query_timeout_ms;
};

/* libpq ends its messages with a newline and may put several lines into one. */
static void first_line(const char *text, char *out, size_t size)
{
    size_t n = strcspn(text, "\n");
    if (n >= size)
        n = size - 1;
    memcpy(out, text, n);
    out[n] = 0;
}

static enum status status_of(const char *sqlstate)
{
    static const struct {
        const char *prefix;
        enum status status;
    } table[] = {
        {"57014", TIMED_OUT}, {"57P", UNAVAILABLE},   {"08", UNAVAILABLE},
        {"53", UNAVAILABLE},  {"40", UNAVAILABLE},    {"23", CONFLICT},
        {"22", INVALID},      {"25006", UNAVAILABLE}, {"55P03", UNAVAILABLE},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strncmp(sqlstate, table[i].prefix, strlen(table[i].prefix)) == 0)
            return table[i].status;
    return IO_FAILED;
}

enum status pg_failure(PGconn *conn, const PGresult *res, struct error *err)
{
    const char *sqlstate = res ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;
    if (!sqlstate) {
        char line[256];
        first_line(conn ? PQerrorMessage(conn) : "no connection", line, sizeof line);
        return error_set(err, UNAVAILABLE, "PostgreSQL: %s", *line ? line : "connection lost");
    }
    const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    const char *constraint = PQresultErrorField(res, PG_DIAG_CONSTRAINT_NAME);
    return error_set(err, status_of(sqlstate), "PostgreSQL: %s%s%s%s", text ? text : sqlstate,
                     constraint ? " (constraint " : "", constraint ? constraint : "",
                     constraint ? ")" : "");
}

/* Waits until the socket is ready for events or the deadline (monotonic ms; 0: none) is past.
 * Looks at the socket once even when it is. */
static bool wait_socket(PGconn *conn, short events, int64_t deadline_ms)
{
    enum { LONGEST_MS = 3600 * 1000 };
    for (;;) {
        struct pollfd p = {.fd = PQsocket(conn), .events = events};
        int64_t left_ms = LONGEST_MS;
        if (deadline_ms)
            left_ms = deadline_ms - clock_mono_ms();
        if (left_ms < 0)
            left_ms = 0;
        int ready = poll(&p, 1, left_ms > LONGEST_MS ? LONGEST_MS : (int)left_ms);
        if (ready > 0)
            return true;
        if (ready < 0 && errno != EINTR)
            return false;
        if (deadline_ms && left_ms == 0)
            return false;
    }
}

static enum status finish_connect(PGconn *conn, int64_t deadline_ms, struct error *err)
{
    if (PQstatus(conn) == CONNECTION_BAD)
        return pg_failure(conn, NULL, err);
    PostgresPollingStatusType step = PGRES_POLLING_WRITING;
    while (step != PGRES_POLLING_OK) {
        if (step == PGRES_POLLING_FAILED)
            return pg_failure(conn, NULL, err);
        if (!wait_socket(conn, step == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline_ms))
            return error_set(err, TIMED_OUT, "PostgreSQL did not answer in time");
        step = PQconnectPoll(conn);
    }
    return OK;
}

static void ignore_notice(void *arg, const PGresult *res)
{
}

struct pg *pg_connect(const char *url, int64_t timeout_ms, struct error *err)
{
    struct pg *pg = calloc(1, sizeof *pg);
    if (!pg) {
        error_set(err, NOMEM, "out of memory for a PostgreSQL connection");
        return NULL;
    }
    pg->query_timeout_ms = QUERY_TIMEOUT_MS;
    pg->conn = PQconnectStart(url);
    if (!pg->conn) {
        error_set(err, NOMEM, "out of memory for a PostgreSQL connection");
        pg_free(pg);
        return NULL;
    }
    if (finish_connect(pg->conn, clock_mono_ms() + timeout_ms, err) != OK) {
        pg_free(pg);
        return NULL;
    }
    PQsetNoticeReceiver(pg->conn, ignore_notice, NULL);
    PQsetnonblocking(pg->conn, 1);
    return pg;
}

void pg_free(struct pg *pg)
{
    if (!pg)
        return;
    if (pg->notify)
        PQfreemem(pg->notify);
    PQfinish(pg->conn);
    free(pg);
}

bool pg_ok(const struct pg *pg)
{
    return !pg->broken && PQstatus(pg->conn) == CONNECTION_OK;
}

void pg_set_timeout(struct pg *pg, int64_t query_timeout_ms)
{
    pg->query_timeout_ms = query_timeout_ms;
}

static int64_t query_deadline(const struct pg *pg)
{
    return pg->query_timeout_ms ? clock_mono_ms() + pg->query_timeout_ms : 0;
}

static enum status too_late(struct pg *pg, struct error *err)
{
    pg->broken = true;
    return error_set(err, TIMED_OUT, "PostgreSQL did not answer within %lld ms",
                     (long long)pg->query_timeout_ms);
}

/* Sends what libpq holds, reading along so that neither side blocks the other. */
static enum status flush(struct pg *pg, int64_t deadline_ms, struct error *err)
{
    for (;;) {
        int left = PQflush(pg->conn);
        if (left == 0)
            return OK;
        if (left < 0)
            return pg_failure(pg->conn, NULL, err);
        if (!wait_socket(pg->conn, POLLIN | POLLOUT, deadline_ms))
            return too_late(pg, err);
        if (!PQconsumeInput(pg->conn))
            return pg_failure(pg->conn, NULL, err);
    }
}

/* The next result of the running query; *out NULL: there is none left. */
static enum status next_result(struct pg *pg, int64_t deadline_ms, PGresult **out,
                               struct error *err)
{
    while (PQisBusy(pg->conn)) {
        if (!wait_socket(pg->conn, POLLIN, deadline_ms))
            return too_late(pg, err);
        if (!PQconsumeInput(pg->conn))
            return pg_failure(pg->conn, NULL, err);
    }
    *out = PQgetResult(pg->conn);
    return OK;
}

static bool is_success(const PGresult *res)
{
    ExecStatusType s = PQresultStatus(res);
    return s == PGRES_TUPLES_OK || s == PGRES_COMMAND_OK || s == PGRES_EMPTY_QUERY ||
           s == PGRES_COPY_IN;
}

/* Reads results up to the end, or up to the start of a COPY. Keeps the last successful one. */
static enum status collect(struct pg *pg, int64_t deadline_ms, PGresult **out, struct error *err)
{
    PGresult *kept = NULL;
    enum status st = flush(pg, deadline_ms, err);
    bool failed = st != OK;
    while (!pg->broken) {
        PGresult *res = NULL;
        enum status got = next_result(pg, deadline_ms, &res, failed ? NULL : err);
        if (got != OK) {
            st = failed ? st : got;
            failed = true;
            break;
        }
        if (!res)
            break;
        if (!is_success(res)) {
            if (!failed)
                st = pg_failure(pg->conn, res, err);
            failed = true;
            PQclear(res);
            if (PQstatus(pg->conn) == CONNECTION_BAD)
                break;
            continue;
        }
        PQclear(kept);
        kept = res;
        if (PQresultStatus(res) == PGRES_COPY_IN)
            break;
    }
    if (failed) {
        PQclear(kept);
        return st;
    }
    *out = kept;
    return OK;
}

static enum status hand_out(PGresult *res, struct pg_result **out, struct error *err)
{
    if (!out) {
        PQclear(res);
        return OK;
    }
    struct pg_result *r = malloc(sizeof *r);
    if (!r || !res) {
        free(r);
        PQclear(res);
        return error_set(err, NOMEM, "out of memory for a PostgreSQL result");
    }
    r->res = res;
    *out = r;
    return OK;
}

enum status pg_query(struct pg *pg, const char *sql, int count, const char *const *params,
                     struct pg_result **out, struct error *err)
{
    assert(count <= PG_PARAMS_MAX);
    if (!pg_ok(pg))
        return error_set(err, UNAVAILABLE, "PostgreSQL: the connection is lost");
    if (!PQsendQueryParams(pg->conn, sql, count, NULL, params, NULL, NULL, 0))
        return pg_failure(pg->conn, NULL, err);
    PGresult *res = NULL;
    enum status st = collect(pg, query_deadline(pg), &res, err);
    return st == OK ? hand_out(res, out, err) : st;
}

enum status pg_script(struct pg *pg, const char *sql, struct error *err)
{
    if (!pg_ok(pg))
        return error_set(err, UNAVAILABLE, "PostgreSQL: the connection is lost");
    if (!PQsendQuery(pg->conn, sql))
        return pg_failure(pg->conn, NULL, err);
    PGresult *res = NULL;
    enum status st = collect(pg, query_deadline(pg), &res, err);
    if (st == OK)
        PQclear(res);
    return st;
}

enum status pg_begin(struct pg *pg, struct error *err)
{
    return pg_script(pg, "BEGIN", err);
}

enum status pg_commit(struct pg *pg, struct error *err)
{
    /* COMMIT of a failed transaction "succeeds" as a rollback; the caller must not see OK. */
    if (PQtransactionStatus(pg->conn) == PQTRANS_INERROR) {
        pg_rollback(pg);
        return error_set(err, CONFLICT, "PostgreSQL: the transaction had failed before its commit");
    }
    enum status st = pg_script(pg, "COMMIT", err);
    return st == TIMED_OUT ? UNAVAILABLE : st;
}

void pg_rollback(struct pg *pg)
{
    if (pg_ok(pg) && PQtransactionStatus(pg->conn) != PQTRANS_IDLE)
        pg_script(pg, "ROLLBACK", NULL);
}

enum status pg_copy_begin(struct pg *pg, const char *copy_sql, struct error *err)
{
    return pg_script(pg, copy_sql, err);
}

enum status pg_copy_data(struct pg *pg, const char *data, size_t len, struct error *err)
{
    int64_t deadline_ms = query_deadline(pg);
    const size_t piece = 1 << 20;
    while (len) {
        int n = (int)(len < piece ? len : piece);
        int put = PQputCopyData(pg->conn, data, n);
        if (put < 0)
            return pg_failure(pg->conn, NULL, err);
        if (put > 0) {
            data += n;
            len -= (size_t)n;
            continue;
        }
        enum status st = flush(pg, deadline_ms, err);
        if (st != OK)
            return st;
    }
    return OK;
}

enum status pg_copy_end(struct pg *pg, struct error *err)
{
    int64_t deadline_ms = query_deadline(pg);
    int put;
    while ((put = PQputCopyEnd(pg->conn, NULL)) == 0) {
        enum status st = flush(pg, deadline_ms, err);
        if (st != OK)
            return st;
    }
    if (put < 0)
        return pg_failure(pg->conn, NULL, err);
    PGresult *res = NULL;
    enum status st = collect(pg, deadline_ms, &res, err);
    if (st == OK)
        PQclear(res);
    return st;
}

enum status pg_wait_notify(struct pg *pg, int64_t timeout_ms, const char **payload,
                           struct error *err)
{
    int64_t deadline_ms = clock_mono_ms() + (timeout_ms > 0 ? timeout_ms : 0);
    if (!pg_ok(pg))
        return error_set(err, UNAVAILABLE, "PostgreSQL: the connection is lost");
    for (;;) {
        PGnotify *n = PQnotifies(pg->conn);
        if (n) {
            if (pg->notify)
                PQfreemem(pg->notify);
            pg->notify = n;
            *payload = n->extra;
            return OK;
        }
        if (!wait_socket(pg->conn, POLLIN, deadline_ms))
            return error_set(err, NOT_FOUND, "no notification");
        if (!PQconsumeInput(pg->conn))
            return pg_failure(pg->conn, NULL, err);
    }
}

int pg_rows(const struct pg_result *r)
{
    return PQntuples(r->res);
}

const char *pg_text(const struct pg_result *r, int row, int column)
{
    assert(row < PQntuples(r->res) && column < PQnfields(r->res));
    return PQgetisnull(r->res, row, column) ? NULL : PQgetvalue(r->res, row, column);
}

int64_t pg_int(const struct pg_result *r, int row, int column)
{
    const char *text = pg_text(r, row, column);
    return text ? strtoll(text, NULL, 10) : 0;
}

bool pg_bool(const struct pg_result *r, int row, int column)
{
    const char *text = pg_text(r, row, column);
    return text && text[0] == 't';
}

bool pg_uuid(const struct pg_result *r, int row, int column, struct uuid *out)
{
    const char *text = pg_text(r, row, column);
    return text && uuid_parse(text, strlen(text), out);
}

void pg_result_free(struct pg_result *r)
{
    if (!r)
        return;
    PQclear(r->res);
    free(r);
}
