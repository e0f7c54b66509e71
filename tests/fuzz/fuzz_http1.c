/* links: tg_base */
/*
 * The events of a stream do not depend on how it was cut into reads, and what is served obeys
 * the rules of framing. The first byte picks the cuts.
 */
#include <assert.h>

#include "base/buf.h"
#include "base/http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { BODY_MAX = 200 };
static const struct http1_limits limits = {300, 6, BODY_MAX};

static void check_request(const struct http1_request *r)
{
    assert(r->method[0] && r->path[0] == '/');
    assert(!strpbrk(r->path, "? #") && !(r->query && strpbrk(r->query, " #")));
    assert(r->minor_version == 0 || r->host);
    assert(!(r->chunked && r->content_length >= 0));
    assert(!(r->chunked && r->minor_version == 0));
    assert(r->content_length >= -1 && r->content_length <= BODY_MAX);
    assert(r->field_count <= limits.fields);
    int hosts = 0, lengths = 0, codings = 0;
    for (int i = 0; i < r->field_count; i++) {
        const struct http1_field *f = &r->fields[i];
        assert(f->name_len > 0 && strlen(f->name) == f->name_len);
        assert(strlen(f->value) == f->value_len);
        assert(!strpbrk(f->name, " \t:ABCDEFGHIJKLMNOPQRSTUVWXYZ"));
        assert(!strpbrk(f->value, "\r\n\x7f"));
        hosts += strcmp(f->name, "host") == 0;
        lengths += strcmp(f->name, "content-length") == 0;
        codings += strcmp(f->name, "transfer-encoding") == 0;
    }
    assert(hosts <= 1 && hosts == (r->host != NULL));
    assert(lengths == (r->content_length >= 0) && codings == r->chunked);
}

struct run {
    struct http1_parser *parser;
    struct arena *arena;
    struct buf log; /* one line for each event; bodies joined */
    size_t body_bytes;
    bool failed;
};

static void note_event(struct run *run, enum http1_event event, const uint8_t *body,
                       size_t body_len)
{
    const struct http1_request *r = http1_request(run->parser);
    if (event == HTTP1_HEAD) {
        check_request(r);
        buf_addf(&run->log, "\nhead %s %s %s %d", r->method, r->path, r->query ? r->query : "-",
                 r->field_count);
        run->body_bytes = 0;
    }
    if (event == HTTP1_BODY) {
        assert(body_len > 0);
        buf_add(&run->log, body, body_len);
        run->body_bytes += body_len;
        assert(run->body_bytes <= BODY_MAX);
    }
    if (event == HTTP1_DONE) {
        assert(r->content_length < 0 || (size_t)r->content_length == run->body_bytes);
        buf_adds(&run->log, "\ndone");
        arena_reset(run->arena);
        http1_begin(run->parser, run->arena);
    }
    if (event == HTTP1_ERROR) {
        int status = http1_error_status(run->parser);
        assert(status >= 400 && status <= 505 && http1_error_text(run->parser));
        buf_addf(&run->log, "\nerror %d %s", status, http1_error_text(run->parser));
        run->failed = true;
    }
}

/* Gives back how much was used. */
static size_t feed(struct run *run, const uint8_t *in, size_t len)
{
    size_t at = 0;
    for (;;) {
        size_t used, body_len;
        const uint8_t *body;
        enum http1_event event =
            http1_feed(run->parser, in + at, len - at, &used, &body, &body_len);
        assert(used <= len - at);
        assert(!body || (body >= in + at && body + body_len <= in + at + used));
        at += used;
        note_event(run, event, body, body_len);
        if (event == HTTP1_MORE || event == HTTP1_ERROR || (event == HTTP1_DONE && at == len))
            return at;
    }
}

/* Each piece is copied to its own memory together with what was left of the last one. */
static void run_stream(struct run *run, const uint8_t *in, size_t len, unsigned cut)
{
    buf_init(&run->log, 16 << 20);
    run->arena = arena_new(1 << 20);
    run->parser = http1_new(&limits);
    assert(run->arena && run->parser);
    http1_begin(run->parser, run->arena);
    size_t front = 0, end = 0;
    uint32_t random = cut;
    while (end < len && !run->failed) {
        random = random * 1664525 + 1013904223;
        size_t step = cut == 0 ? len : cut == 1 ? 1 : 1 + (random >> 16) % cut;
        end = len - end < step ? len : end + step;
        uint8_t *copy = malloc(end - front + 1);
        assert(copy);
        memcpy(copy, in + front, end - front);
        front += feed(run, copy, end - front);
        free(copy);
    }
    http1_free(run->parser);
    arena_free(run->arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    struct run whole = {0}, split = {0};
    run_stream(&whole, data + 1, len - 1, 0);
    run_stream(&split, data + 1, len - 1, 1 + data[0]);
    assert(strcmp(buf_cstr(&whole.log), buf_cstr(&split.log)) == 0);
    assert(whole.failed == split.failed && buf_len(&whole.log) == buf_len(&split.log));
    buf_done(&whole.log);
    buf_done(&split.log);
    return 0;
}
