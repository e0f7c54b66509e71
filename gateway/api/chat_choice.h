/*
 * One choice of an answer on its way: what a stream has said of it, or, where the answer is given
 * whole, all that it is made of. One owner.
 */
#ifndef GATEWAY_API_CHAT_CHOICE_H
#define GATEWAY_API_CHAT_CHOICE_H

#include "base/buf.h"
#include "base/wire.h"
#include "gateway/api/logprobs.h"

enum { CHOICE_CALLS_MAX = 128, CHOICE_CALL_TEXT_MAX = 512 };

struct chat_call {
    char *id, *name;
    struct buf arguments;
};

struct chat_choice {
    struct buf content, reasoning;
    struct buf logprobs[LOGPROBS_ARRAYS]; /* a chat uses the first alone */
    struct chat_call *calls;
    int call_count, call_size;
    int64_t text_chars;    /* of a completion's logprobs */
    const char *finish;    /* a finish_reason; NULL: it goes on */
    bool role_sent, ended; /* of a stream */
};

/* max_bytes: of the text; log probabilities may take LOGPROBS_ROOM times that. */
enum { LOGPROBS_ROOM = 4 };
void chat_choice_init(struct chat_choice *c, size_t max_bytes);
void chat_choice_limit(struct chat_choice *c, size_t max_bytes); /* of an empty one */
void chat_choice_done(struct chat_choice *c);                    /* its memory */
void chat_choice_reset(struct chat_choice *c);                   /* its contents */
size_t chat_choice_bytes(const struct chat_choice *c);           /* of memory that it keeps */

/* INVALID: a call out of order, or without a name: the worker broke the protocol. Nothing was
 * taken. Otherwise notes that the calls were begun. */
enum status chat_choice_check(const struct chat_choice *c, const Wire__Tokens *m);
/* Streamed: the calls that begin here are counted, no more. */
void chat_choice_pass(struct chat_choice *c, const Wire__Tokens *m);
/* Kept until the end. LIMITED, NOMEM: it does not fit. */
enum status chat_choice_gather(struct chat_choice *c, const Wire__Tokens *m, bool completion);

#endif
