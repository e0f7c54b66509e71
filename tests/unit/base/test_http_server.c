/* The server on real sockets: a loop thread serves, this thread is the client. */
#include "base/http_server.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/un.h>

#include "base/tls.h"
#include "tests/unit/base/client.h"

enum { PIECE = 8192, BIG = 3 << 20 };

static struct loop *loop;
static struct http_server *server;
static struct tls_server *tls;
static pthread_t thread;
static char dir[] = "/tmp/tollgate-http-XXXXXX";
static atomic_int closed_complete, closed_cut, drained_calls, pending_peak;
static size_t to_stream;           /* loop thread: bytes the /stream handler has left to write */
static struct http_exchange *held; /* loop thread: waits for release_held */
static struct loop_timer *later;

static void stream_more(struct http_exchange *ex)
{
    static const char piece[PIECE] = {[0 ... PIECE - 1] = '#'};
    while (to_stream > 0 && http_pending(ex) < 65536) {
        http_reply_write(ex, piece, sizeof piece);
        to_stream -= sizeof piece;
    }
    if ((int)http_pending(ex) > pending_peak)
        pending_peak = (int)http_pending(ex);
    if (to_stream == 0)
        http_reply_end(ex);
}

static void reply_later(void *arg)
{
    http_reply(held, 200, NULL, 0, "text/plain", "later", 5);
}

static void on_stream(struct http_exchange *ex)
{
    to_stream = BIG;
    http_set_user(ex, ex);
    http_reply_begin(ex, 200, NULL, 0, "text/plain");
    stream_more(ex);
}

static void on_pieces(struct http_exchange *ex)
{
    http_reply_begin(ex, 200, NULL, 0, "text/event-stream");
    http_reply_write(ex, "one", 3);
    http_reply_write(ex, "", 0);
    http_reply_write(ex, "twotwotwotwotwotwo", 18);
    http_reply_end(ex);
}

static void on_flood(struct http_exchange *ex)
{
    static char block[1 << 16];
    http_set_user(ex, ex);
    http_reply_begin(ex, 200, NULL, 0, "text/plain");
    for (int i = 0; i < 1000 && http_open(ex); i++)
        http_reply_write(ex, block, sizeof block);
    http_reply_end(ex);
}

static void on_abort(struct http_exchange *ex)
{
    http_set_user(ex, ex);
    http_reply_begin(ex, 200, NULL, 0, "text/plain");
    http_reply_write(ex, "part", 4);
    http_reply_abort(ex);
    http_reply_write(ex, "more", 4);
    http_reply_end(ex);
}

static void on_request(struct http_exchange *ex, void *arg)
{
    const char *path = http_request(ex)->path;
    struct http_header header = {"x-test", "yes"};
    size_t len;
    const uint8_t *body = http_body(ex, &len);
    CHECK(body[len] == 0);
    if (strcmp(path, "/hello") == 0)
        http_reply(ex, 200, &header, 1, "text/plain", "hello", 5);
    else if (strcmp(path, "/echo") == 0)
        http_reply(ex, 200, NULL, 0, "text/plain", body, len);
    else if (strcmp(path, "/peer") == 0)
        http_reply(ex, 200, NULL, 0, "text/plain", http_peer(ex), strlen(http_peer(ex)));
    else if (strcmp(path, "/none") == 0)
        http_reply(ex, 204, NULL, 0, NULL, NULL, 0);
    else if (strcmp(path, "/later") == 0) {
        http_set_user(ex, ex);
        held = ex;
        loop_timer_start(later, 20);
    } else if (strcmp(path, "/never") == 0)
        http_set_user(ex, ex);
    else if (strcmp(path, "/pieces") == 0)
        on_pieces(ex);
    else if (strcmp(path, "/stream") == 0)
        on_stream(ex);
    else if (strcmp(path, "/flood") == 0)
        on_flood(ex);
    else if (strcmp(path, "/abort") == 0)
        on_abort(ex);
    else
        http_reply(ex, 404, NULL, 0, NULL, NULL, 0);
}

static void on_drained(struct http_exchange *ex, void *arg)
{
    drained_calls++;
    if (http_open(ex) && to_stream > 0)
        stream_more(ex);
}

static void on_closed(struct http_exchange *ex, bool complete, void *arg)
{
    CHECK(http_user(ex) == ex);
    CHECK(!http_open(ex));
    if (held == ex)
        held = NULL;
    complete ? closed_complete++ : closed_cut++;
}

static const struct http_handlers handlers = {
    .request = on_request, .drained = on_drained, .closed = on_closed};

static void *run_loop(void *arg)
{
    loop_run(loop);
    return NULL;
}

static void start(struct http_options options)
{
    struct error err = {0};
    loop = loop_new(&err);
    later = loop_timer_new(loop, reply_later, NULL);
    if (!options.listen)
        options.listen = "127.0.0.1:0";
    options.handlers = &handlers;
    server = http_server_new(loop, &options, &err);
    if (!server)
        fprintf(stderr, "%s\n", err.text);
    CHECK_FATAL(server);
    closed_complete = closed_cut = drained_calls = pending_peak = 0;
    pthread_create(&thread, NULL, run_loop, NULL);
}

static void stop(void)
{
    loop_stop(loop);
    pthread_join(thread, NULL);
    http_server_free(server);
    loop_timer_free(later);
    loop_free(loop);
}

/* Waits for the other thread, without saying how long it may take. */
static void wait_for(atomic_int *value, int want)
{
    for (int i = 0; i < CLIENT_TIMEOUT_S * 200 && *value < want; i++)
        usleep(5000);
    CHECK_INT(*value, want);
}

struct exchange_case {
    const char *send;
    const char *expect[4]; /* each in the answer */
    const char *absent;
    bool stays; /* the connection is kept open: a second request gets its answer */
};

#define H "Host: x\r\n\r\n"

static const struct exchange_case cases[] = {
    {"GET /hello HTTP/1.1\r\n" H,
     {"HTTP/1.1 200 OK\r\n", "content-length: 5\r\n", "x-test: yes\r\n", "\r\n\r\nhello"},
     "connection:",
     true},
    {"GET /hello HTTP/1.1\r\n" H, {"x-alt: 1\r\n", "\r\ndate: "}, NULL, true},
    {"HEAD /hello HTTP/1.1\r\n" H, {"200 OK", "content-length: 5\r\n"}, "hello", true},
    {"GET /none HTTP/1.1\r\n" H, {"204 No Content\r\n"}, "content-length", true},
    {"GET /nowhere HTTP/1.1\r\n" H, {"404 Not Found\r\n", "content-length: 0\r\n"}, NULL, true},
    {"GET /peer HTTP/1.1\r\n" H, {"\r\n\r\n127.0.0.1"}, NULL, true},
    {"GET /pieces HTTP/1.1\r\n" H,
     {"transfer-encoding: chunked\r\n",
      "\r\n\r\n3\r\none\r\n12\r\ntwotwotwotwotwotwo\r\n0\r\n\r\n"},
     "content-length",
     true},
    {"HEAD /pieces HTTP/1.1\r\n" H, {"transfer-encoding: chunked\r\n"}, "one", true},
    {"GET /pieces HTTP/1.0\r\n\r\n",
     {"connection: close\r\n", "\r\n\r\nonetwotwotwotwotwotwo"},
     "chunked",
     false},
    {"GET /hello HTTP/1.0\r\n\r\n", {"connection: close\r\n", "hello"}, NULL, false},
    {"GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
     {"connection: keep-alive\r\n", "hello"},
     NULL,
     true},
    {"GET /hello HTTP/1.1\r\nConnection: close\r\n" H,
     {"connection: close\r\n", "hello"},
     NULL,
     false},
    {"POST /echo HTTP/1.1\r\nContent-Length: 3\r\nHost: x\r\n\r\nabc", {"\r\n\r\nabc"}, NULL, true},
    {"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: "
     "x\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n"
     "\r\n",
     {"\r\n\r\nabc"},
     NULL,
     true},
    {"POST /echo HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\nHost: x\r\n\r\nabc",
     {"\r\n\r\nabc"},
     "100 Continue",
     true},
    {"GET /later HTTP/1.1\r\n" H, {"\r\n\r\nlater"}, NULL, true},
    {"GET /hello HTTP/1.1\r\n\r\n",
     {"400 Bad Request", "connection: close\r\n", "\"type\":\"invalid_request_error\"",
      "\"error\":{\"message\":\""},
     NULL,
     false},
    {"POST /echo HTTP/1.1\r\nContent-Length: 99999999\r\nHost: x\r\n\r\nabc",
     {" 413 "},
     NULL,
     false},
    {"GET /hello HTTP/1.1\r\nExpect: foo\r\n" H, {" 417 "}, NULL, false},
    {"GET /hello HTTP/3.0\r\n" H, {" 505 "}, NULL, false},
    {"GET /hello HTTP/1.1\r\nTransfer-Encoding: gzip\r\n" H, {" 501 "}, NULL, false},
    {"\x16\x03\x01garbage\r\n\r\n", {" 400 "}, NULL, false},
};

static void run_case(const struct exchange_case *k, bool with_tls)
{
    int port = http_server_port(server);
    struct client *c = with_tls ? client_open_tls(port) : client_open(port);
    int failures = check_failures;
    CHECK(client_sends(c, k->send));
    if (k->stays) {
        const char *last = k->expect[0];
        for (int i = 1; i < 4 && k->expect[i]; i++)
            last = k->expect[i];
        CHECK(client_wait(c, last));
        CHECK(client_sends(c, "GET /peer HTTP/1.1\r\nConnection: close\r\n" H));
    }
    client_read_all(c);
    CHECK(c->eof);
    if (k->stays)
        CHECK(client_count(c, "127.0.0.1") >= 1);
    for (int i = 0; i < 4 && k->expect[i]; i++)
        CHECK(strstr(c->text, k->expect[i]));
    char *second = k->stays ? strstr(c->text + 1, "HTTP/1.1 200 OK") : NULL;
    if (second)
        *second = 0;
    CHECK(!k->absent || !strstr(c->text, k->absent));
    if (failures != check_failures)
        fprintf(stderr, "sent: %s\ngot: %s\n", k->send, c->text);
    client_close(c);
}

static void test_exchanges(bool with_tls)
{
    start((struct http_options){.tls = with_tls ? tls : NULL, .alt_headers = "x-alt: 1\r\n"});
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        run_case(&cases[i], with_tls);
    wait_for(&closed_complete, 1);
    CHECK_INT(closed_cut, 0);
    stop();
}

static void test_expect_continue(void)
{
    start((struct http_options){0});
    struct client *c = client_open(http_server_port(server));
    client_sends(c, "POST /echo HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n" H);
    CHECK(client_wait(c, "HTTP/1.1 100 Continue\r\n\r\n"));
    client_sends(c, "abc");
    CHECK(client_wait(c, "\r\n\r\nabc"));
    client_close(c);
    stop();
}

/* Answers come in the order of the requests, slow ones included, and a shut sending side does
 * not lose them. */
static void test_pipeline(bool with_tls)
{
    start((struct http_options){.tls = with_tls ? tls : NULL});
    int port = http_server_port(server);
    struct client *c = with_tls ? client_open_tls(port) : client_open(port);
    client_sends(c, "GET /hello HTTP/1.1\r\n" H "GET /later HTTP/1.1\r\n" H
                    "POST /echo HTTP/1.1\r\nContent-Length: 3\r\nHost: x\r\n\r\nabc"
                    "GET /pieces HTTP/1.1\r\n" H "GET /nowhere HTTP/1.1\r\n" H);
    if (with_tls)
        SSL_shutdown(c->ssl);
    else
        shutdown(c->fd, SHUT_WR);
    client_read_all(c);
    const char *order[] = {"hello", "later", "abc", "twotwo", " 404 "};
    const char *at = c->text;
    for (size_t i = 0; i < sizeof order / sizeof *order && at; i++)
        CHECK((at = strstr(at, order[i])));
    client_close(c);
    stop();
}

/* More than what is read ahead: reading pauses, nothing is lost, the order stays. */
static void test_long_pipeline(bool with_tls)
{
    enum { COUNT = 4000 };
    start((struct http_options){.tls = with_tls ? tls : NULL});
    int port = http_server_port(server);
    struct client *c = with_tls ? client_open_tls(port) : client_open(port);
    client_sends(c, "GET /later HTTP/1.1\r\n" H);
    static const char one[] = "GET /peer HTTP/1.1\r\nhost: a\r\n\r\n";
    size_t len = sizeof one - 1;
    char *many = malloc(COUNT * len);
    CHECK_FATAL(many);
    for (int i = 0; i < COUNT; i++)
        memcpy(many + (size_t)i * len, one, len);
    CHECK(client_send(c, many, COUNT * len));
    free(many);
    while (client_count(c, "127.0.0.1") < COUNT)
        if (!client_read(c))
            break;
    CHECK_INT(client_count(c, "127.0.0.1"), COUNT);
    client_close(c);
    stop();
}

static void test_large_bodies(bool with_tls)
{
    start((struct http_options){.tls = with_tls ? tls : NULL});
    int port = http_server_port(server);
    struct client *c = with_tls ? client_open_tls(port) : client_open(port);
    size_t size = 600000;
    char *body = malloc(size + 1);
    CHECK_FATAL(body);
    for (size_t i = 0; i < size; i++)
        body[i] = (char)('a' + i % 23);
    body[size - 1] = '$';
    body[size] = 0;
    for (int round = 0; round < 2; round++) {
        client_forget(c);
        client_sends(c, "POST /echo HTTP/1.1\r\nContent-Length: 600000\r\n" H);
        CHECK(client_send(c, body, size));
        CHECK(client_wait(c, "$"));
        CHECK(c->len > size && memcmp(c->text + c->len - size, body, size) == 0);
    }
    free(body);
    client_close(c);
    stop();
}

/* A client that reads late: output stays near the mark, `drained` brings the rest. */
static void test_slow_reader(bool with_tls)
{
    start((struct http_options){.tls = with_tls ? tls : NULL, .output_mark_bytes = 16384});
    int port = http_server_port(server);
    struct client *c = with_tls ? client_open_tls(port) : client_open(port);
    client_sends(c, "GET /stream HTTP/1.1\r\nConnection: close\r\n" H);
    usleep(50000);
    size_t total = 0;
    while (client_read(c)) {
        for (size_t i = 0; i < c->len; i++)
            total += c->text[i] == '#';
        client_forget(c);
    }
    CHECK(c->eof);
    CHECK_INT(total, BIG);
    CHECK(pending_peak < 65536 + 2 * PIECE);
    CHECK(drained_calls > 0);
    wait_for(&closed_complete, 1);
    client_close(c);
    stop();
}

/* A handler that does not heed the mark is cut off at the maximum. */
static void test_output_limit(void)
{
    start((struct http_options){.output_max_bytes = 1 << 20});
    struct client *c = client_open(http_server_port(server));
    client_sends(c, "GET /flood HTTP/1.1\r\n" H);
    wait_for(&closed_cut, 1);
    client_close(c);
    stop();
}

static void test_abort(bool with_tls)
{
    start((struct http_options){.tls = with_tls ? tls : NULL});
    int port = http_server_port(server);
    struct client *c = with_tls ? client_open_tls(port) : client_open(port);
    client_sends(c, "GET /abort HTTP/1.1\r\n" H);
    client_read_all(c);
    CHECK(strstr(c->text, "part"));
    CHECK(!strstr(c->text, "more") && !strstr(c->text, "\r\n0\r\n"));
    CHECK(!with_tls || !c->eof);
    client_close(c);
    wait_for(&closed_cut, 1);
    c = with_tls ? client_open_tls(port) : client_open(port);
    client_sends(c, "GET /abort HTTP/1.0\r\n\r\n");
    client_read_all(c);
    CHECK(!c->eof);
    client_close(c);
    stop();
}

/* Gone while the handler works: `closed` comes, whatever way the client went. */
static void test_client_gone(bool with_tls)
{
    start((struct http_options){.tls = with_tls ? tls : NULL});
    int port = http_server_port(server);
    for (int way = 0; way < 3; way++) {
        struct client *c = with_tls ? client_open_tls(port) : client_open(port);
        client_sends(c, "GET /never HTTP/1.1\r\n" H);
        if (way == 1) { /* with more than is read ahead behind it */
            char filler[65536];
            memset(filler, 'a', sizeof filler);
            client_send(c, filler, with_tls ? 16000 : sizeof filler);
        }
        struct linger reset = {.l_onoff = 1};
        if (way == 2)
            setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        usleep(10000);
        client_close(c);
        wait_for(&closed_cut, way + 1);
    }
    CHECK_INT(closed_complete, 0);
    stop();
}

static void test_deadlines(bool with_tls)
{
    start((struct http_options){.tls = with_tls ? tls : NULL,
                                .handshake_timeout_ms = 300,
                                .head_timeout_ms = 300,
                                .body_timeout_ms = 300,
                                .idle_timeout_ms = 300});
    int port = http_server_port(server);
    static const char *const slow[] = {
        "GET /hello HTTP/1.1\r\nX-A: ",
        "POST /echo HTTP/1.1\r\nContent-Length: 9\r\nHost: x\r\n\r\nab"};
    for (int i = 0; i < 2; i++) {
        struct client *c = with_tls ? client_open_tls(port) : client_open(port);
        client_sends(c, slow[i]);
        client_read_all(c);
        CHECK(strstr(c->text, "HTTP/1.1 408 Request Timeout\r\n"));
        CHECK(c->eof);
        client_close(c);
    }
    struct client *silent = client_open(port);
    struct client *idle = with_tls ? client_open_tls(port) : client_open(port);
    client_sends(idle, "GET /hello HTTP/1.1\r\n" H);
    client_read_all(idle);
    CHECK(strstr(idle->text, "hello") && idle->eof);
    client_read_all(silent);
    CHECK(silent->eof && silent->len == 0);
    client_close(idle);
    client_close(silent);
    stop();
}

static void test_write_deadline(void)
{
    start((struct http_options){.write_timeout_ms = 200});
    struct client *c = client_open(http_server_port(server));
    client_sends(c, "GET /stream HTTP/1.1\r\n" H);
    wait_for(&closed_cut, 1);
    client_close(c);
    stop();
}

/* At the limit an idle client gives way; busy ones do not. */
static void test_connection_limit(void)
{
    start((struct http_options){.connections_max = 2});
    int port = http_server_port(server);
    struct client *a = client_open(port), *b = client_open(port);
    client_sends(a, "GET /never HTTP/1.1\r\n" H);
    client_sends(b, "GET /hello HTTP/1.1\r\n" H);
    CHECK(client_wait(b, "hello"));
    struct client *c = client_open(port);
    client_sends(c, "GET /never HTTP/1.1\r\n" H);
    client_read_all(b);
    CHECK(b->eof);
    struct client *d = client_open(port);
    client_read_all(d);
    CHECK_INT(d->len, 0);
    client_close(a);
    wait_for(&closed_cut, 1);
    struct client *e = client_open(port);
    client_sends(e, "GET /hello HTTP/1.1\r\n" H);
    CHECK(client_wait(e, "hello"));
    client_close(b);
    client_close(c);
    client_close(d);
    client_close(e);
    stop();
}

static atomic_int shed;

static void note_shed(void *arg)
{
    shed = (int)http_server_stats(server)->shed_total;
}

/* Without descriptors new clients are turned away, and it passes. */
static void test_descriptors_out(void)
{
    start((struct http_options){0});
    int port = http_server_port(server);
    struct client *kept = client_open(port);
    client_sends(kept, "GET /hello HTTP/1.1\r\n" H "GET /never HTTP/1.1\r\n" H);
    CHECK(client_wait(kept, "hello")); /* and busy, so that it does not give way */
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fds[4];
    for (int i = 0; i < 4; i++)
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
    struct rlimit before, none;
    getrlimit(RLIMIT_NOFILE, &before);
    none = before;
    int lowest = dup(0);
    close(lowest);
    none.rlim_cur = (rlim_t)lowest;
    setrlimit(RLIMIT_NOFILE, &none);
    for (int i = 0; i < 4; i++) {
        char byte;
        struct timeval limit = {.tv_sec = CLIENT_TIMEOUT_S};
        setsockopt(fds[i], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        CHECK(connect(fds[i], (struct sockaddr *)&a, sizeof a) == 0);
        CHECK(recv(fds[i], &byte, 1, 0) <= 0);
    }
    setrlimit(RLIMIT_NOFILE, &before);
    CHECK(loop_post(loop, note_shed, NULL) == OK);
    wait_for(&shed, 4);
    for (int i = 0; i < 4; i++)
        close(fds[i]);
    struct client *c = client_open(port);
    client_sends(c, "GET /hello HTTP/1.1\r\n" H);
    CHECK(client_wait(c, "hello"));
    client_close(c);
    client_close(kept);
    stop();
}

static void drain_now(void *arg)
{
    http_server_drain(server);
}

static void test_drain(void)
{
    start((struct http_options){0});
    int port = http_server_port(server);
    struct client *idle = client_open(port), *busy = client_open(port), *fresh = client_open(port);
    client_sends(idle, "GET /hello HTTP/1.1\r\n" H);
    CHECK(client_wait(idle, "hello"));
    client_sends(busy, "GET /hello HTTP/1.1\r\n" H);
    CHECK(client_wait(busy, "hello"));
    client_sends(busy, "GET /la");
    usleep(20000);
    CHECK(loop_post(loop, drain_now, NULL) == OK);
    client_read_all(idle);
    CHECK(idle->eof);
    client_sends(busy, "ter HTTP/1.1\r\n" H);
    client_read_all(busy);
    CHECK(strstr(busy->text, "connection: close\r\n") && strstr(busy->text, "later") && busy->eof);
    client_sends(fresh, "GET /hello HTTP/1.1\r\n" H);
    client_read_all(fresh);
    CHECK(strstr(fresh->text, "connection: close\r\n") && strstr(fresh->text, "hello"));
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(fd, (struct sockaddr *)&a, sizeof a) != 0);
    close(fd);
    client_close(idle);
    client_close(busy);
    client_close(fresh);
    stop();
}

static void test_unix_socket(void)
{
    char address[64];
    snprintf(address, sizeof address, "unix:%s/s", dir);
    start((struct http_options){.listen = address});
    struct client *c = calloc(1, sizeof *c);
    CHECK_FATAL(c);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", address + 5);
    c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(connect(c->fd, (struct sockaddr *)&a, sizeof a) == 0);
    CHECK_INT(http_server_port(server), 0);
    client_sends(c, "GET /peer HTTP/1.1\r\n" H);
    CHECK(client_wait(c, "\r\n\r\nunix"));
    client_sends(c, "GET /never HTTP/1.1\r\n" H);
    client_close(c);
    wait_for(&closed_cut, 1);
    stop();
    CHECK(access(a.sun_path, F_OK) != 0);
}

static void test_bad_addresses(void)
{
    static const char *const bad[] = {"nonsense", "127.0.0.1:99999", "192.0.2.1:1",
                                      "unix:/no/such/folder/s"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct error err = {0};
        loop = loop_new(&err);
        struct http_options options = {.listen = bad[i], .handlers = &handlers};
        CHECK(!http_server_new(loop, &options, &err));
        CHECK(err.text[0]);
        loop_free(loop);
    }
}

static void test_garbage_handshake(void)
{
    start((struct http_options){.tls = tls, .handshake_timeout_ms = 300});
    int port = http_server_port(server);
    struct client *c = client_open(port), *stalled = client_open(port);
    client_sends(c, "GET / HTTP/1.1\r\n" H);
    client_read_all(c);
    CHECK(!strstr(c->text, "HTTP/1.1 2"));
    client_sends(stalled, "\x16\x03\x01\x02");
    struct client *good = client_open_tls(port);
    client_sends(good, "GET /hello HTTP/1.1\r\n" H);
    CHECK(client_wait(good, "hello"));
    client_read_all(stalled);
    client_close(c);
    client_close(stalled);
    client_close(good);
    stop();
}

int main(void)
{
    struct error err = {0};
    signal(SIGPIPE, SIG_IGN);
    CHECK_FATAL(mkdtemp(dir));
    client_make_certificate(dir, "localhost", "-days 2");
    char crt[128], key[128], command[128];
    snprintf(crt, sizeof crt, "%s/localhost.crt", dir);
    snprintf(key, sizeof key, "%s/localhost.key", dir);
    struct tls_options options = {.certificate_file = crt, .key_file = key};
    tls = tls_server_new(&options, &err);
    CHECK_FATAL(tls);
    for (int with_tls = 0; with_tls < 2; with_tls++) {
        test_exchanges(with_tls);
        test_pipeline(with_tls);
        test_long_pipeline(with_tls);
        test_large_bodies(with_tls);
        test_slow_reader(with_tls);
        test_abort(with_tls);
        test_client_gone(with_tls);
        test_deadlines(with_tls);
    }
    test_expect_continue();
    test_output_limit();
    test_write_deadline();
    test_connection_limit();
    test_descriptors_out();
    test_drain();
    test_unix_socket();
    test_bad_addresses();
    test_garbage_handshake();
    tls_server_free(tls);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    CHECK(system(command) == 0);
    return check_done();
}
