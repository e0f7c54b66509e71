/*
 * A connected non-blocking socket, in the clear or under TLS, for links between our own processes.
 * Reading and writing do the handshake when it is due. One owner, no locking.
 */
#ifndef BASE_CHANNEL_H
#define BASE_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>

struct tls_conn;

struct channel {
    int fd;                                    /* -1: closed */
    struct tls_conn *tls;                      /* NULL: in the clear */
    bool write_needs_input, read_needs_output; /* what TLS waits for */
    const char *why;                           /* of CHANNEL_FAILED and CHANNEL_EOF */
};

enum channel_io { CHANNEL_OK, CHANNEL_AGAIN, CHANNEL_EOF, CHANNEL_FAILED };

/* Takes both; tls may be NULL. */
void channel_open(struct channel *c, int fd, struct tls_conn *tls);
void channel_close(struct channel *c); /* closed already is fine */
enum channel_io channel_read(struct channel *c, void *out, size_t size, size_t *got);
enum channel_io channel_write(struct channel *c, const void *data, size_t len, size_t *put);
/* After a short read: more may be inside already, so read until CHANNEL_AGAIN. */
bool channel_reads_on(const struct channel *c);
void channel_shut(struct channel *c); /* our direction is at its end */
/* What to wait for: LOOP_READ, LOOP_WRITE. */
int channel_want(const struct channel *c, bool output_waits);

#endif
