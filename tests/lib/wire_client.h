/*
 * A gateway's end of the worker protocol, blocking, for tests. One thread; a failure to send or
 * connect ends the test program.
 */
#ifndef TESTS_LIB_WIRE_CLIENT_H
#define TESTS_LIB_WIRE_CLIENT_H

#include "base/id.h"
#include "base/wire.h"

struct wire_client {
    int fd;
    struct buf in, out;
    size_t used; /* bytes of `in` that the last frame took */
};

struct wire_client_request {
    struct uuid id;
    uint32_t stream, attempt; /* attempt 0: 1 */
    const char *model, *text; /* NULL: "tollgate-demo", "Hello!" */
    uint32_t max_tokens;
    uint64_t credit;
    bool thinking;
    const char *billing;
    const Wire__Request *with; /* what the fields above do not name; NULL: nothing */
};

void wire_client_connect(struct wire_client *c, const char *address); /* waits up to 10 s for it */
void wire_client_close(struct wire_client *c);
void wire_client_hello(struct wire_client *c, const char *node_id, uint32_t version,
                       uint32_t oldest);
/* connect, HELLO, and the worker's HELLO taken. */
void wire_client_open(struct wire_client *c, const char *address, const char *node_id);
void wire_client_send(struct wire_client *c, Wire__FrameType type, uint32_t stream,
                      const ProtobufCMessage *m);
void wire_client_send_bytes(struct wire_client *c, const void *data, size_t len);
void wire_client_request(struct wire_client *c, const struct wire_client_request *r);
void wire_client_credit(struct wire_client *c, uint32_t stream, uint64_t bytes);
void wire_client_ack(struct wire_client *c, const struct uuid *id, uint32_t attempt);
/* The next frame; it is valid until the next call. CLOSED: the other side hung up. TIMED_OUT. */
enum status wire_client_next(struct wire_client *c, struct wire_frame *f, int timeout_ms);
/* Skips frames up to one of that type (10 s); false: there was none before the end. */
bool wire_client_wait(struct wire_client *c, Wire__FrameType type, struct wire_frame *f);

#endif
