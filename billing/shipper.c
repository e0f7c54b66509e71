#include "billing/shipper.h"

#include <sys/stat.h>
#include <unistd.h>

#include "billing/journal_segment.h"

/* Any constant will do; all programs of the project use this one. */
#define LEADER_LOCK "7426013002"

enum { DIRS_MAX = 64, SHARDS_MAX = 4096, PARTITIONS_AHEAD_DAYS = 2 };

/* Where a shard's reading stands. `cursor` is what the database has for the segment's source. */
struct shard {
    int dir, number;
    bool placed; /* the rest is valid */
    struct uuid source;
    struct ship_position cursor, at;
    struct segment_reader *reader; /* of segment at.seq; may be NULL */
    bool stopped;
    struct error why;
};

struct cursor {
    struct uuid source;
    int shard;
    struct ship_position at;
};

struct shipper {
    char *dirs[DIRS_MAX];
    int dir_count;
    int keep_segments;
    struct shard *shards;
    int shard_count;
    struct cursor *cursors; /* as read from the database */
    int cursor_count;
    int64_t first_day, last_day; /* partitions known to be there */
    struct shipper_status status;
    struct ship_batch batch;
};

struct shipper *shipper_new(const struct shipper_options *options, struct error *err)
{
    if (options->dir_count > DIRS_MAX) {
        error_set(err, INVALID, "at most %d journal folders", DIRS_MAX);
        return NULL;
    }
    struct shipper *s = calloc(1, sizeof *s);
    if (!s) {
        error_set(err, NOMEM, "out of memory for the shipper");
        return NULL;
    }
    s->keep_segments = options->keep_segments;
    s->first_day = INT64_MAX;
    for (; s->dir_count < options->dir_count; s->dir_count++) {
        s->dirs[s->dir_count] = strdup(options->dirs[s->dir_count]);
        if (!s->dirs[s->dir_count]) {
            error_set(err, NOMEM, "out of memory for the shipper");
            shipper_free(s);
            return NULL;
        }
    }
    return s;
}

void shipper_free(struct shipper *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->dir_count; i++)
        free(s->dirs[i]);
    for (int i = 0; i < s->shard_count; i++)
        segment_close(s->shards[i].reader);
    free(s->shards);
    free(s->cursors);
    free(s);
}

const struct shipper_status *shipper_status(const struct shipper *s)
{
    return &s->status;
}

enum status shipper_lead(struct pg *pg, struct error *err)
{
    struct pg_result *r;
    enum status st = pg_query(pg, "SELECT pg_try_advisory_lock(" LEADER_LOCK ")", 0, NULL, &r, err);
    if (st != OK)
        return st;
    bool got = pg_bool(r, 0, 0);
    pg_result_free(r);
    return got ? OK : error_set(err, LIMITED, "another tollgate-billing leads on this database");
}

static enum status read_cursors(struct shipper *s, struct pg *pg, struct error *err)
{
    struct pg_result *r;
    enum status st =
        pg_query(pg, "SELECT source, shard, seq, position FROM journal_cursors", 0, NULL, &r, err);
    if (st != OK)
        return st;
    int count = pg_rows(r);
    struct cursor *cursors = calloc((size_t)count + 1, sizeof *cursors);
    if (!cursors) {
        pg_result_free(r);
        return error_set(err, NOMEM, "out of memory for the journal cursors");
    }
    for (int i = 0; i < count; i++) {
        cursors[i].shard = (int)pg_int(r, i, 1);
        cursors[i].at = (struct ship_position){pg_int(r, i, 2), pg_int(r, i, 3)};
        pg_uuid(r, i, 0, &cursors[i].source);
    }
    pg_result_free(r);
    free(s->cursors);
    s->cursors = cursors;
    s->cursor_count = count;
    return OK;
}

static struct ship_position cursor_of(const struct shipper *s, const struct uuid *source, int shard)
{
    for (int i = 0; i < s->cursor_count; i++)
        if (s->cursors[i].shard == shard && uuid_equal(&s->cursors[i].source, source))
            return s->cursors[i].at;
    return (struct ship_position){0, 0};
}

static struct shard *shard_for(struct shipper *s, int dir, int number)
{
    for (int i = 0; i < s->shard_count; i++)
        if (s->shards[i].dir == dir && s->shards[i].number == number)
            return &s->shards[i];
    if (s->shard_count == SHARDS_MAX)
        return NULL;
    struct shard *more = realloc(s->shards, ((size_t)s->shard_count + 1) * sizeof *more);
    if (!more)
        return NULL;
    s->shards = more;
    more[s->shard_count] = (struct shard){.dir = dir, .number = number};
    return &more[s->shard_count++];
}

static void leave_segment(struct shard *h)
{
    segment_close(h->reader);
    h->reader = NULL;
}

static enum status begin_segment(struct shipper *s, struct shard *h, int64_t seq, struct error *err)
{
    switch (segment_begin(h->reader, err)) {
    case SEGMENT_RECORD:
        break;
    case SEGMENT_CORRUPT:
        return CORRUPT;
    case SEGMENT_FAILED:
        return IO_FAILED;
    default: /* its head is being written, or was cut off by a crash */
        return LIMITED;
    }
    h->source = *segment_source(h->reader);
    h->cursor = cursor_of(s, &h->source, h->number);
    if (seq < h->cursor.seq)
        return CONFLICT;
    h->at = (struct ship_position){seq, seq == h->cursor.seq ? h->cursor.offset : 0};
    segment_seek(h->reader, h->at.offset);
    h->placed = true;
    return OK;
}

/* Opens segment seq and finds out where in it to read. LIMITED: nothing to read in it yet;
 * CONFLICT: all of it is shipped. */
static enum status enter_segment(struct shipper *s, struct shard *h, int64_t seq, struct error *err)
{
    leave_segment(h);
    struct segment_name name = {h->number, seq};
    enum status st = segment_open(s->dirs[h->dir], name, &h->reader, err);
    if (st == OK)
        st = begin_segment(s, h, seq, err);
    if (st != OK)
        leave_segment(h);
    return st;
}

/* The first of the shard's segments, from `from` on, that has something left to ship. LIMITED:
 * none has. */
static enum status place(struct shipper *s, struct shard *h, const struct segment_list *all,
                         struct error *err)
{
    h->placed = false;
    for (size_t i = 0; i < all->count; i++) {
        enum status st = enter_segment(s, h, all->items[i].seq, err);
        if (st != CONFLICT && st != LIMITED && st != NOT_FOUND)
            return st;
    }
    leave_segment(h);
    return LIMITED;
}

static enum status damaged(const struct shard *h, int64_t offset, const char *what,
                           struct error *err)
{
    return error_set(err, CORRUPT, "%s: %s at offset %lld", segment_file(h->reader), what,
                     (long long)offset);
}

static enum status take(struct ship_batch *b, const struct shard *h, const struct record_view *v,
                        struct error *err)
{
    struct meter_settle settle;
    enum status st = OK;
    if (v->type == RECORD_ADMIT) {
        st = record_unpack_admit(v, &settle.context);
        if (st == OK)
            ship_batch_add_admit(b, &settle.context, h->at.seq);
    } else if (v->type == RECORD_SETTLE) {
        st = record_unpack_settle(v, &settle);
        if (st == OK)
            ship_batch_add_settle(b, &settle);
    }
    if (st != OK)
        return damaged(h, segment_offset(h->reader) - (int64_t)v->bytes, "a record makes no sense",
                       err);
    return OK;
}

/* Fills the batch from the segment that is open. *end: all of it is read. */
static enum status fill(struct shipper *s, struct shard *h, bool newest, bool *end,
                        struct error *err)
{
    struct ship_batch *b = &s->batch;
    struct record_view view;
    *end = false;
    while (!ship_batch_full(b)) {
        switch (segment_next(h->reader, &view, err)) {
        case SEGMENT_RECORD:
            break;
        case SEGMENT_TORN:
            /* In the newest segment a write may be under way; an older one was mended when the
             * newer was begun. */
            if (!newest)
                return damaged(h, segment_offset(h->reader), "the segment ends inside a record",
                               err);
            *end = true;
            return OK;
        case SEGMENT_END:
            *end = true;
            return OK;
        case SEGMENT_CORRUPT:
            return CORRUPT;
        case SEGMENT_FAILED:
            return IO_FAILED;
        }
        enum status st = take(b, h, &view, err);
        if (st != OK)
            return st;
    }
    return OK;
}

static enum status make_partitions(struct shipper *s, struct pg *pg, struct error *err)
{
    int64_t first, last;
    if (!ship_batch_days(&s->batch, &first, &last))
        return OK;
    if (first >= s->first_day && last + PARTITIONS_AHEAD_DAYS <= s->last_day)
        return OK;
    enum status st = ship_make_partitions(pg, first, last + PARTITIONS_AHEAD_DAYS, err);
    if (st != OK)
        return st;
    s->first_day = first;
    s->last_day = last + PARTITIONS_AHEAD_DAYS;
    return OK;
}

static void remember_cursor(struct shipper *s, const struct shard *h)
{
    for (int i = 0; i < s->cursor_count; i++)
        if (s->cursors[i].shard == h->number && uuid_equal(&s->cursors[i].source, &h->source)) {
            s->cursors[i].at = h->cursor;
            return;
        }
    struct cursor *more = realloc(s->cursors, ((size_t)s->cursor_count + 1) * sizeof *more);
    if (!more)
        return; /* the shard has it too; only a later placing would read it again */
    s->cursors = more;
    more[s->cursor_count++] = (struct cursor){h->source, h->number, h->cursor};
}

static enum status store_batch(struct shipper *s, struct shard *h, struct pg *pg, struct error *err)
{
    struct ship_batch *b = &s->batch;
    b->source = h->source;
    b->shard = h->number;
    b->from = h->cursor;
    b->to = (struct ship_position){h->at.seq, segment_offset(h->reader)};
    if (b->to.seq == b->from.seq && b->to.offset == b->from.offset)
        return OK;
    enum status st = make_partitions(s, pg, err);
    if (st == OK)
        st = ship_batch_store(b, pg, &s->status.total, err);
    if (st != OK)
        return st;
    s->status.batches_total++;
    h->cursor = h->at = b->to;
    remember_cursor(s, h);
    return OK;
}

/* What stands before a record that does not read back is shipped. */
static enum status ship_segment(struct shipper *s, struct shard *h, struct pg *pg, bool newest,
                                struct error *err)
{
    bool end = false;
    while (!end) {
        ship_batch_clear(&s->batch);
        struct error why;
        enum status read = fill(s, h, newest, &end, &why);
        enum status st = store_batch(s, h, pg, err);
        if (st != OK)
            return st;
        if (read != OK)
            return error_set(err, read, "%s", why.text);
    }
    return OK;
}

static int64_t unshipped_bytes(const struct shipper *s, const struct shard *h,
                               const struct segment_list *all)
{
    int64_t bytes = 0;
    for (size_t i = 0; i < all->count; i++) {
        char path[SEGMENT_PATH_MAX];
        struct stat st;
        if (all->items[i].seq < h->at.seq ||
            segment_path(s->dirs[h->dir], all->items[i], path, NULL) != OK || stat(path, &st) != 0)
            continue;
        int64_t done = all->items[i].seq == h->at.seq ? h->at.offset : SEGMENT_HEAD_BYTES;
        if (st.st_size > done)
            bytes += st.st_size - done;
    }
    return bytes;
}

/* all: the shard's segments, oldest first, listed before reading, so that the end of a segment
 * that has a newer one beside it is its end for good. */
static enum status ship_shard(struct shipper *s, struct shard *h, struct pg *pg,
                              const struct segment_list *all, struct error *err)
{
    for (size_t i = 0; i < all->count; i++) {
        bool newest = i + 1 == all->count;
        enum status st = OK;
        if (h->placed && all->items[i].seq < h->at.seq)
            continue;
        if (!h->placed) {
            struct segment_list rest = {all->items + i, all->count - i};
            st = place(s, h, &rest, err);
            if (st != OK)
                return st == LIMITED ? OK : st;
            i--; /* now reading at h->at */
            continue;
        }
        if (all->items[i].seq > h->at.seq || !h->reader)
            st = enter_segment(s, h, all->items[i].seq, err);
        if (st == LIMITED || st == CONFLICT) /* no records in it */
            continue;
        if (st == OK)
            st = ship_segment(s, h, pg, newest, err);
        if (st != OK)
            return st;
    }
    return OK;
}

static enum status oldest_needed(struct pg *pg, const struct shard *h, int64_t *seq,
                                 struct error *err)
{
    char source[UUID_TEXT_SIZE], shard[16];
    uuid_format(&h->source, source);
    snprintf(shard, sizeof shard, "%d", h->number);
    struct pg_result *r;
    enum status st =
        pg_query(pg, "SELECT min(seq) FROM open_holds WHERE source = $1::uuid AND shard = $2::int",
                 2, (const char *const[]){source, shard}, &r, err);
    if (st != OK)
        return st;
    *seq = pg_text(r, 0, 0) ? pg_int(r, 0, 0) : INT64_MAX;
    pg_result_free(r);
    return OK;
}

/* Segments behind the cursor, except the newest keep_segments of them and any from the one on
 * that holds the ADMIT of an open request: a gateway's recovery needs to see it. */
static enum status delete_shipped(struct shipper *s, struct shard *h, struct pg *pg,
                                  const struct segment_list *all, struct error *err)
{
    size_t shipped = 0, keep = (size_t)s->keep_segments;
    while (h->placed && shipped < all->count && all->items[shipped].seq < h->cursor.seq)
        shipped++;
    if (shipped <= keep)
        return OK;
    int64_t needed;
    enum status st = oldest_needed(pg, h, &needed, err);
    if (st != OK)
        return st;
    for (size_t i = 0; i < shipped - keep && all->items[i].seq < needed; i++) {
        char path[SEGMENT_PATH_MAX];
        if (segment_path(s->dirs[h->dir], all->items[i], path, NULL) == OK && unlink(path) == 0)
            s->status.segments_deleted_total++;
    }
    return OK;
}

static bool database_away(enum status st)
{
    return st == UNAVAILABLE || st == TIMED_OUT || st == CLOSED || st == NOMEM;
}

static enum status run_shard(struct shipper *s, struct shard *h, struct pg *pg,
                             const struct segment_list *all, struct error *err)
{
    struct error why;
    enum status st = ship_shard(s, h, pg, all, &why);
    if (st == CORRUPT) /* a second look: it may have been under way to the file */
        st = ship_shard(s, h, pg, all, &why);
    if (st == OK)
        st = delete_shipped(s, h, pg, all, &why);
    if (st != OK) {
        /* After a failure the place is found again from the cursor in the database. */
        leave_segment(h);
        h->placed = false;
    }
    if (database_away(st))
        return error_set(err, st, "%s", why.text);
    h->stopped = st != OK;
    if (h->stopped)
        h->why = why;
    s->status.behind_bytes += unshipped_bytes(s, h, all);
    return OK;
}

static enum status run_dir(struct shipper *s, int dir, struct pg *pg, struct error *err)
{
    struct segment_list list;
    struct error why;
    enum status st = segment_list(s->dirs[dir], &list, &why);
    if (st == NOT_FOUND)
        return OK;
    if (st != OK)
        return error_set(err, st, "%s", why.text);
    for (size_t i = 0, n; st == OK && i < list.count; i += n) {
        for (n = 1; i + n < list.count && list.items[i + n].shard == list.items[i].shard;)
            n++;
        struct shard *h = shard_for(s, dir, list.items[i].shard);
        if (!h)
            st = error_set(err, NOMEM, "too many journal shards in %s", s->dirs[dir]);
        else
            st = run_shard(s, h, pg, &(struct segment_list){list.items + i, n}, err);
    }
    segment_list_done(&list);
    return st;
}

static void count_stopped(struct shipper *s)
{
    s->status.stopped = 0;
    for (int i = s->shard_count - 1; i >= 0; i--)
        if (s->shards[i].stopped) {
            s->status.stopped++;
            s->status.why = s->shards[i].why;
        }
}

enum status shipper_run(struct shipper *s, struct pg *pg, struct error *err)
{
    enum status st = read_cursors(s, pg, err);
    s->status.behind_bytes = 0;
    for (int i = 0; st == OK && i < s->dir_count; i++)
        st = run_dir(s, i, pg, err);
    count_stopped(s);
    return st;
}
