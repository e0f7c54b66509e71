/*
 * The state of one loop thread of the gateway, and of the process. Share-nothing: a loop owns
 * its listener, TLS context, Redis and PostgreSQL connections, key cache, journal, worker links
 * and requests. What loops share is the registry, the syncer, and immutable snapshots.
 */
#ifndef GATEWAY_LOOP_H
#define GATEWAY_LOOP_H

#include <pthread.h>
#include <stdatomic.h>

#include "auth/admission.h"
#include "auth/keyring.h"
#include "base/http_server.h"
#include "base/tls.h"
#include "billing/journal.h"
#include "gateway/dispatch.h"
#include "gateway/failures.h"
#include "gateway/link.h"
#include "gateway/list.h"
#include "gateway/prices.h"
#include "gateway/registry.h"
#include "gateway/settings.h"
#include "gateway/stats.h"

enum { GATEWAY_LOOPS_MAX = 64, GATEWAY_WORKERS_MAX = 64, LINK_SAID_SIZE = 300 };

struct gateway;
struct recovery;
struct request;

struct gateway_loop {
    struct gateway *gateway;
    int number;
    struct loop *loop;
    pthread_t thread;
    struct tls_server *tls;
    struct http_server *http;
    struct redis *redis;
    struct pg_async *pg;
    struct keyring *keyring;
    struct admission *admission;
    struct journal *journal;
    struct prices *prices; /* NULL: not loaded yet */
    struct failures *failures;
    struct tunables tunables;
    struct link *links[GATEWAY_WORKERS_MAX];
    struct link_handlers *link_handlers;
    struct tls_client *link_tls; /* NULL: links over TCP are in the clear */
    int link_count;
    char link_said[GATEWAY_WORKERS_MAX][LINK_SAID_SIZE]; /* the last thing logged of each */
    struct dispatch dispatch;
    struct loop_timer *tick;
    struct list requests;           /* all that live */
    struct list settling, unsynced; /* gateway/meter.h */
    int request_count, grace_count; /* grace: waiting for a worker's counts */
    struct list adopted, orphans;   /* gateway/orphan.h */
    struct request *spare;          /* kept for reuse */
    int spare_count;
    struct buf scratch; /* of one callback */
    struct stats stats;
    bool draining, journal_was_failed;
    int64_t quiet_ms; /* draining: since when no request is left; 0: some are */
    /* Written by the loop, read by /readyz. */
    atomic_bool prices_ready, journal_ready, link_ready;
    atomic_int live_requests;
    atomic_bool drained; /* nothing is left to do; its thread ends by itself */
};

struct gateway {
    struct settings settings;
    struct uuid node_id;
    char node_text[UUID_TEXT_SIZE];
    struct address workers[GATEWAY_WORKERS_MAX];
    int worker_count;
    struct journal_syncer *syncer;
    struct registry *registry;
    struct recovery *recovery; /* loop 0's */
    struct prices_reader *reader;
    struct gateway_loop *loops;
    int loop_count;
    int64_t started_wall_ms;
};

/* Makes everything of loop `number`; the thread is started apart. */
enum status gateway_loop_init(struct gateway_loop *gl, struct gateway *g, int number,
                              struct error *err);
enum status gateway_loop_start(struct gateway_loop *gl, struct error *err);
void gateway_loop_done(struct gateway_loop *gl); /* after its thread has ended */
/* The rest: any thread; carried out on the loop's. */
void gateway_loop_prices(struct gateway_loop *gl, struct prices *p);
void gateway_loop_reload(struct gateway_loop *gl, const struct tunables *t);
void gateway_loop_drain(struct gateway_loop *gl);

#endif
