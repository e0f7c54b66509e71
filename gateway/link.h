/*
 * A loop's connection to one worker: HELLO, multiplexed streams, pings, credits, acknowledgements.
 * It connects and reconnects by itself. Frames gather during a turn and leave in
 * LOOP_PHASE_LINKS, behind the journal. Loop thread only; handlers never free the link.
 */
#ifndef GATEWAY_LINK_H
#define GATEWAY_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/address.h"
#include "base/id.h"
#include "base/loop.h"
#include "base/tls.h"
#include "base/wire.h"
#include "billing/journal.h"

enum { LINK_MODELS_MAX = WIRE_MODELS_MAX, LINK_STREAMS_MAX = 65535 };

enum link_state { LINK_DOWN, LINK_CONNECTING, LINK_GREETING, LINK_UP };

enum link_loss {
    LINK_LOST,   /* the connection has gone */
    LINK_SILENT, /* it stands, but the worker makes no steps; a CANCEL was sent */
};

struct link;

struct link_handlers {
    /* Of one stream; `user` is what link_request was given. After finish, error and lost the
     * stream is closed. false: the worker broke the protocol, the link is closed. */
    bool (*tokens)(void *user, const Wire__Tokens *m);
    void (*finish)(void *user, const Wire__Finish *m);
    void (*error)(void *user, const Wire__Error *m);
    void (*lost)(void *user, enum link_loss loss);
    /* Of the link. */
    void (*usage)(struct link *l, const Wire__UsageList *m, void *arg);
    void (*changed)(struct link *l, const char *what,
                    void *arg); /* up, down, silent: to be logged */
    void *arg;
};

struct link_options {
    const struct address *address;
    struct tls_client *tls;  /* for an address of TCP; NULL: in the clear */
    const char *node_id;     /* of this gateway */
    int index;               /* of the worker; equal on all loops */
    struct journal *journal; /* NULL: frames wait for nothing (tests) */
    const struct link_handlers *handlers;
};

/* Of a worker's HELLO. */
struct link_model {
    char name[WIRE_MODEL_NAME_MAX + 1];
    uint32_t context_tokens, max_output_tokens;
    uint32_t prompt_overhead_tokens, message_overhead_tokens, tools_overhead_tokens,
        tool_overhead_tokens;
};

struct link *link_new(struct loop *loop, const struct link_options *options); /* NULL: no memory */
void link_free(struct link *l); /* streams get `lost`; NULL is fine */

int link_index(const struct link *l);
const char *link_name(const struct link *l); /* the address as it was given */
enum link_state link_state(const struct link *l);
int link_models(const struct link *l, const struct link_model **models); /* 0 unless up */
const struct link_model *link_find_model(const struct link *l, const char *name);
/* Up, answering, not draining. */
bool link_serves(const struct link *l);
/* And with a place for one more request. */
bool link_has_room(const struct link *l, int64_t now_ms);
/* Tokens the worker still has to do, as far as is known here. */
uint64_t link_outstanding(const struct link *l);

/* Asks for work. It leaves only when the journal has written up to need. *stream names it from
 * now on. tokens: prompt and output, at most. LIMITED, NOMEM: nothing happened. */
enum status link_request(struct link *l, const Wire__Request *m, int64_t tokens, int64_t need,
                         void *user, uint32_t *stream);
void link_cancel(struct link *l, uint32_t stream); /* FINISH follows, or `lost` */
void link_forget(struct link *l, uint32_t stream); /* closes the stream without a word */
void link_credit(struct link *l, uint32_t stream, uint64_t bytes);
void link_ack(struct link *l, const struct uuid *id, uint32_t attempt);
/* The worker said that it has no place: no new requests for a while. */
void link_full(struct link *l, int64_t now_ms);
void link_draining(struct link *l);
/* Every 100 ms or so: pings, silence. */
void link_tick(struct link *l, int64_t now_ms, int64_t silent_ms);

#endif
