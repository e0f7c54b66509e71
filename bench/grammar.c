/*
 * Time of a token mask and of accepting a token, for one tokenizer and several schemas. Tokens are
 * drawn evenly from those that a mask allows; past 256 tokens the shortest way to the end is taken.
 * "first" is each grammar's first run, when masks of its nodes are made as they are needed;
 * "steady" are later runs of the same grammar.
 */
#include <time.h>

#include "base/buf.h"
#include "worker/grammar/state.h"

enum { RUNS = 40, TOKENS = 256, SAMPLES_MAX = RUNS * (TOKENS + 4096) };

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
    {"20 anyOf", "anyOf"},
    {"20 optional", "optional"},
};

/* Twenty of something, which would be long to write. */
static char *many(const char *kind)
{
    struct buf b;
    buf_init(&b, 1 << 16);
    bool any = strcmp(kind, "anyOf") == 0;
    buf_adds(&b, any ? "{\"items\":{\"anyOf\":[" : "{\"properties\":{");
    for (int i = 0; i < 20; i++) {
        buf_adds(&b, i ? "," : "");
        if (any)
            buf_addf(&b,
                     "{\"properties\":{\"type\":{\"const\":\"%c\"},\"%c\":{\"type\":\"string\"}},"
                     "\"required\":[\"type\",\"%c\"]}",
                     'a' + i, 'a' + i, 'a' + i);
        else
            buf_addf(&b, "\"p%d\":{}", i);
    }
    buf_adds(&b, any ? "]}}" : "}}");
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

/* One text. false: out of memory. */
static bool run(struct grammar *g, const struct grammar_vocab *v, struct samples *mask_us,
                struct samples *accept_us)
{
    struct grammar_state *s = grammar_state_new(g, v);
    for (int i = 0; s && i < TOKENS && !grammar_state_is_done(s); i++) {
        double start = now_us();
        const uint32_t *mask = grammar_state_mask(s);
        double masked = now_us();
        if (!mask)
            return false;
        int32_t token = draw(mask, grammar_vocab_words(v));
        double drawn = now_us();
        if (!grammar_state_accept(s, token))
            abort();
        sample(mask_us, masked - start);
        sample(accept_us, now_us() - drawn);
        if (token == 1)
            break;
    }
    grammar_state_free(s);
    return s != NULL;
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

static void report(const char *name, const char *what, struct samples *mask, struct samples *accept)
{
    printf("| %s | %s | %zu | %.1f | %.1f | %.1f | %.1f | %.2f | %.1f |\n", name, what, mask->count,
           at(mask, 0.5), at(mask, 0.99), at(mask, 0.999), at(mask, 1), at(accept, 0.5),
           at(accept, 1));
}

static void measure(const char *name, const char *schema, const struct grammar_vocab *v)
{
    struct samples mask = {malloc(SAMPLES_MAX * sizeof(float)), 0};
    struct samples accept = {malloc(SAMPLES_MAX * sizeof(float)), 0};
    struct grammar *g;
    struct error err = {{0}};
    double start = now_us();
    enum status st = schema ? grammar_compile_schema(schema, strlen(schema), false, &g, &err)
                            : grammar_compile_json_object(&g, &err);
    double compiled = now_us();
    if (st != OK || !mask.us || !accept.us) {
        fprintf(stderr, "%s: %s\n", name, err.text);
        exit(1);
    }
    run(g, v, &mask, &accept);
    report(name, "first", &mask, &accept);
    grammar_warm(g, v, 1000000);
    mask.count = accept.count = 0;
    for (int i = 0; i < RUNS; i++)
        run(g, v, &mask, &accept);
    report(name, "steady", &mask, &accept);
    double warm = now_us();
    struct grammar *again;
    st = schema ? grammar_compile_schema(schema, strlen(schema), false, &again, &err)
                : grammar_compile_json_object(&again, &err);
    if (st == OK)
        grammar_warm(again, v, 1000000);
    printf("| %s | compiled in %.0f us, all masks in %.1f ms, %.2f MB | | | | | | | |\n", name,
           compiled - start, (now_us() - warm) / 1e3, (double)grammar_bytes(again) / 1e6);
    grammar_unref(again);
    grammar_unref(g);
    free(mask.us);
    free(accept.us);
}

int main(int argc, char **argv)
{
    struct tokenizer *t;
    struct grammar_vocab *v;
    struct error err;
    const int32_t end = 1;
    if (argc != 2) {
        fprintf(stderr, "usage: bench-grammar DIR    (with a tokenizer.json)\n");
        return 2;
    }
    if (tokenizer_load(argv[1], &t, &err) != OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    double start = now_us();
    if (grammar_vocab_new(t, &end, 1, &v, &err) != OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    printf("%d tokens; their trie and the masks all grammars share: %.0f ms, %.1f MB\n\n",
           tokenizer_vocab_size(t), (now_us() - start) / 1e3, (double)grammar_vocab_bytes(v) / 1e6);
    printf("| schema | run | masks | mask p50 us | p99 | p99.9 | max | accept p50 us | max |\n");
    printf("|---|---|---|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *schema = cases[i].schema;
        char *made = schema && *schema != '{' ? many(schema) : NULL;
        measure(cases[i].name, made ? made : schema, v);
        free(made);
    }
    grammar_vocab_free(v);
    tokenizer_free(t);
    return 0;
}
