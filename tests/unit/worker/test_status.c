/* runs: thread */
/* Readiness follows the engine's steps: a step that does not end makes the worker unready, though
 * its port is open and it answers PING. */
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/unit/worker/rig.h"
#include "worker/status.h"

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER; /* held: a step cannot end */
static const struct backend_ops *echo_ops;

static bool gated_step(struct backend *b)
{
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    return echo_ops->step(b);
}

static struct backend *make(const struct sink *sink, struct error *err)
{
    static struct backend_ops gated;
    struct backend *b = backend_echo_new("tollgate-demo", sink, err);
    echo_ops = b->ops;
    gated = *b->ops;
    gated.step = gated_step;
    b->ops = &gated;
    b->immediate = false;
    return b;
}

static const char *get(const char *path, const char *what)
{
    static char answer[16384];
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_FATAL(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
    char request[128];
    int len = snprintf(request, sizeof request,
                       "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", what);
    CHECK_INT(write(fd, request, (size_t)len), len);
    size_t have = 0;
    ssize_t got;
    while ((got = read(fd, answer + have, sizeof answer - 1 - have)) > 0)
        have += (size_t)got;
    answer[have] = 0;
    close(fd);
    return answer;
}

int main(void)
{
    struct rig r;
    rig_init(&r, false);
    r.backend = make;
    rig_build(&r);
    char listen[128];
    snprintf(listen, sizeof listen, "unix:%s/admin", r.folder);
    struct status_options o = {.listen = listen, .ready_step_age_ms = 50};
    struct status_page *page = NULL;
    struct error err = {""};
    enum status st = status_new(r.loop, r.server, r.engine, &o, &page, &err);
    if (st != OK)
        fprintf(stderr, "%s\n", err.text);
    CHECK_FATAL(st == OK);
    CHECK_INT(pthread_create(&r.thread, NULL, rig_run, &r), 0);
    CHECK(strncmp(get(listen + 5, "/readyz"), "HTTP/1.1 200", 12) == 0);

    pthread_mutex_lock(&gate);
    struct wire_client c;
    struct heard h = {.reason = -1, .error = -1};
    wire_client_open(&c, r.address, GATEWAY_A);
    struct wire_client_request q = {
        .id = uuid_v7(clock_wall_ms()), .stream = 1, .max_tokens = 5, .credit = 1000};
    wire_client_request(&c, &q);
    Wire__Pong pong;
    do
        hear_until_pong(&c, &h, &pong);
    while (pong.step_age_ms <= 50);
    const char *answer = get(listen + 5, "/readyz");
    CHECK(strncmp(answer, "HTTP/1.1 503", 12) == 0);
    CHECK(strstr(answer, "step has taken"));
    CHECK(strncmp(get(listen + 5, "/livez"), "HTTP/1.1 200", 12) == 0);
    pthread_mutex_unlock(&gate);
    hear_stream(&c, 1, &h);
    CHECK_INT(h.counts.completion, 5);
    do
        hear_until_pong(&c, &h, &pong);
    while (pong.step_age_ms > 0);
    CHECK(strncmp(get(listen + 5, "/readyz"), "HTTP/1.1 200", 12) == 0);
    answer = get(listen + 5, "/metrics");
    CHECK(strstr(answer, "tollgate_worker_requests_total{outcome=\"finished\"} 1\n"));
    CHECK(strstr(answer, "tollgate_worker_tokens_total{kind=\"completion\"} 5\n"));
    CHECK(strstr(answer, "tollgate_worker_unacked_usage_count 1\n"));
    heard_done(&h);
    wire_client_close(&c);
    loop_stop(r.loop);
    pthread_join(r.thread, NULL);
    status_free(page);
    rig_free_parts(&r);
    unlink(listen + 5);
    rig_done(&r);
    return check_done();
}
