#include "base/json.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <unistd.h>

#include "base/json_guard.h"

/* A `struct json` is a cJSON item under a name that keeps cJSON's functions out of reach. */
static const cJSON *item(const struct json *v)
{
    return (const cJSON *)v;
}

static const struct json *value(const cJSON *i)
{
    return (const struct json *)i;
}

/* Overwrites the number at text[0..len) with a shorter spelling of the same double. */
static bool shorten_number(char *text, size_t len)
{
    char *copy = strndup(text, len);
    if (!copy)
        return false;
    char brief[32];
    int n = snprintf(brief, sizeof brief, "%.17g", strtod(copy, NULL));
    free(copy);
    assert(n > 0 && (size_t)n < sizeof brief && (size_t)n <= len);
    memcpy(text, brief, (size_t)n);
    memset(text + n, ' ', len - (size_t)n);
    return true;
}

/* cJSON cuts numbers after 63 characters; longer ones are rewritten in this copy of a text
 * that the guard has passed. */
static bool shorten_numbers(char *text, size_t len)
{
    for (size_t at = 0; at < len;) {
        if (text[at] == '"') {
            for (at++; text[at] != '"'; at++)
                at += text[at] == '\\';
            at++;
        } else if (text[at] == '-' || (text[at] >= '0' && text[at] <= '9')) {
            size_t start = at;
            while (at < len && text[at] && strchr("+-.0123456789Ee", text[at]))
                at++;
            if (at - start > JSON_NUMBER_MAX && !shorten_number(text + start, at - start))
                return false;
        } else {
            at++;
        }
    }
    return true;
}

static cJSON *parse_copy(const char *text, size_t len)
{
    char *copy = malloc(len);
    if (!copy)
        return NULL;
    memcpy(copy, text, len);
    cJSON *root = NULL;
    if (shorten_numbers(copy, len))
        root = cJSON_ParseWithLengthOpts(copy, len, NULL, false);
    free(copy);
    return root;
}

enum status json_parse(const char *text, size_t len, const struct json_limits *limits,
                       struct json **out, struct error *err)
{
    struct json_facts facts;
    enum status st = json_guard_check(text, len, limits, &facts, err);
    if (st != OK)
        return st;
    cJSON *root = facts.long_number ? parse_copy(text, len)
                                    : cJSON_ParseWithLengthOpts(text, len, NULL, false);
    if (!root)
        return error_set(err, NOMEM, "out of memory"); /* the text itself is fine */
    *out = (struct json *)root;
    return OK;
}

static enum status read_file(int fd, const char *path, size_t max, struct buf *text,
                             struct error *err)
{
    for (;;) {
        enum status st = buf_reserve(text, 65536);
        if (st != OK)
            return error_set(err, st, "out of memory");
        ssize_t n = read(fd, text->data + text->end, 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(err, errno, "cannot read %s", path);
        if (n == 0)
            return OK;
        text->end += (size_t)n;
        if (buf_len(text) > max)
            return error_set(err, LIMITED, "%s is larger than %zu bytes", path, max);
    }
}

enum status json_parse_file(const char *path, size_t max_bytes, struct json **out,
                            struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "cannot open %s", path);
    struct buf text;
    buf_init(&text, max_bytes + 2 * 65536);
    enum status st = read_file(fd, path, max_bytes, &text, err);
    close(fd);
    if (st == OK) {
        struct json_limits limits = {json_limits_default.depth, INT_MAX, max_bytes};
        st = json_parse((const char *)buf_head(&text), buf_len(&text), &limits, out, err);
        if (st != OK)
            error_prefix(err, "%s", path);
    }
    buf_done(&text);
    return st;
}

void json_free(struct json *root)
{
    cJSON_Delete((cJSON *)root);
}

bool json_is_object(const struct json *v)
{
    return cJSON_IsObject(item(v));
}

bool json_is_array(const struct json *v)
{
    return cJSON_IsArray(item(v));
}

bool json_is_string(const struct json *v)
{
    return cJSON_IsString(item(v));
}

bool json_is_number(const struct json *v)
{
    return cJSON_IsNumber(item(v));
}

bool json_is_bool(const struct json *v)
{
    return cJSON_IsBool(item(v));
}

bool json_is_null(const struct json *v)
{
    return cJSON_IsNull(item(v));
}

const struct json *json_get(const struct json *object, const char *key)
{
    if (!json_is_object(object))
        return NULL;
    const cJSON *i = item(object)->child;
    while (i && strcmp(i->string, key) != 0)
        i = i->next;
    return value(i);
}

const struct json *json_first(const struct json *container)
{
    return container ? value(item(container)->child) : NULL;
}

const struct json *json_next(const struct json *v)
{
    return v ? value(item(v)->next) : NULL;
}

const char *json_key(const struct json *v)
{
    return v ? item(v)->string : NULL;
}

int json_count(const struct json *container)
{
    int count = 0;
    for (const struct json *v = json_first(container); v; v = json_next(v))
        count++;
    return count;
}

const char *json_string(const struct json *v)
{
    return json_is_string(v) ? item(v)->valuestring : NULL;
}

double json_number(const struct json *v)
{
    return json_is_number(v) ? item(v)->valuedouble : NAN;
}

bool json_bool(const struct json *v)
{
    return cJSON_IsTrue(item(v));
}

bool json_int(const struct json *v, int64_t least, int64_t most, int64_t *out)
{
    const double exact = 9007199254740992.0; /* 2^53 */
    double number = json_number(v);
    if (!(number >= -exact && number <= exact) || number != floor(number))
        return false;
    int64_t whole = (int64_t)number;
    if (whole < least || whole > most)
        return false;
    *out = whole;
    return true;
}

static enum status put_special(struct buf *out, uint8_t c)
{
    static const char letters[128] = {['"'] = '"',  ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f',
                                      ['\n'] = 'n', ['\r'] = 'r',  ['\t'] = 't'};
    if (c >= 0x80)
        return buf_add(out, "\xef\xbf\xbd", 3);
    if (letters[c])
        return buf_add(out, (const char[]){'\\', letters[c]}, 2);
    static const char hex[] = "0123456789abcdef";
    return buf_add(out, (const char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
}

static enum status put_quoted(struct buf *out, const uint8_t *at, const uint8_t *end)
{
    enum status st = buf_add(out, "\"", 1);
    while (st == OK && at < end) {
        const uint8_t *plain = at;
        for (;;) {
            at = json_skip_plain(at, end);
            int n = at < end && *at >= 0x80 ? json_utf8_len(at, end) : 0;
            if (n == 0)
                break;
            at += n;
        }
        st = buf_add(out, plain, (size_t)(at - plain));
        if (st == OK && at < end)
            st = put_special(out, *at++);
    }
    return st == OK ? buf_add(out, "\"", 1) : st;
}

enum status json_put_string(struct buf *out, const char *text, size_t len)
{
    size_t before = buf_len(out);
    const uint8_t *at = (const uint8_t *)text;
    enum status st = put_quoted(out, at, at + len);
    if (st != OK)
        out->end = out->start + before; /* all of it or nothing */
    return st;
}
