/*
 * The worker's side of the worker protocol (base/wire.proto): gateways connect, send requests,
 * and get tokens as their credit allows. Every request has a slot in the usage table from before
 * it is run until a gateway has acknowledged its final usage. Loop thread only.
 */
#ifndef WORKER_SERVER_H
#define WORKER_SERVER_H

#include "base/address.h"
#include "base/loop.h"
#include "base/tls.h"
#include "worker/engine.h"
#include "worker/usage.h"

struct server;

struct server_options {
    struct address listen;
    struct tls_server *tls;   /* of links over TCP; asks for client certificates. NULL: clear */
    const char *node_id;      /* 36 characters, copied */
    int64_t hello_ms;         /* for a gateway to say HELLO */
    int64_t stall_ms;         /* a gateway that reads nothing for so long is cut off */
    int64_t offer_ms;         /* between two offers of the same usage */
    int64_t foreign_offer_ms; /* usage of a gateway that has been away for so long goes to any */
    int64_t drain_ms;         /* for running requests to finish */
    int links_max, streams_max;
    size_t link_output_bytes; /* unread output after which a gateway is cut off */
    loop_fn *on_drained;      /* after server_drain, once all is done */
    void *arg;
};

struct server_stats {
    int links, streams;
    uint32_t unacked; /* usage not yet acknowledged */
    bool draining;
    uint64_t requests, refused, finished, cancelled, failed, link_lost;
    uint64_t prompt_tokens, completion_tokens, links_cut;
};

/* Listens. The engine has its backend and is started here; engine and table stay the caller's:
 * free the server, then the engine, then the table. */
enum status server_new(struct loop *loop, struct engine *engine, struct usage_table *usage,
                       const struct server_options *options, struct server **out,
                       struct error *err);
void server_free(struct server *s); /* after loop_run has returned; NULL is fine */

/* Stops listening, tells the gateways, takes no more requests; running ones finish. */
void server_drain(struct server *s);
void server_stats(const struct server *s, struct server_stats *out);
/* TCP port, when 0 was asked for. */
int server_port(const struct server *s);

#endif
