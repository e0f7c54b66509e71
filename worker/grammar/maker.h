/*
 * A thread that makes masks for owners who must not wait: those of states that are not ready
 * (grammar_state_ready), in the order asked, and between them, one at a time, the masks of
 * grammars that will be needed. A state that was asked for is the maker's until it is done; its
 * owner may meanwhile only ask whether it is, or drop it. Any thread.
 */
#ifndef WORKER_GRAMMAR_MAKER_H
#define WORKER_GRAMMAR_MAKER_H

#include "worker/grammar/state.h"

struct grammar_maker;

/* wake: called on the maker's thread each time that a state is done; NULL: nobody waits. */
enum status grammar_maker_new(const struct grammar_vocab *v, void (*wake)(void *arg), void *arg,
                              struct grammar_maker **out, struct error *err);
/* NULL is fine. Joins the thread; no state is with it any more. */
void grammar_maker_free(struct grammar_maker *m);

void grammar_maker_ask(struct grammar_maker *m, struct grammar_state *s);
/* The state is the owner's again and ready: grammar_state_mask has the mask, or NULL if memory was
 * out. */
bool grammar_maker_done(struct grammar_maker *m, const struct grammar_state *s);
/* Frees a state, wherever it is. NULL is fine. */
void grammar_maker_drop(struct grammar_maker *m, struct grammar_state *s);
/* All masks of a grammar, soon, as far as there is room; when too many grammars wait, not at all.
 * Once a grammar. */
void grammar_maker_warm(struct grammar_maker *m, struct grammar *g);

#endif
