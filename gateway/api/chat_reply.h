/*
 * The answers of chat completions, written by hand into a buf: chunks of a stream as server-sent
 * events, or the whole object. Plain functions; any thread.
 */
#ifndef GATEWAY_API_CHAT_REPLY_H
#define GATEWAY_API_CHAT_REPLY_H

#include "base/buf.h"
#include "billing/pricebook.h"

struct chat_answer {
    const char *id_text; /* of the request, 36 characters */
    const char *model;
    int64_t created_s;
    bool include_usage; /* chunks carry "usage":null, and a last one carries it */
};

struct chat_text {
    const char *content, *reasoning; /* need no NUL */
    size_t content_len, reasoning_len;
};

/* Each appends whole events. LIMITED or NOMEM: the buffer holds a part that must not be sent. */
enum status chat_put_role(struct buf *out, const struct chat_answer *a);
enum status chat_put_delta(struct buf *out, const struct chat_answer *a,
                           const struct chat_text *text);
/* The finish chunk, the usage chunk if it was asked for, and [DONE]. */
enum status chat_put_end(struct buf *out, const struct chat_answer *a, const char *finish_reason,
                         const struct token_counts *counts);
/* The whole object of an answer that is not streamed. */
enum status chat_put_whole(struct buf *out, const struct chat_answer *a,
                           const struct chat_text *text, const char *finish_reason,
                           const struct token_counts *counts);

#endif
