/* `tollgate-admin`: the control plane's listener. */
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>

#include "admin/api/api.h"
#include "admin/api/pool.h"
#include "base/config.h"
#include "base/health.h"
#include "base/http_server.h"
#include "base/log.h"
#include "base/tls.h"

enum { EXIT_REFUSED = 1, EXIT_BAD_CALL = 2 };

struct settings {
    char *database_url, *redis_url, *redis_password, *state_dir, *listen, *admin_listen,
        *certificate_file, *key_file;
    int log_level;
    int64_t threads, queue_max, body_max_bytes, connections_max, drain_ms;
};

static const char *const level_names[] = {"debug", "info", "warn", "error", NULL};

#define FIELD(name) offsetof(struct settings, name)

static const struct setting table[] = {
    {"common", "database_url", SETTING_SECRET, FIELD(database_url), "postgresql:///tollgate", 1,
     1024, NULL, false, "PostgreSQL, as a libpq URL"},
    {"common", "redis_url", SETTING_STRING, FIELD(redis_url), "redis://127.0.0.1:6379/0", 1, 1024,
     NULL, false, "Redis: redis://host:port/db or unix:/path"},
    {"common", "redis_password", SETTING_SECRET, FIELD(redis_password), "", 0, 128, NULL, false,
     "empty: none"},
    {"common", "state_dir", SETTING_STRING, FIELD(state_dir), "/var/lib/tollgate", 1, 512, NULL,
     false, "not used by the admin API"},
    {"common", "log_level", SETTING_ENUM, FIELD(log_level), "info", 0, 0, level_names, false,
     "the least that is logged"},
    {"admin", "listen", SETTING_STRING, FIELD(listen), "127.0.0.1:8444", 1, 256, NULL, false,
     "where the admin API is served, over TLS"},
    {"admin", "admin_listen", SETTING_STRING, FIELD(admin_listen), "127.0.0.1:9404", 1, 256, NULL,
     false, "where /livez, /readyz and /metrics are served, in the clear"},
    {"admin", "certificate_file", SETTING_STRING, FIELD(certificate_file), NULL, 1, 1024, NULL,
     false, "PEM, the chain behind the certificate; read again on SIGHUP"},
    {"admin", "key_file", SETTING_STRING, FIELD(key_file), NULL, 1, 1024, NULL, false,
     "PEM, the certificate's private key"},
    {"admin", "threads", SETTING_INT, FIELD(threads), "2", 1, 16, NULL, false,
     "calls that run at once, each with a connection to PostgreSQL"},
    {"admin", "queue_max", SETTING_INT, FIELD(queue_max), "256", 1, 4096, NULL, false,
     "calls under way; past it 503"},
    {"admin", "body_max_bytes", SETTING_BYTES, FIELD(body_max_bytes), "256k", 1024, 8 << 20, NULL,
     false, "longest body of a call"},
    {"admin", "connections_max", SETTING_INT, FIELD(connections_max), "256", 1, 10000, NULL, false,
     "connections at once"},
    {"admin", "drain_ms", SETTING_MS, FIELD(drain_ms), "10s", 0, 600000, NULL, false,
     "how long running calls may take after SIGTERM"},
};

enum { SETTINGS = sizeof table / sizeof *table };

struct admin {
    struct settings settings;
    struct loop *loop;
    struct tls_server *tls;
    struct http_server *server;
    struct api_pool *pool;
    struct health *health;
    struct loop_timer *drain;
};

static void on_request(struct http_exchange *ex, void *arg)
{
    struct admin *a = arg;
    api_pool_take(a->pool, ex);
}

static void on_closed(struct http_exchange *ex, bool complete, void *arg)
{
    api_pool_closed(ex);
}

static const struct http_handlers handlers = {.request = on_request, .closed = on_closed};

static void stop_now(void *arg)
{
    struct admin *a = arg;
    loop_stop(a->loop);
}

static void check_drained(void *arg)
{
    struct admin *a = arg;
    static int64_t waited_ms;
    enum { STEP_MS = 20 };
    waited_ms += STEP_MS;
    if (http_server_stats(a->server)->connections == 0 || waited_ms > a->settings.drain_ms)
        stop_now(a);
    else
        loop_timer_start(a->drain, STEP_MS);
}

static void asked_to_stop(void *arg)
{
    struct admin *a = arg;
    log_info("stopping");
    http_server_drain(a->server);
    loop_timer_start(a->drain, 0);
}

static void asked_to_reload(void *arg)
{
    struct admin *a = arg;
    struct error err;
    if (tls_server_reload(a->tls, &err) == OK)
        log_info("the certificate was read again");
    else
        log_error("the old certificate stays: %s", err.text);
}

static enum status start(struct admin *a, struct error *err)
{
    const struct settings *s = &a->settings;
    const struct tls_options tls = {.certificate_file = s->certificate_file,
                                    .key_file = s->key_file};
    a->loop = loop_new(err);
    if (!a->loop)
        return NOMEM;
    a->tls = tls_server_new(&tls, err);
    if (!a->tls)
        return INVALID;
    const struct api_pool_options pool = {.loop = a->loop,
                                          .database_url = s->database_url,
                                          .redis_url = s->redis_url,
                                          .redis_password =
                                              *s->redis_password ? s->redis_password : NULL,
                                          .threads = (int)s->threads,
                                          .queue_max = (int)s->queue_max};
    a->pool = api_pool_new(&pool, err);
    if (!a->pool)
        return NOMEM;
    const struct http_options http = {.listen = s->listen,
                                      .tls = a->tls,
                                      .limits = {.body_bytes = (size_t)s->body_max_bytes},
                                      .connections_max = (int)s->connections_max,
                                      .handlers = &handlers,
                                      .arg = a};
    a->server = http_server_new(a->loop, &http, err);
    if (!a->server)
        return UNAVAILABLE;
    const struct health_options health = {.listen = s->admin_listen};
    a->health = health_new(a->loop, &health, err);
    if (!a->health)
        return UNAVAILABLE;
    a->drain = loop_timer_new(a->loop, check_drained, a);
    if (!a->drain || loop_signal(a->loop, SIGTERM, asked_to_stop, a) != OK ||
        loop_signal(a->loop, SIGINT, asked_to_stop, a) != OK ||
        loop_signal(a->loop, SIGHUP, asked_to_reload, a) != OK)
        return error_set(err, NOMEM, "cannot handle signals");
    return OK;
}

static void release(struct admin *a)
{
    loop_timer_free(a->drain);
    health_free(a->health);
    http_server_free(a->server);
    api_pool_free(a->pool);
    tls_server_free(a->tls);
    loop_free(a->loop);
    config_done(table, SETTINGS, &a->settings);
}

static int serve(const char *config)
{
    struct admin a = {0};
    struct error err;
    enum status st = config_load(config, table, SETTINGS, config_sections, &a.settings, &err);
    if (st == OK) {
        log_init("admin", (enum log_level)a.settings.log_level);
        st = start(&a, &err);
    }
    if (st == OK) {
        log_info("serving the admin API on %s", a.settings.listen);
        loop_run(a.loop);
        log_info("stopped");
    } else {
        fprintf(stderr, "tollgate-admin: %s\n", err.text);
    }
    release(&a);
    return st == OK ? 0 : EXIT_REFUSED;
}

static int print_settings(void)
{
    struct buf out;
    buf_init(&out, 1 << 20);
    config_describe(table, SETTINGS, &out);
    fwrite(buf_head(&out), 1, buf_len(&out), stdout);
    buf_done(&out);
    return 0;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_DUMPABLE, 0); /* keys pass through: no core dumps */
    if (argc == 3 && strcmp(argv[1], "--config") == 0)
        return serve(argv[2]);
    if (argc == 2 && strcmp(argv[1], "--settings") == 0)
        return print_settings();
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("tollgate-admin %s\n", TOLLGATE_VERSION);
        return 0;
    }
    bool help = argc == 2 && strcmp(argv[1], "--help") == 0;
    fputs("usage: tollgate-admin --config FILE | --settings | --version\n\n"
          "Serves the admin API. Example: tollgate-admin --config /etc/tollgate/tollgate.conf\n",
          help ? stdout : stderr);
    return help ? 0 : EXIT_BAD_CALL;
}
