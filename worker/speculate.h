/*
 * Whether guessing ahead pays, learnt from the steps themselves: what a token costs with guesses
 * and without, by the number of sequences that decode at once. It pays where a step is bound by
 * reading weights, and not where it is bound by arithmetic; which of the two a machine, a model
 * and a number of sequences are is better measured than guessed. Pure; one owner.
 */
#ifndef WORKER_SPECULATE_H
#define WORKER_SPECULATE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    SPECULATE_SEQUENCES_MAX = 4, /* with more at once, nothing is guessed */
    SPECULATE_SAMPLES = 24,      /* steps of each kind before one is believed */
    SPECULATE_PROBE_EVERY = 16,  /* so often the other kind is tried again */
};

struct speculate_cost {
    double us_per_token;
    int samples;
};

struct speculate {
    struct speculate_cost plain[SPECULATE_SEQUENCES_MAX + 1]; /* by sequences */
    struct speculate_cost guessed[SPECULATE_SEQUENCES_MAX + 1];
    uint32_t asked;
};

/* For a request that makes them so many sequences. */
bool speculate_choose(struct speculate *s, int sequences);
/* A step in which so many sequences decoded, all with guesses or all without, and nothing else was
 * done. */
void speculate_note(struct speculate *s, bool guessed, int sequences, double us_per_token);

#endif
