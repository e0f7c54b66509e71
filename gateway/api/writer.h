/* Writing JSON by hand into a buf: appends until the first failure, which stays. */
#ifndef GATEWAY_API_WRITER_H
#define GATEWAY_API_WRITER_H

#include "base/buf.h"

struct writer {
    struct buf *out;
    enum status st;
};

void writer_text(struct writer *w, const char *text); /* as it is */
void writer_bytes(struct writer *w, const void *data, size_t len);
void writer_quoted(struct writer *w, const char *text, size_t len);
void writer_number(struct writer *w, int64_t n); /* below zero counts as zero */

#endif
