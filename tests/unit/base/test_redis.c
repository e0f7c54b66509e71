#include "base/redis.h"

#include <stdbool.h>

#include "tests/unit/own_redis.h"

static struct own_redis server;
static struct loop *loop;
static struct redis *redis, *listener;
static struct redis_script *script;
static int waiting; /* callbacks still to come before the loop stops */
static enum status last_status;
static char last_text[256];
static int64_t last_integer;
static int messages, states[3];
static bool count_connects; /* of the listener, as callbacks */

static void done_one(void)
{
    if (--waiting == 0)
        loop_stop(loop);
}

static void on_reply(enum status st, const struct redis_reply *reply, void *arg)
{
    last_status = st;
    last_text[0] = 0;
    last_integer = -1;
    if (reply && reply->text)
        snprintf(last_text, sizeof last_text, "%s", reply->text);
    if (reply)
        last_integer = reply->integer;
    if (arg)
        *(int *)arg += st == OK;
    done_one();
}

static void on_message(enum status st, const struct redis_reply *reply, void *arg)
{
    messages++;
    snprintf(last_text, sizeof last_text, "%s", reply->text);
    done_one();
}

static void on_state(enum redis_state state, void *arg)
{
    states[state]++;
    if (state == REDIS_CONNECTED && count_connects)
        done_one();
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

static void command(const char *a, const char *b, const char *c, int *count)
{
    redis_command(redis, on_reply, count, c ? 3 : b ? 2 : 1, (const char *const[]){a, b, c}, NULL);
}

static void ask(const char *a, const char *b, const char *c)
{
    command(a, b, c, NULL);
    run_until(1);
}

static void test_commands(void)
{
    ask("SET", "k", "v");
    CHECK_INT(last_status, OK);
    CHECK_STR(last_text, "OK");
    ask("GET", "k", NULL);
    CHECK_STR(last_text, "v");
    ask("NOSUCH", NULL, NULL);
    CHECK_INT(last_status, OK);
    CHECK(strncmp(last_text, "ERR", 3) == 0);
    int good = 0;
    for (int i = 0; i < 1000; i++)
        command("INCR", "n", NULL, &good);
    run_until(1000);
    CHECK_INT(good, 1000);
    CHECK_INT(last_integer, 1000);
}

static void eval(const char *value)
{
    redis_eval(redis, script, 1, 2, (const char *const[]){"s", value}, NULL, on_reply, NULL);
}

static void test_script(void)
{
    for (int i = 0; i < 3; i++) {
        eval("x");
        run_until(1);
        CHECK_STR(last_text, "s=x");
        ask("SCRIPT", "FLUSH", NULL);
    }
    for (int i = 0; i < 5; i++)
        eval("y");
    run_until(5);
    CHECK_STR(last_text, "s=y");
}

static void test_listener(void)
{
    struct error err;
    listener = redis_new(loop,
                         &(struct redis_options){.url = server.url,
                                                 .connect_timeout_ms = 300,
                                                 .command_timeout_ms = 300,
                                                 .on_state = on_state},
                         &err);
    CHECK_FATAL(listener);
    CHECK_INT(redis_subscribe(listener, "news", on_message, NULL), OK);
    count_connects = true;
    run_until(1);
    count_connects = false;
    command("PUBLISH", "news", "hello", NULL);
    run_until(2);
    CHECK_INT(messages, 1);
}

static void test_stopped(void)
{
    kill(server.pid, SIGSTOP);
    ask("GET", "k", NULL);
    CHECK_INT(last_status, TIMED_OUT);
    ask("GET", "k", NULL);
    CHECK_INT(last_status, UNAVAILABLE);
    /* The listener notices too, and both come back by themselves. */
    int before = states[REDIS_CONNECTED];
    for (int i = 0; i < 20 && states[REDIS_BROKEN] == 0; i++) {
        usleep(100 * 1000);
        ask("GET", "k", NULL);
    }
    CHECK(states[REDIS_BROKEN] > 0);
    count_connects = true;
    kill(server.pid, SIGCONT);
    run_until(1);
    count_connects = false;
    CHECK_INT(states[REDIS_CONNECTED], before + 1);
    for (int i = 0; i < 100 && last_status != OK; i++) {
        usleep(50 * 1000);
        ask("GET", "k", NULL);
    }
    CHECK_INT(last_status, OK);
}

static void test_killed(void)
{
    own_redis_kill(&server);
    ask("GET", "k", NULL);
    CHECK(last_status == CLOSED || last_status == UNAVAILABLE);
    own_redis_launch(&server);
    for (int i = 0; i < 100 && last_status != OK; i++) {
        usleep(50 * 1000);
        ask("GET", "k", NULL);
    }
    CHECK_INT(last_status, OK);
    eval("z");
    run_until(1);
    CHECK_STR(last_text, "s=z");
}

static void test_sync(void)
{
    struct error err = {""};
    struct redis_options options = {
        .url = server.url, .connect_timeout_ms = 300, .command_timeout_ms = 300};
    struct redis_sync *sync = redis_sync_new(&options, &err);
    CHECK_FATAL(sync);
    const char *const set[] = {"SET", "a", "b\0c"};
    const struct redis_reply *reply =
        redis_sync_command(sync, 3, set, (const size_t[]){3, 1, 3}, &err);
    CHECK(reply && reply->type == REDIS_STATUS);
    reply = redis_sync_command(sync, 2, (const char *const[]){"GET", "a"}, NULL, &err);
    CHECK(reply && reply->len == 3 && memcmp(reply->text, "b\0c", 3) == 0);
    for (int i = 0; i < 2; i++) {
        reply = redis_sync_eval(sync, script, 1, 2, (const char *const[]){"s", "t"}, NULL, &err);
        CHECK(reply && strcmp(reply->text, "s=t") == 0);
        redis_sync_command(sync, 2, (const char *const[]){"SCRIPT", "FLUSH"}, NULL, &err);
    }
    own_redis_kill(&server);
    CHECK(!redis_sync_command(sync, 1, (const char *const[]){"PING"}, NULL, &err));
    own_redis_launch(&server);
    CHECK(redis_sync_command(sync, 1, (const char *const[]){"PING"}, NULL, &err));
    kill(server.pid, SIGSTOP);
    CHECK(!redis_sync_command(sync, 1, (const char *const[]){"PING"}, NULL, &err));
    CHECK(strstr(err.text, "in time"));
    kill(server.pid, SIGCONT);
    CHECK(redis_sync_command(sync, 1, (const char *const[]){"PING"}, NULL, &err));
    redis_sync_free(sync);
}

static void test_urls(void)
{
    static const char *const bad[] = {
        "",          "http://x",      "unix:",          "unix:/a?x=1", "unix:/a?db=x",
        "redis://",  "redis://:6379", "redis://h:port", "redis://h/x", "redis://u@h",
        "redis://h:"};
    struct error err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct redis_options options = {.url = bad[i]};
        CHECK(!redis_new(loop, &options, &err));
    }
}

/* A server that needs a login and has another database selected. */
static void test_login(void)
{
    struct error err = {""};
    struct redis_options options = {
        .url = server.url, .connect_timeout_ms = 300, .command_timeout_ms = 300};
    struct redis_sync *admin = redis_sync_new(&options, &err);
    CHECK_FATAL(admin);
    const char *const require[] = {"CONFIG", "SET", "requirepass", "secret"};
    CHECK(redis_sync_command(admin, 4, require, NULL, &err));
    CHECK(!redis_sync_new(&options, &err));
    char url[160];
    snprintf(url, sizeof url, "%s?db=3", server.url);
    options.url = url;
    options.password = "secret";
    struct redis_sync *in = redis_sync_new(&options, &err);
    CHECK_FATAL(in);
    CHECK(redis_sync_command(in, 3, (const char *const[]){"SET", "db3", "1"}, NULL, &err));
    const struct redis_reply *reply =
        redis_sync_command(admin, 2, (const char *const[]){"EXISTS", "db3"}, NULL, &err);
    CHECK(reply && reply->integer == 0);
    const char *const open[] = {"CONFIG", "SET", "requirepass", ""};
    CHECK(redis_sync_command(admin, 4, open, NULL, &err));
    redis_sync_free(in);
    redis_sync_free(admin);
}

static int closed;

static void on_closed(enum status st, const struct redis_reply *reply, void *arg)
{
    closed += st == CLOSED;
}

int main(void)
{
    own_redis_start(&server);
    struct error err;
    loop = loop_new(&err);
    CHECK_FATAL(loop);
    script = redis_script_new("return KEYS[1] .. '=' .. ARGV[1]");
    struct redis_options options = {
        .url = server.url, .connect_timeout_ms = 300, .command_timeout_ms = 300};
    redis = redis_new(loop, &options, &err);
    CHECK_FATAL(redis);
    test_commands();
    test_script();
    test_listener();
    test_stopped();
    test_killed();
    test_sync();
    test_urls();
    test_login();
    redis_command(redis, on_closed, NULL, 1, (const char *const[]){"PING"}, NULL);
    redis_free(redis);
    CHECK_INT(closed, 1);
    redis_free(listener);
    redis_script_free(script);
    loop_free(loop);
    own_redis_end(&server);
    return check_done();
}
