#include "worker/tokenizer.h"

#include <assert.h>

#include "base/buf.h"
#include "worker/nfc.h"
#include "worker/tokenizer_private.h"
#include "worker/utf8.h"

void token_list_init(struct token_list *l, size_t max)
{
    *l = (struct token_list){.max = max};
}

void token_list_done(struct token_list *l)
{
    free(l->ids);
    token_list_init(l, l->max);
}

enum status token_list_add(struct token_list *l, int32_t id)
{
    if (l->count == l->max)
        return LIMITED;
    if (l->count == l->size) {
        size_t size = l->size ? l->size * 2 : 256;
        int32_t *ids = realloc(l->ids, size * sizeof *ids);
        if (!ids)
            return NOMEM;
        l->ids = ids;
        l->size = size;
    }
    l->ids[l->count++] = id;
    return OK;
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t)
        return;
    for (int i = 0; i < t->step_count; i++)
        split_free(t->steps[i]);
    byte_table_done(&t->words);
    pair_table_done(&t->merges);
    free(t->added);
    free(t->tokens);
    free(t->bytes);
    free(t);
}

int tokenizer_vocab_size(const struct tokenizer *t)
{
    return t->vocab_size;
}

const uint8_t *tokenizer_hash(const struct tokenizer *t)
{
    return t->hash;
}

static const struct token *token_at(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->vocab_size && t->tokens[id].present ? &t->tokens[id] : NULL;
}

const uint8_t *tokenizer_bytes(const struct tokenizer *t, int32_t id, size_t *len)
{
    const struct token *token = token_at(t, id);
    if (!token)
        return NULL;
    *len = token->len;
    return t->bytes + token->offset;
}

bool tokenizer_is_added(const struct tokenizer *t, int32_t id)
{
    const struct token *token = token_at(t, id);
    return token && token->added;
}

bool tokenizer_is_special(const struct tokenizer *t, int32_t id)
{
    const struct token *token = token_at(t, id);
    return token && token->special;
}

static bool starts_with(const struct tokenizer *t, int32_t id, const char *text, size_t len)
{
    const struct token *token = &t->tokens[id];
    return token->len <= len && memcmp(t->bytes + token->offset, text, token->len) == 0;
}

int32_t tokenizer_id(const struct tokenizer *t, const char *added_token)
{
    size_t len = strlen(added_token);
    for (int i = 0; i < t->added_count; i++)
        if (t->tokens[t->added[i]].len == len && starts_with(t, t->added[i], added_token, len))
            return t->added[i];
    return -1;
}

struct encoding {
    const struct tokenizer *t;
    struct token_list *out;
};

static enum status encode_piece(void *arg, const char *piece, size_t len)
{
    struct encoding *e = arg;
    return bpe_encode(e->t, (const uint8_t *)piece, len, e->out);
}

bool tokenizer_adds_space(const struct tokenizer *t)
{
    return t->sentencepiece;
}

/* A space in front, maybe; U+2581 is a space. */
static enum status encode_sentence(const struct tokenizer *t, const char *text, size_t len,
                                   bool first, struct token_list *out)
{
    static const char mark[] = TOKENIZER_SPACE_MARK;
    enum { MARK = sizeof mark - 1 };
    struct buf b;
    buf_init(&b, SIZE_MAX / 4);
    bool has = *text == ' ' || (len >= MARK && memcmp(text, mark, MARK) == 0);
    bool space = !t->space_first || (first && !has);
    enum status st = space ? buf_add(&b, " ", 1) : OK;
    for (const char *hit; st == OK && (hit = memmem(text, len, mark, MARK));) {
        size_t before = (size_t)(hit - text);
        st = buf_add(&b, text, before);
        if (st == OK)
            st = buf_add(&b, " ", 1);
        text = hit + MARK;
        len -= before + MARK;
    }
    if (st == OK)
        st = buf_add(&b, text, len);
    if (st == OK)
        st = bpe_encode(t, buf_head(&b), buf_len(&b), out);
    buf_done(&b);
    return st;
}

static enum status encode_pieces(const struct tokenizer *t, const char *text, size_t len,
                                 struct token_list *out)
{
    struct encoding e = {.t = t, .out = out};
    struct split_sink sink = {.piece = encode_piece, .arg = &e};
    return split_run(t->steps, t->step_count, text, len, &sink);
}

/* first: nothing stands in front of the text. */
static enum status encode_plain(const struct tokenizer *t, const char *text, size_t len, bool first,
                                struct token_list *out)
{
    if (t->sentencepiece)
        return len ? encode_sentence(t, text, len, first, out) : OK;
    if (!t->composes || !nfc_may_change(text, len))
        return encode_pieces(t, text, len, out);
    struct buf b;
    buf_init(&b, SIZE_MAX / 4);
    enum status st = nfc_compose(text, len, &b);
    if (st == OK)
        st = encode_pieces(t, (const char *)buf_head(&b), buf_len(&b), out);
    buf_done(&b);
    return st;
}

int32_t tokenizer_added_at(const struct tokenizer *t, const char *text, size_t len,
                           size_t *token_len)
{
    if (!len || !t->added_first[(unsigned char)*text])
        return -1;
    for (int i = 0; i < t->added_count; i++)
        if (starts_with(t, t->added[i], text, len)) {
            *token_len = t->tokens[t->added[i]].len;
            return t->added[i];
        }
    return -1;
}

enum status tokenizer_encode(const struct tokenizer *t, const char *text, size_t len,
                             bool parse_added, struct token_list *out)
{
    if (!utf8_valid((const uint8_t *)text, len))
        return INVALID;
    if (!parse_added)
        return encode_plain(t, text, len, true, out);
    enum status st = OK;
    size_t done = 0;
    for (size_t i = 0; i < len && st == OK;) {
        size_t token_len = 0;
        int32_t id = tokenizer_added_at(t, text + i, len - i, &token_len);
        if (id < 0) {
            i++;
            continue;
        }
        st = encode_plain(t, text + done, i - done, done == 0, out);
        if (st == OK)
            st = token_list_add(out, id);
        i += token_len;
        done = i;
    }
    return st == OK ? encode_plain(t, text + done, len - done, done == 0, out) : st;
}

enum status tokenizer_encode_on(const struct tokenizer *t, const char *text, size_t len,
                                struct token_list *out)
{
    if (!utf8_valid((const uint8_t *)text, len))
        return INVALID;
    return encode_plain(t, text, len, false, out);
}
