#include "worker/delta.h"

#include "tests/unit/check.h"

static void add(struct delta *d, uint32_t index, const char *id, const char *name, const char *args)
{
    CHECK_INT(delta_add_call(d, &(struct delta_call){index, id, name, args}), OK);
}

/* index:id:name:arguments of each record, in order. */
static const char *calls_of(const struct delta_view *v)
{
    static char text[4096];
    size_t used = 0;
    struct delta_call c;
    text[0] = 0;
    for (size_t at = 0; delta_next_call(v, &at, &c);)
        used += (size_t)snprintf(text + used, sizeof text - used, "%u:%s:%s:%s;", c.index, c.id,
                                 c.name, c.arguments);
    return text;
}

static void test_calls(void)
{
    struct delta d;
    struct delta_view v;
    delta_init(&d, 4096);
    delta_see(&d, &v);
    CHECK(delta_is_empty(&v));
    add(&d, 0, "id0", "get", "");
    add(&d, 0, "", "", "{\"a\"");
    add(&d, 0, "", "", ":1}");
    add(&d, 1, "id1", "put", "{}");
    add(&d, 1, "", "", "");
    add(&d, 0, "", "", "x");
    delta_see(&d, &v);
    CHECK_STR(calls_of(&v), "0:id0:get:{\"a\":1};1:id1:put:{};0:::x;");
    CHECK_INT(delta_text_bytes(&v), 3 + 3 + 7 + 3 + 3 + 2 + 1);
    CHECK(!delta_is_empty(&v));
    delta_clear(&d);
    add(&d, 0, "", "", "tail");
    delta_see(&d, &v);
    CHECK_STR(calls_of(&v), "0:::tail;");
    delta_done(&d);
}

/* What two deltas made is the same when they are merged, wherever the cut was. */
static void test_merge(void)
{
    static const char text[] = "{\"city\": \"Paris\"}";
    for (size_t cut = 0; cut < sizeof text; cut++) {
        struct delta a, b;
        struct delta_view v;
        delta_init(&a, 4096);
        delta_init(&b, 4096);
        add(&a, 0, "id", "get", "");
        for (size_t i = 0; i + 1 < sizeof text; i++)
            add(i < cut ? &a : &b, 0, "", "", (char[]){text[i], 0});
        CHECK_INT(buf_adds(&a.parts[DELTA_CONTENT], "one"), OK);
        CHECK_INT(buf_adds(&b.parts[DELTA_CONTENT], "two"), OK);
        b.end = JOB_TOOL_CALLS;
        delta_see(&b, &v);
        CHECK_INT(delta_merge(&a, &v), OK);
        delta_see(&a, &v);
        CHECK_STR(calls_of(&v), "0:id:get:{\"city\": \"Paris\"};");
        CHECK_INT(v.len[DELTA_CONTENT], 6);
        CHECK_INT(v.end, JOB_TOOL_CALLS);
        delta_done(&a);
        delta_done(&b);
    }
}

static void test_logprobs(void)
{
    struct delta d, into;
    struct delta_view v;
    delta_init(&d, 4096);
    delta_init(&into, 4096);
    struct delta_logprob l = {.token = {(const uint8_t *)"\xe4\0x", 3, -0.5f}, .top_count = 2};
    l.top[0] = l.token;
    l.top[1] = (struct delta_candidate){(const uint8_t *)"", 0, -2};
    for (int i = 0; i < 3; i++)
        CHECK_INT(delta_add_logprob(&d, &l), OK);
    delta_see(&d, &v);
    CHECK_INT(delta_text_bytes(&v), 0);
    CHECK_INT(delta_merge(&into, &v), OK);
    CHECK_INT(delta_merge(&into, &v), OK);
    delta_see(&into, &v);
    struct delta_logprob out;
    int n = 0;
    for (size_t at = 0; delta_next_logprob(&v, &at, &out); n++) {
        CHECK(out.token.len == 3 && memcmp(out.token.bytes, "\xe4\0x", 3) == 0);
        CHECK(out.top_count == 2 && out.top[1].len == 0 && out.top[1].logprob == -2);
    }
    CHECK_INT(n, 6);
    delta_done(&d);
    delta_done(&into);
}

/* Past its cap nothing is added, and what was there still reads. */
static void test_full(void)
{
    struct delta d;
    struct delta_view v;
    delta_init(&d, 64);
    add(&d, 0, "id", "get", "");
    int added = 0;
    while (delta_add_call(&d, &(struct delta_call){0, "", "", "12345"}) == OK)
        added++;
    CHECK_INT(delta_add_call(&d, &(struct delta_call){1, "next", "n", ""}), LIMITED);
    delta_see(&d, &v);
    struct delta_call c;
    size_t at = 0;
    CHECK(delta_next_call(&v, &at, &c));
    CHECK_INT(strlen(c.arguments), 5 * added);
    CHECK(!delta_next_call(&v, &at, &c));
    delta_done(&d);
}

int main(void)
{
    test_calls();
    test_merge();
    test_logprobs();
    test_full();
    return check_done();
}
