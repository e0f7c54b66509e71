/*
 * From generated ids to text: reasoning split from content by token id, bytes held back until
 * a UTF-8 character is whole, stop strings found across tokens and cut off, end tokens dropped.
 * One a sequence; the engine thread owns it.
 */
#ifndef WORKER_TEXTOUT_H
#define WORKER_TEXTOUT_H

#include "base/buf.h"
#include "worker/chat.h"

struct textout;

/* starts_in_reasoning: see chat_starts_in_reasoning. Stop strings (UTF-8, not empty) are copied;
 * they are looked for in the content, not in the reasoning. NULL: out of memory. */
struct textout *textout_new(const struct tokenizer *t, const struct chat_markers *markers,
                            bool starts_in_reasoning, const char *const *stop, int stop_count);
void textout_free(struct textout *o); /* NULL is fine */
/* Takes one id; appends what may be shown now. *stopped: a stop string or end token was met:
 * nothing more may follow. counts.completion and .reasoning are raised by the caller through
 * *is_reasoning. */
enum status textout_push(struct textout *o, int32_t id, struct buf *content, struct buf *reasoning,
                         bool *is_reasoning, bool *stopped);
bool textout_ends(const struct textout *o, int32_t id); /* whether it is an end token */
/* The end without a stop: appends what was held back (cut bytes become U+FFFD). */
enum status textout_flush(struct textout *o, struct buf *content, struct buf *reasoning);

#endif
