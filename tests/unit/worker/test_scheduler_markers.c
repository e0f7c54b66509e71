/*
 * 64 conversations at once, each asked twice to repeat a sentence of its own: none ever says
 * another's, through cancels, requests made again, shared prefixes and too little room; and each
 * says exactly what it says alone.
 */
#include "tests/unit/worker/sched.h"
#include "worker/tokenizer.h"

enum { TURNS = 2, TENANTS = 8, TOKENS = 40 };
#ifdef __SANITIZE_ADDRESS__ /* a step is five times as slow */
enum { TALKS = 32 };
#else
enum { TALKS = 64 };
#endif

#define BOS "<｜begin▁of▁sentence｜>"
#define EOS "<｜end▁of▁sentence｜>"
#define USER "<｜User｜>"
#define ASSISTANT "<｜Assistant｜></think>"

/* All begin alike, so that those of one tenant share blocks. */
#define BEGINNING                                                                                  \
    BOS USER "hello" ASSISTANT "Hello! I am the Tollgate demo model. How can I help you?" EOS USER \
             "What is the capital of France?" ASSISTANT "The capital of France is Paris." EOS

struct talk {
    char marker[TURNS][80];
    char text[2000]; /* so far, the question included */
    char answer[TURNS][400];
    int turn;        /* TURNS: done */
    int64_t running; /* the id of its request; -1: none */
};

static struct talk alone[TALKS], talks[TALKS];
static struct seen seen;
static struct tokenizer *tokenizer;
static int talk_of[SEEN_IDS];
static uint64_t ids;

static void make_talks(struct talk *out)
{
    static const char *const who[] = {"The cat",  "A dog",   "The teacher", "A small bird",
                                      "The girl", "A horse", "The farmer",  "The king"};
    static const char *const does[] = {"sat on", "looked at",  "walked to", "jumped over",
                                       "ran to", "slept near", "waited at", "stood by"};
    static const char *const what[TURNS] = {"the garden at night", "the old bridge today"};
    memset(out, 0, TALKS * sizeof *out);
    for (int i = 0; i < TALKS; i++) {
        for (int t = 0; t < TURNS; t++)
            snprintf(out[i].marker[t], sizeof out[i].marker[t], "%s %s %s.", who[i % 8],
                     does[i / 8], what[t]);
        snprintf(out[i].text, sizeof out[i].text, BEGINNING USER "Repeat after me: %s" ASSISTANT,
                 out[i].marker[0]);
        out[i].running = -1;
    }
}

static void ask(struct scheduler *s, struct talk *t, int number, bool shares)
{
    char tenant[2] = {(char)('A' + number % TENANTS), 0};
    struct token_list prompt;
    CHECK_FATAL(ids < SEEN_IDS);
    token_list_init(&prompt, 2048);
    CHECK_FATAL(tokenizer_encode(tokenizer, t->text, strlen(t->text), true, &prompt) == OK);
    struct sched_request r = {.id = ids,
                              .prompt = prompt.ids,
                              .prompt_count = (uint32_t)prompt.count,
                              .max_tokens = TOKENS,
                              .sampling = {.top_p = 1},
                              .tenant = tenant,
                              .cache_salt = (const uint8_t *)tenant,
                              .cache_salt_len = shares};
    memset(&seen.of[ids], 0, sizeof seen.of[ids]);
    sched_submit(s, &r);
    token_list_done(&prompt);
    talk_of[ids] = number;
    t->running = (int64_t)ids++;
}

/* The answer up to the end of the sentence; the tokens after it are nobody's business. */
static void read_answer(struct talk *t)
{
    const struct seen_choice *c = &seen.of[t->running].choice[0];
    char *out = t->answer[t->turn];
    size_t len = 0;
    for (int i = 0; i < c->count && c->ids[i] != 1; i++) {
        size_t n;
        const uint8_t *bytes = tokenizer_bytes(tokenizer, c->ids[i], &n);
        CHECK_FATAL(bytes && len + n < sizeof t->answer[0]);
        memcpy(out + len, bytes, n);
        len += n;
    }
    out[len] = 0;
}

static void next_turn(struct talk *t)
{
    read_answer(t);
    size_t len = strlen(t->text);
    snprintf(t->text + len, sizeof t->text - len, "%s" EOS USER "Repeat this: %s" ASSISTANT,
             t->answer[t->turn], t->marker[1]);
    t->turn++;
    t->running = -1;
}

static void talk_alone(struct model *m)
{
    struct scheduler *s = sched_open(m, &seen, &(struct sched_sizes){1, 256, 20, SPECULATE_OFF, 0});
    make_talks(alone);
    for (int i = 0; i < TALKS; i++)
        while (alone[i].turn < TURNS) {
            ids = 0;
            ask(s, &alone[i], i, false);
            sched_finish(s);
            next_turn(&alone[i]);
        }
    sched_close(s);
}

static bool ended(const struct talk *t)
{
    return t->running >= 0 && seen.of[t->running].choice[0].ended;
}

/* One turn of the test: a cancel now and then, and whoever has an answer asks on. */
static int advance(struct scheduler *s, uint64_t *state)
{
    int open = 0;
    if (ids < SEEN_IDS - TALKS && sched_draw(state, 3) == 0) {
        struct talk *t = &talks[sched_draw(state, TALKS)];
        if (t->running >= 0 && t->turn < TURNS)
            scheduler_cancel(s, (uint64_t)t->running);
    }
    scheduler_step(s);
    for (int i = 0; i < TALKS; i++) {
        struct talk *t = &talks[i];
        if (ended(t) && seen.of[t->running].choice[0].how == SCHED_CANCELLED)
            t->running = -1; /* asks again */
        else if (ended(t))
            next_turn(t);
        if (t->turn < TURNS && t->running < 0 && sched_draw(state, 3) == 0)
            ask(s, t, i, true);
        open += t->turn < TURNS;
    }
    return open;
}

static void check_answers(void)
{
    for (int i = 0; i < TALKS; i++)
        for (int t = 0; t < TURNS; t++) {
            CHECK_STR(talks[i].answer[t], alone[i].answer[t]);
            CHECK_STR(talks[i].answer[t], talks[i].marker[t]);
            for (int j = 0; j < TALKS; j++)
                CHECK(j == i || !strstr(talks[i].answer[t], talks[j].marker[t]));
        }
}

static void talk_together(struct model *m)
{
    struct scheduler *s =
        sched_open(m, &seen, &(struct sched_sizes){24, 96, 150, SPECULATE_OFF, 0});
    uint64_t state = 7, cached = 0, cancelled = 0;
    make_talks(talks);
    ids = 0;
    for (int turn = 0; advance(s, &state) && turn < 100000; turn++)
        ;
    sched_close(s);
    for (uint64_t i = 0; i < ids; i++) {
        cached += seen.of[i].cached > 0;
        cancelled += seen.of[i].choice[0].how == SCHED_CANCELLED;
    }
    CHECK(cached > TALKS && cancelled > TALKS / 4);
    check_answers();
}

int main(void)
{
    struct model_options options = {.threads = 1, .deterministic = true};
    struct error err = {""};
    struct model *m = golden_model("models/demo", &options);
    CHECK_FATAL(tokenizer_load("models/demo", &tokenizer, &err) == OK);
    talk_alone(m);
    talk_together(m);
    tokenizer_free(tokenizer);
    model_free(m);
    return check_done();
}
