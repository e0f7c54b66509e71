/*
 * Where one sequence stands in a grammar. One owner; states of one grammar may live on several
 * threads. A mask is put together from those of the grammar's nodes, which are computed on first
 * need and kept (mask_store.h). That can take milliseconds: an owner who must not wait asks
 * grammar_state_ready, which only uses what is there, and has the rest done on the thread of
 * maker.h.
 */
#ifndef WORKER_GRAMMAR_STATE_H
#define WORKER_GRAMMAR_STATE_H

#include "worker/grammar/grammar.h"
#include "worker/grammar/vocab.h"

enum { GRAMMAR_ROLLBACK_MAX = 16 }; /* accepted tokens that can be taken back */

struct grammar_state;

/* NULL: out of memory. Takes a reference to the grammar. A grammar is used with one vocab only. */
struct grammar_state *grammar_state_new(struct grammar *g, const struct grammar_vocab *v);
struct grammar_state *grammar_state_copy(const struct grammar_state *s); /* NULL: out of memory */
void grammar_state_free(struct grammar_state *s);                        /* NULL is fine */

/* Bit i of word i / 32: token i may come next. At least one bit is set. Valid until the next call
 * on this state. NULL: out of memory. */
const uint32_t *grammar_state_mask(struct grammar_state *s);
/* Whether grammar_state_mask now answers at once. Makes the mask if that takes no more than some
 * 30 us: its parts are there, and putting them together is little work. */
bool grammar_state_ready(struct grammar_state *s);
/* False, with nothing changed, if the token may not come now. An end token changes nothing. */
bool grammar_state_accept(struct grammar_state *s, int32_t token);
/* The same for a token that the mask allows. If reading it is much work, that is put off until the
 * next mask is made; until then nothing but that, grammar_state_ready and freeing may be asked. */
bool grammar_state_accept_allowed(struct grammar_state *s, int32_t token);
/* The same for text that comes from elsewhere (a template); counts as one token to take back. */
bool grammar_state_accept_bytes(struct grammar_state *s, const void *bytes, size_t len);
/* Takes back the last n accepted tokens (end tokens are not counted). False: more than are kept. */
bool grammar_state_rollback(struct grammar_state *s, size_t n);

bool grammar_state_may_end(const struct grammar_state *s); /* what stands is complete */
bool grammar_state_is_done(const struct grammar_state *s); /* and nothing can follow */
/* Bytes of a short way to a complete text, at least 0; an estimate, exact at 0. */
uint32_t grammar_state_distance(const struct grammar_state *s);
/* A short text that completes what stands; its length, or 0 if max is too small or nothing is
 * needed. It changes nothing. */
size_t grammar_state_closing(struct grammar_state *s, char *text, size_t max);

/* Computes the mask of one node more, from the grammar's start on. NOT_FOUND: all are there;
 * LIMITED: there is no room; NOMEM. Any thread. */
enum status grammar_warm_next(struct grammar *g, const struct grammar_vocab *v);
/* As many as there are, as have room, and as budget_us allow. */
void grammar_warm(struct grammar *g, const struct grammar_vocab *v, int64_t budget_us);

#endif
