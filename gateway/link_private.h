/* Shared by link.c (connection, output) and link_frames.c (what the worker says). */
#ifndef GATEWAY_LINK_PRIVATE_H
#define GATEWAY_LINK_PRIVATE_H

#include "base/arena.h"
#include "base/channel.h"
#include "gateway/link.h"

enum { LINK_ACKS_MAX = 1024 };

struct stream {
    void *user; /* NULL: free */
    uint32_t generation;
    uint32_t next_free;
};

struct link {
    struct loop *loop;
    struct link_options options;
    struct address address;
    enum link_state state;
    int fd; /* while it connects; then it is the channel's */
    struct channel channel;
    struct loop_io *io;
    struct loop_timer *retry;
    int64_t backoff_ms;
    struct buf in, out;
    int64_t need; /* journal position that `out` depends on */
    bool broken;  /* closed at the end of the callback that found it */
    char why[256];

    char worker_id[64];
    struct link_model models[LINK_MODELS_MAX];
    int model_count;
    uint32_t capacity;
    bool draining, silent;
    int64_t full_until_ms, greeting_ms, pinged_ms, pong_ms;
    uint64_t step_age_ms, outstanding_tokens, sent_tokens;

    struct stream *streams;
    uint32_t stream_size, free_stream, open_streams;
    struct {
        struct uuid id;
        uint32_t attempt;
    } acks[LINK_ACKS_MAX];
    int ack_count;
    struct arena *scratch; /* of one unpacked frame */
};

/* Marks the link for closing; the reason is said once. */
void link_break(struct link *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
void link_put(struct link *l, Wire__FrameType type, uint32_t stream, const ProtobufCMessage *m);
/* All whole frames of l->in. */
void link_frames(struct link *l);
struct stream *link_stream(struct link *l, uint32_t id); /* NULL: closed */
void link_close_stream(struct link *l, uint32_t id);

#endif
