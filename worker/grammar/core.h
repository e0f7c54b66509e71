/*
 * The rules that every grammar begins with: strings, numbers, white space, JSON as such. They come
 * first and in the same order, so that their nodes have the same numbers in every grammar and their
 * masks can be shared.
 */
#ifndef WORKER_GRAMMAR_CORE_H
#define WORKER_GRAMMAR_CORE_H

#include "worker/grammar/automaton.h"

enum core_rule {
    RULE_GAP, /* white space between tokens, maybe none */
    RULE_STRING,
    RULE_NUMBER,
    RULE_INTEGER,
    RULE_BOOLEAN,
    RULE_NULL,
    RULE_VALUE,
    RULE_OBJECT,
    RULE_ARRAY,
    CORE_RULES
};

/* Into an empty automaton. */
void core_build(struct automaton *a);

/* From behind a colon: maybe a space. The node where the value begins. */
uint32_t core_after_colon(struct automaton *a, uint32_t from);

/* The characters behind ASCII, from one node to another. */
void core_characters(struct automaton *a, uint32_t from, uint32_t to);

#endif
