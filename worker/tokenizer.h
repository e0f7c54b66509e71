/*
 * BPE from a Hugging Face tokenizer.json: byte-level (added tokens, the pre-tokenizer's regular
 * expressions by PCRE2, merges by rank, ignore_merges), or SentencePiece's with byte fallback, as
 * Llama 2 and Mixtral have it. Immutable after loading: any thread.
 */
#ifndef WORKER_TOKENIZER_H
#define WORKER_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct tokenizer;

struct token_list { /* grows; freed by token_list_done */
    int32_t *ids;
    size_t count, size;
    size_t max;
};

void token_list_init(struct token_list *l, size_t max);
enum status token_list_add(struct token_list *l, int32_t id);
void token_list_done(struct token_list *l);

/* dir/tokenizer.json. The error names the file and what in it is wrong or unknown. */
enum status tokenizer_load(const char *dir, struct tokenizer **out, struct error *err);
void tokenizer_free(struct tokenizer *t);                 /* NULL is fine */
int tokenizer_vocab_size(const struct tokenizer *t);      /* largest id + 1 */
const uint8_t *tokenizer_hash(const struct tokenizer *t); /* SHA-256 of the file, 32 bytes */

/* Appends the ids of the text (UTF-8, may hold NULs). parse_added: text that equals an added token
 * ("<think>") becomes that token; without it (a user's words) it is ordinary text. LIMITED: the
 * list is full. INVALID: not UTF-8. On failure the list may have grown. */
enum status tokenizer_encode(const struct tokenizer *t, const char *text, size_t len,
                             bool parse_added, struct token_list *out);
/* Text that goes on behind tokens: some tokenizers put a space in front of what begins a text.
 * Added tokens in it are text. */
enum status tokenizer_encode_on(const struct tokenizer *t, const char *text, size_t len,
                                struct token_list *out);
/* The bytes of a token, not NUL-terminated, maybe part of a character. NULL: no such id. */
const uint8_t *tokenizer_bytes(const struct tokenizer *t, int32_t id, size_t *len);
int32_t tokenizer_id(const struct tokenizer *t, const char *added_token); /* -1: none */
/* The longest added token that the text starts with, and its bytes; -1: none. */
int32_t tokenizer_added_at(const struct tokenizer *t, const char *text, size_t len,
                           size_t *token_len);
/* SentencePiece's: the first token of a text begins with a space that is not the text's. */
bool tokenizer_adds_space(const struct tokenizer *t);
bool tokenizer_is_added(const struct tokenizer *t, int32_t id);
/* An added token that is no text (begin of sentence, padding): never shown. */
bool tokenizer_is_special(const struct tokenizer *t, int32_t id);

#endif
