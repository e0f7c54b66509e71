/* `tollgate-gateway`: starts the loops, passes signals and prices on to them, answers operators. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/health.h"
#include "base/log.h"
#include "gateway/loop.h"
#include "gateway/orphan.h"

enum { EXIT_REFUSED = 1, EXIT_BAD_CALL = 2, SETTLED_MAX = 1 << 18, DRAIN_STEP_MS = 50 };

struct program {
    struct gateway gateway;
    const char *config;
    struct loop *loop; /* the main thread's: signals */
    struct loop_timer *drain;
    struct health *health;
    struct metrics *metrics;
    int64_t drain_until_ms;
    atomic_bool draining; /* read by the thread of /readyz */
};

/* --- the gateway's id --- */

static enum status make_folder(const char *path, struct error *err)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return OK;
    return error_errno(err, errno, "cannot make %s", path);
}

/* STATE/gateway/gateway.id: made once, so that workers know us again after a restart. */
static enum status read_id(struct gateway *g, struct error *err)
{
    char path[1100], text[UUID_TEXT_SIZE + 1] = "";
    enum status st = make_folder(g->settings.state_dir, err);
    snprintf(path, sizeof path, "%s/gateway", g->settings.state_dir);
    if (st == OK)
        st = make_folder(path, err);
    if (st != OK)
        return st;
    snprintf(path, sizeof path, "%s/gateway/gateway.id", g->settings.state_dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_errno(err, errno, "cannot open %s", path);
    ssize_t n = read(fd, text, sizeof text - 1);
    if (n == 0) {
        g->node_id = uuid_v7(clock_wall_ms());
        uuid_format(&g->node_id, text);
        if (write(fd, text, UUID_TEXT_SIZE - 1) != UUID_TEXT_SIZE - 1 || fsync(fd) < 0)
            st = error_errno(err, errno, "cannot write %s", path);
    } else if (n < UUID_TEXT_SIZE - 1 || !uuid_parse(text, UUID_TEXT_SIZE - 1, &g->node_id)) {
        st = error_set(err, CORRUPT, "%s does not hold an id", path);
    }
    close(fd);
    uuid_format(&g->node_id, g->node_text);
    return st;
}

/* --- health --- */

static bool is_ready(struct buf *why, void *arg)
{
    struct program *p = arg;
    struct gateway *g = &p->gateway;
    const char *reason = NULL;
    bool link = false;
    for (int i = 0; i < g->loop_count && !reason; i++) {
        struct gateway_loop *gl = &g->loops[i];
        link = link || atomic_load(&gl->link_ready);
        if (!atomic_load(&gl->journal_ready))
            reason = "the journal takes no records";
        else if (!atomic_load(&gl->prices_ready))
            reason = "prices are not loaded yet";
    }
    if (!reason && !link)
        reason = "no worker is linked";
    if (!reason && p->draining)
        reason = "draining";
    if (reason)
        buf_adds(why, reason);
    return !reason;
}

static enum status put_metrics(struct buf *out, void *arg)
{
    struct gateway *g = arg;
    const struct stats *list[GATEWAY_LOOPS_MAX];
    for (int i = 0; i < g->loop_count; i++)
        list[i] = &g->loops[i].stats;
    return stats_put(out, list, g->loop_count);
}

static enum status start_health(struct program *p, struct error *err)
{
    p->metrics = metrics_new();
    if (!p->metrics)
        return error_set(err, NOMEM, "out of memory");
    metrics_on_render(p->metrics, put_metrics, &p->gateway);
    const struct health_options options = {.listen = p->gateway.settings.admin_listen,
                                           .metrics = p->metrics,
                                           .ready = is_ready,
                                           .arg = p};
    p->health = health_new(NULL, &options, err);
    return p->health ? OK : UNAVAILABLE;
}

/* --- signals --- */

static void check_drained(void *arg)
{
    struct program *p = arg;
    struct gateway *g = &p->gateway;
    int live = 0;
    bool drained = true;
    for (int i = 0; i < g->loop_count; i++) {
        live += atomic_load(&g->loops[i].live_requests);
        drained = drained && atomic_load(&g->loops[i].drained);
    }
    if (clock_mono_ms() < p->drain_until_ms && !drained) {
        loop_timer_start(p->drain, DRAIN_STEP_MS);
        return;
    }
    if (live > 0)
        log_warn("%d requests are cut off", live);
    loop_stop(p->loop);
}

static void on_stop(void *arg)
{
    struct program *p = arg;
    if (p->draining) { /* a second signal: now */
        loop_stop(p->loop);
        return;
    }
    p->draining = true;
    p->drain_until_ms = clock_mono_ms() + p->gateway.settings.drain_ms;
    log_info("draining: running requests have %lld ms", (long long)p->gateway.settings.drain_ms);
    for (int i = 0; i < p->gateway.loop_count; i++)
        gateway_loop_drain(&p->gateway.loops[i]);
    loop_timer_start(p->drain, DRAIN_STEP_MS);
}

static void on_reload(void *arg)
{
    struct program *p = arg;
    struct settings next = {0};
    struct error err;
    enum status st = settings_load(p->config, &next, &err);
    if (st == OK)
        st = config_check_reload(settings_table, settings_count, &p->gateway.settings, &next, &err);
    if (st != OK) {
        log_error("the old settings stay: %s", err.text);
    } else {
        p->gateway.settings.tunables = next.tunables;
        p->gateway.settings.drain_ms = next.drain_ms;
    }
    settings_done(&next);
    for (int i = 0; i < p->gateway.loop_count; i++)
        gateway_loop_reload(&p->gateway.loops[i], &p->gateway.settings.tunables);
}

static void on_prices(struct prices *prices, void *arg)
{
    struct gateway *g = arg;
    for (int i = 0; i < g->loop_count; i++)
        gateway_loop_prices(&g->loops[i], prices);
}

/* --- life --- */

static enum status parse_workers(struct gateway *g, struct error *err)
{
    const struct setting_list *list = &g->settings.workers;
    for (int i = 0; i < list->count; i++) {
        enum status st = address_parse(list->items[i], &g->workers[i], err);
        if (st != OK) {
            error_prefix(err, "workers");
            return st;
        }
    }
    g->worker_count = list->count;
    return OK;
}

static enum status make_loops(struct gateway *g, struct error *err)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    int count = g->settings.loops ? (int)g->settings.loops : (int)processors;
    if (count > GATEWAY_LOOPS_MAX)
        count = GATEWAY_LOOPS_MAX;
    g->loops = aligned_alloc(64, (size_t)count * sizeof *g->loops);
    if (!g->loops)
        return error_set(err, NOMEM, "out of memory");
    memset(g->loops, 0, (size_t)count * sizeof *g->loops);
    g->loop_count = count;
    for (int i = 0; i < count; i++) {
        enum status st = gateway_loop_init(&g->loops[i], g, i, err);
        if (st != OK)
            return st;
    }
    return OK;
}

static enum status start_gateway(struct gateway *g, struct error *err)
{
    g->started_wall_ms = clock_wall_ms();
    enum status st = read_id(g, err);
    if (st == OK)
        st = parse_workers(g, err);
    if (st != OK)
        return st;
    g->registry = registry_new(SETTLED_MAX);
    if (!g->registry)
        return error_set(err, NOMEM, "out of memory");
    st = recovery_read(g, &g->recovery, err);
    if (st != OK)
        return st;
    g->syncer = journal_syncer_new(g->settings.journal_sync_interval_ms, err);
    return g->syncer ? make_loops(g, err) : NOMEM;
}

static enum status start_rest(struct program *p, struct error *err)
{
    struct gateway *g = &p->gateway;
    p->loop = loop_new(err);
    if (!p->loop)
        return NOMEM;
    p->drain = loop_timer_new(p->loop, check_drained, p);
    if (!p->drain || loop_signal(p->loop, SIGTERM, on_stop, p) != OK ||
        loop_signal(p->loop, SIGINT, on_stop, p) != OK ||
        loop_signal(p->loop, SIGHUP, on_reload, p) != OK)
        return error_set(err, NOMEM, "cannot handle signals");
    enum status st = start_health(p, err);
    for (int i = 0; i < g->loop_count && st == OK; i++)
        st = gateway_loop_start(&g->loops[i], err);
    if (st != OK)
        return st;
    const struct prices_options prices = {.database_url = g->settings.database_url,
                                          .refresh_ms = g->settings.price_refresh_ms,
                                          .timeout_ms = g->settings.database_timeout_ms,
                                          .changed = on_prices,
                                          .arg = g};
    g->reader = prices_reader_new(&prices, err);
    return g->reader ? OK : UNAVAILABLE;
}

/* After a failed start the threads that run are simply left: the process ends. */
static void stop(struct program *p)
{
    struct gateway *g = &p->gateway;
    prices_reader_free(g->reader);
    health_free(p->health);
    for (int i = 0; i < g->loop_count; i++) {
        loop_stop(g->loops[i].loop);
        pthread_join(g->loops[i].thread, NULL);
    }
    for (int i = 0; i < g->loop_count; i++)
        gateway_loop_done(&g->loops[i]);
    journal_syncer_free(g->syncer);
    recovery_free(g->recovery);
    registry_free(g->registry);
    metrics_free(p->metrics);
    loop_timer_free(p->drain);
    loop_free(p->loop);
    settings_done(&g->settings);
}

static int serve(const char *config)
{
    static struct program p; /* requests that a cut-off drain leaves stay reachable */
    struct error err;
    p.config = config;
    enum status st = settings_load(config, &p.gateway.settings, &err);
    if (st == OK) {
        int level = log_level_parse(p.gateway.settings.log_level);
        log_init("gateway", level < 0 ? LOG_LEVEL_INFO : (enum log_level)level);
        st = start_gateway(&p.gateway, &err);
    }
    if (st == OK)
        st = start_rest(&p, &err);
    if (st != OK) {
        fprintf(stderr, "tollgate-gateway: %s\n", err.text);
        return EXIT_REFUSED;
    }
    log_info("gateway %s serves %s on %d loops", p.gateway.node_text, p.gateway.settings.listen,
             p.gateway.loop_count);
    loop_run(p.loop);
    stop(&p);
    log_info("stopped");
    return 0;
}

static int print_settings(void)
{
    struct buf out;
    buf_init(&out, 1 << 20);
    enum status st = config_describe(settings_table, settings_count, &out);
    if (st == OK)
        fwrite(buf_head(&out), 1, buf_len(&out), stdout);
    buf_done(&out);
    return st == OK ? 0 : EXIT_REFUSED;
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
        printf("tollgate-gateway %s\n", TOLLGATE_VERSION);
        return 0;
    }
    bool help = argc == 2 && strcmp(argv[1], "--help") == 0;
    fputs("usage: tollgate-gateway --config FILE | --settings | --version\n\n"
          "Serves customers over TLS. Example: tollgate-gateway --config tollgate.conf\n"
          "SIGTERM drains and stops; SIGHUP reads the certificate and reloadable settings again.\n",
          help ? stdout : stderr);
    return help ? 0 : EXIT_BAD_CALL;
}
