/*
 * From generated ids to text and tool calls: reasoning split from content by token id, calls by
 * the marks of the model's form (worker/toolout.h), bytes held back until a UTF-8 character is
 * whole, stop strings found across tokens and cut off, end tokens dropped. NULs become U+FFFD, and
 * newlines that lead the reasoning, or the content behind it, are dropped. One a choice; the engine
 * thread owns it.
 */
#ifndef WORKER_TEXTOUT_H
#define WORKER_TEXTOUT_H

#include "worker/chat.h"
#include "worker/delta.h"

struct textout;

struct textout_options {
    const struct tokenizer *tokenizer;
    const struct chat_markers *markers;
    bool starts_in_reasoning; /* see chat_starts_in_reasoning */
    /* UTF-8, not empty; copied. They are looked for in the content alone. */
    const char *const *stop;
    int stop_count;
    const struct tool *tools; /* that may be called; names are copied */
    int tool_count;           /* 0: marks of calls are content */
    bool one_call;            /* the first call's end is the answer's */
    uint64_t id_seed;         /* see toolout.h */
    bool plain;               /* a text goes on: marks of reasoning are nothing special */
    bool drop_space;          /* the first text begins with a space that is none of the answer's */
};

struct textout *textout_new(const struct textout_options *options); /* NULL: out of memory */
void textout_free(struct textout *o);                               /* NULL is fine */

struct textout_said {
    bool is_reasoning; /* the token counts as reasoning */
    bool is_content;   /* it is text of the content */
    bool stopped;      /* a stop string, an end token or the only call's end: nothing may follow */
};

/* Takes one id; appends what may be shown now. */
enum status textout_push(struct textout *o, int32_t id, struct delta *out,
                         struct textout_said *said);
/* The end without a stop: appends what was held back (cut bytes become U+FFFD). */
enum status textout_flush(struct textout *o, struct delta *out);
int textout_calls(const struct textout *o); /* told so far */

#endif
