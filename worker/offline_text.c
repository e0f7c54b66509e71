/*
 * The reader of the array of strings is its own: here a string may hold \u0000, which base/json.h
 * refuses, and a tokenizer must be checked on every character.
 */
#include "worker/offline_text.h"

#include <errno.h>

#include "base/buf.h"
#include "worker/textfile.h"
#include "worker/tokenizer.h"

enum { FILE_BYTES_MAX = 64 << 20, IDS_MAX = 64 << 20 };

struct reader {
    const char *at, *end;
};

static char skip_space(struct reader *r)
{
    while (r->at < r->end && strchr(" \t\r\n", *r->at))
        r->at++;
    return r->at < r->end ? *r->at : 0;
}

static bool take(struct reader *r, char c)
{
    if (skip_space(r) != c)
        return false;
    r->at++;
    return true;
}

static bool hex4(struct reader *r, uint32_t *out)
{
    if (r->end - r->at < 4)
        return false;
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        static const char digits[] = "0123456789abcdef0123456789ABCDEF";
        const char *d = *r->at ? strchr(digits, *r->at) : NULL;
        if (!d)
            return false;
        value = value << 4 | (uint32_t)((d - digits) & 15);
        r->at++;
    }
    *out = value;
    return true;
}

static enum status add_utf8(struct buf *out, uint32_t c)
{
    uint8_t b[4] = {(uint8_t)c};
    size_t n = 1;
    if (c >= 0x80) {
        n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        for (size_t i = n; i-- > 1; c >>= 6)
            b[i] = (uint8_t)(0x80 | (c & 0x3f));
        b[0] = (uint8_t)((0xf00u >> n) | c);
    }
    return buf_add(out, b, n);
}

/* Behind "\u". */
static enum status read_code(struct reader *r, struct buf *out)
{
    uint32_t c, low;
    if (!hex4(r, &c) || (c >= 0xdc00 && c <= 0xdfff))
        return INVALID;
    if (c >= 0xd800 && c <= 0xdbff) {
        if (r->end - r->at < 2 || r->at[0] != '\\' || r->at[1] != 'u')
            return INVALID;
        r->at += 2;
        if (!hex4(r, &low) || low < 0xdc00 || low > 0xdfff)
            return INVALID;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    return add_utf8(out, c);
}

static enum status read_escape(struct reader *r, struct buf *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (r->at == r->end)
        return INVALID;
    char c = *r->at++;
    if (c == 'u')
        return read_code(r, out);
    const char *known = c ? strchr(from, c) : NULL;
    return known ? buf_add(out, &to[known - from], 1) : INVALID;
}

static enum status read_string(struct reader *r, struct buf *out)
{
    if (!take(r, '"'))
        return INVALID;
    enum status st = OK;
    while (st == OK && r->at < r->end) {
        char c = *r->at++;
        if (c == '"')
            return OK;
        if ((unsigned char)c < 0x20)
            return INVALID;
        st = c == '\\' ? read_escape(r, out) : buf_add(out, &c, 1);
    }
    return st == OK ? INVALID : st;
}

static enum status print_ids(const struct tokenizer *t, const struct buf *text, FILE *out)
{
    struct token_list ids;
    token_list_init(&ids, IDS_MAX);
    enum status st = OK;
    if (buf_len(text))
        st = tokenizer_encode(t, (const char *)buf_head(text), buf_len(text), true, &ids);
    if (st == OK) {
        fputc('[', out);
        for (size_t i = 0; i < ids.count; i++)
            fprintf(out, "%s%d", i ? ", " : "", ids.ids[i]);
        fputc(']', out);
    }
    token_list_done(&ids);
    return st;
}

static enum status print_all(const struct tokenizer *t, struct reader *r, FILE *out,
                             struct error *err)
{
    if (!take(r, '['))
        return error_set(err, INVALID, "not a JSON array of strings");
    struct buf text;
    buf_init(&text, FILE_BYTES_MAX);
    enum status st = OK;
    int at = 0;
    fputc('[', out);
    for (bool more = skip_space(r) != ']'; more && st == OK; at++) {
        fputs(at ? ",\n " : "\n ", out);
        buf_clear(&text);
        st = read_string(r, &text);
        if (st == OK)
            st = print_ids(t, &text, out);
        more = take(r, ',');
    }
    buf_done(&text);
    if (st != OK)
        return error_set(err, st, "entry %d is not a string of UTF-8", at - 1);
    if (!take(r, ']') || skip_space(r) || r->at != r->end)
        return error_set(err, INVALID, "not a JSON array of strings after entry %d", at - 1);
    fputs("\n]\n", out);
    return fflush(out) == 0 && !ferror(out) ? OK : error_errno(err, errno, "write");
}

enum status offline_tokenize(const char *dir, const char *file, FILE *out, struct error *err)
{
    struct tokenizer *t = NULL;
    struct buf text;
    buf_init(&text, FILE_BYTES_MAX);
    enum status st = textfile_read(file, &text, err);
    if (st == OK)
        st = tokenizer_load(dir, &t, err);
    if (st == OK) {
        const char *start = (const char *)buf_head(&text);
        struct reader r = {.at = start, .end = start + buf_len(&text)};
        st = print_all(t, &r, out, err);
        if (st != OK)
            error_prefix(err, "%s", file);
    }
    tokenizer_free(t);
    buf_done(&text);
    return st;
}
