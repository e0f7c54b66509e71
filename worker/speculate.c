#include "worker/speculate.h"

bool speculate_choose(struct speculate *s, int sequences)
{
    if (sequences < 1 || sequences > SPECULATE_SEQUENCES_MAX)
        return false;
    const struct speculate_cost *plain = &s->plain[sequences], *guessed = &s->guessed[sequences];
    if (guessed->samples < SPECULATE_SAMPLES)
        return true;
    if (plain->samples < SPECULATE_SAMPLES)
        return false;
    bool pays = guessed->us_per_token < plain->us_per_token;
    return ++s->asked % SPECULATE_PROBE_EVERY ? pays : !pays;
}

void speculate_note(struct speculate *s, bool guessed, int sequences, double us_per_token)
{
    if (sequences < 1 || sequences > SPECULATE_SEQUENCES_MAX || us_per_token <= 0)
        return;
    struct speculate_cost *c = guessed ? &s->guessed[sequences] : &s->plain[sequences];
    /* The mean of the first ones, then of about the last SPECULATE_SAMPLES. */
    if (c->samples < SPECULATE_SAMPLES)
        c->samples++;
    c->us_per_token += (us_per_token - c->us_per_token) / c->samples;
}
