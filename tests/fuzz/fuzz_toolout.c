/* links: tg_worker */
/*
 * Calls in answers: the first byte chooses the form, bytes below 6 are its marks, the rest is text,
 * in pieces that a byte of 6 ends. Whatever comes, names are those of tools, indexes count up, and
 * the same text in one piece gives the same calls and content.
 */
#include <stdlib.h>

#include "worker/toolout.h"
#include "worker/utf8.h"

static const struct tool tools[] = {{"get", "",
                                     "{\"properties\": {\"a\": {\"type\": \"string\"}, \"n\": "
                                     "{\"type\": [\"integer\", \"null\"]}}}",
                                     false},
                                    {"put", "", "", false}};
static const char *const texts[] = {"<calls>", "<call>", "<sep>", "</call>", "</calls>"};

struct outcome {
    struct delta made;
    struct buf content;
};

static void flush(struct toolout *t, struct buf *piece, struct outcome *o)
{
    if (toolout_text(t, (const char *)buf_head(piece), buf_len(piece), &o->made, &o->content) != OK)
        abort();
    buf_clear(piece);
}

static void run(const uint8_t *data, size_t len, bool pieces, struct outcome *o)
{
    struct toolout_options options = {(enum tool_form)(TOOLS_DEEPSEEK + data[0] % 6), tools, 2, 1};
    struct toolout *t = toolout_new(&options);
    struct buf piece;
    if (!t)
        abort();
    delta_init(&o->made, 1 << 24);
    buf_init(&o->content, 1 << 24);
    buf_init(&piece, 1 << 24);
    for (size_t i = 1; i < len; i++) {
        if (data[i] > 6) {
            buf_add(&piece, data + i, 1);
        } else if (data[i] == 6) {
            if (pieces)
                flush(t, &piece, o);
        } else if (data[i] > 0) {
            flush(t, &piece, o);
            if (toolout_mark(t, (enum tool_mark)(data[i] - 1), texts[data[i] - 1], &o->made,
                             &o->content) != OK)
                abort();
        }
    }
    flush(t, &piece, o);
    if (toolout_end(t, &o->made, &o->content) != OK)
        abort();
    toolout_free(t);
    buf_done(&piece);
}

static void check(const struct delta_view *v)
{
    struct delta_call c;
    uint32_t next = 0;
    for (size_t at = 0; delta_next_call(v, &at, &c); next++)
        if (c.index != next || (strcmp(c.name, "get") != 0 && strcmp(c.name, "put") != 0))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct outcome a, b;
    struct delta_view x, y;
    if (len == 0 || !utf8_valid(data, len))
        return 0;
    run(data, len, true, &a);
    run(data, len, false, &b);
    delta_see(&a.made, &x);
    delta_see(&b.made, &y);
    check(&x);
    if (x.len[DELTA_CALLS] != y.len[DELTA_CALLS] || buf_len(&a.content) != buf_len(&b.content))
        abort();
    if (x.len[DELTA_CALLS] && memcmp(x.data[DELTA_CALLS], y.data[DELTA_CALLS], x.len[DELTA_CALLS]))
        abort();
    delta_done(&a.made);
    delta_done(&b.made);
    buf_done(&a.content);
    buf_done(&b.content);
    return 0;
}
