/*
 * Inside the HTTP server. One connection serves one exchange at a time:
 *
 *     HANDSHAKE -> IDLE -> HEAD -> BODY -> RUNNING -> ENDING -> IDLE (kept alive)
 *                                                           \-> LINGER -> DEAD
 *
 * RUNNING: the handler has the request. ENDING: its answer is whole, bytes of it may still be
 * here. LINGER: everything is sent and our side is shut; input is thrown away for a moment, so
 * that unread input does not turn the answer into a reset. DEAD: on the reap list.
 * Nothing is freed outside LOOP_PHASE_REAP.
 */
#ifndef BASE_HTTP_SERVER_INTERNAL_H
#define BASE_HTTP_SERVER_INTERNAL_H

#include <netinet/in.h>

#include "base/address.h"
#include "base/http_server.h"
#include "base/tls.h"

enum conn_state {
    CONN_HANDSHAKE,
    CONN_IDLE,
    CONN_HEAD,
    CONN_BODY,
    CONN_RUNNING,
    CONN_ENDING,
    CONN_LINGER,
    CONN_DEAD,
    CONN_STATES,
};

enum answer_state { ANSWER_NONE, ANSWER_BEGUN, ANSWER_ENDED };

/* What a connection needs only while a request is on it; idle ones hold none. Pooled. */
struct http_work {
    struct http_work *next;
    struct arena *arena;
    struct http1_parser *parser;
    struct buf in;   /* read ahead of the parser: an unfinished head, pipelined requests */
    struct buf body; /* of the request, NUL behind it */
    struct buf out;  /* not yet taken by the system */
};

struct http_exchange {
    void *user;
    enum answer_state answer;
    bool head_only; /* HEAD, 204, 304: no body goes out */
    bool chunked, over_mark;
};

struct http_conn {
    struct http_server *server;
    struct http_conn *prev, *next; /* in server->idle or server->busy */
    struct http_conn *dirty_next, *resume_next, *reap_next;
    struct loop_io *io;
    struct tls_conn *tls; /* NULL: in the clear */
    struct http_work *work;
    struct http_exchange ex;
    int fd;
    enum conn_state state;
    bool dirty, resuming;      /* on that list */
    bool blocked;              /* the system takes no more output now */
    bool paused;               /* enough was read ahead: reading waits */
    bool inside;               /* the TLS layer holds input that was not asked for yet */
    bool eof;                  /* the client has shut its side */
    bool watched;              /* on server->watch_fd */
    bool close_after;          /* no further request is served */
    bool refused;              /* what still comes in is thrown away */
    bool handshake_writes;     /* the handshake waits for room to write */
    bool read_writes;          /* so does reading */
    bool served;               /* one request at least was whole */
    int64_t deadline_ms;       /* of the state; 0: none */
    int64_t write_deadline_ms; /* of output on its way; 0: none */
    int64_t probe_ms;          /* when to see whether a shut client is still there; 0: no */
    size_t body_counted, drained_bytes;
    struct sockaddr_in6 peer_addr; /* large enough for IPv4 too; family 0: a Unix socket */
    char peer[INET6_ADDRSTRLEN];   /* made when first asked for */
};

struct conn_list {
    struct http_conn *first, *last;
};

enum {
    SCRATCH_BYTES = 32768,    /* one read */
    READ_AHEAD_BYTES = 16384, /* of pipelined input kept while an exchange runs */
    WORK_POOL = 256,          /* spare workspaces kept */
    WORK_BUFFER_KEEP = 65536, /* larger buffers are not kept */
    DATE_BYTES = 64,
};

struct http_server {
    struct loop *loop;
    struct http_options options;
    struct http_server_stats stats;
    struct address address;
    int listen_fd, reserve_fd, watch_fd;
    struct loop_io *listen_io, *watch_io;
    struct loop_timer *sweep_timer, *resume_timer, *probe_timer;
    struct conn_list idle, busy; /* idle: the one idle for longest first */
    struct http_conn *dirty, *resume, *reap;
    struct http_work *pool;
    int pooled;
    int64_t sweep_ms;
    size_t body_bytes; /* of all requests on their way in or running */
    bool draining, accept_paused, probing, freeing;
    char *alt_headers;
    size_t alt_headers_len;
    int64_t date_s;
    char date[DATE_BYTES]; /* "date: ...\r\n" of date_s */
    size_t date_len;
    uint8_t scratch[SCRATCH_BYTES];
};

/* http_server_listen.c */
enum status http_listen_open(struct http_server *s, struct error *err);
void http_listen_close(struct http_server *s);
void http_listen_resume(struct http_server *s); /* after a pause for lack of descriptors */

/* http_server_conn.c */
void conn_new(struct http_server *s, int fd, const struct sockaddr_storage *peer);
void conn_set_state(struct http_conn *c, enum conn_state state, int64_t timeout_ms);
void conn_cut(struct http_conn *c); /* dead now; `closed` is called and all freed at the reap */
void conn_free(struct http_conn *c);
void conn_update_interest(struct http_conn *c);
bool conn_take_work(struct http_conn *c);
void conn_release_work(struct http_conn *c);
void conn_refuse(struct http_conn *c, int status, const char *text);
void conn_expire(struct http_conn *c, int64_t now_ms);
void work_free(struct http_work *w);

/* http_server_input.c */
void conn_ready(int fd, int ready, void *arg);
void conn_read(struct http_conn *c);
void conn_resume(struct http_conn *c);
void conn_queue_resume(struct http_conn *c);

/* http_server_output.c */
void conn_flush(struct http_conn *c);
void conn_mark_dirty(struct http_conn *c);
void conn_answer_ended(struct http_conn *c);
void conn_finish_exchange(struct http_conn *c);

/* http_server_watch.c: clients that have shut their side, or are not being read from. */
enum status http_watch_open(struct http_server *s, struct error *err);
void http_watch_close(struct http_server *s);
void conn_watch(struct http_conn *c);
void conn_unwatch(struct http_conn *c);
void http_watch_probe(void *arg);

static inline struct http_conn *conn_of(const struct http_exchange *ex)
{
    return (struct http_conn *)((char *)ex - offsetof(struct http_conn, ex));
}

#endif
