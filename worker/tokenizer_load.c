/*
 * tokenizer.json to struct tokenizer. What this encoder does not do (other models, normalizers,
 * options that change the ids) is an error, never ignored. The post-processor is not looked at:
 * tokens around a prompt come from the chat template.
 */
#include "base/buf.h"
#include "base/json.h"
#include "worker/textfile.h"
#include "worker/tokenizer_private.h"
#include "worker/utf8.h"

#define SPACE_MARK TOKENIZER_SPACE_MARK

enum { FILE_BYTES_MAX = 64 << 20, STRING_SHOWN = 40 };

static const struct json_limits file_limits = {
    .depth = 32, .nodes = 8 * TOKENIZER_IDS_MAX, .bytes = FILE_BYTES_MAX};

/* GPT-2's expression, for a ByteLevel step that cuts by itself. */
#define BYTE_LEVEL_REGEX                                                                           \
    "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

struct load {
    struct tokenizer *t;
    size_t used;  /* bytes of tokenizer.bytes */
    int64_t room; /* entries of tokenizer.tokens */
    struct error *err;
};

static bool is_off(const struct json *v)
{
    const char *text = json_string(v);
    return !v || json_is_null(v) || (json_is_bool(v) && !json_bool(v)) || (text && !*text);
}

static const char *type_of(const struct json *v)
{
    const char *type = json_string(json_get(v, "type"));
    return type ? type : "(none)";
}

/* Byte-level vocabularies write each byte as a printable character: itself, or U+0100 and on for
 * the others in turn. The byte of such a character, -1 when it is none. */
static int byte_of_char(uint32_t c)
{
    if ((c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255))
        return (int)c;
    if (c < 256 || c >= 256 + 68)
        return -1;
    uint32_t n = c - 256;
    if (n <= 32)
        return (int)n;
    return n <= 32 + 34 ? (int)(127 + n - 33) : 173;
}

static uint32_t char_value(const uint8_t *p, size_t bytes)
{
    if (bytes == 1)
        return p[0];
    uint32_t c = p[0] & (0xffu >> (bytes + 1));
    for (size_t i = 1; i < bytes; i++)
        c = c << 6 | (p[i] & 0x3f);
    return c;
}

/* The bytes that a vocabulary entry stands for; false: not written in byte characters. */
static bool map_bytes(const char *word, uint8_t *out, size_t *out_len)
{
    const uint8_t *p = (const uint8_t *)word;
    size_t left = strlen(word), n = 0, used;
    for (; left; p += used, left -= used) {
        if (utf8_next(p, left, &used) != UTF8_WHOLE)
            return false;
        int byte = byte_of_char(char_value(p, used));
        if (byte < 0)
            return false;
        out[n++] = (uint8_t)byte;
    }
    *out_len = n;
    return true;
}

/* SentencePiece's: U+2581 stands for a space, all else for itself. */
static void map_spaces(const char *word, uint8_t *out, size_t *out_len)
{
    size_t n = 0;
    while (*word) {
        bool space = strncmp(word, SPACE_MARK, sizeof SPACE_MARK - 1) == 0;
        out[n++] = space ? ' ' : (uint8_t)*word;
        word += space ? sizeof SPACE_MARK - 1 : 1;
    }
    *out_len = n;
}

/* "<0x0A>" of a vocabulary with byte fallback. -1: another word. */
static int byte_of_word(const char *word)
{
    static const char digits[] = "0123456789ABCDEF";
    const char *high, *low;
    if (strlen(word) != 6 || strncmp(word, "<0x", 3) != 0 || word[5] != '>')
        return -1;
    high = strchr(digits, word[3]);
    low = strchr(digits, word[4]);
    return high && low ? (int)((high - digits) * 16 + (low - digits)) : -1;
}

static bool map_word(const struct load *l, const char *word, uint8_t *out, size_t *out_len)
{
    if (!l->t->sentencepiece)
        return map_bytes(word, out, out_len);
    map_spaces(word, out, out_len);
    return true;
}

static enum status grow_ids(struct load *l, int64_t id)
{
    if (id < l->t->vocab_size)
        return OK;
    if (id >= l->room) {
        int64_t room = l->room ? l->room : 1024;
        while (room <= id)
            room *= 2;
        struct token *tokens = realloc(l->t->tokens, (size_t)room * sizeof *tokens);
        if (!tokens)
            return NOMEM;
        memset(tokens + l->room, 0, (size_t)(room - l->room) * sizeof *tokens);
        l->t->tokens = tokens;
        l->room = room;
    }
    l->t->vocab_size = (int)id + 1;
    return OK;
}

static enum status read_id(struct load *l, const struct json *v, const char *what, int64_t *id)
{
    if (!json_int(v, 0, TOKENIZER_IDS_MAX - 1, id))
        return error_set(l->err, INVALID, "the id of \"%.*s\" is not a whole number below %d",
                         STRING_SHOWN, what, TOKENIZER_IDS_MAX);
    return grow_ids(l, *id);
}

static void put_token(struct load *l, int64_t id, const void *data, size_t len)
{
    struct token *token = &l->t->tokens[id];
    token->offset = l->used;
    token->len = (uint32_t)len;
    token->present = true;
    memcpy(l->t->bytes + l->used, data, len);
    l->used += len;
}

static enum status load_added_token(struct load *l, const struct json *v)
{
    const char *content = json_string(json_get(v, "content"));
    if (!content || !*content)
        return error_set(l->err, INVALID, "added_tokens: a token without content");
    static const char *const unsupported[] = {"single_word", "lstrip", "rstrip"};
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++)
        if (!is_off(json_get(v, unsupported[i])))
            return error_set(l->err, INVALID, "added_tokens: %s of \"%.*s\" is not supported",
                             unsupported[i], STRING_SHOWN, content);
    int64_t id;
    enum status st = read_id(l, json_get(v, "id"), content, &id);
    if (st != OK)
        return st;
    if (l->t->tokens[id].present || tokenizer_id(l->t, content) >= 0)
        return error_set(l->err, INVALID, "added_tokens: \"%.*s\" or its id %lld is there twice",
                         STRING_SHOWN, content, (long long)id);
    put_token(l, id, content, strlen(content));
    l->t->tokens[id].added = true;
    l->t->tokens[id].special = !is_off(json_get(v, "special"));
    l->t->added[l->t->added_count++] = (int32_t)id;
    l->t->added_first[(unsigned char)*content] = true;
    return OK;
}

/* Longest first, so that the first match is the longest; insertion keeps this simple. */
static void sort_added(struct tokenizer *t)
{
    for (int i = 1; i < t->added_count; i++) {
        int32_t id = t->added[i];
        int k = i;
        for (; k > 0 && t->tokens[t->added[k - 1]].len < t->tokens[id].len; k--)
            t->added[k] = t->added[k - 1];
        t->added[k] = id;
    }
}

static enum status load_added(struct load *l, const struct json *list)
{
    enum { ADDED_MAX = 4096 };
    int count = json_count(list);
    if (list && (!json_is_array(list) || count > ADDED_MAX))
        return error_set(l->err, INVALID, "added_tokens is not a list of at most %d", ADDED_MAX);
    l->t->added = calloc((size_t)count + 1, sizeof *l->t->added);
    if (!l->t->added)
        return NOMEM;
    enum status st = OK;
    for (const struct json *v = json_first(list); v && st == OK; v = json_next(v))
        st = load_added_token(l, v);
    sort_added(l->t);
    return st;
}

/* Added tokens that stand in the vocabulary too are left out of `words`: no text of a user can
 * become one of them. */
static enum status load_word(struct load *l, const struct json *v)
{
    const char *word = json_key(v);
    int64_t id;
    enum status st = read_id(l, v, word, &id);
    if (st != OK)
        return st;
    struct token *token = &l->t->tokens[id];
    size_t len = strlen(word);
    if (token->added && token->len == len && memcmp(l->t->bytes + token->offset, word, len) == 0)
        return OK;
    if (token->present)
        return error_set(l->err, INVALID, "vocab: two tokens have the id %lld", (long long)id);
    uint8_t *out = l->t->bytes + l->used;
    int byte = l->t->sentencepiece ? byte_of_word(word) : -1;
    if (byte >= 0) {
        uint8_t one = (uint8_t)byte;
        put_token(l, id, &one, 1);
        l->t->byte_ids[byte] = (int32_t)id;
        return OK;
    }
    if (len == 0 || !map_word(l, word, out, &len)) {
        put_token(l, id, word, strlen(word));
        return OK;
    }
    l->used += len;
    *token = (struct token){
        .offset = (size_t)(out - l->t->bytes), .len = (uint32_t)len, .present = true};
    if (len > l->t->longest_token)
        l->t->longest_token = len;
    if (byte_table_add(&l->t->words, out, len, (int32_t)id) != OK)
        return error_set(l->err, INVALID, "vocab: \"%.*s\" is there twice", STRING_SHOWN, word);
    return OK;
}

static bool byte_in_utf8(int b)
{
    return b < 0xf5 && b != 0xc0 && b != 0xc1;
}

static enum status load_vocab(struct load *l, const struct json *vocab)
{
    if (!json_is_object(vocab))
        return error_set(l->err, INVALID, "model.vocab is not an object");
    enum status st = byte_table_init(&l->t->words, (size_t)json_count(vocab));
    for (int b = 0; b < 256; b++)
        l->t->byte_ids[b] = -1;
    for (const struct json *v = json_first(vocab); v && st == OK; v = json_next(v))
        st = load_word(l, v);
    for (int b = 0; b < 256 && st == OK; b++) {
        uint8_t byte = (uint8_t)b;
        if (!l->t->sentencepiece)
            l->t->byte_ids[b] = byte_table_get(&l->t->words, &byte, 1);
        if (l->t->byte_ids[b] < 0 && byte_in_utf8(b))
            st = error_set(l->err, INVALID, "vocab: no token for the byte 0x%02x", (unsigned)b);
    }
    return st;
}

/* "left right", or ["left", "right"]; out has room for both. */
static bool merge_halves(const struct json *v, struct buf *out, const char *half[2])
{
    const char *text = json_string(v);
    buf_clear(out);
    if (!text) {
        const struct json *first = json_is_array(v) && json_count(v) == 2 ? json_first(v) : NULL;
        half[0] = json_string(first);
        half[1] = first ? json_string(json_next(first)) : NULL;
        return half[0] && half[1];
    }
    const char *space = strchr(text, ' ');
    if (!space || strchr(space + 1, ' ') || buf_add(out, text, (size_t)(space - text)) != OK)
        return false;
    half[0] = buf_cstr(out);
    half[1] = space + 1;
    return half[0];
}

/* The ids of both halves and of what they make together. */
static bool merge_ids(const struct load *l, const char *const half[2], struct pair_slot *out)
{
    enum { WORD_MAX = 1024 };
    uint8_t bytes[2 * WORD_MAX];
    size_t left, right;
    if (strlen(half[0]) > WORD_MAX || strlen(half[1]) > WORD_MAX ||
        !map_word(l, half[0], bytes, &left) || !map_word(l, half[1], bytes + left, &right))
        return false;
    out->left = byte_table_get(&l->t->words, bytes, left);
    out->right = byte_table_get(&l->t->words, bytes + left, right);
    out->merged = byte_table_get(&l->t->words, bytes, left + right);
    return out->left >= 0 && out->right >= 0 && out->merged >= 0;
}

static enum status load_merges(struct load *l, const struct json *merges)
{
    if (!json_is_array(merges))
        return error_set(l->err, INVALID, "model.merges is not a list");
    enum status st = pair_table_init(&l->t->merges, (size_t)json_count(merges));
    struct buf text;
    buf_init(&text, 4096);
    uint32_t rank = 0;
    for (const struct json *v = json_first(merges); v && st == OK; v = json_next(v), rank++) {
        const char *half[2];
        struct pair_slot entry = {.rank = rank};
        if (!merge_halves(v, &text, half))
            st = error_set(l->err, INVALID, "merges: entry %u is not a pair of tokens", rank);
        else if (!merge_ids(l, half, &entry))
            st = error_set(l->err, INVALID,
                           "merges: entry %u (\"%.*s\", \"%.*s\") has no token in the vocabulary",
                           rank, STRING_SHOWN, half[0], STRING_SHOWN, half[1]);
        else
            pair_table_add(&l->t->merges, &entry);
    }
    buf_done(&text);
    return st;
}

static enum status load_model(struct load *l, const struct json *model)
{
    if (strcmp(type_of(model), "BPE") != 0)
        return error_set(l->err, INVALID, "model type %s is not supported, only BPE",
                         type_of(model));
    static const char *const unsupported[] = {"dropout", "continuing_subword_prefix",
                                              "end_of_word_suffix"};
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++)
        if (!is_off(json_get(model, unsupported[i])))
            return error_set(l->err, INVALID, "model.%s is not supported", unsupported[i]);
    bool fallback = !is_off(json_get(model, "byte_fallback"));
    if (fallback != l->t->sentencepiece)
        return error_set(l->err, INVALID,
                         "model.byte_fallback is supported with the normalizers Prepend and "
                         "Replace or the pre_tokenizer Metaspace (first, not split) alone, and "
                         "they with it");
    l->t->ignore_merges = !is_off(json_get(model, "ignore_merges"));
    enum status st = load_vocab(l, json_get(model, "vocab"));
    return st == OK ? load_merges(l, json_get(model, "merges")) : st;
}

static enum status add_step(struct load *l, const char *pattern, bool literal)
{
    if (l->t->step_count == TOKENIZER_STEPS_MAX)
        return error_set(l->err, INVALID, "pre_tokenizer: more than %d steps", TOKENIZER_STEPS_MAX);
    enum status st = split_compile(pattern, literal, &l->t->steps[l->t->step_count], l->err);
    if (st == OK)
        l->t->step_count++;
    else
        error_prefix(l->err, "pre_tokenizer");
    return st;
}

static enum status load_split(struct load *l, const struct json *step)
{
    const char *behavior = json_string(json_get(step, "behavior"));
    if (!behavior || strcmp(behavior, "Isolated") != 0 || !is_off(json_get(step, "invert")))
        return error_set(l->err, INVALID,
                         "pre_tokenizer: Split with behavior %.*s%s is not supported", STRING_SHOWN,
                         behavior ? behavior : "(none)",
                         is_off(json_get(step, "invert")) ? "" : " and invert");
    const struct json *pattern = json_get(step, "pattern");
    const char *regex = json_string(json_get(pattern, "Regex"));
    const char *literal = json_string(json_get(pattern, "String"));
    if (!regex == !literal)
        return error_set(l->err, INVALID, "pre_tokenizer: Split has no pattern Regex or String");
    return add_step(l, regex ? regex : literal, !regex);
}

static enum status load_byte_level(struct load *l, const struct json *step)
{
    if (!is_off(json_get(step, "add_prefix_space")))
        return error_set(l->err, INVALID, "pre_tokenizer: add_prefix_space is not supported");
    /* use_regex is on when it is not given. */
    const struct json *use = json_get(step, "use_regex");
    return use && is_off(use) ? OK : add_step(l, BYTE_LEVEL_REGEX, false);
}

/* *bytes: a ByteLevel step was there; it must be the last. */
static enum status load_step(struct load *l, const struct json *step, bool *bytes)
{
    const char *type = type_of(step);
    if (*bytes)
        return error_set(l->err, INVALID, "pre_tokenizer: %.*s after ByteLevel is not supported",
                         STRING_SHOWN, type);
    if (strcmp(type, "Split") == 0)
        return load_split(l, step);
    if (strcmp(type, "Digits") == 0)
        return add_step(l, is_off(json_get(step, "individual_digits")) ? "\\p{N}+" : "\\p{N}",
                        false);
    if (strcmp(type, "ByteLevel") != 0)
        return error_set(l->err, INVALID, "pre_tokenizer: type %.*s is not supported", STRING_SHOWN,
                         type);
    *bytes = true;
    return load_byte_level(l, step);
}

static enum status load_steps(struct load *l, const struct json *pre)
{
    bool bytes = false;
    enum status st = OK;
    if (strcmp(type_of(pre), "Sequence") == 0) {
        const struct json *list = json_get(pre, "pretokenizers");
        for (const struct json *v = json_first(list); v && st == OK; v = json_next(v))
            st = load_step(l, v, &bytes);
    } else {
        st = load_step(l, pre, &bytes);
    }
    if (st == OK && !bytes)
        return error_set(l->err, INVALID, "pre_tokenizer: no ByteLevel step");
    return st;
}

/* Prepend U+2581, then Replace " " by it: as SentencePiece does it. */
static bool is_sentencepiece(const struct json *normalizer)
{
    const struct json *list = json_get(normalizer, "normalizers"), *prepend = json_first(list);
    const struct json *replace = prepend ? json_next(prepend) : NULL;
    if (json_count(list) != 2 || strcmp(type_of(prepend), "Prepend") != 0 ||
        strcmp(type_of(replace), "Replace") != 0)
        return false;
    const char *mark = json_string(json_get(prepend, "prepend"));
    const char *from = json_string(json_get(json_get(replace, "pattern"), "String"));
    const char *to = json_string(json_get(replace, "content"));
    return mark && from && to && strcmp(mark, SPACE_MARK) == 0 && strcmp(from, " ") == 0 &&
           strcmp(to, SPACE_MARK) == 0;
}

/* The same without a normalizer, as newer files have it. */
static bool is_metaspace(const struct json *pre)
{
    const char *mark = json_string(json_get(pre, "replacement"));
    const char *scheme = json_string(json_get(pre, "prepend_scheme"));
    const struct json *split = json_get(pre, "split"); /* on when it is not given */
    return strcmp(type_of(pre), "Metaspace") == 0 && mark && strcmp(mark, SPACE_MARK) == 0 &&
           scheme && strcmp(scheme, "first") == 0 && split && is_off(split);
}

static enum status check_normalizer(struct load *l, const struct json *v)
{
    if (is_off(v))
        return OK;
    const struct json *list = json_get(v, "normalizers");
    if (strcmp(type_of(v), "Sequence") == 0 && json_count(list) == 0)
        return OK;
    l->t->composes = strcmp(type_of(v), "NFC") == 0;
    if (l->t->composes)
        return OK;
    l->t->sentencepiece = is_sentencepiece(v);
    if (l->t->sentencepiece)
        return OK;
    const struct json *first = json_first(list);
    return error_set(l->err, INVALID, "normalizer type %.*s is not supported", STRING_SHOWN,
                     type_of(first ? first : v));
}

/* SentencePiece's has several steps, which come to what token bytes are here. */
static enum status check_decoder(struct load *l, const struct json *v)
{
    const char *want = l->t->sentencepiece ? "Sequence" : "ByteLevel";
    if (is_off(v) || strcmp(type_of(v), want) == 0)
        return OK;
    return error_set(l->err, INVALID, "decoder type %.*s is not supported", STRING_SHOWN,
                     type_of(v));
}

static enum status load_root(struct load *l, const struct json *root)
{
    const struct json *pre = json_get(root, "pre_tokenizer");
    enum status st = check_normalizer(l, json_get(root, "normalizer"));
    if (st == OK && is_off(json_get(root, "normalizer")) && is_metaspace(pre)) {
        l->t->sentencepiece = l->t->space_first = true;
        pre = NULL;
    }
    if (st == OK && !(l->t->sentencepiece && is_off(pre)))
        st = load_steps(l, pre);
    if (st == OK && l->t->sentencepiece && !is_off(pre))
        st = error_set(l->err, INVALID, "pre_tokenizer: none is supported with byte_fallback");
    if (st == OK)
        st = check_decoder(l, json_get(root, "decoder"));
    if (st == OK)
        st = load_added(l, json_get(root, "added_tokens"));
    return st == OK ? load_model(l, json_get(root, "model")) : st;
}

static enum status load_text(struct tokenizer *t, const char *text, size_t len, struct error *err)
{
    struct json *root = NULL;
    enum status st = json_parse(text, len, &file_limits, &root, err);
    if (st != OK)
        return st;
    /* No token is longer than it is written, so that the file's size is room for all. */
    t->bytes = malloc(len + 1);
    struct load l = {.t = t, .err = err};
    st = t->bytes ? load_root(&l, root) : NOMEM;
    json_free(root);
    crypto_sha256(text, len, t->hash);
    return st;
}

enum status tokenizer_parse(const char *text, size_t len, struct tokenizer **out, struct error *err)
{
    struct tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return NOMEM;
    enum status st = load_text(t, text, len, err);
    if (st != OK) {
        tokenizer_free(t);
        return st == NOMEM ? error_set(err, NOMEM, "out of memory") : st;
    }
    *out = t;
    return OK;
}

enum status tokenizer_load(const char *dir, struct tokenizer **out, struct error *err)
{
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/tokenizer.json", dir) >= sizeof path)
        return error_set(err, INVALID, "the folder's name is too long");
    struct buf text;
    buf_init(&text, FILE_BYTES_MAX);
    enum status st = textfile_read(path, &text, err);
    if (st == OK) {
        st = tokenizer_parse((const char *)buf_head(&text), buf_len(&text), out, err);
        if (st != OK)
            error_prefix(err, "%s", path);
    }
    buf_done(&text);
    return st;
}
