#include "gateway/loop.h"

#include <signal.h>

#include "base/clock.h"
#include "base/log.h"
#include "gateway/front.h"
#include "gateway/meter.h"
#include "gateway/orphan.h"
#include "gateway/request.h"
#include "gateway/serve.h"

enum { TICK_MS = 100, LINGER_MS = 2000, SCRATCH_MAX = 64 << 20, KEY_QUERIES_MAX = 4096 };

static void on_durable(void *arg)
{
    meter_durable(arg);
    orphan_durable(arg);
}

/* What waits for a place goes in front of the journal, since ADMIT comes with it. */
static void before_journal(void *arg)
{
    dispatch_turn(arg);
}

static void at_journal(void *arg)
{
    meter_turn(arg);
}

static void on_link_changed(struct link *l, const char *what, void *arg)
{
    struct gateway_loop *gl = arg;
    char *said = gl->link_said[link_index(l)];
    if (strncmp(said, what, LINK_SAID_SIZE - 1) == 0)
        return; /* every attempt to connect fails in the same way */
    snprintf(said, LINK_SAID_SIZE, "%s", what);
    if (gl->number == 0)
        log_info("worker %s: %s", link_name(l), what);
}

static void describe(struct gateway_loop *gl)
{
    uint64_t up = 0;
    for (int i = 0; i < gl->link_count; i++)
        up += link_serves(gl->links[i]);
    stat_set(&gl->stats.links_up, up);
    atomic_store_explicit(&gl->link_ready, up > 0, memory_order_relaxed);
    meter_describe(gl);
    orphan_describe(gl);
}

/* Connections without a request (somebody's pool, a slow reader of an answer) have a moment more.
 */
static bool is_drained(struct gateway_loop *gl, int64_t now_ms)
{
    if (gl->request_count > 0 || !list_empty(&gl->adopted) || !list_empty(&gl->orphans) ||
        admission_pending(gl->admission) > 0) {
        gl->quiet_ms = 0;
        return false;
    }
    if (gl->quiet_ms == 0)
        gl->quiet_ms = now_ms;
    return http_server_stats(gl->http)->connections == 0 || now_ms - gl->quiet_ms >= LINGER_MS;
}

static void tick(void *arg)
{
    struct gateway_loop *gl = arg;
    int64_t now_ms = loop_now_ms(gl->loop);
    for (int i = 0; i < gl->link_count; i++)
        link_tick(gl->links[i], now_ms, gl->tunables.worker_silent_ms);
    dispatch_tick(gl, now_ms);
    struct list *next;
    for (struct list *at = gl->requests.next; at != &gl->requests; at = next) {
        next = at->next;
        serve_tick(list_entry(at, struct request, all), now_ms);
    }
    orphan_tick(gl, now_ms);
    if (gl->number == 0)
        recovery_tick(gl, now_ms);
    describe(gl);
    if (gl->draining && is_drained(gl, now_ms)) {
        atomic_store(&gl->drained, true);
        loop_stop(gl->loop);
    } else {
        loop_timer_start(gl->tick, TICK_MS);
    }
}

static enum status make_stores(struct gateway_loop *gl, struct error *err)
{
    const struct settings *s = &gl->gateway->settings;
    const struct redis_options redis = {.url = s->redis_url,
                                        .password = *s->redis_password ? s->redis_password : NULL,
                                        .connect_timeout_ms = s->redis_timeout_ms,
                                        .command_timeout_ms = s->redis_timeout_ms};
    gl->redis = redis_new(gl->loop, &redis, err);
    if (!gl->redis)
        return INVALID;
    gl->pg = pg_async_new(gl->loop, s->database_url, KEY_QUERIES_MAX, s->database_timeout_ms, err);
    if (!gl->pg)
        return INVALID;
    const struct keyring_options ring = {.redis = gl->redis,
                                         .redis_options = &redis,
                                         .pg = gl->pg,
                                         .entries_max = (int)s->key_cache_entries,
                                         .ttl_ms = s->key_ttl_ms,
                                         .ttl_blind_ms = s->key_ttl_blind_ms};
    gl->keyring = keyring_new(gl->loop, &ring, err);
    if (!gl->keyring)
        return INVALID;
    gl->admission = admission_new(gl->loop, gl->redis, &gl->gateway->node_id, err);
    if (!gl->admission)
        return NOMEM;
    if (gl->gateway->loop_count > 1)
        admission_set_share(gl->admission, 4 * gl->gateway->loop_count);
    gl->failures = failures_new();
    return gl->failures ? OK : error_set(err, NOMEM, "out of memory");
}

static enum status make_journal(struct gateway_loop *gl, struct error *err)
{
    const struct settings *s = &gl->gateway->settings;
    char dir[1100];
    snprintf(dir, sizeof dir, "%s/gateway/journal", s->state_dir);
    const struct journal_options journal = {.dir = dir,
                                            .shard = gl->number,
                                            .segment_bytes = s->journal_segment_bytes,
                                            .reserve_bytes = s->journal_reserve_bytes,
                                            .syncer = gl->gateway->syncer,
                                            .gateway_id = &gl->gateway->node_id,
                                            .loop = gl->loop,
                                            .on_durable = on_durable,
                                            .arg = gl};
    enum status st = journal_open(&journal, &gl->journal, err);
    if (st == OK)
        atomic_store(&gl->journal_ready, true);
    return st;
}

static enum status make_link_tls(struct gateway_loop *gl, struct error *err)
{
    const struct settings *s = &gl->gateway->settings;
    int given = !!*s->worker_certificate_file + !!*s->worker_key_file + !!*s->worker_ca_file;
    if (given == 0)
        return OK;
    if (given < 3)
        return error_set(err, INVALID,
                         "worker_certificate_file, worker_key_file and worker_ca_file go "
                         "together");
    const struct tls_client_options o = {.certificate_file = s->worker_certificate_file,
                                         .key_file = s->worker_key_file,
                                         .ca_file = s->worker_ca_file};
    gl->link_tls = tls_client_new(&o, err);
    return gl->link_tls ? OK : INVALID;
}

static enum status make_links(struct gateway_loop *gl, struct error *err)
{
    enum status st = make_link_tls(gl, err);
    if (st != OK)
        return st;
    struct link_handlers *handlers = malloc(sizeof *handlers);
    if (!handlers)
        return error_set(err, NOMEM, "out of memory");
    *handlers = serve_link_handlers;
    handlers->usage = orphan_usage;
    handlers->changed = on_link_changed;
    handlers->arg = gl;
    gl->link_handlers = handlers;
    for (int i = 0; i < gl->gateway->worker_count; i++) {
        const struct address *address = &gl->gateway->workers[i];
        if (gl->number == 0 && !gl->link_tls && !address_is_local(address))
            log_warn("the link to worker %s is not encrypted: keep it inside a trusted network",
                     address->text);
        const struct link_options link = {.address = address,
                                          .tls = gl->link_tls,
                                          .node_id = gl->gateway->node_text,
                                          .index = i,
                                          .journal = gl->journal,
                                          .handlers = handlers};
        gl->links[i] = link_new(gl->loop, &link);
        if (!gl->links[i])
            return error_set(err, NOMEM, "out of memory for the links to workers");
        gl->link_count++;
    }
    return OK;
}

static enum status make_server(struct gateway_loop *gl, struct error *err)
{
    const struct settings *s = &gl->gateway->settings;
    const struct tls_options tls = {.certificate_file = s->certificate_file,
                                    .key_file = s->key_file};
    gl->tls = tls_server_new(&tls, err);
    if (!gl->tls)
        return INVALID;
    const struct http_options http = {
        .listen = s->listen,
        .reuse_port = true,
        .tls = gl->tls,
        .limits = {.head_bytes = (size_t)s->header_bytes,
                   .fields = (int)s->header_fields,
                   .body_bytes = (size_t)s->body_bytes},
        .handshake_timeout_ms = s->handshake_timeout_ms,
        .head_timeout_ms = s->header_timeout_ms,
        .body_timeout_ms = s->body_timeout_ms,
        .idle_timeout_ms = s->idle_timeout_ms,
        .write_timeout_ms = s->write_timeout_ms,
        .connections_max = (int)s->connections_max,
        .output_mark_bytes = (size_t)s->output_mark_bytes,
        .output_max_bytes = (size_t)s->output_max_bytes,
        .handlers = &front_handlers,
        .arg = gl,
    };
    gl->http = http_server_new(gl->loop, &http, err);
    return gl->http ? OK : UNAVAILABLE;
}

enum status gateway_loop_init(struct gateway_loop *gl, struct gateway *g, int number,
                              struct error *err)
{
    gl->gateway = g;
    gl->number = number;
    gl->tunables = g->settings.tunables;
    list_init(&gl->requests);
    list_init(&gl->settling);
    list_init(&gl->unsynced);
    list_init(&gl->adopted);
    list_init(&gl->orphans);
    buf_init(&gl->scratch, SCRATCH_MAX);
    gl->loop = loop_new(err);
    if (!gl->loop)
        return NOMEM;
    loop_hook(gl->loop, LOOP_PHASE_CALLS, before_journal, gl);
    loop_hook(gl->loop, LOOP_PHASE_JOURNAL, at_journal, gl);
    enum status st = make_journal(gl, err);
    if (st == OK)
        st = make_stores(gl, err);
    if (st == OK)
        st = make_links(gl, err);
    if (st == OK)
        st = make_server(gl, err);
    if (st != OK)
        return st;
    gl->tick = loop_timer_new(gl->loop, tick, gl);
    if (!gl->tick)
        return error_set(err, NOMEM, "out of memory");
    loop_timer_start(gl->tick, TICK_MS);
    return OK;
}

static void *run(void *arg)
{
    struct gateway_loop *gl = arg;
    if (gl->number == 0)
        recovery_begin(gl);
    loop_run(gl->loop);
    return NULL;
}

enum status gateway_loop_start(struct gateway_loop *gl, struct error *err)
{
    sigset_t all, old;
    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int failed = pthread_create(&gl->thread, NULL, run, gl);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return failed ? error_errno(err, failed, "cannot start a loop's thread") : OK;
}

static void free_spares(struct gateway_loop *gl)
{
    while (gl->spare) {
        struct request *r = gl->spare;
        gl->spare = r->next_spare;
        chat_choice_done(&r->first);
        arena_free(r->arena);
        free(r);
    }
}

void gateway_loop_done(struct gateway_loop *gl)
{
    journal_close(gl->journal);
    /* What a cut-off drain left stays as it is: the process ends now, the ADMITs are open, and the
     * next process settles them. */
    if (gl->request_count > 0)
        return;
    http_server_free(gl->http);
    free_spares(gl);
    for (int i = 0; i < gl->link_count; i++)
        link_free(gl->links[i]);
    tls_client_free(gl->link_tls);
    free(gl->link_handlers);
    keyring_free(gl->keyring);
    admission_free(gl->admission);
    redis_free(gl->redis);
    pg_async_free(gl->pg);
    failures_free(gl->failures);
    tls_server_free(gl->tls);
    loop_timer_free(gl->tick);
    orphan_done(gl);
    prices_unref(gl->prices);
    buf_done(&gl->scratch);
    loop_free(gl->loop);
}

/* --- from other threads --- */

struct message {
    struct gateway_loop *gl;
    struct prices *prices;
    struct tunables tunables;
};

static struct message *new_message(struct gateway_loop *gl)
{
    struct message *m = calloc(1, sizeof *m);
    if (m)
        m->gl = gl;
    return m;
}

static void take_prices(void *arg)
{
    struct message *m = arg;
    prices_unref(m->gl->prices);
    m->gl->prices = m->prices;
    atomic_store_explicit(&m->gl->prices_ready, true, memory_order_relaxed);
    free(m);
}

void gateway_loop_prices(struct gateway_loop *gl, struct prices *p)
{
    struct message *m = new_message(gl);
    if (!m)
        return; /* the next snapshot comes soon */
    prices_ref(p);
    m->prices = p;
    if (loop_post(gl->loop, take_prices, m) != OK) {
        prices_unref(p);
        free(m);
    }
}

/* Each loop reads for itself; the first one says that it went well. */
static void say_reloaded(const struct gateway_loop *gl, enum status st, const char *what,
                         const struct error *err)
{
    if (st != OK)
        log_error("loop %d: the old %s stays: %s", gl->number, what, err->text);
    else if (gl->number == 0)
        log_info("the %s was read again", what);
}

static void take_reload(void *arg)
{
    struct message *m = arg;
    struct gateway_loop *gl = m->gl;
    struct error err;
    gl->tunables = m->tunables;
    free(m);
    say_reloaded(gl, tls_server_reload(gl->tls, &err), "certificate", &err);
    if (gl->link_tls)
        say_reloaded(gl, tls_client_reload(gl->link_tls, &err), "certificate of links", &err);
}

void gateway_loop_reload(struct gateway_loop *gl, const struct tunables *t)
{
    struct message *m = new_message(gl);
    if (!m)
        return;
    m->tunables = *t;
    if (loop_post(gl->loop, take_reload, m) != OK)
        free(m);
}

static void take_drain(void *arg)
{
    struct gateway_loop *gl = arg;
    gl->draining = true;
    http_server_drain(gl->http);
}

void gateway_loop_drain(struct gateway_loop *gl)
{
    if (loop_post(gl->loop, take_drain, gl) != OK)
        loop_stop(gl->loop);
}
