/* What the files of the tokenizer share; nobody else includes this. */
#ifndef WORKER_TOKENIZER_PRIVATE_H
#define WORKER_TOKENIZER_PRIVATE_H

#include "base/crypto.h"
#include "worker/tokenizer.h"
#include "worker/tokenizer_table.h"

#define TOKENIZER_SPACE_MARK "\xe2\x96\x81" /* U+2581 */

enum {
    TOKENIZER_IDS_MAX = 1 << 20,
    TOKENIZER_STEPS_MAX = 16, /* pre-tokenizer steps */
};

struct token {
    size_t offset; /* of its bytes in tokenizer.bytes */
    uint32_t len;
    bool present, added, special;
};

/* tokenizer_load on a text in memory. */
enum status tokenizer_parse(const char *text, size_t len, struct tokenizer **out,
                            struct error *err);

struct split; /* one compiled regular expression */

struct tokenizer {
    struct token *tokens; /* by id */
    int vocab_size;
    uint8_t *bytes;           /* of all tokens, one after the other */
    struct byte_table words;  /* bytes of an ordinary token -> id */
    struct pair_table merges; /* two ids -> rank and merged id */
    int32_t byte_ids[256];    /* -1: none, for bytes that UTF-8 never has */
    size_t longest_token;     /* bytes */
    bool ignore_merges;
    bool sentencepiece; /* a space in front of each text; symbols are characters, not bytes */
    bool space_first;   /* of those: in front of what begins a text alone, and has none */
    bool composes;      /* texts are normalised to NFC */
    int32_t *added;     /* ids of added tokens, longest first */
    int added_count;
    bool added_first[256]; /* bytes that an added token starts with */
    struct split *steps[TOKENIZER_STEPS_MAX];
    int step_count;
    uint8_t hash[SHA256_BYTES];
};

/* Gets each piece of a text, in order. */
struct split_sink {
    enum status (*piece)(void *arg, const char *text, size_t len);
    void *arg;
};

enum status split_compile(const char *pattern, bool literal, struct split **out, struct error *err);
void split_free(struct split *s); /* NULL is fine */
/* Cuts a text (valid UTF-8) by each step in turn, every step seeing the pieces of the one before.
 */
enum status split_run(struct split *const *steps, int count, const char *text, size_t len,
                      const struct split_sink *sink);

/* The ids of one piece by merging. */
enum status bpe_encode(const struct tokenizer *t, const uint8_t *piece, size_t len,
                       struct token_list *out);

#endif
