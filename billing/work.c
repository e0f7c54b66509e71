#include "billing/work.h"

#include <pthread.h>
#include <time.h>

#include "auth/migrate.h"
#include "base/clock.h"
#include "base/log.h"
#include "billing/work_metrics.h"

enum { CONNECT_TIMEOUT_MS = 5000, REDIS_TIMEOUT_MS = 5000, RETRY_MS = 500, ROUNDS_MAX = 4 };

struct work {
    const struct billing_settings *settings;
    struct uuid id; /* of this process as a leader */
    struct pg *pg;
    struct redis_sync *redis;
    struct shipper *shipper;
    struct balances *balances;
    struct work_metrics metrics;
    pthread_t thread;

    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t wake;
    bool stop;
    struct work_status status;
};

void work_read(struct work *w, struct work_status *out)
{
    pthread_mutex_lock(&w->lock);
    *out = w->status;
    pthread_mutex_unlock(&w->lock);
}

bool work_ready(struct buf *why, void *arg)
{
    struct work *w = arg;
    struct work_status s;
    work_read(w, &s);
    if (s.state == WORK_STANDBY)
        return true; /* it has nothing to do, and is there to do it */
    if (s.state == WORK_CONNECTING) {
        buf_addf(why, "not connected: %s", s.why.text);
        return false;
    }
    if (s.ship.stopped > 0) {
        buf_addf(why, "%d journal shards are stopped: %s", s.ship.stopped, s.ship.why.text);
        return false;
    }
    if (s.balances_why.text[0]) {
        buf_addf(why, "balances: %s", s.balances_why.text);
        return false;
    }
    if (clock_mono_ms() - s.round_mono_ms > w->settings->late_ready_ms) {
        buf_adds(why, "no round of shipping has succeeded lately");
        return false;
    }
    return true;
}

/* Says it once, and again when it changes. */
static void set_state(struct work *w, enum work_state state, const struct error *why)
{
    static const char *const names[] = {"connecting", "standing by: another process leads",
                                        "leading"};
    struct error old;
    pthread_mutex_lock(&w->lock);
    bool changed = w->status.state != state;
    old = w->status.why;
    w->status.state = state;
    w->status.why = why ? *why : (struct error){""};
    pthread_mutex_unlock(&w->lock);
    if (why && strcmp(old.text, why->text) != 0)
        log_error("%s", why->text);
    else if (changed)
        log_info("%s", names[state]);
}

static void say_shards(const struct shipper_status *old, const struct shipper_status *now)
{
    if (now->stopped && strcmp(old->why.text, now->why.text) != 0)
        log_error("%d journal shards are stopped: %s", now->stopped, now->why.text);
    else if (now->stopped != old->stopped)
        log_info("%d journal shards are stopped", now->stopped);
    if (now->total.conflicts != old->total.conflicts)
        log_error("%lld journal records disagree with what is stored; tollgate reconcile names "
                  "them",
                  (long long)(now->total.conflicts - old->total.conflicts));
    if (now->total.events != old->total.events)
        log_debug("shipped %lld events", (long long)(now->total.events - old->total.events));
}

static void say_balances(const struct work_status *old, const struct work_status *now)
{
    const char *why = now->balances_why.text;
    if (strcmp(old->balances_why.text, why) != 0) {
        if (why[0])
            log_error("balances: %s", why);
        else
            log_info("balances: well again");
    }
    if (now->balances.rebuilt_total != old->balances.rebuilt_total)
        log_info("set %lld balances in Redis from the ledger",
                 (long long)(now->balances.rebuilt_total - old->balances.rebuilt_total));
    if (now->balances.released_total != old->balances.released_total)
        log_warn("gave back %lld holds that no journal knows",
                 (long long)(now->balances.released_total - old->balances.released_total));
}

static void publish_round(struct work *w, bool good, const struct error *balances_why)
{
    struct work_status old, now;
    pthread_mutex_lock(&w->lock);
    old = w->status;
    w->status.ship = *shipper_status(w->shipper);
    if (!w->status.ship.stopped)
        w->status.ship.why.text[0] = 0;
    if (w->balances)
        w->status.balances = *balances_status(w->balances);
    w->status.balances_why = *balances_why;
    if (good)
        w->status.round_mono_ms = clock_mono_ms();
    now = w->status;
    pthread_mutex_unlock(&w->lock);
    say_shards(&old.ship, &now.ship);
    say_balances(&old, &now);
    work_metrics_set(&w->metrics, &now);
}

static enum status open_redis(struct work *w, struct error *err)
{
    const struct billing_settings *s = w->settings;
    struct redis_options options = {
        .url = s->redis_url,
        .password = s->redis_password[0] ? s->redis_password : NULL,
        .connect_timeout_ms = REDIS_TIMEOUT_MS,
        .command_timeout_ms = REDIS_TIMEOUT_MS,
    };
    if (!w->redis)
        w->redis = redis_sync_new(&options, err);
    if (w->redis && !w->balances)
        w->balances = balances_new(w->redis, &w->id, err);
    return w->balances ? OK : UNAVAILABLE;
}

/* *why is empty when all went well. */
static void keep_balances(struct work *w, bool *again, struct error *why)
{
    struct error err;
    bool shipped = shipper_status(w->shipper)->stopped == 0;
    *again = false;
    why->text[0] = 0;
    enum status st = open_redis(w, &err);
    if (st == OK)
        st = balances_round(w->balances, w->pg, shipped, again, &err);
    if (st != OK)
        *why = err;
    else if (!shipped && balances_status(w->balances)->missing > 0)
        error_set(why, UNAVAILABLE, "%d balances cannot be set while a journal shard is stopped",
                  balances_status(w->balances)->missing);
}

static enum status run_round(struct work *w, struct error *err)
{
    bool again = true;
    enum status st = OK;
    for (int i = 0; st == OK && again && i < ROUNDS_MAX; i++) {
        struct error why = {""};
        st = shipper_run(w->shipper, w->pg, err);
        if (st == CLOSED)
            st = shipper_run(w->shipper, w->pg, err);
        if (st == OK)
            keep_balances(w, &again, &why);
        publish_round(w, st == OK, &why);
    }
    return st;
}

static enum status connect_database(struct work *w, struct error *err)
{
    w->pg = pg_connect(w->settings->database_url, CONNECT_TIMEOUT_MS, err);
    if (!w->pg)
        return UNAVAILABLE;
    pg_set_timeout(w->pg, w->settings->query_timeout_ms);
    return migrate_check(w->pg, err);
}

/* The lock of the leader lives and dies with the connection. */
static void step(struct work *w)
{
    struct error err = {""};
    struct work_status s;
    work_read(w, &s);
    enum status st = OK;
    if (!w->pg)
        st = connect_database(w, &err);
    if (st == OK && s.state != WORK_LEADING) {
        st = shipper_lead(w->pg, &err);
        if (st == LIMITED) {
            set_state(w, WORK_STANDBY, NULL);
            return;
        }
        if (st == OK)
            set_state(w, WORK_LEADING, NULL);
    }
    if (st == OK)
        st = run_round(w, &err);
    if (st == OK && pg_ok(w->pg))
        return;
    if (st == OK)
        error_set(&err, UNAVAILABLE, "the connection to PostgreSQL was lost");
    set_state(w, WORK_CONNECTING, &err);
    pg_free(w->pg);
    w->pg = NULL;
}

/* false: stop. */
static bool wait_interval(struct work *w)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    pthread_mutex_lock(&w->lock);
    int64_t ms = w->settings->ship_interval_ms;
    if (w->status.state != WORK_LEADING && ms < RETRY_MS)
        ms = RETRY_MS;
    int64_t ns = until.tv_nsec + ms % 1000 * 1000000;
    until.tv_sec += ms / 1000 + ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    while (!w->stop && pthread_cond_timedwait(&w->wake, &w->lock, &until) == 0)
        ;
    bool go_on = !w->stop;
    pthread_mutex_unlock(&w->lock);
    return go_on;
}

static void *run(void *arg)
{
    struct work *w = arg;
    do {
        step(w);
    } while (wait_interval(w));
    struct work_status s;
    work_read(w, &s);
    if (s.state == WORK_LEADING)
        step(w);
    return NULL;
}

static void free_work(struct work *w)
{
    balances_free(w->balances);
    redis_sync_free(w->redis);
    shipper_free(w->shipper);
    pg_free(w->pg);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

static struct shipper *make_shipper(const struct billing_settings *s, struct error *err)
{
    char usual[1024];
    snprintf(usual, sizeof usual, "%s/gateway/journal", s->state_dir);
    const char *only[] = {usual};
    struct shipper_options options = {
        .dirs = only, .dir_count = 1, .keep_segments = (int)s->keep_segments};
    if (s->journal_dirs.count > 0) {
        options.dirs = (const char *const *)s->journal_dirs.items;
        options.dir_count = s->journal_dirs.count;
    }
    return shipper_new(&options, err);
}

struct work *work_start(const struct billing_settings *settings, struct metrics *metrics,
                        struct error *err)
{
    struct work *w = calloc(1, sizeof *w);
    if (!w) {
        error_set(err, NOMEM, "out of memory");
        return NULL;
    }
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&w->lock, NULL);
    w->settings = settings;
    w->id = uuid_v7(clock_wall_ms());
    error_set(&w->status.why, UNAVAILABLE, "starting");
    work_metrics_init(&w->metrics, metrics);
    w->shipper = make_shipper(settings, err);
    if (!w->shipper) {
        free_work(w);
        return NULL;
    }
    int failed = pthread_create(&w->thread, NULL, run, w);
    if (failed) {
        error_errno(err, failed, "cannot start a thread");
        free_work(w);
        return NULL;
    }
    return w;
}

void work_stop(struct work *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    free_work(w);
}
