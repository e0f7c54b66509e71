/* links: tg_worker */
/* Any text is either a grammar, from which whatever tokens are drawn make a JSON text that can be
 * completed, or refused in one line that names a place; and neither takes much memory. */
#include <assert.h>
#include <stdint.h>

#include "base/json.h"
#include "worker/grammar/state.h"
#include "worker/tokenizer_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { TOKENS_DRAWN = 100, TEXT_MAX = 1 << 20 };

static struct tokenizer *tokenizer;
static struct grammar_vocab *vocab;

/* The character that stands for a byte in a tokenizer.json, and a name for it in JSON. */
static void add_byte_name(struct buf *out, int byte)
{
    int stands = byte;
    if (byte < 33)
        stands = 256 + byte;
    else if (byte >= 127 && byte < 161)
        stands = 256 + 33 + byte - 127;
    else if (byte == 173)
        stands = 256 + 67;
    assert(buf_addf(out, "\\u%04x", (unsigned)stands) == OK);
}

/* Every byte, and some pieces that cut across what a schema keeps apart. */
static void make_vocab(void)
{
    static const char *const pieces[] = {"{\"",  "\":",  "\",\"", "\"}",  "}]",  "[[",
                                         "12",   "true", "ab",    "a\"}", "],[", "{\n  ",
                                         ", \"", "\\u",  "]}",    "0.5"};
    static const int32_t end = 300;
    struct buf text;
    struct error err;
    buf_init(&text, 1 << 16);
    buf_adds(&text,
             "{\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\","
             "\"add_prefix_space\":false,\"use_regex\":false},\"decoder\":{\"type\":"
             "\"ByteLevel\"},\"added_tokens\":[{\"id\":300,\"content\":\"<end>\",\"special\":"
             "true}],\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{");
    for (int b = 0; b < 256; b++) {
        buf_adds(&text, b ? ",\"" : "\"");
        add_byte_name(&text, b);
        buf_addf(&text, "\":%d", b);
    }
    for (int i = 0; i < (int)(sizeof pieces / sizeof *pieces); i++) {
        buf_adds(&text, ",\"");
        for (const char *c = pieces[i]; *c; c++)
            add_byte_name(&text, (uint8_t)*c);
        buf_addf(&text, "\":%d", 256 + i);
    }
    buf_adds(&text, "}}}");
    enum status st =
        tokenizer_parse((const char *)buf_head(&text), buf_len(&text), &tokenizer, &err);
    assert(st == OK);
    st = grammar_vocab_new(tokenizer, &end, 1, &vocab, &err);
    assert(st == OK);
    buf_done(&text);
}

static void take(struct grammar_state *s, int32_t token, struct buf *text)
{
    size_t len;
    const uint8_t *bytes = tokenizer_bytes(tokenizer, token, &len);
    bool taken = grammar_state_accept(s, token);
    assert(taken && buf_add(text, bytes, len) == OK);
}

/* The text is JSON, as our own guard judges; it refuses whole numbers that a grammar allows, beyond
 * 2^53, and keys that come twice, which no grammar can see. */
static void check_text(const struct buf *text)
{
    static const struct json_limits limits = {1000, 1 << 20, TEXT_MAX};
    struct error err = {{0}};
    enum status st = json_guard((const char *)buf_head(text), buf_len(text), &limits, &err);
    assert(st == OK || strstr(err.text, "2^53") || strstr(err.text, "twice"));
}

static void draw(struct grammar *g, uint32_t random)
{
    static char closing[2048];
    struct grammar_state *s = grammar_state_new(g, vocab);
    struct buf text;
    buf_init(&text, TEXT_MAX);
    for (int i = 0; s && i < TOKENS_DRAWN; i++) {
        const uint32_t *mask = grammar_state_mask(s);
        assert(mask);
        int32_t allowed[320], count = 0;
        for (int32_t id = 0; id < 300; id++)
            if (mask[id / 32] >> id % 32 & 1)
                allowed[count++] = id;
        assert((bool)(mask[300 / 32] >> 300 % 32 & 1) == grammar_state_may_end(s));
        assert(count || grammar_state_is_done(s));
        if (!count)
            break;
        random = random * 1664525u + 1013904223u;
        take(s, allowed[(random >> 8) % (uint32_t)count], &text);
    }
    size_t len = grammar_state_closing(s, closing, sizeof closing);
    assert(len || grammar_state_may_end(s) || grammar_state_distance(s) > sizeof closing);
    for (size_t i = 0; i < len; i++)
        take(s, (uint8_t)closing[i], &text);
    if (grammar_state_may_end(s))
        check_text(&text);
    grammar_state_free(s);
    buf_done(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint32_t random = 1;
    for (size_t i = 0; i < len; i++)
        random = random * 31 + data[i];
    if (!vocab)
        make_vocab();
    for (int strict = 0; strict < 2; strict++) {
        struct grammar *g;
        struct error err = {{0}};
        enum status st = grammar_compile_schema((const char *)data, len, strict, &g, &err);
        if (st == OK) {
            for (uint32_t i = 0; i < 2; i++)
                draw(g, random + i);
            assert(grammar_bytes(g) < 40 << 20);
            grammar_unref(g);
        } else {
            assert(st == INVALID || st == LIMITED);
            assert(strncmp(err.text, "schema", 6) == 0 && !strchr(err.text, '\n'));
        }
    }
    return 0;
}
