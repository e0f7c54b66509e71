#include "billing/journal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "billing/journal_private.h"

/* The gathered records of a turn; past it the turn is written in pieces. */
enum { GATHER_BYTES = 1 << 20, RETRY_MS = 1000 };

struct journal {
    struct journal_shared shared;
    struct journal_syncer *syncer;
    int shard;
    int lock_fd;
    int64_t seq;
    struct uuid source;
    int64_t segment_bytes, reserve_bytes;
    int64_t file_bytes; /* of the current segment */
    int64_t appended;   /* position */
    int64_t full_since_ms;
    struct loop_io *wake;
    loop_fn *on_durable;
    void *arg;
    size_t gathered;
    uint8_t gather[GATHER_BYTES];
};

static enum status lock_shard(struct journal *j, const char *dir, struct error *err)
{
    char path[SEGMENT_PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/journal-%d.lock", dir, j->shard);
    j->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (j->lock_fd < 0)
        return error_errno(err, errno, "cannot open %s", path);
    if (flock(j->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return OK;
    if (errno == EWOULDBLOCK)
        return error_set(err, CONFLICT, "another process writes the journal of shard %d in %s",
                         j->shard, dir);
    return error_errno(err, errno, "cannot lock %s", path);
}

/* Repairs the newest segment of the shard and finds the last number used. */
static enum status take_over(struct journal *j, const char *dir, struct error *err)
{
    struct segment_list list;
    enum status st = segment_list(dir, &list, err);
    if (st != OK)
        return st;
    int64_t last = -1;
    for (size_t i = 0; i < list.count; i++)
        if (list.items[i].shard == j->shard)
            last = list.items[i].seq;
    segment_list_done(&list);
    j->seq = last;
    if (last < 0)
        return OK;
    return segment_repair(dir, (struct segment_name){j->shard, last}, err);
}

/* Never the number of a file that was deleted or lost: a reader's cursor may still name it. */
static int64_t next_seq(const struct journal *j)
{
    int64_t now = clock_wall_ms();
    return now > j->seq ? now : j->seq + 1;
}

static enum status begin_segment(struct journal *j, int *fd, struct error *err)
{
    struct segment_new segment = {
        .dir = j->shared.dir,
        .name = {j->shard, next_seq(j)},
        .source = j->source,
        .reserve_bytes = j->segment_bytes + GATHER_BYTES + j->reserve_bytes,
    };
    enum status st = segment_create(&segment, fd, err);
    if (st == OK)
        j->seq = segment.name.seq;
    return st;
}

static void durable_seen(int fd, int ready, void *arg)
{
    struct journal *j = arg;
    uint64_t count;
    if (read(fd, &count, sizeof count) == (ssize_t)sizeof count)
        j->on_durable(j->arg);
}

static enum status listen_durable(struct journal *j, const struct journal_options *options,
                                  struct error *err)
{
    if (!options->loop || !options->on_durable)
        return OK;
    j->on_durable = options->on_durable;
    j->arg = options->arg;
    j->shared.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (j->shared.wake_fd < 0)
        return error_errno(err, errno, "cannot make an eventfd for the journal");
    j->wake = loop_io_new(options->loop, j->shared.wake_fd, durable_seen, j);
    if (!j->wake)
        return error_set(err, NOMEM, "out of memory for the journal");
    loop_io_want(j->wake, LOOP_READ);
    return OK;
}

static void release(struct journal *j)
{
    loop_io_free(j->wake);
    const int fds[] = {j->shared.wake_fd, j->shared.fd, j->lock_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    pthread_mutex_destroy(&j->shared.lock);
    free(j);
}

static struct journal *make(const struct journal_options *options)
{
    struct journal *j = calloc(1, sizeof *j);
    if (!j)
        return NULL;
    struct journal_shared *s = &j->shared;
    pthread_mutex_init(&s->lock, NULL);
    snprintf(s->dir, sizeof s->dir, "%s", options->dir);
    s->fd = s->wake_fd = j->lock_fd = -1;
    s->retired_last = &s->retired;
    s->written = j->appended = 1; /* 0 is the position of a failure */
    s->durable = 1;
    s->folder_new = true;
    j->syncer = options->syncer;
    j->shard = options->shard;
    j->segment_bytes = options->segment_bytes;
    j->reserve_bytes = options->reserve_bytes;
    j->file_bytes = SEGMENT_HEAD_BYTES;
    return j;
}

enum status journal_open(const struct journal_options *options, struct journal **out,
                         struct error *err)
{
    assert(options->segment_bytes > 0 && options->reserve_bytes >= 0 && options->shard >= 0);
    if (strlen(options->dir) >= SEGMENT_PATH_MAX - 64)
        return error_set(err, INVALID, "the journal folder's path is too long");
    struct journal *j = make(options);
    if (!j)
        return error_set(err, NOMEM, "out of memory for a journal");
    enum status st = segment_folder(options->dir, &j->source, err);
    if (options->gateway_id)
        j->source = *options->gateway_id;
    if (st == OK)
        st = lock_shard(j, options->dir, err);
    if (st == OK)
        st = take_over(j, options->dir, err);
    if (st == OK)
        st = begin_segment(j, &j->shared.fd, err);
    if (st == OK)
        st = listen_durable(j, options, err);
    if (st != OK) {
        release(j);
        return st;
    }
    if (j->syncer)
        journal_syncer_add(j->syncer, &j->shared);
    *out = j;
    return OK;
}

void journal_close(struct journal *j)
{
    if (!j)
        return;
    journal_flush(j);
    if (j->syncer)
        journal_syncer_remove(j->syncer, &j->shared);
    if (ftruncate(j->shared.fd, j->file_bytes) != 0)
        errno = 0; /* only the reserve is given back here */
    journal_sync_now(&j->shared);
    release(j);
}

static enum status write_out(struct journal *j)
{
    size_t done = 0;
    while (done < j->gathered) {
        ssize_t n = pwrite(j->shared.fd, j->gather + done, j->gathered - done,
                           j->file_bytes + (int64_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            struct error why;
            error_errno(&why, n < 0 ? errno : ENOSPC, "cannot write the journal in %s",
                        j->shared.dir);
            journal_set_state(&j->shared, JOURNAL_FAILED, &why);
            return IO_FAILED;
        }
        done += (size_t)n;
    }
    j->file_bytes += (int64_t)done;
    j->gathered = 0;
    return OK;
}

/* The old segment goes to the syncer. When no new one can be made (disk or descriptors are out)
 * the old one is written on, in the space set aside: nothing is lost by that. */
static void rotate(struct journal *j)
{
    struct journal_shared *s = &j->shared;
    struct error why;
    int fd;
    struct retired *old = malloc(sizeof *old);
    if (!old)
        return; /* tried again at the next flush */
    if (begin_segment(j, &fd, &why) != OK) {
        free(old);
        journal_set_state(s, JOURNAL_FULL, &why);
        j->full_since_ms = clock_mono_ms();
        return;
    }
    pthread_mutex_lock(&s->lock);
    *old = (struct retired){NULL, s->fd, j->file_bytes};
    *s->retired_last = old;
    s->retired_last = &old->next;
    s->fd = fd;
    s->folder_new = true;
    if (s->state == JOURNAL_FULL)
        s->state = JOURNAL_OPEN;
    pthread_mutex_unlock(&s->lock);
    j->file_bytes = SEGMENT_HEAD_BYTES;
}

static bool rotation_due(const struct journal *j)
{
    if (j->shared.state == JOURNAL_FULL)
        return clock_mono_ms() - j->full_since_ms >= RETRY_MS;
    return j->file_bytes > SEGMENT_HEAD_BYTES &&
           j->file_bytes + (int64_t)j->gathered > j->segment_bytes;
}

enum status journal_flush(struct journal *j)
{
    struct journal_shared *s = &j->shared;
    if (s->state == JOURNAL_FAILED)
        return IO_FAILED;
    if (rotation_due(j))
        rotate(j);
    if (j->gathered == 0)
        return OK;
    if (write_out(j) != OK)
        return IO_FAILED;
    pthread_mutex_lock(&s->lock);
    s->written = j->appended;
    pthread_mutex_unlock(&s->lock);
    if (j->syncer)
        journal_syncer_wake(j->syncer, s);
    return OK;
}

/* Room for one more record in the gathered turn; 0: failed. */
static uint8_t *room(struct journal *j)
{
    if (j->gathered + RECORD_BYTES_MAX > sizeof j->gather && journal_flush(j) != OK)
        return NULL;
    return j->shared.state == JOURNAL_FAILED ? NULL : j->gather + j->gathered;
}

static int64_t gathered(struct journal *j, size_t bytes)
{
    j->gathered += bytes;
    j->appended += (int64_t)bytes;
    return j->appended;
}

int64_t journal_admit(struct journal *j, const struct meter_context *context)
{
    uint8_t *at = j->shared.state == JOURNAL_OPEN ? room(j) : NULL;
    return at ? gathered(j, record_put_admit(context, at)) : 0;
}

int64_t journal_settle(struct journal *j, const struct meter_settle *settle)
{
    uint8_t *at = room(j);
    return at ? gathered(j, record_put_settle(settle, at)) : 0;
}

int64_t journal_written(const struct journal *j)
{
    return j->shared.written; /* only this thread writes it */
}

int64_t journal_durable(const struct journal *j)
{
    return j->shared.durable;
}

bool journal_failed(const struct journal *j, struct error *err)
{
    if (j->shared.state == JOURNAL_OPEN)
        return false;
    if (err) {
        pthread_mutex_t *lock = (pthread_mutex_t *)&j->shared.lock;
        pthread_mutex_lock(lock);
        *err = j->shared.why;
        pthread_mutex_unlock(lock);
    }
    return true;
}
