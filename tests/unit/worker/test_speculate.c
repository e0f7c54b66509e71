#include "worker/speculate.h"

#include "tests/unit/check.h"

static void feed(struct speculate *s, bool guessed, int sequences, double us, int times)
{
    for (int i = 0; i < times; i++)
        speculate_note(s, guessed, sequences, us);
}

static int chosen(struct speculate *s, int sequences, int of)
{
    int count = 0;
    for (int i = 0; i < of; i++)
        count += speculate_choose(s, sequences);
    return count;
}

/* First it guesses, then it does not, then it knows; and tries the other now and then. */
static void test_learns(void)
{
    struct speculate s = {0};
    CHECK_INT(chosen(&s, 1, 10), 10);
    feed(&s, true, 1, 70, SPECULATE_SAMPLES);
    CHECK_INT(chosen(&s, 1, 10), 0);
    feed(&s, false, 1, 100, SPECULATE_SAMPLES);
    CHECK_INT(chosen(&s, 1, 10 * SPECULATE_PROBE_EVERY), 10 * SPECULATE_PROBE_EVERY - 10);
    feed(&s, true, 1, 130, 10 * SPECULATE_SAMPLES); /* guesses have become bad */
    CHECK_INT(chosen(&s, 1, 10 * SPECULATE_PROBE_EVERY), 10);
    feed(&s, true, 1, 70, 10 * SPECULATE_SAMPLES);
    CHECK_INT(chosen(&s, 1, 10 * SPECULATE_PROBE_EVERY), 10 * SPECULATE_PROBE_EVERY - 10);
}

/* Each number of sequences for itself; none past the most. */
static void test_by_sequences(void)
{
    struct speculate s = {0};
    feed(&s, true, 1, 50, 100);
    feed(&s, false, 1, 100, 100);
    feed(&s, true, 3, 200, 100);
    feed(&s, false, 3, 100, 100);
    CHECK(speculate_choose(&s, 1));
    CHECK(speculate_choose(&s, 2));
    CHECK(!speculate_choose(&s, 3));
    CHECK(!speculate_choose(&s, 0));
    CHECK(!speculate_choose(&s, SPECULATE_SEQUENCES_MAX + 1));
    feed(&s, true, SPECULATE_SEQUENCES_MAX + 1, 1, 100);
    CHECK(!speculate_choose(&s, SPECULATE_SEQUENCES_MAX + 1));
    struct speculate no_time = {0}; /* a clock that stands still says nothing */
    feed(&no_time, true, 1, 0, 100);
    CHECK(speculate_choose(&no_time, 1));
}

int main(void)
{
    test_learns();
    test_by_sequences();
    return check_done();
}
