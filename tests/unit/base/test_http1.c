/* Each case is fed whole, byte by byte and cut in two at every place: the same must come out. */
#include "base/http1.h"

#include "base/buf.h"
#include "tests/unit/check.h"

enum { HEAD_MAX = 512, FIELDS_MAX = 8, BODY_MAX = 64 };

static const struct http1_limits limits = {HEAD_MAX, FIELDS_MAX, BODY_MAX};

/* What a whole stream came to: one line per event, bodies joined. */
struct outcome {
    struct buf text;
    enum http1_event last;
    int status;
};

static void note_head(struct outcome *o, const struct http1_request *r)
{
    buf_addf(&o->text, "%s %s%s%s 1.%d host=%s%s%s%s", r->method, r->path, r->query ? "?" : "",
             r->query ? r->query : "", r->minor_version, r->host ? r->host : "-",
             r->keep_alive ? " keep" : "", r->expect_continue ? " expect" : "",
             r->chunked ? " chunked" : "");
    if (r->content_length >= 0)
        buf_addf(&o->text, " length=%lld", (long long)r->content_length);
    for (int i = 0; i < r->field_count; i++) {
        const struct http1_field *f = &r->fields[i];
        CHECK_INT(strlen(f->name), f->name_len);
        CHECK_INT(strlen(f->value), f->value_len);
        buf_addf(&o->text, " [%s=%s]", f->name, f->value);
    }
    buf_adds(&o->text, "\n");
}

/* Feeds the front of `in` until nothing more comes; gives back how much was used. */
static size_t drive(struct http1_parser *p, struct arena *arena, struct outcome *o,
                    const uint8_t *in, size_t len)
{
    size_t at = 0;
    for (;;) {
        /* An exact copy, so that a sanitizer sees a read past the end. */
        uint8_t *copy = malloc(len - at + 1);
        CHECK_FATAL(copy != NULL);
        memcpy(copy, in + at, len - at);
        size_t used, body_len;
        const uint8_t *body;
        o->last = http1_feed(p, copy, len - at, &used, &body, &body_len);
        CHECK_FATAL(used <= len - at);
        if (o->last == HTTP1_HEAD)
            note_head(o, http1_request(p));
        if (o->last == HTTP1_BODY)
            buf_add(&o->text, body, body_len);
        free(copy);
        at += used;
        if (o->last == HTTP1_DONE) {
            buf_adds(&o->text, "<done>\n");
            arena_reset(arena);
            http1_begin(p, arena);
            if (at == len)
                return at;
        }
        if (o->last == HTTP1_ERROR) {
            o->status = http1_error_status(p);
            CHECK(http1_error_text(p) != NULL);
            buf_addf(&o->text, "error %d %s\n", o->status, http1_error_text(p));
            CHECK_INT(http1_feed(p, in, len, &used, &body, &body_len), HTTP1_ERROR);
            CHECK_INT(used, 0);
        }
        if (o->last == HTTP1_ERROR || o->last == HTTP1_MORE)
            return at;
    }
}

/* Feeds in[0..len) in steps: first `first` bytes, then `step` at a time. */
static void run(const uint8_t *in, size_t len, size_t first, size_t step, struct outcome *o)
{
    *o = (struct outcome){0};
    buf_init(&o->text, 1 << 20);
    struct arena *arena = arena_new(1 << 20);
    struct http1_parser *p = http1_new(&limits);
    CHECK_FATAL(arena && p);
    http1_begin(p, arena);
    size_t front = 0, end = first < len ? first : len;
    for (;;) {
        front += drive(p, arena, o, in + front, end - front);
        if (o->last == HTTP1_ERROR || end == len)
            break;
        end = len - end < step ? len : end + step;
    }
    http1_free(p);
    arena_free(arena);
}

static void check_same(struct outcome *got, struct outcome *want, const char *name, size_t first)
{
    const char *text = buf_cstr(&got->text);
    if (strcmp(text, buf_cstr(&want->text)) != 0 || got->last != want->last)
        fprintf(stderr, "%s cut at %zu: %s\n instead of %s\n", name, first, text,
                buf_cstr(&want->text));
    CHECK(strcmp(text, buf_cstr(&want->text)) == 0);
    CHECK_INT(got->last, want->last);
    buf_done(&got->text);
}

static void check_case(const char *in, size_t len, int status, const char *want)
{
    struct outcome whole, split;
    run((const uint8_t *)in, len, len, len, &whole);
    if (whole.status != status)
        fprintf(stderr, "case %.60s: %s\n", in, buf_cstr(&whole.text));
    CHECK_INT(whole.status, status);
    if (want)
        CHECK_STR(buf_cstr(&whole.text), want);
    if (status == 0 && want)
        CHECK(whole.last == HTTP1_DONE || whole.last == HTTP1_MORE);
    run((const uint8_t *)in, len, 1, 1, &split);
    check_same(&split, &whole, "byte by byte", 1);
    for (size_t cut = 0; cut <= len; cut++) {
        run((const uint8_t *)in, len, cut, len, &split);
        check_same(&split, &whole, "in two", cut);
    }
    buf_done(&whole.text);
}

struct http1_case {
    const char *in;
    int status; /* 0: served */
    const char *want;
};

#define H "Host: a\r\n"
#define G "GET / HTTP/1.1\r\n" H
#define P "POST /x HTTP/1.1\r\n" H
#define C P "Transfer-Encoding: chunked\r\n\r\n"

static const struct http1_case good[] = {
    {G "\r\n", 0, "GET / 1.1 host=a keep [host=a]\n<done>\n"},
    {"GET /a%2Fb?x=%20[y]&z HTTP/1.1\r\nHoSt:\t b.example:8443 \t\r\n\r\n", 0,
     "GET /a%2Fb?x=%20[y]&z 1.1 host=b.example:8443 keep [host=b.example:8443]\n<done>\n"},
    {"GET /? HTTP/1.1\r\nHost: [::1]:80\r\nEmpty:\r\n\r\n", 0,
     "GET /? 1.1 host=[::1]:80 keep [host=[::1]:80] [empty=]\n<done>\n"},
    {"GET / HTTP/1.0\r\n\r\n", 0, "GET / 1.0 host=-\n<done>\n"},
    {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 0,
     "GET / 1.0 host=- keep [connection=Keep-Alive]\n<done>\n"},
    {G "Connection: foo, CLOSE\r\n\r\n", 0,
     "GET / 1.1 host=a [host=a] [connection=foo, CLOSE]\n<done>\n"},
    {G "Connection: keep-alive\r\nConnection: close\r\n\r\n", 0, NULL},
    {"\r\n" G "\r\n", 0, "GET / 1.1 host=a keep [host=a]\n<done>\n"},
    {G "X: caf\xc3\xa9 \"q\" (c)\r\n\r\n", 0, NULL},
    {P "Content-Length: 0\r\n\r\n", 0, NULL},
    {P "Content-Length: 5\r\n\r\nhello", 0,
     "POST /x 1.1 host=a keep length=5 [host=a] [content-length=5]\nhello<done>\n"},
    {P "Content-Length: 5\r\nExpect: 100-Continue\r\n\r\nhello", 0,
     "POST /x 1.1 host=a keep expect length=5 [host=a] [content-length=5] "
     "[expect=100-Continue]\nhello<done>\n"},
    {P "Content-Length: 64\r\n\r\n"
       "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
     0, NULL},
    {C "5\r\nhello\r\n6;a=b;c=\"d e\"\r\n world\r\n0\r\n\r\n", 0,
     "POST /x 1.1 host=a keep chunked [host=a] [transfer-encoding=chunked]\n"
     "hello world<done>\n"},
    {P "Transfer-Encoding: Chunked\r\n\r\n00A\r\n0123456789\r\n000\r\nX-T: 1\r\nY:\r\n\r\n", 0,
     "POST /x 1.1 host=a keep chunked [host=a] [transfer-encoding=Chunked]\n"
     "0123456789<done>\n"},
    /* Pipelined, in order. */
    {P "Content-Length: 2\r\n\r\nhi" G "\r\n" C "1\r\nx\r\n0\r\n\r\n" G "\r\n", 0,
     "POST /x 1.1 host=a keep length=2 [host=a] [content-length=2]\nhi<done>\n"
     "GET / 1.1 host=a keep [host=a]\n<done>\n"
     "POST /x 1.1 host=a keep chunked [host=a] [transfer-encoding=chunked]\nx<done>\n"
     "GET / 1.1 host=a keep [host=a]\n<done>\n"},
    /* Not whole yet. */
    {"GET / HTTP/1.1\r\nHost: a", 0, ""},
    {P "Content-Length: 5\r\n\r\nhel", 0,
     "POST /x 1.1 host=a keep length=5 [host=a] [content-length=5]\nhel"},
};

static const struct http1_case bad[] = {
    /* Content-Length */
    {P "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400, NULL},
    {P "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400, NULL},
    {P "Content-Length: 5, 5\r\n\r\nhello", 400, NULL},
    {P "Content-Length: +5\r\n\r\nhello", 400, NULL},
    {P "Content-Length: -5\r\n\r\nhello", 400, NULL},
    {P "Content-Length: -0\r\n\r\n", 400, NULL},
    {P "Content-Length: 0x5\r\n\r\nhello", 400, NULL},
    {P "Content-Length: 5 5\r\n\r\nhello", 400, NULL},
    {P "Content-Length: 05\r\n\r\nhello", 400, NULL},
    {P "Content-Length: 5.0\r\n\r\nhello", 400, NULL},
    {P "Content-Length: 1e1\r\n\r\nhello", 400, NULL},
    {P "Content-Length: 5;\r\n\r\nhello", 400, NULL},
    {P "Content-Length: \"5\"\r\n\r\nhello", 400, NULL},
    {P "Content-Length:\r\n\r\nhello", 400, NULL},
    {P "Content-Length: five\r\n\r\nhello", 400, NULL},
    {P "Content-Length: 65\r\n\r\n", 413, NULL},
    {P "Content-Length: 9223372036854775808\r\n\r\n", 413, NULL},
    {P "Content-Length: 18446744073709551621\r\n\r\n", 413, NULL},
    {P "Content-Length: 99999999999999999999999999999999999999999\r\n\r\n", 413, NULL},
    {P "Content-Length: 99999999999999999999999999999999999999999x\r\n\r\n", 400, NULL},
    {P "Content-Length: 65\r\nExpect: 100-continue\r\n\r\n", 413, NULL},
    /* Transfer-Encoding */
    {P "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, NULL},
    {P "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400, NULL},
    {P "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, NULL},
    {P "Content-Length: 5\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n", 400, NULL},
    {P "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400, NULL},
    {P "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", 400, NULL},
    {P "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400, NULL},
    {P "Transfer-Encoding: chunked, chunked\r\n\r\n", 400, NULL},
    {P "Transfer-Encoding: chunked, gzip\r\n\r\n", 400, NULL},
    {P "Transfer-Encoding: chunked,\r\n\r\n", 400, NULL},
    {P "Transfer-Encoding: ,chunked\r\n\r\n", 400, NULL},
    {P "Transfer-Encoding:\r\n\r\n", 400, NULL},
    {P "Transfer-Encoding: chunked;q=1\r\n\r\n", 400, NULL},
    {P "Transfer-Encoding: \"chunked\"\r\n\r\n", 400, NULL},
    {P "Transfer-Encoding: \x0b"
       "chunked\r\n\r\n",
     400, NULL},
    {P "Transfer-Encoding: chunked\x80\r\n\r\n", 400, NULL},
    {P "Transfer-Encoding: chunked , \tchunked \r\n\r\n", 400, NULL},
    {P "Transfer-Encoding: chunked gzip\r\n\r\n", 400, NULL},
    {P "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, NULL},
    {P "Transfer-Encoding: gzip\r\n\r\n", 501, NULL},
    {P "Transfer-Encoding: identity\r\n\r\n", 501, NULL},
    {P "Transfer-Encoding: xchunked\r\n\r\n", 501, NULL},
    {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, NULL},
    {"POST / HTTP/1.0\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n", 400, NULL},
    /* Lines and fields */
    {G "A: b\r\n c\r\n\r\n", 400, NULL},
    {G "A: b\r\n\tc\r\n\r\n", 400, NULL},
    {"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, NULL},
    {G "A: b\nC: d\r\n\r\n", 400, NULL},
    {"GET / HTTP/1.1\nHost: a\r\n\r\n", 400, NULL},
    {G "\n", 400, NULL},
    {"\n" G "\r\n", 400, NULL},
    {"\r\n\r\n" G "\r\n", 400, NULL},
    {G "A: b\rC: d\r\n\r\n", 400, NULL},
    {G "A: b\r\r\n\r\n", 400, NULL},
    {"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", 400, NULL},
    {G "\r\r\n", 400, NULL},
    {G ": b\r\n\r\n", 400, NULL},
    {G "A b: c\r\n\r\n", 400, NULL},
    {G "A : c\r\n\r\n", 400, NULL},
    {G "A\r\n\r\n", 400, NULL},
    {G "A@b: c\r\n\r\n", 400, NULL},
    {G "\xc3\xa9: c\r\n\r\n", 400, NULL},
    {G "A: b\x7f\r\n\r\n", 400, NULL},
    {G "A: \x01\r\n\r\n", 400, NULL},
    {G "A: \x1b[31m\r\n\r\n", 400, NULL},
    /* Host */
    {"GET / HTTP/1.1\r\n\r\n", 400, NULL},
    {"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, NULL},
    {"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400, NULL},
    {"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, NULL},
    {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, NULL},
    {"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400, NULL},
    {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, NULL},
    {"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400, NULL},
    {"GET / HTTP/1.1\r\nHost: a:\r\n\r\n", 400, NULL},
    {"GET / HTTP/1.1\r\nHost: a:x\r\n\r\n", 400, NULL},
    {"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", 400, NULL},
    {"GET / HTTP/1.1\r\nHost: a:000080\r\n\r\n", 400, NULL},
    {"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", 400, NULL},
    {"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400, NULL},
    {"GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", 400, NULL},
    {"GET / HTTP/1.1\r\nHost: []\r\n\r\n", 400, NULL},
    {"GET / HTTP/1.1\r\nHost: a%00\r\n\r\n", 400, NULL},
    {G "Connection: a b\r\n\r\n", 400, NULL},
    {G "Connection: \"close\"\r\n\r\n", 400, NULL},
    {G "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", 400, NULL},
    /* Request line */
    {"GET /\r\n" H "\r\n", 400, NULL},
    {"GET\r\n\r\n", 400, NULL},
    {"GET  / HTTP/1.1\r\n" H "\r\n", 400, NULL},
    {"GET /  HTTP/1.1\r\n" H "\r\n", 400, NULL},
    {"GET / HTTP/1.1 \r\n" H "\r\n", 400, NULL},
    {" GET / HTTP/1.1\r\n" H "\r\n", 400, NULL},
    {"GET\t/\tHTTP/1.1\r\n" H "\r\n", 400, NULL},
    {"GET /a b HTTP/1.1\r\n" H "\r\n", 400, NULL},
    {"G(T / HTTP/1.1\r\n" H "\r\n", 400, NULL},
    {"GET http://a/ HTTP/1.1\r\n" H "\r\n", 400, NULL},
    {"GET //a HTTP/1.1 HTTP/1.1\r\n" H "\r\n", 400, NULL},
    {"CONNECT a:443 HTTP/1.1\r\n" H "\r\n", 400, NULL},
    {"OPTIONS * HTTP/1.1\r\n" H "\r\n", 400, NULL},
    {"GET a HTTP/1.1\r\n" H "\r\n", 400, NULL},
    {"GET /#f HTTP/1.1\r\n" H "\r\n", 400, NULL},
    {"GET /\\ HTTP/1.1\r\n" H "\r\n", 400, NULL},
    {"GET /% HTTP/1.1\r\n" H "\r\n", 400, NULL},
    {"GET /%2 HTTP/1.1\r\n" H "\r\n", 400, NULL},
    {"GET /%zz HTTP/1.1\r\n" H "\r\n", 400, NULL},
    {"GET /\xc3\xa9 HTTP/1.1\r\n" H "\r\n", 400, NULL},
    {"GET /\x7f HTTP/1.1\r\n" H "\r\n", 400, NULL},
    {"GET / http/1.1\r\n" H "\r\n", 400, NULL},
    {"GET / HTTP/1.1x\r\n" H "\r\n", 400, NULL},
    {"GET / HTTP/\r\n" H "\r\n", 400, NULL},
    {"GET / ICY/1.1\r\n" H "\r\n", 400, NULL},
    {"GET / HTTP/-1.1\r\n" H "\r\n", 400, NULL},
    {"GET / HTTP/0.9\r\n" H "\r\n", 505, NULL},
    {"GET / HTTP/1.2\r\n" H "\r\n", 505, NULL},
    {"GET / HTTP/2.0\r\n" H "\r\n", 505, NULL},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, NULL},
    {"GET / HTTP/1.10\r\n" H "\r\n", 505, NULL},
    {"GET / HTTP/01.1\r\n" H "\r\n", 505, NULL},
    {"GET / HTTP/9999999999.1\r\n" H "\r\n", 505, NULL},
    {"\x16\x03\x01\x02\x01\n", 400, NULL},
    /* Expect */
    {P "Content-Length: 5\r\nExpect: foo\r\n\r\n", 417, NULL},
    {P "Content-Length: 5\r\nExpect: 100-continue, foo\r\n\r\n", 417, NULL},
    {P "Expect:\r\n\r\n", 417, NULL},
    /* Chunks */
    {C "\r\n", 400, NULL},
    {C "x\r\n", 400, NULL},
    {C "0x1\r\nx\r\n0\r\n\r\n", 400, NULL},
    {C "+1\r\nx\r\n0\r\n\r\n", 400, NULL},
    {C "-1\r\nx\r\n0\r\n\r\n", 400, NULL},
    {C " 1\r\nx\r\n0\r\n\r\n", 400, NULL},
    {C "1 \r\nx\r\n0\r\n\r\n", 400, NULL},
    {C "1\nx\r\n0\r\n\r\n", 400, NULL},
    {C "1\rx\r\n0\r\n\r\n", 400, NULL},
    {C "1\r\nxx\r\n0\r\n\r\n", 400, NULL},
    {C "1\r\nx\n0\r\n\r\n", 400, NULL},
    {C "1\r\nx\rx0\r\n\r\n", 400, NULL},
    {C "2\r\nx\r\n0\r\n\r\n", 400, NULL},
    {C "1\r\nx0\r\n\r\n", 400, NULL},
    {C "41\r\n", 413, NULL},
    {C "8\r\n01234567\r\n39\r\n", 413, NULL},
    {C "ffffffffffffffff\r\n", 413, NULL},
    {C "8\r\n01234567\r\nfffffffffffffff8\r\n", 413, NULL},
    {C "10000000000000000\r\n", 400, NULL},
    {C "00000000000000001\r\nx\r\n0\r\n\r\n", 400, NULL},
    {C "1;a\nb\r\nx\r\n0\r\n\r\n", 400, NULL},
    {C "1;a\x01\r\nx\r\n0\r\n\r\n", 400, NULL},
    {C "1;a\r;\r\nx\r\n0\r\n\r\n", 400, NULL},
    /* Trailers */
    {C "0\r\nContent-Length: 5\r\n\r\n", 400, NULL},
    {C "0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, NULL},
    {C "0\r\nHost: b\r\n\r\n", 400, NULL},
    {C "0\r\nAuthorization: Bearer x\r\n\r\n", 400, NULL},
    {C "0\r\nX-Api-Key: x\r\n\r\n", 400, NULL},
    {C "0\r\nCookie: x\r\n\r\n", 400, NULL},
    {C "0\r\nExpect: 100-continue\r\n\r\n", 400, NULL},
    {C "0\r\nContent-Encoding: gzip\r\n\r\n", 400, NULL},
    {C "0\r\nA : b\r\n\r\n", 400, NULL},
    {C "0\r\nA: b\r\n c\r\n\r\n", 400, NULL},
    {C "0\r\nA: b\n\r\n", 400, NULL},
    {C "0\r\n\n", 400, NULL},
    {C "0\r\nGET / HTTP/1.1\r\n\r\n", 400, NULL},
    {C "0\r\n1:\r\n2:\r\n3:\r\n4:\r\n5:\r\n6:\r\n7:\r\n8:\r\n9:\r\n\r\n", 431, NULL},
    /* Nothing behind an error is served. */
    {P "Content-Length: 2\r\n\r\nhi" P "Content-Length: x\r\n\r\n" G "\r\n", 400,
     "POST /x 1.1 host=a keep length=2 [host=a] [content-length=2]\nhi<done>\n"
     "error 400 Content-Length is malformed\n"},
    /* Fields */
    {G "1:\r\n2:\r\n3:\r\n4:\r\n5:\r\n6:\r\n7:\r\n\r\n", 0, NULL},
    {G "1:\r\n2:\r\n3:\r\n4:\r\n5:\r\n6:\r\n7:\r\n8:\r\n\r\n", 431, NULL},
};

static void test_nul(void)
{
    static const char nul_value[] = G "A: b\0c\r\n\r\n";
    static const char nul_name[] = G "A\0: b\r\n\r\n";
    static const char nul_target[] = "GET /\0 HTTP/1.1\r\n" H "\r\n";
    static const char nul_length[] = P "Content-Length: 5\0\r\n\r\nhello";
    static const char nul_chunk[] = C "1\0\r\nx\r\n0\r\n\r\n";
    check_case(nul_value, sizeof nul_value - 1, 400, NULL);
    check_case(nul_name, sizeof nul_name - 1, 400, NULL);
    check_case(nul_target, sizeof nul_target - 1, 400, NULL);
    check_case(nul_length, sizeof nul_length - 1, 400, NULL);
    check_case(nul_chunk, sizeof nul_chunk - 1, 400, NULL);
}

/* A head of exactly the limit is served, one byte more is not, whether it ends or not. */
static void test_head_limit(void)
{
    char in[HEAD_MAX * 2];
    for (int over = -1; over <= 1; over++) {
        int len = snprintf(in, sizeof in, G "X: ");
        while (len < HEAD_MAX + over - 4)
            in[len++] = 'x';
        check_case(in, (size_t)len, 0, "");
        len += snprintf(in + len, sizeof in - (size_t)len, "\r\n\r\n");
        check_case(in, (size_t)len, over > 0 ? 431 : 0, NULL);
    }
    memset(in, 'x', sizeof in);
    check_case(in, HEAD_MAX, 0, "");
    check_case(in, HEAD_MAX + 1, 431, NULL);
    int len = snprintf(in, sizeof in, C "0\r\n");
    memset(in + len, 'x', sizeof in - (size_t)len);
    check_case(in, (size_t)len + HEAD_MAX, 0, NULL);
    check_case(in, (size_t)len + HEAD_MAX + 1, 431, NULL);
    /* Many short trailers meet the same limit. */
    check_case(in, sizeof in, 431, NULL);
}

static void test_chunk_extension_limit(void)
{
    char in[4096];
    for (int over = 0; over <= 1; over++) {
        int len = snprintf(in, sizeof in, C "1;");
        memset(in + len, 'e', 1024);
        len += 1023;
        len += snprintf(in + len, sizeof in - (size_t)len, "\r\nx\r\n1;%s\r\ny\r\n0\r\n\r\n",
                        over ? "ee" : "e");
        check_case(in, (size_t)len, over ? 400 : 0, NULL);
    }
}

/* A long head that arrives a byte at a time costs one look at each byte. */
static void test_not_quadratic(void)
{
    enum { LEN = 4 << 20 };
    struct http1_limits wide = {LEN + 100, 8, 0};
    struct http1_parser *p = http1_new(&wide);
    struct arena *arena = arena_new(2 * LEN);
    uint8_t *in = malloc(LEN);
    CHECK_FATAL(p && arena && in);
    http1_begin(p, arena);
    memset(in, 'x', LEN);
    size_t used, body_len;
    const uint8_t *body;
    for (size_t len = 0; len < LEN; len++)
        if (http1_feed(p, in, len, &used, &body, &body_len) != HTTP1_MORE || used != 0)
            CHECK(!"an unfinished head must ask for more and use nothing");
    free(in);
    http1_free(p);
    arena_free(arena);
}

/* Thousands of fields cost no memory past the limit. */
static void test_many_fields(void)
{
    const struct http1_limits wide = {1 << 20, 100, 0};
    struct http1_parser *p = http1_new(&wide);
    struct arena *arena = arena_new(64 << 10);
    struct buf in;
    buf_init(&in, 1 << 20);
    CHECK_FATAL(p && arena);
    for (int count = 99; count <= 10000; count += count < 100 ? 1 : 9900) {
        buf_clear(&in);
        buf_adds(&in, G);
        for (int i = 1; i < count; i++)
            buf_addf(&in, "F%d: %d\r\n", i, i);
        buf_adds(&in, "\r\n");
        size_t used, body_len;
        const uint8_t *body;
        arena_reset(arena);
        http1_begin(p, arena);
        enum http1_event event =
            http1_feed(p, buf_head(&in), buf_len(&in), &used, &body, &body_len);
        CHECK_INT(event, count <= 100 ? HTTP1_HEAD : HTTP1_ERROR);
        const struct http1_request *r = http1_request(p);
        if (event == HTTP1_ERROR) {
            CHECK_INT(http1_error_status(p), 431);
            continue;
        }
        CHECK_INT(r->field_count, count);
        CHECK_STR(http1_field(r, "f98"), "98");
        CHECK_STR(http1_field(r, "host"), "a");
        CHECK(http1_field(r, "F98") == NULL);
    }
    buf_done(&in);
    http1_free(p);
    arena_free(arena);
}

/* Wherever the arena ends, the answer is 503, never a request with parts missing. */
static void test_out_of_memory(void)
{
    struct http1_parser *p = http1_new(&limits);
    CHECK_FATAL(p);
    static const char in[] = G "A: b\r\n\r\n";
    enum http1_event event = HTTP1_ERROR;
    for (size_t room = 0; event != HTTP1_HEAD; room += 16) {
        struct arena *arena = arena_new(room);
        CHECK_FATAL(arena && room < 4096);
        http1_begin(p, arena);
        size_t used, body_len;
        const uint8_t *body;
        event = http1_feed(p, (const uint8_t *)in, sizeof in - 1, &used, &body, &body_len);
        if (event == HTTP1_ERROR)
            CHECK_INT(http1_error_status(p), 503);
        else
            CHECK_STR(http1_field(http1_request(p), "a"), "b");
        arena_free(arena);
    }
    http1_free(p);
    http1_free(NULL);
}

int main(void)
{
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        check_case(good[i].in, strlen(good[i].in), good[i].status, good[i].want);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        check_case(bad[i].in, strlen(bad[i].in), bad[i].status, bad[i].want);
    test_nul();
    test_head_limit();
    test_chunk_extension_limit();
    test_not_quadratic();
    test_many_fields();
    test_out_of_memory();
    return check_done();
}
