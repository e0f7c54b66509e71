/*
 * A tokenizer's tokens as a trie of bytes, made once per model, and the masks inside JSON strings,
 * numbers and free JSON, which all grammars share. It also keeps the masks of grammars (see
 * mask_store.h), 96 MiB of them at most. Otherwise unchanging; any thread. It and its tokenizer
 * outlive every grammar used with it.
 */
#ifndef WORKER_GRAMMAR_VOCAB_H
#define WORKER_GRAMMAR_VOCAB_H

#include "worker/tokenizer.h"

struct grammar_vocab;

/* end_ids: tokens that end an answer, allowed exactly where the grammar may end; added tokens are
 * never allowed otherwise. INVALID: an id out of range, or a byte that no token spells alone.
 * For 129,280 tokens: some 100 ms and 20 MB. */
enum status grammar_vocab_new(const struct tokenizer *t, const int32_t *end_ids, size_t end_count,
                              struct grammar_vocab **out, struct error *err);
void grammar_vocab_free(struct grammar_vocab *v);          /* NULL is fine */
size_t grammar_vocab_words(const struct grammar_vocab *v); /* uint32_t of a mask */
size_t grammar_vocab_bytes(const struct grammar_vocab *v); /* memory held */

#endif
