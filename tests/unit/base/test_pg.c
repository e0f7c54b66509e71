#include "base/pg.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/unit/check.h"

static const char *url;
static struct loop *loop;
static int waiting;
static enum status last_status;
static char last_text[256];

static void test_query(struct pg *pg)
{
    struct error err = {""};
    struct pg_result *r = NULL;
    const char *const params[] = {"41", NULL, "it's"};
    CHECK_INT(pg_query(pg, "SELECT $1::bigint + 1, $2::text, $3::text, true", 3, params, &r, &err),
              OK);
    CHECK_INT(pg_rows(r), 1);
    CHECK_INT(pg_int(r, 0, 0), 42);
    CHECK(!pg_text(r, 0, 1));
    CHECK_STR(pg_text(r, 0, 2), "it's");
    CHECK(pg_bool(r, 0, 3));
    pg_result_free(r);
    CHECK_INT(pg_query(pg, "SELECT * FROM no_such_table", 0, NULL, NULL, &err), IO_FAILED);
    CHECK_INT(pg_query(pg, "SELECT 'x'::int", 0, NULL, NULL, &err), INVALID);
    CHECK_INT(pg_script(pg, "CREATE TEMP TABLE t (id int CONSTRAINT one PRIMARY KEY)", &err), OK);
    CHECK_INT(pg_query(pg, "INSERT INTO t VALUES (1)", 0, NULL, NULL, &err), OK);
    CHECK_INT(pg_query(pg, "INSERT INTO t VALUES (1)", 0, NULL, NULL, &err), CONFLICT);
    CHECK(strstr(err.text, "(constraint one)"));
}

static void test_transaction(struct pg *pg)
{
    struct error err;
    CHECK_INT(pg_begin(pg, &err), OK);
    CHECK_INT(pg_query(pg, "INSERT INTO t VALUES (2)", 0, NULL, NULL, &err), OK);
    pg_rollback(pg);
    CHECK_INT(pg_begin(pg, &err), OK);
    CHECK_INT(pg_query(pg, "INSERT INTO t VALUES (1)", 0, NULL, NULL, &err), CONFLICT);
    CHECK_INT(pg_commit(pg, &err), CONFLICT);
    struct pg_result *r = NULL;
    CHECK_INT(pg_query(pg, "SELECT count(*) FROM t", 0, NULL, &r, &err), OK);
    CHECK_INT(pg_int(r, 0, 0), 1);
    pg_result_free(r);
}

static void test_copy(struct pg *pg)
{
    struct error err = {""};
    enum { ROWS = 300 * 1000 };
    char *text = malloc((size_t)ROWS * 8);
    size_t len = 0;
    for (int i = 10; i < ROWS; i++)
        len += (size_t)snprintf(text + len, 9, "%d\n", i);
    CHECK_INT(pg_copy_begin(pg, "COPY t FROM STDIN", &err), OK);
    CHECK_INT(pg_copy_data(pg, text, len, &err), OK);
    CHECK_INT(pg_copy_end(pg, &err), OK);
    struct pg_result *r = NULL;
    CHECK_INT(pg_query(pg, "SELECT count(*) FROM t", 0, NULL, &r, &err), OK);
    CHECK_INT(pg_int(r, 0, 0), ROWS - 10 + 1);
    pg_result_free(r);
    CHECK_INT(pg_copy_begin(pg, "COPY t FROM STDIN", &err), OK);
    CHECK_INT(pg_copy_data(pg, "x\n", 2, &err), OK);
    CHECK_INT(pg_copy_end(pg, &err), INVALID);
    CHECK_INT(pg_query(pg, "SELECT 1", 0, NULL, NULL, &err), OK);
    free(text);
}

static void test_notify(struct pg *pg)
{
    struct error err = {""};
    const char *payload = NULL;
    CHECK_INT(pg_script(pg, "LISTEN here", &err), OK);
    CHECK_INT(pg_wait_notify(pg, 0, &payload, &err), NOT_FOUND);
    CHECK_INT(pg_wait_notify(pg, 20, &payload, &err), NOT_FOUND);
    struct pg *other = pg_connect(url, 5000, &err);
    CHECK_FATAL(other);
    CHECK_INT(pg_script(other, "NOTIFY here, 'one'; NOTIFY here, 'two'", &err), OK);
    CHECK_INT(pg_wait_notify(pg, 5000, &payload, &err), OK);
    CHECK_STR(payload, "one");
    CHECK_INT(pg_wait_notify(pg, 0, &payload, &err), OK);
    CHECK_STR(payload, "two");
    pg_free(other);
}

static void test_timeout(void)
{
    struct error err = {""};
    struct pg *pg = pg_connect(url, 5000, &err);
    CHECK_FATAL(pg);
    pg_set_timeout(pg, 50);
    CHECK_INT(pg_query(pg, "SELECT pg_sleep(5)", 0, NULL, NULL, &err), TIMED_OUT);
    CHECK(!pg_ok(pg));
    CHECK_INT(pg_query(pg, "SELECT 1", 0, NULL, NULL, &err), UNAVAILABLE);
    pg_free(pg);
    CHECK(!pg_connect("postgresql:///x?host=/nowhere", 500, &err));
}

static void on_result(enum status st, const struct pg_result *r, void *arg)
{
    last_status = st;
    last_text[0] = 0;
    if (r && pg_rows(r) == 1 && pg_text(r, 0, 0))
        snprintf(last_text, sizeof last_text, "%s", pg_text(r, 0, 0));
    if (arg)
        *(int *)arg += st == OK;
    if (--waiting == 0)
        loop_stop(loop);
}

static void give_up(void *arg)
{
    fprintf(stderr, "timed out waiting\n");
    exit(1);
}

static void run_until(int callbacks)
{
    struct loop_timer *t = loop_timer_new(loop, give_up, NULL);
    loop_timer_start(t, 10 * 1000);
    waiting = callbacks;
    loop_run(loop);
    loop_timer_free(t);
}

static void ask(struct pg_async *pg, const char *sql, const char *param)
{
    pg_async_query(pg, sql, param ? 1 : 0, &param, on_result, NULL);
    run_until(1);
}

static void end_backend(const char *pid)
{
    struct error err;
    struct pg *pg = pg_connect(url, 5000, &err);
    CHECK_FATAL(pg);
    CHECK_INT(pg_query(pg, "SELECT pg_terminate_backend($1::int)", 1, &pid, NULL, &err), OK);
    pg_free(pg);
}

static void test_async(void)
{
    struct error err;
    struct pg_async *pg = pg_async_new(loop, url, 100, 1000, &err);
    CHECK_FATAL(pg);
    ask(pg, "SELECT $1::text || '!'", "yes");
    CHECK_INT(last_status, OK);
    CHECK_STR(last_text, "yes!");
    int good = 0;
    for (int i = 0; i < 105; i++)
        pg_async_query(pg, "SELECT 1", 0, NULL, on_result, &good);
    run_until(105);
    CHECK_INT(good, 100);
    ask(pg, "SELECT broken", NULL);
    CHECK_INT(last_status, IO_FAILED);
    ask(pg, "SELECT pg_backend_pid()", NULL);
    end_backend(last_text);
    for (int i = 0; i < 100; i++) {
        ask(pg, "SELECT 'back'", NULL);
        if (last_status == OK)
            break;
        usleep(20 * 1000);
    }
    CHECK_STR(last_text, "back");
    ask(pg, "SELECT pg_sleep(5)", NULL);
    CHECK_INT(last_status, TIMED_OUT);
    ask(pg, "SELECT 1", NULL);
    CHECK_INT(last_status, UNAVAILABLE);
    waiting = 2;
    pg_async_query(pg, "SELECT 1", 0, NULL, on_result, NULL);
    pg_async_free(pg);
    CHECK_INT(last_status, CLOSED);
}

/* A server that accepts and says nothing. */
static void test_silent_server(void)
{
    char dir[] = "/tmp/tollgate-unit.XXXXXX";
    CHECK_FATAL(mkdtemp(dir));
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    snprintf(sun.sun_path, sizeof sun.sun_path, "%s/.s.PGSQL.5432", dir);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_FATAL(bind(fd, (struct sockaddr *)&sun, sizeof sun) == 0 && listen(fd, 8) == 0);
    char silent[128];
    snprintf(silent, sizeof silent, "postgresql:///x?host=%s", dir);
    struct error err;
    CHECK(!pg_connect(silent, 100, &err));
    CHECK(strstr(err.text, "in time"));
    struct pg_async *pg = pg_async_new(loop, silent, 100, 100, &err);
    ask(pg, "SELECT 1", NULL);
    CHECK(last_status == TIMED_OUT || last_status == UNAVAILABLE);
    pg_async_free(pg);
    close(fd);
    unlink(sun.sun_path);
    rmdir(dir);
}

int main(void)
{
    url = getenv("TOLLGATE_TEST_DATABASE_URL");
    if (!url)
        CHECK_SKIP("TOLLGATE_TEST_DATABASE_URL is not set");
    struct error err;
    struct pg *pg = pg_connect(url, 5000, &err);
    CHECK_FATAL(pg);
    loop = loop_new(&err);
    CHECK_FATAL(loop);
    test_query(pg);
    test_transaction(pg);
    test_copy(pg);
    test_notify(pg);
    test_timeout();
    test_async();
    test_silent_server();
    pg_free(pg);
    loop_free(loop);
    return check_done();
}
