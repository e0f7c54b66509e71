/*
 * A growing byte buffer with a read end and a cap given at birth: bytes [start, end) are live.
 * Going past the cap fails with LIMITED, never grows. One owner, no locking.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct buf {
    uint8_t *data;
    size_t start, end; /* live bytes are data[start..end) */
    size_t size;       /* bytes allocated */
    size_t max;        /* most live bytes */
};

void buf_init(struct buf *b, size_t max);
void buf_done(struct buf *b); /* frees; the buffer may be used again */

static inline size_t buf_len(const struct buf *b)
{
    return b->end - b->start;
}
static inline uint8_t *buf_head(const struct buf *b)
{
    return b->data + b->start;
}

/* Room for n more bytes at data + end. LIMITED past max, NOMEM. */
enum status buf_reserve(struct buf *b, size_t n);
enum status buf_add(struct buf *b, const void *data, size_t n);
enum status buf_adds(struct buf *b, const char *text); /* without the final NUL */
enum status buf_addf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A NUL behind the live bytes (not counted in them); NULL if there is no room for it. */
const char *buf_cstr(struct buf *b);
void buf_eat(struct buf *b, size_t n); /* drops n live bytes from the front */
void buf_clear(struct buf *b);

#endif
