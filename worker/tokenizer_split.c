/*
 * The regular expressions of pre-tokenizers, by PCRE2. tokenizer.json is written for Oniguruma in
 * its Ruby syntax; what differs there is set or rewritten here: anchors match at every line, and
 * \s is Unicode's White_Space (PCRE2's also has U+180E).
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/buf.h"
#include "worker/tokenizer_private.h"

#define WHITE_SPACE                                                                                \
    "\\x09-\\x0d\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"            \
    "\\x{205f}\\x{3000}"

enum { PATTERN_MAX = 1 << 16 };

struct split {
    pcre2_code *code;
};

static const char *rewrite_space(char c, bool in_class)
{
    if (c == 's')
        return in_class ? WHITE_SPACE : "[" WHITE_SPACE "]";
    /* \S inside a class has no such form and stays PCRE2's. */
    return c == 'S' && !in_class ? "[^" WHITE_SPACE "]" : NULL;
}

static enum status rewrite(const char *pattern, struct buf *out)
{
    bool in_class = false;
    size_t class_start = 0;
    enum status st = OK;
    for (size_t i = 0; pattern[i] && st == OK; i++) {
        const char *space = NULL;
        size_t n = 1;
        if (pattern[i] == '\\' && pattern[i + 1]) {
            space = rewrite_space(pattern[i + 1], in_class);
            n = 2;
        } else if (!in_class && pattern[i] == '[') {
            in_class = true;
            class_start = i + (pattern[i + 1] == '^' ? 2 : 1);
        } else if (in_class && pattern[i] == ']' && i > class_start) {
            in_class = false;
        }
        st = space ? buf_adds(out, space) : buf_add(out, pattern + i, n);
        i += n - 1;
    }
    return st;
}

static enum status compile(const char *text, size_t len, bool literal, struct split *s,
                           struct error *err)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context)
        return NOMEM;
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    uint32_t options = PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE);
    int code;
    PCRE2_SIZE at;
    s->code = pcre2_compile((PCRE2_SPTR)text, len, options, &code, &at, context);
    pcre2_compile_context_free(context);
    if (!s->code) {
        PCRE2_UCHAR why[128];
        pcre2_get_error_message(code, why, sizeof why);
        return error_set(err, INVALID, "regular expression at character %zu: %s", (size_t)at, why);
    }
    /* Without JIT (it may be off on this machine) matching is slower, not different. */
    pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE);
    return OK;
}

enum status split_compile(const char *pattern, bool literal, struct split **out, struct error *err)
{
    struct split *s = calloc(1, sizeof *s);
    if (!s)
        return NOMEM;
    struct buf text;
    buf_init(&text, PATTERN_MAX);
    enum status st = literal ? buf_adds(&text, pattern) : rewrite(pattern, &text);
    if (st == OK)
        st = compile((const char *)buf_head(&text), buf_len(&text), literal, s, err);
    else
        error_set(err, st, "regular expression too long");
    buf_done(&text);
    if (st != OK) {
        split_free(s);
        return st;
    }
    *out = s;
    return OK;
}

void split_free(struct split *s)
{
    if (!s)
        return;
    pcre2_code_free(s->code);
    free(s);
}

struct run {
    struct split *const *steps;
    pcre2_match_data **data; /* one a step: an outer one is in use while inner ones match */
    int count;
    const struct split_sink *sink;
};

/* INVALID: the expression needs more stack or steps than PCRE2 allows. */
static enum status match(const struct run *r, int level, const char *text, size_t len, size_t from,
                         size_t *begin, size_t *end)
{
    const pcre2_code *code = r->steps[level]->code;
    pcre2_match_data *data = r->data[level];
    int rc = pcre2_match(code, (PCRE2_SPTR)text, len, from, PCRE2_NO_UTF_CHECK, data, NULL);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(code, (PCRE2_SPTR)text, len, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data,
                         NULL);
    if (rc == PCRE2_ERROR_NOMATCH)
        return NOT_FOUND;
    if (rc < 0)
        return rc == PCRE2_ERROR_NOMEMORY ? NOMEM : INVALID;
    *begin = pcre2_get_ovector_pointer(data)[0];
    *end = pcre2_get_ovector_pointer(data)[1];
    return *begin <= *end ? OK : INVALID; /* \K can make a match end before it begins */
}

static size_t char_bytes(const char *text)
{
    unsigned char c = (unsigned char)*text;
    return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

static enum status run_level(const struct run *r, int level, const char *text, size_t len);

static enum status pass_on(const struct run *r, int level, const char *text, size_t len)
{
    return len ? run_level(r, level, text, len) : OK;
}

/* Matches and what lies between them are pieces of their own. Recursion: a level per step. */
static enum status run_level(const struct run *r, int level, const char *text, size_t len)
{
    if (level == r->count)
        return r->sink->piece(r->sink->arg, text, len);
    size_t done = 0, from = 0, begin = 0, end = 0;
    while (from < len) {
        enum status st = match(r, level, text, len, from, &begin, &end);
        if (st == NOT_FOUND)
            break;
        if (st == OK && begin == end) { /* an empty match cuts nothing */
            from = end < len ? end + char_bytes(text + end) : len;
            continue;
        }
        if (st == OK)
            st = pass_on(r, level + 1, text + done, begin - done);
        if (st == OK)
            st = pass_on(r, level + 1, text + begin, end - begin);
        if (st != OK)
            return st;
        done = from = end;
    }
    return pass_on(r, level + 1, text + done, len - done);
}

enum status split_run(struct split *const *steps, int count, const char *text, size_t len,
                      const struct split_sink *sink)
{
    pcre2_match_data *data[TOKENIZER_STEPS_MAX] = {0};
    enum status st = OK;
    for (int i = 0; i < count && st == OK; i++) {
        data[i] = pcre2_match_data_create(1, NULL);
        if (!data[i])
            st = NOMEM;
    }
    struct run r = {.steps = steps, .data = data, .count = count, .sink = sink};
    if (st == OK)
        st = pass_on(&r, 0, text, len);
    for (int i = 0; i < count; i++)
        pcre2_match_data_free(data[i]);
    return st;
}
