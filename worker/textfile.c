#include "worker/textfile.h"

#include <errno.h>

enum { CHUNK_BYTES = 1 << 16 };

static enum status read_all(FILE *f, struct buf *out)
{
    char chunk[CHUNK_BYTES];
    enum status st = OK;
    size_t n;
    while (st == OK && (n = fread(chunk, 1, sizeof chunk, f)) > 0)
        st = buf_add(out, chunk, n);
    return st == OK && ferror(f) ? IO_FAILED : st;
}

enum status textfile_read(const char *path, struct buf *out, struct error *err)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return error_errno(err, errno, "%s", path);
    enum status st = read_all(f, out);
    if (st == IO_FAILED)
        error_errno(err, errno, "%s", path);
    else if (st == LIMITED)
        error_set(err, st, "%s: larger than %zu bytes", path, out->max);
    else if (st != OK)
        error_set(err, st, "%s: out of memory", path);
    fclose(f);
    return st;
}
