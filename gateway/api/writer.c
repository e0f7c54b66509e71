#include "gateway/api/writer.h"

#include "base/json.h"

void writer_text(struct writer *w, const char *text)
{
    if (w->st == OK)
        w->st = buf_adds(w->out, text);
}

void writer_bytes(struct writer *w, const void *data, size_t len)
{
    if (w->st == OK && len > 0)
        w->st = buf_add(w->out, data, len);
}

void writer_quoted(struct writer *w, const char *text, size_t len)
{
    if (w->st == OK)
        w->st = json_put_string(w->out, text, len);
}

void writer_number(struct writer *w, int64_t n)
{
    char digits[24];
    char *at = digits + sizeof digits;
    uint64_t left = n < 0 ? 0 : (uint64_t)n;
    do
        *--at = (char)('0' + left % 10);
    while (left /= 10);
    writer_bytes(w, at, (size_t)(digits + sizeof digits - at));
}
