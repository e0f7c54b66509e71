/*
 * Numbers between bounds, as digits. Bounds are compared as decimals: whole numbers exactly, others
 * by the shortest decimal that reads back as the same double. A number of at most 15 digits is the
 * only one of them that its double stands for, so a bound holds for the text and for the double.
 */
#ifndef WORKER_GRAMMAR_DECIMAL_H
#define WORKER_GRAMMAR_DECIMAL_H

#include "worker/grammar/automaton.h"

struct decimal_range {
    double low, high;  /* -INFINITY, INFINITY: none */
    bool above, below; /* low, high are excluded */
    bool integer;
};

/* GRAMMAR_NONE: no such number, or the automaton has failed. */
uint32_t decimal_rule(struct automaton *a, struct decimal_range range, const char *place);

/* The shortest decimal of a finite double, without an exponent. Room for DECIMAL_MAX. */
enum { DECIMAL_MAX = 800 };
void decimal_text(double value, char *out);

#endif
