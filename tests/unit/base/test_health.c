#include "base/health.h"

#include <stdatomic.h>

#include "tests/unit/base/client.h"

static atomic_bool is_ready = true;

static bool ready(struct buf *why, void *arg)
{
    CHECK(arg == &is_ready);
    if (!is_ready)
        buf_adds(why, "the database is away");
    return is_ready;
}

static void ask(int port, const char *request, const char *first, const char *second)
{
    struct client *c = client_open(port);
    char text[256];
    snprintf(text, sizeof text, "%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", request);
    CHECK(client_sends(c, text));
    client_read_all(c);
    int failures = check_failures;
    CHECK(strstr(c->text, first));
    CHECK(strstr(c->text, second));
    if (failures != check_failures)
        fprintf(stderr, "%s: %s\n", request, c->text);
    client_close(c);
}

static void ask_all(int port)
{
    ask(port, "GET /livez", "HTTP/1.1 200 OK\r\n", "\r\n\r\nalive\n");
    ask(port, "HEAD /livez", "HTTP/1.1 200 OK\r\n", "content-length: 6\r\n");
    is_ready = true;
    ask(port, "GET /readyz", "HTTP/1.1 200 OK\r\n", "\r\n\r\nready\n");
    is_ready = false;
    ask(port, "GET /readyz", "HTTP/1.1 503 ", "\r\n\r\nthe database is away\n");
    ask(port, "GET /metrics", "\r\ncontent-type: text/plain; version=0.0.4",
        "\ntollgate_test_things_total 3\n");
    ask(port, "GET /other", "HTTP/1.1 404 ", "/readyz");
    ask(port, "POST /livez", "HTTP/1.1 405 ", "allow: GET, HEAD\r\n");
}

static struct loop *loop;

static void *client_main(void *arg)
{
    ask_all(*(int *)arg);
    loop_stop(loop);
    return NULL;
}

int main(void)
{
    struct error err = {0};
    struct metrics *metrics = metrics_new();
    struct metric_spec spec = {.name = "tollgate_test_things_total", .help = "Things."};
    metric_add(metrics_counter(metrics, &spec), 3);
    struct health_options options = {
        .listen = "127.0.0.1:0", .metrics = metrics, .ready = ready, .arg = &is_ready};

    struct health *h = health_new(NULL, &options, &err);
    CHECK_FATAL(h);
    ask_all(health_port(h));
    health_free(h);

    loop = loop_new(&err);
    h = health_new(loop, &options, &err);
    CHECK_FATAL(h);
    int port = health_port(h);
    pthread_t thread;
    pthread_create(&thread, NULL, client_main, &port);
    loop_run(loop);
    pthread_join(thread, NULL);

    options.alive = ready; /* false by now */
    options.listen = "127.0.0.1:0";
    struct health *hung = health_new(NULL, &options, &err);
    CHECK_FATAL(hung);
    ask(health_port(hung), "GET /livez", "HTTP/1.1 503 ", "the database is away");
    health_free(hung);

    char taken[32];
    snprintf(taken, sizeof taken, "127.0.0.1:%d", port);
    options.listen = taken;
    CHECK(!health_new(NULL, &options, &err));
    CHECK(strstr(err.text, taken));
    health_free(h);
    health_free(NULL);
    loop_free(loop);
    metrics_free(metrics);
    return check_done();
}
