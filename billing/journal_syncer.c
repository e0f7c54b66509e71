#include <assert.h>
#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "billing/journal_private.h"

struct journal_syncer {
    pthread_t thread;
    pthread_mutex_t lock; /* guards the rest, and dirty, busy and next of the journals */
    pthread_cond_t work, idle;
    struct journal_shared *first;
    int64_t interval_ms;
    bool stop;
};

void journal_set_state(struct journal_shared *s, enum journal_state state, const struct error *why)
{
    pthread_mutex_lock(&s->lock);
    if (s->state != JOURNAL_FAILED) {
        if (why)
            s->why = *why;
        s->state = state;
    }
    pthread_mutex_unlock(&s->lock);
}

static enum status sync_retired(struct retired *list, struct error *err)
{
    enum status st = OK;
    while (list) {
        struct retired *next = list->next;
        /* Gives back what was reserved behind the end; losing that is no loss of data. */
        if (ftruncate(list->fd, list->size) != 0)
            errno = 0;
        if (st == OK && fdatasync(list->fd) != 0)
            st = error_errno(err, errno, "cannot sync a journal segment");
        close(list->fd);
        free(list);
        list = next;
    }
    return st;
}

static void tell_loop(struct journal_shared *s)
{
    uint64_t one = 1;
    if (s->wake_fd >= 0 && write(s->wake_fd, &one, sizeof one) < 0)
        assert(errno == EAGAIN); /* the counter is at its end: the loop is told anyway */
}

void journal_sync_now(struct journal_shared *s)
{
    struct error err;
    pthread_mutex_lock(&s->lock);
    int fd = s->fd;
    int64_t written = s->written;
    bool folder_new = s->folder_new;
    struct retired *retired = s->retired;
    s->folder_new = false;
    s->retired = NULL;
    s->retired_last = &s->retired;
    pthread_mutex_unlock(&s->lock);

    /* A failed sync may have thrown the dirty pages away and a second call would lie: so one
     * failure is for ever. fd stays open: the loop retires descriptors, only this closes them. */
    enum status st = sync_retired(retired, &err);
    if (s->state == JOURNAL_FAILED)
        return;
    if (st == OK && folder_new)
        st = segment_sync_folder(s->dir, &err);
    if (st == OK && fdatasync(fd) != 0)
        st = error_errno(&err, errno, "cannot sync the journal in %s", s->dir);
    if (st == OK)
        s->durable = written;
    else
        journal_set_state(s, JOURNAL_FAILED, &err);
    tell_loop(s);
}

static struct journal_shared *take_dirty(struct journal_syncer *y)
{
    struct journal_shared *s = y->first;
    while (s && !s->dirty)
        s = s->next;
    if (s) {
        s->dirty = false;
        s->busy = true;
    }
    return s;
}

static void wait_interval(struct journal_syncer *y)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += y->interval_ms / 1000;
    until.tv_nsec += y->interval_ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    while (!y->stop && pthread_cond_timedwait(&y->idle, &y->lock, &until) != ETIMEDOUT)
        ;
}

static void *sync_all(void *arg)
{
    struct journal_syncer *y = arg;
    pthread_mutex_lock(&y->lock);
    for (;;) {
        struct journal_shared *s;
        while ((s = take_dirty(y))) {
            pthread_mutex_unlock(&y->lock);
            journal_sync_now(s);
            pthread_mutex_lock(&y->lock);
            s->busy = false;
            pthread_cond_broadcast(&y->idle);
        }
        if (y->stop)
            break;
        pthread_cond_wait(&y->work, &y->lock);
        if (y->interval_ms > 0)
            wait_interval(y);
    }
    pthread_mutex_unlock(&y->lock);
    return NULL;
}

struct journal_syncer *journal_syncer_new(int64_t interval_ms, struct error *err)
{
    struct journal_syncer *y = calloc(1, sizeof *y);
    if (!y) {
        error_set(err, NOMEM, "out of memory for the journal syncer");
        return NULL;
    }
    y->interval_ms = interval_ms;
    pthread_mutex_init(&y->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&y->work, &attr);
    pthread_cond_init(&y->idle, &attr);
    pthread_condattr_destroy(&attr);
    int failed = pthread_create(&y->thread, NULL, sync_all, y);
    if (failed) {
        error_errno(err, failed, "cannot start the journal syncer");
        free(y);
        return NULL;
    }
    return y;
}

void journal_syncer_free(struct journal_syncer *y)
{
    if (!y)
        return;
    pthread_mutex_lock(&y->lock);
    y->stop = true;
    pthread_cond_broadcast(&y->work);
    pthread_cond_broadcast(&y->idle);
    pthread_mutex_unlock(&y->lock);
    pthread_join(y->thread, NULL);
    assert(!y->first); /* the journals are closed first */
    pthread_cond_destroy(&y->work);
    pthread_cond_destroy(&y->idle);
    pthread_mutex_destroy(&y->lock);
    free(y);
}

void journal_syncer_add(struct journal_syncer *y, struct journal_shared *s)
{
    pthread_mutex_lock(&y->lock);
    s->next = y->first;
    y->first = s;
    pthread_mutex_unlock(&y->lock);
}

void journal_syncer_remove(struct journal_syncer *y, struct journal_shared *s)
{
    pthread_mutex_lock(&y->lock);
    s->dirty = false;
    while (s->busy)
        pthread_cond_wait(&y->idle, &y->lock);
    struct journal_shared **link = &y->first;
    while (*link != s)
        link = &(*link)->next;
    *link = s->next;
    pthread_mutex_unlock(&y->lock);
}

void journal_syncer_wake(struct journal_syncer *y, struct journal_shared *s)
{
    pthread_mutex_lock(&y->lock);
    if (!s->dirty) {
        s->dirty = true;
        pthread_cond_signal(&y->work);
    }
    pthread_mutex_unlock(&y->lock);
}
