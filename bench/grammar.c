/*
 * What a grammar costs the thread that runs the model, for one tokenizer and several schemas.
 * Tokens are drawn evenly from those that a mask allows, up to 256 of them a text. Two tables:
 *
 *   first use: each text with a grammar that was compiled just before. The engine's thread asks
 *   whether the mask is quick; if not, it is made on the maker's thread, which also makes masks
 *   ahead. The times are those of the engine's thread alone: the question with the mask, or with
 *   handing the state over; "own" is what of it the thread had the processor. "away" are masks
 *   that came from the other thread, which had them back after so long.
 *
 *   later: all masks that can be made ahead are there.
 */
#include <stdatomic.h>
#include <time.h>

#include "base/buf.h"
#include "worker/grammar/maker.h"

enum { RUNS = 40, TOKENS = 256, SAMPLES_MAX = RUNS * TOKENS };

static const struct {
    const char *name, *schema;
} cases[] = {
    {"json_object", NULL},
    {"flat object",
     "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":"
     "\"integer\",\"minimum\":0,\"maximum\":150},\"email\":{\"type\":\"string\",\"format\":"
     "\"email\"},"
     "\"tags\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},\"score\":{\"type\":\"number\"}"
     ","
     "\"active\":{\"type\":\"boolean\"}},\"required\":[\"name\",\"age\",\"email\",\"tags\","
     "\"score\","
     "\"active\"],\"additionalProperties\":false}"},
    {"lengths",
     "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"minLength\":5,\"maxLength\":40}}"},
    {"wide pattern", "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"pattern\":\"^[^<>]+ "
                     ".*$\",\"maxLength\":80}}"},
    {"recursion", "{\"$ref\":\"#/$defs/"
                  "n\",\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"label\":{\"type\":"
                  "\"string\"},\"children\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/"
                  "n\"}}},\"required\":["
                  "\"label\",\"children\"],\"additionalProperties\":false}}}"},
    {"20 anyOf", "20 objects"},
    {"20 optional", "20 optional"},
    {"100 anyOf", "100 objects"},
    {"100 lengths", "100 lengths"},
    {"100 patterns", "100 patterns"},
    {"60 wide patterns", "60 wide"},
    {"enum of 1,000", "1000 values"},
};

static const struct {
    const char *name, *before, *each, *after;
} kinds[] = {
    {"objects", "{\"items\":{\"anyOf\":[",
     "{\"properties\":{\"type\":{\"const\":\"t%1$d\"},\"f%1$d\":{\"type\":\"string\"}},"
     "\"required\":[\"type\",\"f%1$d\"]}",
     "]}}"},
    {"optional", "{\"properties\":{", "\"p%d\":{}", "}}"},
    {"lengths", "{\"items\":{\"anyOf\":[", "{\"minLength\":%1$d,\"maxLength\":2%1$d}", "]}}"},
    {"patterns", "{\"items\":{\"anyOf\":[", "{\"pattern\":\"^[a-z ]+%d$\"}", "]}}"},
    {"wide", "{\"properties\":{", "\"p%1$d\":{\"pattern\":\"^[^<>]+ .*%1$d$\"}", "}}"},
    {"values", "{\"items\":{\"enum\":[", "\"value number %d\"", "]}}"},
};

/* "20 anyOf": twenty of something, which would be long to write. */
static char *many(const char *what)
{
    char *kind;
    long count = strtol(what, &kind, 10);
    size_t k = 0;
    while (strcmp(kinds[k].name, kind + 1) != 0)
        k++;
    struct buf b;
    buf_init(&b, 1 << 18);
    buf_adds(&b, kinds[k].before);
    for (long i = 0; i < count; i++) {
        buf_adds(&b, i ? "," : "");
        buf_addf(&b, kinds[k].each, (int)i);
    }
    buf_adds(&b, kinds[k].after);
    char *text = strdup(buf_cstr(&b));
    buf_done(&b);
    return text;
}

struct samples {
    float *us;
    size_t count;
};

static uint64_t seed = 88172645463325252u;

static uint64_t random_next(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static double own_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void sample(struct samples *s, double us)
{
    if (s->count < SAMPLES_MAX)
        s->us[s->count++] = (float)us;
}

static int32_t draw(const uint32_t *mask, size_t words)
{
    size_t count = 0;
    for (size_t i = 0; i < words; i++)
        count += (size_t)__builtin_popcount(mask[i]);
    size_t left = random_next() % count;
    for (size_t i = 0;; i++) {
        size_t here = (size_t)__builtin_popcount(mask[i]);
        if (left >= here) {
            left -= here;
            continue;
        }
        for (int b = 0;; b++)
            if (mask[i] >> b & 1 && left-- == 0)
                return (int32_t)(i * 32 + (size_t)b);
    }
}

struct times {
    struct samples mask, accept, late; /* late: from handing over until it is back */
    struct samples own;                /* of mask: the processor's time alone */
    uint64_t away;
};

static struct grammar_vocab *vocab;
static struct grammar_maker *maker;
static atomic_bool woken;
static const char *only; /* the schema to measure; NULL: all */

static bool times_init(struct times *t)
{
    *t = (struct times){.mask.us = malloc(SAMPLES_MAX * sizeof(float)),
                        .accept.us = malloc(SAMPLES_MAX * sizeof(float)),
                        .late.us = malloc(SAMPLES_MAX * sizeof(float)),
                        .own.us = malloc(SAMPLES_MAX * sizeof(float))};
    return t->mask.us && t->accept.us && t->late.us && t->own.us;
}

static void times_done(struct times *t)
{
    free(t->mask.us);
    free(t->accept.us);
    free(t->late.us);
    free(t->own.us);
}

static void wake(void *arg)
{
    atomic_store(&woken, true);
}

/* The mask as the engine's thread comes by it. */
static const uint32_t *next_mask(struct grammar_state *s, struct times *t)
{
    double own = own_us(), start = now_us();
    bool ready = grammar_state_ready(s);
    if (!ready)
        grammar_maker_ask(maker, s);
    double asked = now_us();
    own = own_us() - own;
    while (!ready && !grammar_maker_done(maker, s))
        while (!atomic_exchange(&woken, false))
            ; /* at work on a step */
    double back = now_us();
    const uint32_t *mask = grammar_state_mask(s);
    sample(&t->mask, asked - start + now_us() - back);
    sample(&t->own, own);
    if (!ready)
        sample(&t->late, back - asked);
    t->away += !ready;
    return mask;
}

/* One text. */
static void run(struct grammar *g, struct times *t)
{
    struct grammar_state *s = grammar_state_new(g, vocab);
    for (int i = 0; i < TOKENS; i++) {
        const uint32_t *mask = next_mask(s, t);
        if (grammar_state_is_done(s))
            break;
        int32_t token = draw(mask, grammar_vocab_words(vocab));
        double drawn = now_us();
        if (!grammar_state_accept_allowed(s, token))
            abort();
        sample(&t->accept, now_us() - drawn);
        if (token == 1)
            break;
    }
    grammar_state_free(s);
}

static int by_size(const void *x, const void *y)
{
    float a = *(const float *)x, b = *(const float *)y;
    return a < b ? -1 : a > b;
}

static double at(struct samples *s, double share)
{
    if (!s->count)
        return 0;
    qsort(s->us, s->count, sizeof *s->us, by_size);
    size_t i = (size_t)(share * (double)s->count);
    return s->us[i < s->count ? i : s->count - 1];
}

static void report(const char *name, struct times *t)
{
    printf("| %s | %zu | %.1f | %.1f | %.1f | %.1f | %.1f | %.1f | %llu | %.2f | %.1f | %.2f | "
           "%.1f |\n",
           name, t->mask.count, at(&t->mask, 0.5), at(&t->mask, 0.99), at(&t->mask, 0.999),
           at(&t->mask, 1), at(&t->own, 0.999), at(&t->own, 1), (unsigned long long)t->away,
           at(&t->late, 0.5) / 1e3, at(&t->late, 1) / 1e3, at(&t->accept, 0.5),
           at(&t->accept, 0.999));
}

static struct grammar *compile(const char *name, const char *schema)
{
    struct grammar *g;
    struct error err = {{0}};
    enum status st = schema ? grammar_compile_schema(schema, strlen(schema), false, &g, &err)
                            : grammar_compile_json_object(&g, &err);
    if (st == OK)
        return g;
    fprintf(stderr, "%s: %s\n", name, err.text);
    exit(1);
}

static void measure_first(const char *name, const char *schema)
{
    struct times t;
    if (!times_init(&t))
        exit(1);
    for (int i = 0; i < RUNS; i++) {
        struct grammar *g = compile(name, schema);
        grammar_maker_warm(maker, g);
        run(g, &t);
        grammar_unref(g);
    }
    report(name, &t);
    times_done(&t);
}

static void measure_later(const char *name, const char *schema)
{
    struct times t;
    if (!times_init(&t))
        exit(1);
    double start = now_us();
    struct grammar *g = compile(name, schema);
    double compiled = now_us();
    grammar_warm(g, vocab, 5000000);
    double warm = now_us();
    for (int i = 0; i < RUNS; i++)
        run(g, &t);
    report(name, &t);
    printf("| %s | compiled in %.0f us, masks ahead in %.1f ms, %.2f MB | | | | | | | | | | | |\n",
           name, compiled - start, (warm - compiled) / 1e3, (double)grammar_bytes(g) / 1e6);
    grammar_unref(g);
    times_done(&t);
}

static void measure_all(const char *title, void (*measure)(const char *name, const char *schema))
{
    printf(
        "%s\n\n| schema | masks | mask p50 us | p99 | p99.9 | max | away | back after p50 us | "
        "max | accept p50 us | p99.9 | max |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        title);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *schema = cases[i].schema;
        if (only && strcmp(only, cases[i].name) != 0)
            continue;
        char *made = schema && *schema != '{' ? many(schema) : NULL;
        measure(cases[i].name, made ? made : schema);
        free(made);
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    struct tokenizer *t;
    struct error err;
    const int32_t end = 1;
    if (argc < 2) {
        fprintf(stderr, "usage: bench-grammar DIR [SCHEMA]    (DIR with a tokenizer.json)\n");
        return 2;
    }
    only = argc > 2 ? argv[2] : NULL;
    enum status st = tokenizer_load(argv[1], &t, &err);
    double start = now_us();
    if (st == OK)
        st = grammar_vocab_new(t, &end, 1, &vocab, &err);
    double made = now_us();
    if (st == OK)
        st = grammar_maker_new(vocab, wake, NULL, &maker, &err);
    if (st != OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    printf("%d tokens; their trie and the masks all grammars share: %.0f ms, %.1f MB\n\n",
           tokenizer_vocab_size(t), (made - start) / 1e3, (double)grammar_vocab_bytes(vocab) / 1e6);
    measure_all("First use", measure_first);
    measure_all("Later", measure_later);
    grammar_maker_free(maker);
    grammar_vocab_free(vocab);
    tokenizer_free(t);
    return 0;
}
