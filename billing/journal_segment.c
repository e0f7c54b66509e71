#include "billing/journal_segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "billing/bytes.h"
#include "billing/journal_head.h"

enum { SEGMENTS_MAX = 1 << 20 };

static bool parse_name(const char *file, struct segment_name *out)
{
    int shard, used = 0;
    int64_t seq;
    if (sscanf(file, "journal-%9d-%18" SCNd64 ".tgj%n", &shard, &seq, &used) != 2 || !used ||
        file[used] || shard < 0 || seq < 0)
        return false;
    *out = (struct segment_name){shard, seq};
    return true;
}

static int compare_names(const void *a, const void *b)
{
    const struct segment_name *x = a, *y = b;
    if (x->shard != y->shard)
        return x->shard < y->shard ? -1 : 1;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static enum status append_name(struct segment_list *list, size_t *room, struct segment_name name)
{
    if (list->count == *room) {
        size_t more = *room ? *room * 2 : 64;
        struct segment_name *items = realloc(list->items, more * sizeof *items);
        if (!items || more > SEGMENTS_MAX) {
            free(items ? items : list->items);
            list->items = NULL;
            return NOMEM;
        }
        list->items = items;
        *room = more;
    }
    list->items[list->count++] = name;
    return OK;
}

enum status segment_list(const char *dir, struct segment_list *out, struct error *err)
{
    DIR *d = opendir(dir);
    if (!d && errno == ENOENT)
        return error_set(err, NOT_FOUND, "no journal folder %s", dir);
    if (!d)
        return error_errno(err, errno, "cannot read the journal folder %s", dir);
    struct segment_list list = {0};
    size_t room = 0;
    struct dirent *entry;
    while ((entry = readdir(d))) {
        struct segment_name name;
        if (parse_name(entry->d_name, &name) && append_name(&list, &room, name) != OK) {
            closedir(d);
            return error_set(err, NOMEM, "too many journal segments in %s", dir);
        }
    }
    closedir(d);
    if (list.count)
        qsort(list.items, list.count, sizeof *list.items, compare_names);
    *out = list;
    return OK;
}

void segment_list_done(struct segment_list *list)
{
    free(list->items);
    *list = (struct segment_list){0};
}

enum status segment_path(const char *dir, struct segment_name name, char out[SEGMENT_PATH_MAX],
                         struct error *err)
{
    int n =
        snprintf(out, SEGMENT_PATH_MAX, "%s/journal-%d-%" PRId64 ".tgj", dir, name.shard, name.seq);
    if (n >= SEGMENT_PATH_MAX)
        return error_set(err, LIMITED, "the journal folder's path is too long");
    return OK;
}

enum status segment_sync_folder(const char *dir, struct error *err)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "cannot open %s", dir);
    enum status st = OK;
    if (fsync(fd) != 0)
        st = error_errno(err, errno, "cannot sync the folder %s", dir);
    close(fd);
    return st;
}

static enum status make_folder(const char *dir, struct error *err)
{
    char path[SEGMENT_PATH_MAX];
    size_t len = strlen(dir);
    if (len == 0 || len >= sizeof path)
        return error_set(err, INVALID, "the journal folder's path is empty or too long");
    memcpy(path, dir, len + 1);
    for (char *p = path + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = 0;
        mkdir(path, 0700); /* the last mkdir below reports what went wrong */
        *p = '/';
    }
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return error_errno(err, errno, "cannot make the journal folder %s", dir);
    return OK;
}

static enum status read_identity(const char *path, struct uuid *out, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return NOT_FOUND;
    if (fd < 0)
        return error_errno(err, errno, "cannot open %s", path);
    char text[UUID_TEXT_SIZE + 1] = "";
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n < UUID_TEXT_SIZE - 1 || !uuid_parse(text, UUID_TEXT_SIZE - 1, out))
        return error_set(err, CORRUPT, "%s does not hold an id", path);
    return OK;
}

/* Written aside and linked, so that it is whole when it is there, and only one maker wins. */
static enum status make_identity(const char *dir, const char *path, struct error *err)
{
    char aside[SEGMENT_PATH_MAX + 64], text[UUID_TEXT_SIZE];
    struct uuid id = uuid_v7(clock_wall_ms()), name = uuid_v7(clock_wall_ms());
    uuid_format(&name, text);
    snprintf(aside, sizeof aside, "%s.%s", path, text);
    uuid_format(&id, text);
    text[UUID_TEXT_SIZE - 1] = '\n';
    int fd = open(aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_errno(err, errno, "cannot make %s", aside);
    bool good = write(fd, text, sizeof text) == (ssize_t)sizeof text && fsync(fd) == 0;
    int reason = errno;
    close(fd);
    if (good && link(aside, path) != 0 && errno != EEXIST) {
        reason = errno;
        good = false;
    }
    unlink(aside);
    if (!good)
        return error_errno(err, reason, "cannot write %s", path);
    return segment_sync_folder(dir, err);
}

enum status segment_folder(const char *dir, struct uuid *source, struct error *err)
{
    char path[SEGMENT_PATH_MAX];
    enum status st = make_folder(dir, err);
    if (st != OK)
        return st;
    if (snprintf(path, sizeof path, "%s/journal.id", dir) >= (int)sizeof path)
        return error_set(err, INVALID, "the journal folder's path is too long");
    st = read_identity(path, source, err);
    if (st != NOT_FOUND)
        return st;
    st = make_identity(dir, path, err);
    return st == OK ? read_identity(path, source, err) : st;
}

void segment_head_put(const struct segment_head *h, uint8_t out[SEGMENT_HEAD_BYTES])
{
    struct bytes_out o = {out, out + SEGMENT_HEAD_BYTES, false};
    memset(out, 0, SEGMENT_HEAD_BYTES);
    bytes_put(&o, SEGMENT_MAGIC, 8);
    bytes_put_number(&o, SEGMENT_VERSION, 4);
    bytes_put_number(&o, (uint64_t)h->name.shard, 4);
    bytes_put_number(&o, (uint64_t)h->name.seq, 8);
    bytes_put_number(&o, (uint64_t)h->created_wall_ms, 8);
    bytes_put(&o, h->source.bytes, sizeof h->source.bytes);
    o.at = out + SEGMENT_HEAD_BYTES - 4;
    bytes_put_number(&o, crypto_crc32c(0, out, SEGMENT_HEAD_BYTES - 4), 4);
}

enum status segment_head_read(const uint8_t data[SEGMENT_HEAD_BYTES], struct segment_head *out)
{
    struct bytes_in in = {data, data + SEGMENT_HEAD_BYTES, false};
    struct segment_head h = {0};
    const uint8_t *magic = bytes_take(&in, 8);
    h.version = (uint32_t)bytes_take_number(&in, 4);
    h.name.shard = (int)bytes_take_number(&in, 4);
    h.name.seq = (int64_t)bytes_take_number(&in, 8);
    h.created_wall_ms = (int64_t)bytes_take_number(&in, 8);
    memcpy(h.source.bytes, bytes_take(&in, 16), 16);
    in.at = data + SEGMENT_HEAD_BYTES - 4;
    if (memcmp(magic, SEGMENT_MAGIC, 8) != 0 ||
        bytes_take_number(&in, 4) != crypto_crc32c(0, data, SEGMENT_HEAD_BYTES - 4))
        return CORRUPT;
    *out = h;
    return OK;
}

static enum status write_head(int fd, const struct segment_head *head)
{
    uint8_t raw[SEGMENT_HEAD_BYTES];
    segment_head_put(head, raw);
    ssize_t n = pwrite(fd, raw, sizeof raw, 0);
    if (n >= 0 && n < (ssize_t)sizeof raw)
        errno = ENOSPC;
    return n == (ssize_t)sizeof raw ? OK : IO_FAILED;
}

/* Space for KEEP_SIZE is a promise of the file system; one that has no such promise to give
 * (EOPNOTSUPP) still works, only that running out is then seen at a write. */
static enum status reserve(int fd, int64_t bytes)
{
    while (bytes > 0 && fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, bytes) != 0) {
        if (errno == EOPNOTSUPP || errno == ENOSYS)
            return OK;
        if (errno != EINTR)
            return IO_FAILED;
    }
    return OK;
}

enum status segment_create(const struct segment_new *n, int *out, struct error *err)
{
    char path[SEGMENT_PATH_MAX];
    enum status st = segment_path(n->dir, n->name, path, err);
    if (st != OK)
        return st;
    struct segment_head head = {
        .name = n->name, .created_wall_ms = clock_wall_ms(), .source = n->source};
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0 && reserve(fd, SEGMENT_HEAD_BYTES + n->reserve_bytes) == OK &&
        write_head(fd, &head) == OK) {
        *out = fd;
        return OK;
    }
    int reason = errno;
    if (fd >= 0) {
        unlink(path);
        close(fd);
    }
    return error_errno(err, reason, "cannot begin the journal segment %s", path);
}
