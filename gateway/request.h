/*
 * One request of a client, from its head to the durable record of what it cost. It owns its
 * memory, since it may outlive the client's exchange: a worker's last word, or the disk, may be
 * still to come when the client has gone.
 *
 *     PARSED -> KEY -> ADMISSION -> [QUEUED] -> DISPATCHED -> STREAMING -> SETTLING -> DONE
 *
 * A request that ends before work was asked for goes straight to DONE. GRACE stands between a
 * break (client gone, worker lost) and SETTLING: it waits for the worker's final counts. There
 * is one exit for everything that was journaled, request_settle, and it is taken once.
 * Loop thread only.
 */
#ifndef GATEWAY_REQUEST_H
#define GATEWAY_REQUEST_H

#include "gateway/api/chat.h"
#include "gateway/api/chat_choice.h"
#include "gateway/api/chat_reply.h"
#include "gateway/loop.h"

enum request_state {
    REQUEST_PARSED,
    REQUEST_KEY,
    REQUEST_ADMISSION,
    REQUEST_QUEUED,
    REQUEST_DISPATCHED,
    REQUEST_STREAMING,
    REQUEST_GRACE,
    REQUEST_SETTLING,
    REQUEST_DONE,
    REQUEST_STATES
};

typedef void request_keyed_fn(struct request *r, const struct key_record *record);

struct request {
    struct gateway_loop *gl;
    struct http_exchange *ex; /* NULL: the client has gone, or has its whole answer */
    enum request_state state;
    struct list all;  /* of gl->requests */
    struct list fifo; /* of a dispatch queue, gl->settling or gl->unsynced: one at a time */
    struct request *next_spare;
    struct arena *arena;
    struct uuid id;
    char id_text[UUID_TEXT_SIZE];
    request_keyed_fn *keyed;
    const char *key; /* in the exchange: gone with it */
    size_t key_len;
    int priority;                             /* higher begins first */
    int64_t begun_ms, output_ms, deadline_ms; /* output: the last byte towards the client */

    struct json *body;
    struct chat_request chat;
    struct chat_answer answer;
    struct admit_result limits; /* for the headers; all 0: unknown */
    struct meter_context context;
    bool held;      /* a hold stands in Redis */
    bool journaled; /* ADMIT was appended: request_settle is owed */

    struct link *link, *avoid;
    uint32_t stream, attempt; /* attempt 0: not sent yet */
    int worker;               /* index of the last worker asked, for the acknowledgement */
    struct token_counts counts;
    int64_t credit_left; /* text bytes the worker may still send */
    int64_t credit_owed; /* bytes it sent and has no new credit for */

    bool head_sent, first_token_seen;
    bool failed;                       /* on our side: never charged */
    bool witness;                      /* the worker's final counts are in */
    struct chat_choice first;          /* the only one, as a rule: its buffers are reused */
    struct chat_choice *choices, *own; /* chat.choices of them: &first, or own */
    enum meter_outcome outcome;
    int64_t position; /* of its SETTLE in the journal */
};

/* NULL: out of memory. The exchange's user is the request from now on. */
struct request *request_new(struct gateway_loop *gl, struct http_exchange *ex);
void request_set_state(struct request *r, enum request_state next);
bool request_step_allowed(enum request_state from, enum request_state to);
/* Makes room for chat.choices choices; false: out of memory. */
bool request_make_choices(struct request *r);
/* Gives up what it holds (a reservation, its memory). The state becomes DONE. */
void request_release(struct request *r);

/* Answers with an error: a status, or an event when the head is out already. Once an answer is
 * whole the exchange is let go. Nothing happens without a client. */
void request_error(struct request *r, const struct api_error *e);
/* request_error, then request_release: for a request that never got to a worker. */
void request_refuse(struct request *r, const struct api_error *e);
void request_reply(struct request *r, int status, const struct buf *body); /* JSON */
/* Head of an answer in pieces. */
void request_begin_reply(struct request *r);

/* The one exit of a journaled request: appends SETTLE. */
void request_settle(struct request *r, enum meter_outcome outcome);

#endif
