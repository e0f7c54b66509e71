/*
 * Private to worker/server*.c. One thread.
 *
 * A link is a gateway's connection; a stream is a request on it; a job is the same request in the
 * engine. Job ids are handles {generation, index}: events of a job that is no longer known are
 * ignored. A link is never freed in the turn it dies in: its state says DEAD, and the end of the
 * turn reaps it.
 */
#ifndef WORKER_SERVER_INTERNAL_H
#define WORKER_SERVER_INTERNAL_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/channel.h"
#include "base/wire.h"
#include "worker/server.h"

enum {
    LINK_HIGH_BYTES = 1 << 20, /* output past which a link's jobs are paused ... */
    LINK_LOW_BYTES = 1 << 18,  /* ... until it is down to this */
    STREAM_HELD_MAX = 1 << 20, /* text that waits for credit: what a few steps make */
    READ_BYTES = 1 << 16,
    TICK_MS = 250,
    CLOSE_MS = 1000, /* for the reason of a close to be read */
};

enum link_state { LINK_HELLO, LINK_OPEN, LINK_CLOSING, LINK_DEAD };

struct link {
    struct server *server;
    struct link *next;
    uint64_t serial; /* generation << 16 | index */
    struct channel channel;
    struct loop_io *io;
    enum link_state state;
    struct buf in, out;
    struct buf finals; /* uint32_t slots whose usage goes out at the end of the turn */
    char node_id[USAGE_NODE_SIZE];
    int64_t deadline_ms; /* in HELLO and CLOSING */
    int64_t progress_ms; /* output was empty, or some was read */
    bool choked;         /* past LINK_HIGH_BYTES */
    bool shut;           /* CLOSING: our direction is shut down */
    struct stream *streams;
    int stream_count;
};

struct stream {
    uint64_t job; /* 0: free */
    uint32_t generation, id, slot;
    struct link *link;
    struct stream *next, *prev; /* on its link, or (next) the free list */
    struct stream *hash_next;   /* by link and id */
    int64_t credit;             /* bytes; below zero by the last frame's overdraft */
    struct delta *held;         /* one a choice: until there is credit */
    uint32_t choices;
    struct counts counts;
    size_t held_text; /* bytes of text in it */
    bool waiting;     /* something is held */
    bool cancelled;   /* a CANCEL came */
    bool ended;       /* the job is done, its FINISH waits behind held text */
    enum job_end end;
    bool paused, told_paused; /* wanted; known to the engine */
};

struct slot_note {
    uint64_t link; /* serial of the link that the request came by, or was taken over by */
    int64_t next_offer_ms, away_since_ms;
};

struct server {
    struct loop *loop;
    struct engine *engine;
    struct usage_table *usage;
    struct server_options options;
    char node_id[USAGE_NODE_SIZE];

    int listener;
    struct loop_io *listener_io;
    struct loop_timer *tick;
    bool accept_paused; /* no file descriptors: until the next tick */

    struct link *links;       /* all that are not freed */
    struct link **link_table; /* by index; NULL: free */
    uint64_t link_generation;
    int link_count;

    struct stream *streams; /* streams_max of them */
    struct stream *free_streams, **stream_heads;
    uint32_t head_mask;
    int stream_count;

    struct slot_note *notes; /* one a usage slot */
    bool offer_now;
    struct buf cancels; /* uint64_t jobs whose cancel the engine's queue had no room for */
    bool retry_pauses;
    struct arena *scratch; /* of the frame being made */

    bool draining, drained;
    int64_t drain_by_ms, linger_by_ms; /* linger: for the last acknowledgements */
    struct server_stats stats;
};

/* server_link.c */
void link_accept(struct server *s, int fd);
struct link *link_find(struct server *s, uint64_t serial);
/* Appends a frame; cuts the link off when it has no room for it. */
void link_put(struct link *l, Wire__FrameType type, uint32_t stream, const ProtobufCMessage *m);
/* Sends ERROR on stream 0, then closes. */
void link_close(struct link *l, Wire__ErrorCode code, const char *reason);
/* Closes at once. reason NULL: nothing worth a line in the log. */
void link_kill(struct link *l, const char *reason);
void link_flush(struct link *l);
void link_tick(struct link *l, int64_t now_ms);
void link_free(struct link *l);

/* server_stream.c */
enum status streams_init(struct server *s);
void streams_done(struct server *s);
void stream_request(struct link *l, const struct wire_frame *f);
void stream_cancel(struct link *l, uint32_t id);
void stream_credit(struct link *l, uint32_t id, uint64_t bytes);
void stream_resume(struct stream *st); /* the link has room again */
void streams_lost(struct link *l);     /* the link is gone: its jobs are cancelled */
void streams_fail_all(struct server *s, const char *message);
void streams_retry(struct server *s);            /* what the engine's queue had no room for */
extern const struct engine_events stream_events; /* arg: the server */

/* server_tokens.c */
/* Sends what a choice has made, and takes its text from the credit. false: out of memory. */
bool put_tokens(struct stream *st, uint32_t choice, struct delta *made);
Wire__FinishReason reason_to_wire(enum job_end end);

/* server_usage.c */
void offer_final(struct server *s, struct link *l, uint32_t slot); /* the link may be dead */
void offer_ack(struct link *l, const struct wire_frame *f);
void offer_hello(struct link *l); /* its gateway is back */
void offer_all(struct server *s);
void offer_flush(struct link *l); /* puts the turn's finals as USAGE frames */

void counts_to_wire(const struct counts *c, Wire__Counts *out);

#endif
