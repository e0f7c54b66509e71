#include "gateway/prices.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"

/* Prices are validity ranges, so a book is read whole again now and then, change or none. */
enum { WHOLE_MS = 60 * 1000 };

struct prices {
    atomic_int refs;
    struct pricebook *book;
};

struct prices_reader {
    struct prices_options options;
    pthread_t thread;
    pthread_mutex_t lock; /* guards stop */
    pthread_cond_t wake;
    bool stop;

    struct pg *pg; /* the rest: its thread alone */
    char version[64];
    int64_t loaded_ms;
    bool complained;
};

const struct pricebook *prices_book(const struct prices *p)
{
    return p->book;
}

void prices_ref(struct prices *p)
{
    atomic_fetch_add(&p->refs, 1);
}

void prices_unref(struct prices *p)
{
    if (!p || atomic_fetch_sub(&p->refs, 1) > 1)
        return;
    pricebook_free(p->book);
    free(p);
}

/* Rows of `prices` change in two ways: one is added, or one gets an end. */
static enum status read_version(struct pg *pg, char *out, size_t size, struct error *err)
{
    struct pg_result *rows;
    enum status st = pg_query(
        pg, "SELECT count(*) || ':' || coalesce(sum(hashtext(p::text)::bigint), 0) FROM prices p",
        0, NULL, &rows, err);
    if (st != OK)
        return st;
    const char *text = pg_rows(rows) == 1 ? pg_text(rows, 0, 0) : NULL;
    snprintf(out, size, "%s", text ? text : "");
    pg_result_free(rows);
    return OK;
}

static enum status load(struct prices_reader *r, struct error *err)
{
    char version[sizeof r->version];
    enum status st = read_version(r->pg, version, sizeof version, err);
    int64_t now = clock_mono_ms();
    if (st != OK)
        return st;
    if (r->loaded_ms && strcmp(version, r->version) == 0 && now - r->loaded_ms < WHOLE_MS)
        return OK;
    struct prices *p = malloc(sizeof *p);
    if (!p)
        return error_set(err, NOMEM, "out of memory for the prices");
    atomic_init(&p->refs, 1);
    st = pricebook_load(r->pg, &p->book, err);
    if (st != OK) {
        free(p);
        return st;
    }
    memcpy(r->version, version, sizeof version);
    r->loaded_ms = now;
    r->options.changed(p, r->options.arg);
    prices_unref(p);
    return OK;
}

static void refresh(struct prices_reader *r)
{
    struct error err;
    if (r->pg && !pg_ok(r->pg)) {
        pg_free(r->pg);
        r->pg = NULL;
    }
    if (!r->pg)
        r->pg = pg_connect(r->options.database_url, r->options.timeout_ms, &err);
    enum status st = r->pg ? load(r, &err) : UNAVAILABLE;
    if (st != OK && !r->complained)
        log_warn("cannot read the prices, %s: %s",
                 r->loaded_ms ? "going on with the last ones" : "waiting", err.text);
    if (st == OK && r->complained)
        log_info("prices can be read again");
    r->complained = st != OK;
    if (st != OK && r->pg) {
        pg_free(r->pg);
        r->pg = NULL;
    }
}

static bool pause_or_stop(struct prices_reader *r)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t nsec = until.tv_nsec + r->options.refresh_ms % 1000 * 1000000;
    until.tv_sec += r->options.refresh_ms / 1000 + nsec / 1000000000;
    until.tv_nsec = nsec % 1000000000;
    pthread_mutex_lock(&r->lock);
    while (!r->stop && pthread_cond_timedwait(&r->wake, &r->lock, &until) != ETIMEDOUT)
        ;
    bool stop = r->stop;
    pthread_mutex_unlock(&r->lock);
    return stop;
}

static void *run(void *arg)
{
    struct prices_reader *r = arg;
    do
        refresh(r);
    while (!pause_or_stop(r));
    return NULL;
}

struct prices_reader *prices_reader_new(const struct prices_options *options, struct error *err)
{
    struct prices_reader *r = calloc(1, sizeof *r);
    if (!r) {
        error_set(err, NOMEM, "out of memory for the price reader");
        return NULL;
    }
    r->options = *options;
    pthread_mutex_init(&r->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&r->wake, &attr);
    pthread_condattr_destroy(&attr);
    int failed = pthread_create(&r->thread, NULL, run, r);
    if (!failed)
        return r;
    error_errno(err, failed, "cannot start the price reader");
    free(r);
    return NULL;
}

void prices_reader_free(struct prices_reader *r)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    pg_free(r->pg);
    pthread_cond_destroy(&r->wake);
    pthread_mutex_destroy(&r->lock);
    free(r);
}
