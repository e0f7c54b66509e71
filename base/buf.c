#include "base/buf.h"

#include <assert.h>
#include <stdarg.h>

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void buf_done(struct buf *b)
{
    free(b->data);
    buf_init(b, b->max);
}

void buf_clear(struct buf *b)
{
    b->start = b->end = 0;
}

void buf_eat(struct buf *b, size_t n)
{
    assert(n <= buf_len(b));
    b->start += n;
    if (b->start == b->end)
        buf_clear(b);
}

enum status buf_reserve(struct buf *b, size_t n)
{
    size_t live = buf_len(b);
    if (n > b->max || live > b->max - n)
        return LIMITED;
    if (b->size - b->end >= n)
        return OK;
    if (b->start > 0 && b->size - live >= n && live <= b->start) {
        memcpy(b->data, b->data + b->start, live); /* the halves do not overlap */
        b->start = 0;
        b->end = live;
        return OK;
    }
    size_t size = b->size ? b->size : 256;
    while (size < live + n)
        size *= 2;
    uint8_t *data = malloc(size);
    if (!data)
        return NOMEM;
    if (live)
        memcpy(data, b->data + b->start, live);
    free(b->data);
    b->data = data;
    b->size = size;
    b->start = 0;
    b->end = live;
    return OK;
}

enum status buf_add(struct buf *b, const void *data, size_t n)
{
    enum status st = buf_reserve(b, n);
    if (st != OK)
        return st;
    if (n)
        memcpy(b->data + b->end, data, n);
    b->end += n;
    return OK;
}

enum status buf_adds(struct buf *b, const char *text)
{
    return buf_add(b, text, strlen(text));
}

enum status buf_addf(struct buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    assert(n >= 0);
    enum status st = buf_reserve(b, (size_t)n);
    if (st == OK) {
        /* vsnprintf wants a byte for its NUL, which the cap need not allow for. */
        char small[256];
        char *out = (size_t)n < sizeof small ? small : malloc((size_t)n + 1);
        if (out) {
            vsnprintf(out, (size_t)n + 1, format, again);
            memcpy(b->data + b->end, out, (size_t)n);
            b->end += (size_t)n;
        } else {
            st = NOMEM;
        }
        if (out != small)
            free(out);
    }
    va_end(again);
    return st;
}

const char *buf_cstr(struct buf *b)
{
    if (b->size == b->end) {
        size_t max = b->max;
        b->max = buf_len(b) + 1;
        enum status st = buf_reserve(b, 1);
        b->max = max;
        if (st != OK)
            return NULL;
    }
    b->data[b->end] = 0;
    return (const char *)buf_head(b);
}
