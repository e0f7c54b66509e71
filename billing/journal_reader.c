#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "billing/journal_head.h"

/* A window holds at least one whole record of the largest size. */
enum { WINDOW_BYTES = 4 * (RECORD_HEAD_BYTES + RECORD_PAYLOAD_MAX), SECTOR_BYTES = 512 };

struct segment_reader {
    int fd;
    char path[SEGMENT_PATH_MAX];
    struct segment_name name;
    struct segment_head head;
    int64_t offset;        /* of the next record; 0: the head was not read */
    int64_t window_offset; /* in the file, of window[0] */
    size_t window_bytes;
    uint8_t window[WINDOW_BYTES];
};

enum status segment_open(const char *dir, struct segment_name name, struct segment_reader **out,
                         struct error *err)
{
    struct segment_reader *r = calloc(1, sizeof *r);
    if (!r)
        return error_set(err, NOMEM, "out of memory for a journal reader");
    r->name = name;
    enum status st = segment_path(dir, name, r->path, err);
    if (st != OK)
        goto free_reader;
    r->fd = open(r->path, O_RDONLY | O_CLOEXEC);
    if (r->fd < 0) {
        st = error_errno(err, errno, "cannot open %s", r->path);
        if (errno == ENOENT)
            st = NOT_FOUND;
        goto free_reader;
    }
    *out = r;
    return OK;
free_reader:
    free(r);
    return st;
}

void segment_close(struct segment_reader *r)
{
    if (!r)
        return;
    close(r->fd);
    free(r);
}

int64_t segment_offset(const struct segment_reader *r)
{
    return r->offset;
}

void segment_seek(struct segment_reader *r, int64_t offset)
{
    r->offset = offset;
}

const struct uuid *segment_source(const struct segment_reader *r)
{
    return &r->head.source;
}

const char *segment_file(const struct segment_reader *r)
{
    return r->path;
}

/* Fills buffer from offset, as far as the file goes: the bytes read, or -1. */
static ssize_t read_at(const struct segment_reader *r, int64_t offset, uint8_t *buffer, size_t len,
                       struct error *err)
{
    size_t got = 0;
    while (got < len) {
        ssize_t n = pread(r->fd, buffer + got, len - got, offset + (int64_t)got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            error_errno(err, errno, "cannot read %s", r->path);
            return -1;
        }
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return (ssize_t)got;
}

/* True when all is zero from offset to the end of the file. */
static bool zeros_from(const struct segment_reader *r, int64_t offset)
{
    uint8_t chunk[4096];
    for (;;) {
        ssize_t got = read_at(r, offset, chunk, sizeof chunk, NULL);
        if (got < 0)
            return false;
        for (ssize_t i = 0; i < got; i++)
            if (chunk[i])
                return false;
        if (got < (ssize_t)sizeof chunk)
            return true;
        offset += got;
    }
}

/* After a loss of power the size of a file may be there without its last sectors: a bad record
 * is a torn one when zeros reach from its start, or a sector boundary inside it, to the end of
 * the file. */
static bool torn_by_zeros(const struct segment_reader *r, size_t record_bytes)
{
    if (zeros_from(r, r->offset))
        return true;
    int64_t end = r->offset + (int64_t)record_bytes;
    int64_t sector = (r->offset / SECTOR_BYTES + 1) * SECTOR_BYTES;
    for (; sector < end; sector += SECTOR_BYTES)
        if (zeros_from(r, sector))
            return true;
    return false;
}

static enum segment_verdict corrupt(struct segment_reader *r, int64_t offset, const char *what,
                                    struct error *err)
{
    r->window_bytes = 0; /* a later call reads the file again */
    error_set(err, CORRUPT, "%s: %s at offset %" PRId64, r->path, what, offset);
    return SEGMENT_CORRUPT;
}

static enum segment_verdict read_head(struct segment_reader *r, struct error *err)
{
    uint8_t raw[SEGMENT_HEAD_BYTES];
    ssize_t got = read_at(r, 0, raw, sizeof raw, err);
    if (got < 0)
        return SEGMENT_FAILED;
    if (got == 0)
        return SEGMENT_END;
    if (got < (ssize_t)sizeof raw || zeros_from(r, 0))
        return SEGMENT_TORN;
    struct segment_head head;
    if (segment_head_read(raw, &head) != OK)
        return corrupt(r, 0, "the head of the segment is damaged", err);
    if (head.version != SEGMENT_VERSION)
        return corrupt(r, 0, "the segment is of an unknown version", err);
    if (head.name.shard != r->name.shard || head.name.seq != r->name.seq)
        return corrupt(r, 0, "the segment was renamed: name and head differ", err);
    r->head = head;
    return SEGMENT_RECORD;
}

static enum segment_verdict judge(struct segment_reader *r, struct record_view *out,
                                  struct error *err)
{
    size_t skip = (size_t)(r->offset - r->window_offset);
    size_t left = r->window_bytes - skip;
    struct record_view view = {0};
    switch (record_view(r->window + skip, left, &view)) {
    case RECORD_GOOD:
        *out = view;
        r->offset += (int64_t)view.bytes;
        return SEGMENT_RECORD;
    case RECORD_SHORT:
        return left ? SEGMENT_TORN : SEGMENT_END;
    case RECORD_BAD_HEAD:
        if (torn_by_zeros(r, RECORD_HEAD_BYTES))
            return SEGMENT_TORN;
        return corrupt(r, r->offset, "the head of a record is damaged", err);
    case RECORD_BAD_PAYLOAD:
        if (torn_by_zeros(r, view.bytes))
            return SEGMENT_TORN;
        return corrupt(r, r->offset, "a record is damaged", err);
    }
    return SEGMENT_FAILED;
}

enum segment_verdict segment_begin(struct segment_reader *r, struct error *err)
{
    return r->head.version ? SEGMENT_RECORD : read_head(r, err);
}

enum segment_verdict segment_next(struct segment_reader *r, struct record_view *out,
                                  struct error *err)
{
    enum segment_verdict begun = segment_begin(r, err);
    if (begun != SEGMENT_RECORD)
        return begun;
    if (r->offset < SEGMENT_HEAD_BYTES)
        r->offset = SEGMENT_HEAD_BYTES;
    int64_t window_end = r->window_offset + (int64_t)r->window_bytes;
    bool inside = r->offset >= r->window_offset && r->offset < window_end;
    size_t left = inside ? (size_t)(window_end - r->offset) : 0;
    if (inside && left >= RECORD_HEAD_BYTES) {
        struct record_view view;
        size_t skip = (size_t)(r->offset - r->window_offset);
        if (record_view(r->window + skip, left, &view) != RECORD_SHORT)
            return judge(r, out, err);
    }
    r->window_bytes = 0;
    r->window_offset = r->offset;
    ssize_t got = read_at(r, r->offset, r->window, sizeof r->window, err);
    if (got < 0)
        return SEGMENT_FAILED;
    r->window_bytes = (size_t)got;
    return judge(r, out, err);
}

static enum status cut(const struct segment_reader *r, int64_t size, bool torn, struct error *err)
{
    int fd = open(r->path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "cannot open %s", r->path);
    /* The cut also gives back what was reserved behind the end. */
    bool good = ftruncate(fd, size) == 0;
    /* What recovery takes for written must not vanish with a later loss of power. */
    if (!good || fsync(fd) != 0) {
        error_errno(err, errno, "cannot %s %s", torn ? "cut the torn tail of" : "sync", r->path);
        close(fd);
        return IO_FAILED;
    }
    close(fd);
    return OK;
}

enum status segment_repair(const char *dir, struct segment_name name, struct error *err)
{
    struct segment_reader *r;
    enum status st = segment_open(dir, name, &r, err);
    if (st != OK)
        return st;
    struct record_view view;
    enum segment_verdict v;
    do {
        v = segment_next(r, &view, err);
    } while (v == SEGMENT_RECORD);
    if (v == SEGMENT_END || v == SEGMENT_TORN)
        st = cut(r, r->offset, v == SEGMENT_TORN, err);
    else
        st = v == SEGMENT_CORRUPT ? CORRUPT : IO_FAILED;
    segment_close(r);
    return st;
}
