/* runs: thread */
/* Masks made on the maker's thread are those that waiting for them gives; states may be dropped at
 * any moment, and their masks may go at any moment. */
#include "worker/grammar/maker.h"

#include <pthread.h>
#include <unistd.h>

#include "tests/unit/check.h"
#include "worker/grammar/private.h"

enum { END = 1, STATES = 12, STEPS = 40 };

static char many[8000]; /* of which as many threads come */

static const char *const schemas[] = {
    many,
    "{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"a\":{\"pattern\":"
    "\"^[^x]+$\"},\"b\":{\"enum\":[\"p\",\"q\",3]}}}}",
    "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\",\"minimum\":-40,"
    "\"maximum\":1234}}",
    "{\"$ref\":\"#/$defs/n\",\"$defs\":{\"n\":{\"anyOf\":[{\"type\":\"string\",\"maxLength\":4},"
    "{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/n\"}},{\"pattern\":\"^(ab|c)*d$\"}]}}}",
};
enum { SCHEMAS = sizeof schemas / sizeof *schemas };

static struct tokenizer *tokenizer;
static struct grammar_vocab *vocab;
static struct grammar *grammars[SCHEMAS];
static uint64_t seed = 77;
static atomic_int wakes;

static uint32_t below(uint32_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % n;
}

static void woken(void *arg)
{
    atomic_fetch_add(&wakes, 1);
}

static int32_t draw(const uint32_t *mask)
{
    int32_t ids = tokenizer_vocab_size(tokenizer), chosen = -1;
    for (int32_t id = 0, seen = 0; id < ids; id++)
        if (mask[id / 32] >> id % 32 & 1 && below((uint32_t)++seen) == 0)
            chosen = id;
    CHECK_FATAL(chosen >= 0);
    return chosen;
}

struct walk {
    struct grammar_state *state, *beside; /* the other one waits for its masks */
    bool asked;
    int steps;
};

static void begin(struct walk *w)
{
    struct grammar *g = grammars[below(SCHEMAS)];
    *w = (struct walk){grammar_state_new(g, vocab), grammar_state_new(g, vocab), false, 0};
    CHECK_FATAL(w->state && w->beside);
}

static void drop(struct grammar_maker *m, struct walk *w)
{
    grammar_maker_drop(m, w->state);
    grammar_state_free(w->beside);
}

/* One token more, if its mask is there. */
static bool advance(struct grammar_maker *m, struct walk *w)
{
    if (w->asked)
        w->asked = !grammar_maker_done(m, w->state);
    else if (!grammar_state_ready(w->state)) {
        w->asked = true;
        grammar_maker_ask(m, w->state);
    }
    if (w->asked)
        return false;
    CHECK(grammar_state_ready(w->state));
    const uint32_t *got = grammar_state_mask(w->state), *want = grammar_state_mask(w->beside);
    CHECK_FATAL(got && want);
    CHECK(memcmp(got, want, grammar_vocab_words(vocab) * sizeof *got) == 0);
    int32_t token = draw(want);
    CHECK(grammar_state_accept_allowed(w->state, token) && grammar_state_accept(w->beside, token));
    w->steps++;
    if (token == END || w->steps == STEPS || grammar_state_is_done(w->beside)) {
        drop(m, w);
        begin(w);
    }
    return true;
}

static void test_walks(struct grammar_maker *m)
{
    struct walk walks[STATES];
    for (int i = 0; i < STATES; i++)
        begin(&walks[i]);
    for (int made = 0; made < 1500;) {
        struct walk *w = &walks[below(STATES)];
        if (below(100) == 0) {
            drop(m, w);
            begin(w);
        }
        if (below(200) == 0)
            grammar_maker_warm(m, grammars[below(SCHEMAS)]);
        if (advance(m, w))
            made++;
        else
            usleep(20);
    }
    for (int i = 0; i < STATES; i++)
        drop(m, &walks[i]);
}

static size_t all_masks(void)
{
    size_t bytes = 0;
    for (int i = 0; i < SCHEMAS; i++)
        bytes += grammar_bytes(grammars[i]) - grammar_automaton_bytes(grammars[i]);
    return bytes;
}

/* With the masks made ahead nothing is asked for, but what is much work. */
static void test_warm(struct grammar_maker *m)
{
    for (int i = 0; i < SCHEMAS; i++)
        grammar_maker_warm(m, grammars[i]);
    for (size_t before = 0, now = 1; before != now; before = now, now = all_masks())
        usleep(100000);
    int asked = 0;
    for (int i = 1; i < SCHEMAS; i++) {
        struct grammar_state *s = grammar_state_new(grammars[i], vocab);
        for (int n = 0; n < 60 && !grammar_state_is_done(s); n++) {
            asked += !grammar_state_ready(s);
            CHECK(grammar_state_accept(s, draw(grammar_state_mask(s))));
        }
        grammar_state_free(s);
    }
    CHECK_INT(asked, 0);
}

static void write_many(void)
{
    size_t len = 0;
    len += (size_t)snprintf(many, sizeof many, "{\"items\":{\"anyOf\":[{\"type\":\"number\"}");
    for (int i = 0; i < 45; i++)
        len +=
            (size_t)snprintf(many + len, sizeof many - len,
                             ",{\"properties\":{\"t\":{\"const\":\"x%d\"}},\"required\":[\"t\"]},"
                             "{\"minLength\":%d,\"maxLength\":%d}",
                             i, i, 3 * i);
    snprintf(many + len, sizeof many - len, "]}}");
}

static void open_all(void)
{
    struct error err;
    for (int i = 0; i < SCHEMAS; i++)
        CHECK_FATAL(grammar_compile_schema(schemas[i], strlen(schemas[i]), false, &grammars[i],
                                           &err) == OK);
}

static void close_all(void)
{
    for (int i = 0; i < SCHEMAS; i++)
        grammar_unref(grammars[i]);
}

int main(void)
{
    struct error err;
    const int32_t end = END;
    struct grammar_maker *m = NULL;
    CHECK_FATAL(tokenizer_load("models/demo", &tokenizer, &err) == OK);
    CHECK_FATAL(grammar_vocab_new(tokenizer, &end, 1, &vocab, &err) == OK);
    CHECK_FATAL(grammar_maker_new(vocab, woken, NULL, &m, &err) == OK);
    write_many();
    open_all();
    test_walks(m);
    CHECK(atomic_load(&wakes) > 0);
    test_warm(m);
    close_all();
    open_all();
    for (int i = 0; i < SCHEMAS; i++)
        grammar_maker_warm(m, grammars[i]);
    close_all(); /* the maker has them still */
    grammar_maker_free(m);
    CHECK_INT(mask_store_bytes(vocab->store), 0);
    grammar_vocab_free(vocab);
    tokenizer_free(tokenizer);
    return check_done();
}
