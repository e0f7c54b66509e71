#include "worker/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "worker/server.h"
#include "worker/status.h"

struct serve {
    const struct worker_settings *settings;
    struct loop *loop;
    struct usage_table *usage;
    struct engine *engine;
    struct tls_server *tls; /* of links over TCP; NULL: in the clear */
    struct server *server;
    struct status_page *page;
    char dir[1024], node_id[UUID_TEXT_SIZE];
    int signals;
};

static enum status make_dir(const char *path, struct error *err)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return OK;
    return error_errno(err, errno, "cannot make the folder %s", path);
}

static enum status write_id(struct serve *s, const char *path, struct error *err)
{
    char fresh[1100];
    snprintf(fresh, sizeof fresh, "%s.new", path);
    struct uuid id = uuid_v7(clock_wall_ms());
    uuid_format(&id, s->node_id);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_errno(err, errno, "cannot make %s", fresh);
    bool done = write(fd, s->node_id, 36) == 36 && fsync(fd) == 0;
    int why = errno;
    close(fd);
    if (!done)
        return error_errno(err, why, "cannot write %s", fresh);
    if (rename(fresh, path) != 0)
        return error_errno(err, errno, "cannot make %s", path);
    return OK;
}

/* The node id is kept, so that a restarted worker is known as the same. */
static enum status read_id(struct serve *s, struct error *err)
{
    char path[1090];
    snprintf(path, sizeof path, "%s/worker.id", s->dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? write_id(s, path, err)
                               : error_errno(err, errno, "cannot open %s", path);
    char text[64];
    ssize_t got = read(fd, text, sizeof text);
    close(fd);
    while (got > 0 && text[got - 1] == '\n')
        got--;
    struct uuid id;
    if (got != 36 || !uuid_parse(text, 36, &id))
        return error_set(err, CORRUPT, "%s does not hold a UUID", path);
    uuid_format(&id, s->node_id);
    return OK;
}

static enum status open_state(struct serve *s, struct error *err)
{
    const struct worker_settings *w = s->settings;
    char path[1090];
    snprintf(s->dir, sizeof s->dir, "%s/worker", w->state_dir);
    enum status st = make_dir(w->state_dir, err);
    if (st == OK)
        st = make_dir(s->dir, err);
    if (st == OK)
        st = read_id(s, err);
    if (st != OK)
        return st;
    snprintf(path, sizeof path, "%s/usage.table", s->dir);
    st = usage_open(path, (uint32_t)w->usage_slots, clock_wall_ms(), &s->usage, err);
    if (st == OK && usage_unacked_count(s->usage) > 0)
        log_info("%u requests of an earlier run wait for their usage to be acknowledged",
                 usage_unacked_count(s->usage));
    return st;
}

static struct backend *make_backend(struct serve *s, struct error *err)
{
    const struct worker_settings *w = s->settings;
    const struct sink *sink = engine_sink(s->engine);
    if (w->backend == BACKEND_ECHO)
        return backend_echo_new(*w->model_name ? w->model_name : "echo", sink, err);
    if (!*w->model_dir) {
        error_set(err, INVALID, "no model: give --model DIR, or [worker] model_dir");
        return NULL;
    }
    struct cpu_options o = {.model_dir = w->model_dir,
                            .model_name = *w->model_name ? w->model_name : NULL,
                            .threads = (int)w->threads,
                            .sequences_max = (int)w->sequences_max,
                            .kv_bytes = w->kv_bytes,
                            .kv_type = (enum kv_type)w->kv_type,
                            .deterministic = w->deterministic,
                            .weights = (enum model_weights)w->quantize,
                            .large_pages = w->large_pages,
                            .rounded = w->activations == 1,
                            .speculate = w->speculate,
                            .step_tokens = (int)w->step_tokens,
                            .default_output_tokens = (int)w->default_output_tokens};
    return backend_cpu_new(&o, sink, err);
}

static void on_signal(void *arg)
{
    struct serve *s = arg;
    if (s->signals++ == 0) {
        log_info("stopping: running requests have %lld ms to finish",
                 (long long)s->settings->drain_ms);
        server_drain(s->server);
    } else {
        log_warn("stopping at once");
        loop_stop(s->loop);
    }
}

static void on_reload(void *arg)
{
    struct serve *s = arg;
    struct error err;
    if (!s->tls)
        log_info("there is nothing to read again: no setting of a worker changes while it runs");
    else if (tls_server_reload(s->tls, &err) != OK)
        log_error("the old certificate of links stays: %s", err.text);
    else
        log_info("the certificate of links was read again");
}

static void on_drained(void *arg)
{
    struct serve *s = arg;
    loop_stop(s->loop);
}

static enum status open_page(struct serve *s, struct error *err)
{
    const struct worker_settings *w = s->settings;
    struct status_options o = {w->admin_listen, w->ready_step_age_ms};
    if (!*w->admin_listen)
        return OK;
    enum status st = status_new(s->loop, s->server, s->engine, &o, &s->page, err);
    if (st != OK)
        error_prefix(err, "admin_listen");
    return st;
}

static enum status make_tls(struct serve *s, struct error *err)
{
    const struct worker_settings *w = s->settings;
    int given = !!*w->certificate_file + !!*w->key_file + !!*w->client_ca_file;
    if (given == 0)
        return OK;
    if (given < 3)
        return error_set(err, INVALID, "certificate_file, key_file and client_ca_file go together");
    const struct tls_options o = {.certificate_file = w->certificate_file,
                                  .key_file = w->key_file,
                                  .client_ca_file = w->client_ca_file};
    s->tls = tls_server_new(&o, err);
    return s->tls ? OK : INVALID;
}

static enum status start(struct serve *s, struct error *err)
{
    const struct worker_settings *w = s->settings;
    struct server_options o = {.node_id = s->node_id,
                               .hello_ms = w->hello_timeout_ms,
                               .stall_ms = w->stall_timeout_ms,
                               .offer_ms = w->offer_ms,
                               .foreign_offer_ms = w->foreign_offer_ms,
                               .drain_ms = w->drain_ms,
                               .links_max = (int)w->links_max,
                               .streams_max = (int)w->streams_max,
                               .link_output_bytes = (size_t)w->link_output_bytes,
                               .on_drained = on_drained,
                               .arg = s};
    enum status st = address_parse(w->listen, &o.listen, err);
    if (st == OK)
        st = make_tls(s, err);
    if (st == OK)
        st = open_state(s, err);
    if (st != OK)
        return st;
    o.tls = s->tls;
    s->loop = loop_new(err);
    s->engine = s->loop ? engine_new(s->loop, err) : NULL;
    if (!s->engine)
        return NOMEM;
    struct backend *b = make_backend(s, err);
    if (!b)
        return INVALID;
    engine_adopt(s->engine, b);
    st = server_new(s->loop, s->engine, s->usage, &o, &s->server, err);
    if (st == OK)
        st = open_page(s, err);
    if (st != OK)
        return st;
    if (loop_signal(s->loop, SIGTERM, on_signal, s) != OK ||
        loop_signal(s->loop, SIGINT, on_signal, s) != OK ||
        loop_signal(s->loop, SIGHUP, on_reload, s) != OK)
        return error_set(err, IO_FAILED, "cannot take signals");
    if (!address_is_local(&o.listen) && !s->tls)
        log_warn("links on %s are not encrypted: keep them inside a trusted network", w->listen);
    log_info("serving %s on %s as %s, context %u", b->model.name, w->listen, s->node_id,
             b->model.context_tokens);
    if (b->model.completions_only)
        log_info("%s has no chat template: it is served for completions only", b->model.name);
    return OK;
}

enum status serve_run(const struct worker_settings *settings, struct error *err)
{
    struct serve s = {.settings = settings};
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN); /* until it is up, which reads everything anyway */
    enum status st = start(&s, err);
    if (st == OK)
        loop_run(s.loop);
    status_free(s.page);
    server_free(s.server);
    engine_free(s.engine);
    tls_server_free(s.tls);
    usage_close(s.usage);
    loop_free(s.loop);
    return st;
}
