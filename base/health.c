#include "base/health.h"

#include <pthread.h>
#include <signal.h>

#include "base/http_server.h"

enum { CONNECTIONS_MAX = 64, TEXT_MAX = 8 << 20, WHY_MAX = 4096 };

struct health {
    struct loop *loop;
    bool own_loop;
    pthread_t thread; /* of an own loop */
    struct http_server *server;
    struct metrics *metrics;
    bool (*ready)(struct buf *why, void *arg);
    bool (*alive)(struct buf *why, void *arg);
    void *arg;
};

static void reply_text(struct http_exchange *ex, int status, const char *text)
{
    http_reply(ex, status, NULL, 0, "text/plain; charset=utf-8", text, strlen(text));
}

/* What the program says of itself: good, or 503 with the reason. */
static void reply_state(struct health *h, struct http_exchange *ex,
                        bool (*check)(struct buf *why, void *arg), const char *good)
{
    struct buf why;
    buf_init(&why, WHY_MAX);
    if (!check || check(&why, h->arg)) {
        reply_text(ex, 200, good);
    } else {
        buf_adds(&why, "\n");
        http_reply(ex, 503, NULL, 0, "text/plain; charset=utf-8", buf_head(&why), buf_len(&why));
    }
    buf_done(&why);
}

static void reply_metrics(struct health *h, struct http_exchange *ex)
{
    struct buf text;
    buf_init(&text, TEXT_MAX);
    if (h->metrics && metrics_render(h->metrics, &text) != OK)
        reply_text(ex, 503, "out of memory\n");
    else
        http_reply(ex, 200, NULL, 0, "text/plain; version=0.0.4; charset=utf-8",
                   text.data ? buf_head(&text) : (const uint8_t *)"", buf_len(&text));
    buf_done(&text);
}

static void on_request(struct http_exchange *ex, void *arg)
{
    struct health *h = arg;
    const struct http1_request *r = http_request(ex);
    struct http_header allow = {"allow", "GET, HEAD"};
    if (strcmp(r->method, "GET") != 0 && strcmp(r->method, "HEAD") != 0)
        http_reply(ex, 405, &allow, 1, NULL, NULL, 0);
    else if (strcmp(r->path, "/livez") == 0)
        reply_state(h, ex, h->alive, "alive\n");
    else if (strcmp(r->path, "/readyz") == 0)
        reply_state(h, ex, h->ready, "ready\n");
    else if (strcmp(r->path, "/metrics") == 0)
        reply_metrics(h, ex);
    else
        reply_text(ex, 404, "there are /livez, /readyz and /metrics\n");
}

static void *run(void *arg)
{
    struct health *h = arg;
    loop_run(h->loop);
    return NULL;
}

/* Signals stay with the program's threads. */
static enum status start_thread(struct health *h, struct error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&h->thread, NULL, run, h);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0 ? OK : error_errno(err, rc, "cannot start the thread of the admin listener");
}

static enum status open_listener(struct health *h, const struct health_options *o,
                                 struct error *err)
{
    static const struct http_handlers handlers = {.request = on_request};
    struct http_options options = {
        .listen = o->listen,
        .connections_max = CONNECTIONS_MAX,
        .limits = {.head_bytes = 8192, .fields = 50, .body_bytes = 4096},
        .handlers = &handlers,
        .arg = h,
    };
    h->server = http_server_new(h->loop, &options, err);
    if (!h->server)
        return IO_FAILED;
    return h->own_loop ? start_thread(h, err) : OK;
}

struct health *health_new(struct loop *loop, const struct health_options *options,
                          struct error *err)
{
    struct health *h = calloc(1, sizeof *h);
    if (!h) {
        error_set(err, NOMEM, "out of memory for the admin listener");
        return NULL;
    }
    h->metrics = options->metrics;
    h->ready = options->ready;
    h->alive = options->alive;
    h->arg = options->arg;
    h->loop = loop ? loop : loop_new(err);
    h->own_loop = !loop;
    if (h->loop && open_listener(h, options, err) == OK)
        return h;
    http_server_free(h->server);
    if (h->own_loop)
        loop_free(h->loop);
    free(h);
    return NULL;
}

int health_port(const struct health *h)
{
    return http_server_port(h->server);
}

void health_free(struct health *h)
{
    if (!h)
        return;
    if (h->own_loop) {
        loop_stop(h->loop);
        pthread_join(h->thread, NULL);
    }
    http_server_free(h->server);
    if (h->own_loop)
        loop_free(h->loop);
    free(h);
}
