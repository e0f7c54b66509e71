/* Grammars when memory runs out: each allocation fails once; nothing is lost, nothing is wrong. */
#include "worker/grammar/state.h"

#include "tests/unit/alloc_fail.h"
#include "tests/unit/check.h"

static const char schema[] =
    "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\",\"minimum\":-5,\"maximum\":"
    "1234},"
    "\"b\":{\"pattern\":\"^[^x]{1,3}(yes|no)\",\"maxLength\":9},\"c\":{\"$ref\":\"#/$defs/list\"},"
    "\"d\":{\"pattern\":\"^(ab)*$\",\"minLength\":3,\"maxLength\":9},"
    "\"e\":{\"enum\":[1,\"two\",[3]]},\"f\":{\"type\":[\"string\",\"null\"],\"format\":\"date\"}},"
    "\"additionalProperties\":{\"type\":\"number\",\"exclusiveMinimum\":0.5},"
    "\"$defs\":{\"list\":{\"type\":\"array\",\"items\":{\"$ref\":\"#\"},\"minItems\":1,"
    "\"maxItems\":3}}}";
static const char text[] =
    "{\"a\":12,\"b\":\"1yes\",\"c\":[{\"a\":-1}],\"d\":\"abab\",\"e\":[3],\"x\":0.75}";

static void test_compile(void)
{
    for (int n = 1;; n++) {
        struct grammar *g = NULL;
        struct error err = {{0}};
        long before = alloc_live;
        alloc_fail_after(n);
        enum status st = grammar_compile_schema(schema, sizeof schema - 1, false, &g, &err);
        bool failed = alloc_failed();
        CHECK(st == OK || (failed && st == NOMEM)); /* qsort can do without */
        CHECK(st == OK || strlen(err.text) > 0);
        grammar_unref(g);
        CHECK_INT(alloc_live, before);
        if (!failed)
            break;
    }
}

static void test_vocab(const struct tokenizer *t)
{
    const int32_t end = 1;
    for (int n = 1, step = 1;; n += step) {
        struct grammar_vocab *v = NULL;
        struct error err;
        long before = alloc_live;
        alloc_fail_after(n);
        enum status st = grammar_vocab_new(t, &end, 1, &v, &err);
        bool failed = alloc_failed();
        CHECK(st == OK || (failed && st == NOMEM)); /* qsort can do without */
        grammar_vocab_free(v);
        CHECK_INT(alloc_live, before);
        step = 1 + n / 40;
        if (!failed)
            break;
    }
}

/* A text, masks and all; false once memory ran out, which the state survives. */
static bool read_text(struct grammar_state *s)
{
    bool ok = true;
    for (size_t i = 0; i < sizeof text - 1;) {
        if (!grammar_state_mask(s))
            ok = false;
        if (grammar_state_accept_bytes(s, text + i, 1))
            i++;
        else if (ok)
            ok = false; /* and the same byte again */
        else
            break;
    }
    return ok;
}

static void test_state(const struct grammar_vocab *v)
{
    for (int n = 1, step = 1;; n += step) {
        struct grammar *g = NULL;
        struct error err;
        CHECK_FATAL(grammar_compile_schema(schema, sizeof schema - 1, false, &g, &err) == OK);
        long before = alloc_live;
        alloc_fail_after(n);
        struct grammar_state *s = grammar_state_new(g, v);
        struct grammar_state *copy = s ? grammar_state_copy(s) : NULL;
        bool ok = copy && read_text(copy);
        bool failed = alloc_failed();
        CHECK(ok || failed);
        if (copy)
            CHECK(grammar_state_is_done(copy));
        grammar_state_free(s);
        grammar_state_free(copy);
        CHECK(alloc_live >= before);
        grammar_unref(g);
        step = 1 + n / 40;
        if (!failed)
            break;
    }
}

int main(void)
{
    struct tokenizer *t;
    struct grammar_vocab *v;
    struct error err;
    const int32_t end = 1;
    CHECK_FATAL(tokenizer_load("models/demo", &t, &err) == OK);
    test_compile();
    test_vocab(t);
    CHECK_FATAL(grammar_vocab_new(t, &end, 1, &v, &err) == OK);
    test_state(v);
    grammar_vocab_free(v);
    tokenizer_free(t);
    return check_done();
}
