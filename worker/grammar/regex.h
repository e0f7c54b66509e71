/*
 * Regular expressions of JSON Schema (ECMA-262 with the u flag), the part that is regular:
 * literals, . [...] \d \w \s \D \W \S, escapes (\n \t \r \f \v \0 \cX \xHH \uHHHH \u{H}), groups,
 * named or not, | * + ? {n} {n,} {n,m}, lazy or not, ^ and $. Unanchored unless ^ and $ say so.
 * Not: look-around, references to groups, \b, \p, flags.
 *
 * As a deterministic automaton over code points; it never reads U+0000 or surrogates.
 */
#ifndef WORKER_GRAMMAR_REGEX_H
#define WORKER_GRAMMAR_REGEX_H

#include "worker/grammar/automaton.h"

enum {
    DFA_DEAD = UINT32_MAX,
    DFA_ENDLESS = UINT32_MAX, /* no longest text */
};

struct dfa {
    uint32_t *classes; /* class i: code points from classes[i] to before classes[i + 1] */
    uint32_t class_count;
    uint32_t *next; /* state * class_count + class -> state or DFA_DEAD */
    bool *accept;
    uint32_t count, size; /* of states; 0 is the start */
};

/* INVALID: not an expression, or not supported, with the character; LIMITED; NOMEM. Counts its
 * steps with the automaton's. */
enum status regex_compile(const char *pattern, struct automaton *budget, struct dfa *out,
                          struct error *err);
void dfa_done(struct dfa *d);

/* Empty, with the classes that the boundaries make (sorted here). False: out of memory. */
bool dfa_init(struct dfa *d, uint32_t *bounds, uint32_t count);
uint32_t dfa_add(struct dfa *d);    /* a state without ways out; DFA_DEAD: out of memory */
bool dfa_full(const struct dfa *d); /* its table is as large as it may be */
uint32_t dfa_decode(const char *text, size_t *len); /* a code point of valid UTF-8, its bytes */
uint32_t dfa_class(const struct dfa *d, uint32_t code_point);
bool dfa_never(const struct dfa *d, uint32_t class); /* U+0000 and surrogates */
/* Removes ways to states from which nothing is accepted; false: that is so of the start. */
bool dfa_trim(struct dfa *d, struct automaton *budget);
bool dfa_matches(const struct dfa *d, const char *text); /* UTF-8 */

/* Texts between two lengths. LIMITED, NOMEM; INVALID: there are none. *counted: the automaton is as
 * it was and each of its texts can be lengthened, so that counting while reading suffices. */
enum status dfa_bound(struct dfa *d, uint32_t least, uint32_t most, struct automaton *budget,
                      bool *counted);

/* A JSON string of such a text, as a rule; characters that JSON must escape are escaped in one way:
 * the short one or lower-case \u00xx. */
uint32_t dfa_rule(const struct dfa *d, struct automaton *a, const char *place);

#endif
