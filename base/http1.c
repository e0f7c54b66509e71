#include "base/http1.h"

#include <assert.h>

#include "base/http1_chars.h"

enum {
    FIELDS_FIRST = 16,          /* slots of the field table to begin with */
    CHUNK_DIGITS_MAX = 16,      /* hex digits of a chunk size: 64 bits */
    CHUNK_EXTENSION_MAX = 1024, /* bytes of chunk extensions in one body */
};

enum state {
    READ_START, /* at the request line; one empty line may come before it */
    READ_REQUEST_LINE,
    READ_FIELDS,
    READ_LENGTH, /* a body of known length */
    READ_CHUNK_SIZE,
    READ_CHUNK_EXTENSION,
    READ_CHUNK_SIZE_LF,
    READ_CHUNK_DATA,
    READ_CHUNK_CR,
    READ_CHUNK_LF,
    READ_TRAILERS,
    READ_DONE,
    READ_FAILED,
};

struct http1_parser {
    struct http1_limits limits;
    struct arena *arena;
    struct http1_request request;
    int fields_size;
    enum state state;
    size_t line;    /* offset of the unfinished line in the input */
    size_t scanned; /* input in front of this has no line feed behind `line` */
    bool host_seen, authorization_seen, transfer_encoding_seen, expect_seen;
    bool close_asked, keep_alive_asked;
    uint64_t left; /* of the body, or of the chunk */
    uint64_t body_bytes;
    int chunk_digits;
    size_t extension_bytes, trailer_bytes;
    int trailer_count;
    int error_status;
    const char *error_text;
};

struct http1_parser *http1_new(const struct http1_limits *limits)
{
    struct http1_parser *p = calloc(1, sizeof *p);
    if (p) {
        p->limits = *limits;
        p->state = READ_DONE; /* until http1_begin */
    }
    return p;
}

void http1_free(struct http1_parser *p)
{
    free(p);
}

void http1_begin(struct http1_parser *p, struct arena *arena)
{
    *p = (struct http1_parser){.limits = p->limits, .arena = arena, .state = READ_START};
    p->request.content_length = -1;
}

/* Always false, so that checks can end with it. */
static bool refuse(struct http1_parser *p, int status, const char *text)
{
    p->state = READ_FAILED;
    p->error_status = status;
    p->error_text = text;
    return false;
}

/* The next whole line, without its CRLF. False: none yet, or the parser has failed. */
static bool next_line(struct http1_parser *p, const uint8_t *in, size_t len, size_t max,
                      struct http1_field *line)
{
    size_t end = len < max ? len : max;
    const uint8_t *lf = NULL;
    if (p->scanned < end)
        lf = memchr(in + p->scanned, '\n', end - p->scanned);
    if (!lf) {
        p->scanned = end;
        return len > max ? refuse(p, 431, "the header is too large") : false;
    }
    size_t start = p->line;
    p->line = p->scanned = (size_t)(lf - in) + 1;
    if (p->line - start < 2 || lf[-1] != '\r')
        return refuse(p, 400, "a line ends without a carriage return");
    *line =
        (struct http1_field){.value = (const char *)in + start, .value_len = p->line - start - 2};
    return true;
}

static bool parse_version(struct http1_parser *p, const char *text, size_t len)
{
    if (len == 8 && memcmp(text, "HTTP/1.", 7) == 0 && (text[7] == '0' || text[7] == '1')) {
        p->request.minor_version = text[7] - '0';
        return true;
    }
    if (len < 6 || memcmp(text, "HTTP/", 5) != 0)
        return refuse(p, 400, "the request line has no HTTP version");
    for (size_t i = 5; i < len; i++)
        if ((text[i] < '0' || text[i] > '9') && text[i] != '.')
            return refuse(p, 400, "the HTTP version is malformed");
    return refuse(p, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
}

static bool parse_request_line(struct http1_parser *p, const char *text, size_t len)
{
    const char *target = memchr(text, ' ', len);
    size_t method_len = target ? (size_t)(target - text) : 0;
    for (size_t i = 0; i < method_len; i++)
        if (!http1_token_lower[(uint8_t)text[i]])
            return refuse(p, 400, "the method is malformed");
    if (method_len == 0)
        return refuse(p, 400, "the request line is malformed");
    target++;
    size_t rest = len - method_len - 1;
    const char *version = memchr(target, ' ', rest);
    if (!version)
        return refuse(p, 400, "the request line has no HTTP version");
    size_t target_len = (size_t)(version - target);
    version++;
    if (!parse_version(p, version, rest - target_len - 1))
        return false;
    if (target_len == 0 || target[0] != '/' || !http1_target_ok(target, target_len))
        return refuse(p, 400, "the target must be a path that starts with / and is encoded");

    char *copy = arena_strndup(p->arena, text, method_len + 1 + target_len);
    if (!copy)
        return refuse(p, 503, "out of memory");
    copy[method_len] = 0;
    p->request.method = copy;
    p->request.path = copy + method_len + 1;
    char *query = memchr(copy + method_len + 1, '?', target_len);
    if (query) {
        *query = 0;
        p->request.query = query + 1;
    }
    return true;
}

/* Splits "Name: value" in place in a copy of the line; the name becomes lower case. */
static bool split_field(struct http1_parser *p, const struct http1_field *line,
                        struct http1_field *out)
{
    char *text = arena_strndup(p->arena, line->value, line->value_len);
    if (!text)
        return refuse(p, 503, "out of memory");
    size_t len = line->value_len, at = 0;
    for (uint8_t c; at < len && (c = http1_token_lower[(uint8_t)text[at]]); at++)
        text[at] = (char)c;
    if (at == 0 && (text[0] == ' ' || text[0] == '\t'))
        return refuse(p, 400, "a header line is folded");
    if (at == 0 || at == len || text[at] != ':')
        return refuse(p, 400, "a header name is malformed");
    size_t start = at + 1, end = len;
    while (start < end && (text[start] == ' ' || text[start] == '\t'))
        start++;
    while (end > start && (text[end - 1] == ' ' || text[end - 1] == '\t'))
        end--;
    if (!http1_value_ok(text + start, end - start))
        return refuse(p, 400, "a header value has a control character");
    text[at] = text[end] = 0;
    *out = (struct http1_field){text, text + start, at, end - start};
    return true;
}

static bool add_field(struct http1_parser *p, const struct http1_field *field)
{
    struct http1_request *r = &p->request;
    if (r->field_count == p->fields_size) {
        int size = p->fields_size ? p->fields_size * 2 : FIELDS_FIRST;
        struct http1_field *fields = arena_alloc(p->arena, (size_t)size * sizeof *fields);
        if (!fields)
            return refuse(p, 503, "out of memory");
        if (r->field_count)
            memcpy(fields, r->fields, (size_t)r->field_count * sizeof *fields);
        r->fields = fields;
        p->fields_size = size;
    }
    r->fields[r->field_count++] = *field;
    return true;
}

static bool note_host(struct http1_parser *p, const struct http1_field *f)
{
    if (p->host_seen)
        return refuse(p, 400, "Host is given twice");
    if (!http1_host_ok(f->value, f->value_len))
        return refuse(p, 400, "Host is malformed");
    p->host_seen = true;
    p->request.host = f->value;
    return true;
}

/* Digits alone, without leading zeros: what others read as octal or as a list is refused. */
static bool note_content_length(struct http1_parser *p, const struct http1_field *f)
{
    if (p->request.content_length >= 0)
        return refuse(p, 400, "Content-Length is given twice");
    if (f->value_len == 0 || (f->value[0] == '0' && f->value_len > 1))
        return refuse(p, 400, "Content-Length is malformed");
    int64_t length = 0;
    for (size_t i = 0; i < f->value_len; i++) {
        char c = f->value[i];
        if (c < '0' || c > '9')
            return refuse(p, 400, "Content-Length is malformed");
        if (__builtin_mul_overflow(length, 10, &length) ||
            __builtin_add_overflow(length, c - '0', &length))
            length = INT64_MAX; /* past any limit; the digits behind it are still checked */
    }
    p->request.content_length = length;
    return true;
}

/* Elements of a comma-separated list; *at moves on. False: at its end. */
static bool next_element(const struct http1_field *f, size_t *at, const char **text, size_t *len)
{
    if (*at > f->value_len)
        return false;
    const char *start = f->value + *at, *stop = f->value + f->value_len;
    const char *comma = memchr(start, ',', (size_t)(stop - start));
    const char *end = comma ? comma : stop;
    *at = (size_t)(end - f->value) + 1;
    while (start < end && (*start == ' ' || *start == '\t'))
        start++;
    while (end > start && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *text = start;
    *len = (size_t)(end - start);
    return true;
}

static bool is_token(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!http1_token_lower[(uint8_t)text[i]])
            return false;
    return len > 0;
}

static bool note_transfer_encoding(struct http1_parser *p, const struct http1_field *f)
{
    if (p->transfer_encoding_seen)
        return refuse(p, 400, "Transfer-Encoding is given twice");
    p->transfer_encoding_seen = true;
    bool chunked = false, other = false;
    const char *text;
    size_t at = 0, len;
    while (next_element(f, &at, &text, &len)) {
        if (!is_token(text, len))
            return refuse(p, 400, "Transfer-Encoding is malformed");
        if (chunked)
            return refuse(p, 400, "chunked must be the last transfer coding, once");
        if (http1_equals(text, len, "chunked"))
            chunked = true;
        else
            other = true;
    }
    /* The whole head decides first whether a transfer coding may be here at all. */
    p->request.chunked = chunked && !other;
    return true;
}

static bool note_connection(struct http1_parser *p, const struct http1_field *f)
{
    const char *text;
    size_t at = 0, len;
    while (next_element(f, &at, &text, &len)) {
        if (len > 0 && !is_token(text, len))
            return refuse(p, 400, "Connection is malformed");
        p->close_asked |= http1_equals(text, len, "close");
        p->keep_alive_asked |= http1_equals(text, len, "keep-alive");
    }
    return true;
}

static bool note_expect(struct http1_parser *p, const struct http1_field *f)
{
    if (!http1_equals(f->value, f->value_len, "100-continue"))
        return refuse(p, 417, "only 100-continue can be expected");
    p->expect_seen = true;
    return true;
}

static bool note_authorization(struct http1_parser *p, const struct http1_field *f)
{
    if (p->authorization_seen)
        return refuse(p, 400, "Authorization is given twice");
    p->authorization_seen = true;
    return true;
}

/* Fields that decide about framing, routing or identity. */
static bool note_field(struct http1_parser *p, const struct http1_field *f)
{
    static const struct {
        const char *name;
        size_t len;
        bool (*note)(struct http1_parser *p, const struct http1_field *f);
    } table[] = {
        {"host", 4, note_host},
        {"content-length", 14, note_content_length},
        {"transfer-encoding", 17, note_transfer_encoding},
        {"connection", 10, note_connection},
        {"expect", 6, note_expect},
        {"authorization", 13, note_authorization},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (f->name_len == table[i].len && memcmp(f->name, table[i].name, f->name_len) == 0)
            return table[i].note(p, f);
    return true;
}

static bool parse_field(struct http1_parser *p, const struct http1_field *line)
{
    struct http1_field field;
    if (p->request.field_count >= p->limits.fields)
        return refuse(p, 431, "the header has too many fields");
    return split_field(p, line, &field) && add_field(p, &field) && note_field(p, &field);
}

/* All fields are known: how the body is framed, and whether the request stands. */
static bool finish_head(struct http1_parser *p)
{
    struct http1_request *r = &p->request;
    if (r->minor_version == 1 && !p->host_seen)
        return refuse(p, 400, "Host is missing");
    if (p->transfer_encoding_seen) {
        if (r->minor_version == 0)
            return refuse(p, 400, "HTTP/1.0 has no Transfer-Encoding");
        if (r->content_length >= 0)
            return refuse(p, 400, "Content-Length and Transfer-Encoding exclude each other");
        if (!r->chunked)
            return refuse(p, 501, "only the transfer coding chunked is known here");
    }
    if (r->content_length > 0 && (uint64_t)r->content_length > p->limits.body_bytes)
        return refuse(p, 413, "the body is too large");
    r->keep_alive = !p->close_asked && (r->minor_version == 1 || p->keep_alive_asked);
    r->expect_continue =
        p->expect_seen && r->minor_version == 1 && (r->chunked || r->content_length > 0);
    p->left = r->content_length > 0 ? (uint64_t)r->content_length : 0;
    p->state = r->chunked ? READ_CHUNK_SIZE : p->left ? READ_LENGTH : READ_DONE;
    return true;
}

static enum http1_event read_head(struct http1_parser *p, const uint8_t *in, size_t len,
                                  size_t *used)
{
    struct http1_field line;
    while (next_line(p, in, len, p->limits.head_bytes, &line)) {
        bool empty = line.value_len == 0;
        if (p->state == READ_FIELDS && empty) {
            if (!finish_head(p))
                break;
            *used = p->line;
            p->line = p->scanned = 0;
            return HTTP1_HEAD;
        }
        if (p->state == READ_FIELDS) {
            if (!parse_field(p, &line))
                break;
        } else if (p->state == READ_START && empty) {
            p->state = READ_REQUEST_LINE; /* RFC 9112, 2.2: one empty line is let pass */
        } else {
            if (!parse_request_line(p, line.value, line.value_len))
                break;
            p->state = READ_FIELDS;
        }
    }
    return p->state == READ_FAILED ? HTTP1_ERROR : HTTP1_MORE;
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool add_chunk_digit(struct http1_parser *p, uint8_t c)
{
    int digit = hex_value(c);
    if (digit < 0)
        return refuse(p, 400, "a chunk size is malformed");
    if (++p->chunk_digits > CHUNK_DIGITS_MAX)
        return refuse(p, 400, "a chunk size has too many digits");
    p->left = p->left * 16 + (uint64_t)digit;
    return true;
}

static bool end_chunk_size(struct http1_parser *p)
{
    if (p->left > p->limits.body_bytes || p->body_bytes > p->limits.body_bytes - p->left)
        return refuse(p, 413, "the body is too large");
    p->body_bytes += p->left;
    p->chunk_digits = 0;
    p->state = p->left ? READ_CHUNK_DATA : READ_TRAILERS;
    return true;
}

/* One byte around the chunks' data. */
static bool frame_byte(struct http1_parser *p, uint8_t c)
{
    switch (p->state) {
    case READ_CHUNK_SIZE:
        if (c != '\r' && c != ';')
            return add_chunk_digit(p, c);
        if (p->chunk_digits == 0)
            return refuse(p, 400, "a chunk has no size");
        p->state = c == ';' ? READ_CHUNK_EXTENSION : READ_CHUNK_SIZE_LF;
        return true;
    case READ_CHUNK_EXTENSION:
        if (c == '\r')
            p->state = READ_CHUNK_SIZE_LF;
        else if ((c < 0x20 && c != '\t') || c >= 0x7f)
            return refuse(p, 400, "a chunk extension is malformed");
        else if (++p->extension_bytes > CHUNK_EXTENSION_MAX)
            return refuse(p, 400, "the chunk extensions are too long");
        return true;
    case READ_CHUNK_SIZE_LF:
        return c == '\n' ? end_chunk_size(p)
                         : refuse(p, 400, "a chunk size does not end with CR LF");
    case READ_CHUNK_CR:
        if (c != '\r')
            return refuse(p, 400, "a chunk is longer than its size says");
        p->state = READ_CHUNK_LF;
        return true;
    default:
        assert(p->state == READ_CHUNK_LF);
        if (c != '\n')
            return refuse(p, 400, "a chunk does not end with CR LF");
        p->state = READ_CHUNK_SIZE;
        return true;
    }
}

/* A trailer comes when the request has been judged: it may not change what was judged. */
static bool trailer_allowed(const struct http1_field *f)
{
    static const char *const banned[] = {"transfer-encoding",
                                         "host",
                                         "connection",
                                         "te",
                                         "trailer",
                                         "upgrade",
                                         "expect",
                                         "keep-alive",
                                         "cookie",
                                         "authorization",
                                         "proxy-authorization",
                                         "max-forwards",
                                         "range",
                                         "pragma",
                                         "set-cookie",
                                         "cache-control",
                                         "x-api-key",
                                         "forwarded",
                                         "via",
                                         "http2-settings",
                                         "proxy-connection",
                                         "authentication"};
    for (size_t i = 0; i < sizeof banned / sizeof *banned; i++)
        if (strcmp(f->name, banned[i]) == 0)
            return false;
    return strncmp(f->name, "content-", 8) != 0 && strncmp(f->name, "if-", 3) != 0 &&
           strncmp(f->name, "x-forwarded-", 12) != 0;
}

/* Trailers are checked and dropped. */
static enum http1_event read_trailers(struct http1_parser *p, const uint8_t *in, size_t len,
                                      size_t *used)
{
    size_t max = p->limits.head_bytes - p->trailer_bytes;
    struct http1_field line, field;
    while (next_line(p, in, len, max, &line)) {
        *used = p->line;
        if (line.value_len == 0) {
            p->state = READ_DONE;
            break;
        }
        if (++p->trailer_count > p->limits.fields) {
            refuse(p, 431, "there are too many trailers");
            break;
        }
        if (!split_field(p, &line, &field))
            break;
        if (!trailer_allowed(&field)) {
            refuse(p, 400, "a trailer may not have that name");
            break;
        }
    }
    if (p->state == READ_FAILED)
        return HTTP1_ERROR;
    p->trailer_bytes += *used;
    p->scanned -= *used;
    p->line = 0;
    return p->state == READ_DONE ? HTTP1_DONE : HTTP1_MORE;
}

static enum http1_event read_data(struct http1_parser *p, const uint8_t *in, size_t len,
                                  size_t *used, struct http1_field *body)
{
    size_t n = p->left < len ? (size_t)p->left : len;
    if (n == 0)
        return HTTP1_MORE;
    body->value = (const char *)in;
    body->value_len = n;
    *used += n;
    p->left -= n;
    if (p->left == 0)
        p->state = p->request.chunked ? READ_CHUNK_CR : READ_DONE;
    return HTTP1_BODY;
}

static enum http1_event read_body(struct http1_parser *p, const uint8_t *in, size_t len,
                                  size_t *used, struct http1_field *body)
{
    size_t at = 0;
    while (at < len && p->state >= READ_CHUNK_SIZE && p->state < READ_TRAILERS &&
           p->state != READ_CHUNK_DATA)
        if (!frame_byte(p, in[at++]))
            return HTTP1_ERROR;
    *used = at;
    if (p->state == READ_LENGTH || p->state == READ_CHUNK_DATA)
        return read_data(p, in + at, len - at, used, body);
    if (p->state != READ_TRAILERS)
        return HTTP1_MORE;
    size_t trailers = 0;
    enum http1_event event = read_trailers(p, in + at, len - at, &trailers);
    *used = at + trailers;
    return event;
}

enum http1_event http1_feed(struct http1_parser *p, const uint8_t *in, size_t len, size_t *used,
                            const uint8_t **body, size_t *body_len)
{
    *used = 0;
    *body = NULL;
    *body_len = 0;
    if (p->state == READ_FAILED)
        return HTTP1_ERROR;
    if (p->state == READ_DONE)
        return HTTP1_DONE;
    if (p->state <= READ_FIELDS)
        return read_head(p, in, len, used);
    struct http1_field data = {0};
    enum http1_event event = read_body(p, in, len, used, &data);
    if (event == HTTP1_ERROR)
        *used = 0;
    *body = (const uint8_t *)data.value;
    *body_len = data.value_len;
    return event;
}

const struct http1_request *http1_request(const struct http1_parser *p)
{
    return &p->request;
}

int http1_error_status(const struct http1_parser *p)
{
    return p->error_status;
}

const char *http1_error_text(const struct http1_parser *p)
{
    return p->error_text;
}

const char *http1_field(const struct http1_request *r, const char *name)
{
    for (int i = 0; i < r->field_count; i++)
        if (strcmp(r->fields[i].name, name) == 0)
            return r->fields[i].value;
    return NULL;
}
