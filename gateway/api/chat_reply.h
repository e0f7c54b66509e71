/*
 * The answers of chat completions and completions, written by hand into a buf: chunks of a stream
 * as server-sent events, or the whole object. Plain functions; any thread.
 */
#ifndef GATEWAY_API_CHAT_REPLY_H
#define GATEWAY_API_CHAT_REPLY_H

#include "base/buf.h"
#include "billing/pricebook.h"
#include "gateway/api/chat_choice.h"

struct chat_answer {
    const char *id_text; /* of the request, 36 characters */
    const char *model;
    int64_t created_s;
    bool include_usage; /* chunks carry "usage":null, and a last one carries it */
    bool completion;    /* text, no messages */
};

/* Each appends whole events. LIMITED or NOMEM: the buffer holds a part that must not be sent. */
/* What a worker has told of a choice, behind the choice's role where that is still to be said. */
enum status chat_put_tokens(struct buf *out, const struct chat_answer *a, struct chat_choice *c,
                            const Wire__Tokens *m);
/* The choice's finish_reason. */
enum status chat_put_finish(struct buf *out, const struct chat_answer *a, struct chat_choice *c,
                            uint32_t index);
/* The usage chunk if it was asked for, and [DONE]. */
enum status chat_put_end(struct buf *out, const struct chat_answer *a,
                         const struct token_counts *counts);
/* The whole object of an answer that is not streamed. */
enum status chat_put_whole(struct buf *out, const struct chat_answer *a,
                           const struct chat_choice *choices, uint32_t count,
                           const struct token_counts *counts);

#endif
