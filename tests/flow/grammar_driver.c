/*
 * Texts that a grammar lets through whatever is drawn. Reads lines of a JSON Schema and valid
 * documents, parted by tabs; writes for each text a line: the schema's number, the way of drawing
 * and the text as a JSON string. A refused schema or document is a line with "refused" and why.
 *
 *   grammar_driver DIR TOKENS < schemas > texts     (DIR has a tokenizer.json)
 *
 * After TOKENS tokens a text is ended along the shortest way, by the tokens of single bytes.
 */
#include "base/json.h"
#include "worker/grammar/state.h"

enum { LINE_MAX = 1 << 20, TEXT_MAX = 1 << 22, CLOSING_MAX = 1 << 16 };

enum way {
    WAY_EVEN,    /* all tokens alike */
    WAY_LONG,    /* the longest of some */
    WAY_OPEN,    /* tokens with brackets that open, commas and colons */
    WAY_QUOTE,   /* tokens with quotes and backslashes */
    WAY_NEVER,   /* anything but ends: no end token, no closing bracket or quote */
    WAY_STRANGE, /* bytes beyond ASCII, maybe half characters */
    WAYS
};

struct driver {
    struct tokenizer *tokenizer;
    struct grammar_vocab *vocab;
    size_t words;
    int32_t single[256], end;
    long tokens_max;
    uint64_t random;
};

static uint64_t random_next(struct driver *d)
{
    d->random ^= d->random << 13;
    d->random ^= d->random >> 7;
    return d->random ^= d->random << 17;
}

static void die(const char *what)
{
    fprintf(stderr, "grammar_driver: %s\n", what);
    exit(1);
}

static bool allowed(const uint32_t *mask, int32_t token)
{
    return mask[token / 32] >> token % 32 & 1;
}

static int32_t nth(const uint32_t *mask, size_t words, size_t n)
{
    for (size_t i = 0; i < words; i++) {
        uint32_t bits = mask[i];
        size_t here = (size_t)__builtin_popcount(bits);
        if (n >= here) {
            n -= here;
            continue;
        }
        while (n--)
            bits &= bits - 1;
        return (int32_t)(i * 32) + __builtin_ctz(bits);
    }
    die("a mask without a token");
    return -1;
}

static bool has_any(const uint8_t *bytes, size_t len, const char *of)
{
    for (size_t i = 0; i < len; i++)
        if (strchr(of, bytes[i]) && bytes[i])
            return true;
    return false;
}

static int liking(struct driver *d, enum way way, int32_t token)
{
    size_t len = 0;
    const uint8_t *bytes = tokenizer_bytes(d->tokenizer, token, &len);
    if (token == d->end)
        return way == WAY_NEVER ? -1 : 0;
    switch (way) {
    case WAY_LONG:
        return (int)len;
    case WAY_OPEN:
        return has_any(bytes, len, "[{,:");
    case WAY_QUOTE:
        return has_any(bytes, len, "\"\\");
    case WAY_NEVER:
        return !has_any(bytes, len, "]}\"");
    case WAY_STRANGE:
        return len && (bytes[0] >= 0x80 || bytes[len - 1] >= 0x80);
    default:
        return 0;
    }
}

/* Of a sample of the allowed tokens the one that the way of drawing likes most. */
static int32_t draw(struct driver *d, enum way way, const uint32_t *mask)
{
    size_t count = 0;
    for (size_t i = 0; i < d->words; i++)
        count += (size_t)__builtin_popcount(mask[i]);
    if (!count)
        die("a mask without a token");
    int32_t best = nth(mask, d->words, random_next(d) % count);
    for (int i = 0; i < 24 && way != WAY_EVEN; i++) {
        int32_t other = nth(mask, d->words, random_next(d) % count);
        if (liking(d, way, other) > liking(d, way, best))
            best = other;
    }
    return best;
}

static void take(struct driver *d, struct grammar_state *s, int32_t token, struct buf *text)
{
    size_t len;
    const uint8_t *bytes = tokenizer_bytes(d->tokenizer, token, &len);
    if (!grammar_state_accept(s, token))
        die("a token of the mask is refused");
    if (buf_add(text, bytes, len) != OK)
        die("out of memory");
}

static void close_text(struct driver *d, struct grammar_state *s, struct buf *text)
{
    static char closing[CLOSING_MAX];
    if (grammar_state_may_end(s))
        return;
    size_t len = grammar_state_closing(s, closing, sizeof closing);
    if (!len)
        die("no way to the end");
    for (size_t i = 0; i < len; i++) {
        const uint32_t *mask = grammar_state_mask(s);
        int32_t token = d->single[(uint8_t)closing[i]];
        if (!mask || !allowed(mask, token))
            die("the way to the end is not allowed");
        take(d, s, token, text);
    }
}

static void write_text(long number, const char *what, const char *text, size_t len)
{
    struct buf line;
    buf_init(&line, 8u * TEXT_MAX);
    if (json_put_string(&line, text, len) != OK || !buf_cstr(&line))
        die("out of memory");
    printf("%ld\t%s\t%s\n", number, what, buf_cstr(&line));
    buf_done(&line);
}

static void make_text(struct driver *d, struct grammar *g, long number, enum way way)
{
    static const char *const names[WAYS] = {"even", "long", "open", "quote", "never", "strange"};
    struct grammar_state *s = grammar_state_new(g, d->vocab);
    struct buf text;
    buf_init(&text, TEXT_MAX);
    for (long i = 0; s && i < d->tokens_max && !grammar_state_is_done(s); i++) {
        const uint32_t *mask = grammar_state_mask(s);
        if (!mask)
            die("out of memory");
        if (allowed(mask, d->end) != grammar_state_may_end(s))
            die("the end is allowed where it may not come, or the other way round");
        int32_t token = draw(d, way, mask);
        if (token == d->end)
            break;
        take(d, s, token, &text);
    }
    if (!s)
        die("out of memory");
    close_text(d, s, &text);
    if (!grammar_state_may_end(s))
        die("the text is not complete");
    write_text(number, names[way], (char *)buf_head(&text), buf_len(&text));
    buf_done(&text);
    grammar_state_free(s);
}

/* A valid document, token by token as the tokenizer cuts it. */
static void try_document(struct driver *d, struct grammar *g, long number, const char *document)
{
    struct token_list tokens;
    struct grammar_state *s = grammar_state_new(g, d->vocab);
    token_list_init(&tokens, TEXT_MAX);
    if (!s || tokenizer_encode(d->tokenizer, document, strlen(document), false, &tokens) != OK)
        die("a document cannot be encoded");
    bool ok = true;
    for (size_t i = 0; ok && i < tokens.count; i++) {
        const uint32_t *mask = grammar_state_mask(s);
        ok = mask && allowed(mask, tokens.ids[i]) && grammar_state_accept(s, tokens.ids[i]);
    }
    if (!ok || !grammar_state_may_end(s))
        write_text(number, "refused", document, strlen(document));
    token_list_done(&tokens);
    grammar_state_free(s);
}

static void try_schema(struct driver *d, long number, char *line)
{
    char *rest = line, *schema = strsep(&rest, "\t");
    struct grammar *g;
    struct error err = {{0}};
    if (grammar_compile_schema(schema, strlen(schema), false, &g, &err) != OK) {
        write_text(number, "refused", err.text, strlen(err.text));
        return;
    }
    for (char *document; (document = strsep(&rest, "\t"));)
        try_document(d, g, number, document);
    for (int way = 0; way < WAYS; way++)
        make_text(d, g, number, (enum way)way);
    grammar_unref(g);
}

static void open_tokenizer(struct driver *d, const char *dir)
{
    struct error err;
    d->end = 1;
    if (tokenizer_load(dir, &d->tokenizer, &err) != OK ||
        grammar_vocab_new(d->tokenizer, &d->end, 1, &d->vocab, &err) != OK)
        die(err.text);
    d->words = grammar_vocab_words(d->vocab);
    for (int id = 0; id < tokenizer_vocab_size(d->tokenizer); id++) {
        size_t len;
        const uint8_t *bytes = tokenizer_bytes(d->tokenizer, id, &len);
        if (bytes && len == 1 && !tokenizer_is_added(d->tokenizer, id))
            d->single[*bytes] = id;
    }
}

int main(int argc, char **argv)
{
    struct driver d = {.random = 88172645463325252u};
    if (argc != 3)
        die("usage: grammar_driver DIR TOKENS < schemas > texts");
    d.tokens_max = strtol(argv[2], NULL, 10);
    open_tokenizer(&d, argv[1]);
    char *line = malloc(LINE_MAX);
    for (long number = 0; line && fgets(line, LINE_MAX, stdin); number++) {
        line[strcspn(line, "\n")] = 0;
        try_schema(&d, number, line);
    }
    free(line);
    grammar_vocab_free(d.vocab);
    tokenizer_free(d.tokenizer);
    return 0;
}
