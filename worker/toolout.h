/*
 * From the text of an answer to its tool calls, as it comes: id and name of a call as soon as the
 * name is known, then pieces of its arguments. What begins like a call but is none (no name, or one
 * that no tool has) is given back as content, marks and all, so nothing a model says is lost. What
 * a form looks like: enum tool_form. One a choice; the engine thread owns it.
 */
#ifndef WORKER_TOOLOUT_H
#define WORKER_TOOLOUT_H

#include "worker/chat.h"
#include "worker/delta.h"

struct toolout;

enum tool_mark { MARK_CALLS_BEGIN, MARK_CALL_BEGIN, MARK_CALL_SEP, MARK_CALL_END, MARK_CALLS_END };

struct toolout_options {
    enum tool_form form;
    const struct tool *tools; /* names are copied */
    int tool_count;
    uint64_t id_seed; /* of the calls' ids: not to be used twice */
};

struct toolout *toolout_new(const struct toolout_options *options); /* NULL: out of memory */
void toolout_free(struct toolout *t);                               /* NULL is fine */
/* A mark of the form, with its text. */
enum status toolout_mark(struct toolout *t, enum tool_mark mark, const char *text,
                         struct delta *out, struct buf *content);
/* Whole UTF-8 characters without NULs; what is no call goes to content. */
enum status toolout_text(struct toolout *t, const char *text, size_t len, struct delta *out,
                         struct buf *content);
/* The answer has ended. */
enum status toolout_end(struct toolout *t, struct delta *out, struct buf *content);
int toolout_calls(const struct toolout *t);   /* whose names were told */
bool toolout_within(const struct toolout *t); /* text is not content now */
bool toolout_within_call(const struct toolout *t);

#endif
