/* runs: thread */
/*
 * Whatever tokens are drawn under the masks, the answer is what its request asked for: walks
 * through the masks of every form of calls, on a tokenizer of bytes, read by the same code that
 * reads a model's answers.
 */
#include "worker/constraint.h"

#include "base/json.h"
#include "tests/unit/worker/text_fixture.h"
#include "worker/textout.h"
#include "worker/tokenizer_private.h"

enum { THINK = 300, THINK_END, END, PAD, CALLS, CALL, SEP, CALL_END, CALLS_END, VOCAB = 320 };

static struct tokenizer *tokenizer;

static const struct tool tools[] = {
    {"get", "",
     "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\",\"minimum\":1,"
     "\"maximum\":99}},\"required\":[\"n\"],\"additionalProperties\":false}",
     true},
    {"get_it", "", "", false},
    {"put", "",
     "{\"type\":\"object\",\"properties\":{\"s\":{\"enum\":[\"a\",\"b\"]}},"
     "\"required\":[\"s\"]}",
     false},
};

static struct chat_markers markers_of(enum tool_form form)
{
    bool deepseek = form == TOOLS_DEEPSEEK || form == TOOLS_DEEPSEEK_31;
    bool marks = form != TOOLS_LLAMA && form != TOOLS_MISTRAL;
    return (struct chat_markers){.think_begin = THINK,
                                 .think_end = THINK_END,
                                 .stop_ids = {END},
                                 .stop_count = 1,
                                 .opens_thinking = true,
                                 .tools = form,
                                 .calls_begin = deepseek || form == TOOLS_MISTRAL ? CALLS : -1,
                                 .calls_end = deepseek ? CALLS_END : -1,
                                 .call_begin = marks ? CALL : -1,
                                 .call_end = marks ? CALL_END : -1,
                                 .call_sep = deepseek ? SEP : -1};
}

static uint32_t seed = 11;
static uint32_t next_random(uint32_t below)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % below;
}

/* A token that the mask allows; the end, where it is allowed, one time in four, and what ends a
 * reasoning one time in 64. */
static int32_t draw(const uint32_t *mask)
{
    int32_t allowed[VOCAB];
    uint32_t n = 0;
    for (int32_t id = 0; id < VOCAB; id++) {
        bool known = id < 261 || (id >= THINK && id <= CALLS_END);
        if (known && (!mask || (mask[id / 32] >> (id % 32) & 1)))
            allowed[n++] = id;
    }
    CHECK_FATAL(n > 0);
    bool ends_thought = !mask || (mask[THINK_END / 32] >> (THINK_END % 32) & 1);
    if (ends_thought && next_random(64) == 0)
        return THINK_END;
    bool end = !mask || (mask[END / 32] >> (END % 32) & 1);
    return end && next_random(4) == 0 ? END : allowed[next_random(n)];
}

struct walk {
    struct textout *text;
    struct constraint *constraint;
    struct delta made;
    struct plan *plan;
    bool stopped;
};

static void walk_begin(struct walk *w, struct planner *p, const struct chat_markers *m,
                       const struct job *job)
{
    struct job_fault fault = {.param = ""};
    struct textout_options o = {.tokenizer = tokenizer,
                                .markers = m,
                                .tools = job->tools,
                                .tool_count = job->tool_choice == TOOL_NEVER ? 0 : job->tool_count,
                                .one_call = job->one_call};
    *w = (struct walk){.text = textout_new(&o)};
    delta_init(&w->made, 1 << 20);
    CHECK_INT(planner_plan(p, job, false, &w->plan, &fault), OK);
    CHECK_STR(fault.error.text, "");
    CHECK_FATAL(w->text && w->plan);
    w->constraint = constraint_new(w->plan);
    CHECK_FATAL(w->constraint);
}

static void walk_push(struct walk *w, int32_t token)
{
    struct textout_said said;
    CHECK_INT(constraint_accept(w->constraint, token), OK);
    CHECK_INT(textout_push(w->text, token, &w->made, &said), OK);
    w->stopped = said.stopped;
}

static void walk_draw(struct walk *w)
{
    const uint32_t *mask = NULL;
    CHECK_INT(constraint_mask(w->constraint, &mask), OK);
    walk_push(w, draw(mask));
}

static void walk_done(struct walk *w)
{
    constraint_free(w->constraint);
    textout_free(w->text);
    plan_free(w->plan);
    delta_done(&w->made);
}

static void check_call(const struct delta_call *c)
{
    struct json *v = NULL;
    int64_t n;
    CHECK_INT(json_parse(c->arguments, strlen(c->arguments), NULL, &v, NULL), OK);
    if (strcmp(c->name, "get") == 0) {
        CHECK(json_int(json_get(v, "n"), 1, 99, &n) && json_count(v) == 1);
    } else if (strcmp(c->name, "get_it") == 0) {
        CHECK_STR(c->arguments, "{}");
    } else {
        const char *s = json_string(json_get(v, "s"));
        CHECK_STR(c->name, "put");
        CHECK(s && (strcmp(s, "a") == 0 || strcmp(s, "b") == 0));
    }
    json_free(v);
}

static int check_calls(struct walk *w)
{
    struct delta_view v;
    struct delta_call c;
    int n = 0;
    delta_see(&w->made, &v);
    for (size_t at = 0; delta_next_call(&v, &at, &c); n++)
        check_call(&c);
    CHECK_INT(n, textout_calls(w->text));
    return n;
}

/* To the answer's end. */
static void walk_on(struct walk *w)
{
    for (int i = 0; i < 3000 && !w->stopped; i++)
        walk_draw(w);
    CHECK(w->stopped);
}

static void test_required(struct planner *p, const struct chat_markers *m)
{
    struct job job = {.tools = tools,
                      .tool_count = 3,
                      .tool_name = "",
                      .schema = "",
                      .tool_choice = TOOL_REQUIRED};
    int several = 0;
    for (int i = 0; i < 60; i++) {
        struct walk w;
        job.thinking = i % 3 == 0;
        job.one_call = i % 2 == 0;
        job.tool_choice = i % 5 == 0 ? TOOL_NAMED : TOOL_REQUIRED;
        job.tool_name = "put";
        walk_begin(&w, p, m, &job);
        walk_on(&w);
        int n = check_calls(&w);
        CHECK(n >= 1 && (n == 1 || !job.one_call));
        CHECK_INT(buf_len(&w.made.parts[DELTA_CONTENT]), 0);
        several += n > 1;
        walk_done(&w);
    }
    CHECK(several > 0 || m->tools == TOOLS_LLAMA);
}

/* Once a call is opened, it is held to the tools; before that, anything goes. */
static void test_auto(struct planner *p, const struct chat_markers *m)
{
    static const char llama[] = "{\"name\": \"";
    struct job job = {.tools = tools, .tool_count = 3, .tool_name = "", .schema = ""};
    for (int i = 0; i < 30; i++) {
        struct walk w;
        const uint32_t *mask = NULL;
        walk_begin(&w, p, m, &job);
        CHECK_INT(constraint_mask(w.constraint, &mask), OK);
        CHECK(mask == NULL);
        if (m->tools == TOOLS_LLAMA) {
            for (const char *at = llama; *at; at++)
                walk_push(&w, (unsigned char)*at);
        } else {
            walk_push(&w, 'a');
            walk_push(&w, m->calls_begin >= 0 ? CALLS : CALL);
        }
        walk_on(&w);
        CHECK(check_calls(&w) >= 1);
        CHECK_STR(buf_cstr(&w.made.parts[DELTA_CONTENT]), m->tools == TOOLS_LLAMA ? "" : "a");
        walk_done(&w);
    }
}

static void test_never(struct planner *p, const struct chat_markers *m)
{
    struct job job = {
        .tools = tools, .tool_count = 3, .tool_name = "", .schema = "", .tool_choice = TOOL_NEVER};
    for (int i = 0; i < 20; i++) {
        struct walk w;
        walk_begin(&w, p, m, &job);
        for (int k = 0; k < 200 && !w.stopped; k++) {
            const uint32_t *mask = NULL;
            CHECK_INT(constraint_mask(w.constraint, &mask), OK);
            int32_t opens = m->calls_begin >= 0 ? m->calls_begin : m->call_begin;
            CHECK(opens < 0 || !(mask[opens / 32] >> (opens % 32) & 1));
            walk_push(&w, draw(mask));
        }
        CHECK_INT(textout_calls(w.text), 0);
        walk_done(&w);
    }
}

/* The content is the format's, or a call is made. */
static void test_format(struct planner *p, const struct chat_markers *m)
{
    struct job job = {.tool_name = "",
                      .format = FORMAT_JSON_SCHEMA,
                      .tools = tools,
                      .schema = "{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},"
                                "\"minItems\":2,\"maxItems\":3}"};
    int calls = 0;
    for (int i = 0; i < 60; i++) {
        struct walk w;
        job.thinking = i % 2;
        job.tool_count = i % 3 ? 3 : 0;
        walk_begin(&w, p, m, &job);
        walk_on(&w);
        const char *content = buf_cstr(&w.made.parts[DELTA_CONTENT]);
        if (check_calls(&w) == 0) {
            struct json *v = NULL;
            CHECK_INT(json_parse(content, strlen(content), NULL, &v, NULL), OK);
            CHECK(json_is_array(v) && json_count(v) >= 2 && json_count(v) <= 3);
            json_free(v);
        } else {
            CHECK_STR(content, "");
            CHECK(job.tool_count > 0);
            calls++;
        }
        walk_done(&w);
    }
    CHECK(calls > 0 || m->tools == TOOLS_LLAMA);
}

static void test_cache(struct planner *p)
{
    struct job job = {.tool_name = "", .format = FORMAT_JSON_OBJECT, .schema = ""};
    struct plan *a, *b;
    struct job_fault fault;
    CHECK_INT(planner_plan(p, &job, false, &a, &fault), OK);
    CHECK_INT(planner_plan(p, &job, false, &b, &fault), OK);
    CHECK(a->format == b->format);
    plan_free(a);
    job.format = FORMAT_JSON_SCHEMA;
    for (int i = 0; i < 600; i++) { /* more than are kept */
        char schema[64];
        snprintf(schema, sizeof schema, "{\"const\": %d}", i);
        job.schema = schema;
        CHECK_INT(planner_plan(p, &job, false, &a, &fault), OK);
        plan_free(a);
    }
    CHECK_INT(grammar_bytes(b->format) > 0, 1); /* b's is still there */
    plan_free(b);
    job.format = FORMAT_TEXT;
    CHECK_INT(planner_plan(p, &job, false, &a, &fault), OK);
    CHECK(a == NULL);
}

/* Qwen3-Coder's strings are bare text, whatever it is, up to the mark behind it. */
static void test_coder_texts(struct planner *p, const struct chat_markers *m)
{
    static const struct tool write = {
        "w", "",
        "{\"properties\":{\"s\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\"},"
        "\"m\":{\"type\":[\"string\",\"null\"]},\"o\":{\"$ref\":\"#/$defs/o\"}},"
        "\"required\":[\"s\",\"m\",\"o\"],\"$defs\":{\"o\":{\"type\":\"object\",\"properties\":"
        "{\"k\":{\"type\":\"boolean\"}},\"required\":[\"k\"]}}}",
        false};
    static const char script[] =
        "\n<function=w>\n<parameter=s>\nif a < "
        "b:\t\"\xc3\xbc\"</parameter>\n\n</parameter\n\n</parameter>\n"
        "<parameter=m>\nnull\n</parameter>\n<parameter=o>\n{\"k\": true}\n</parameter>\n"
        "</function>\n";
    struct job job = {.tools = &write,
                      .tool_count = 1,
                      .tool_name = "",
                      .schema = "",
                      .tool_choice = TOOL_REQUIRED};
    struct walk w;
    const uint32_t *mask = NULL;
    walk_begin(&w, p, m, &job);
    walk_push(&w, CALL);
    for (const char *at = script; *at; at++) {
        int32_t byte = (unsigned char)*at;
        CHECK_INT(constraint_mask(w.constraint, &mask), OK);
        CHECK(mask[byte / 32] >> (byte % 32) & 1);
        bool behind = at - script > 13 && memcmp(at - 13, "\n</parameter>", 13) == 0;
        CHECK_INT(!(mask['x' / 32] >> ('x' % 32) & 1) || !behind, 1);
        walk_push(&w, byte);
    }
    CHECK_INT(constraint_mask(w.constraint, &mask), OK);
    CHECK(mask[CALL_END / 32] >> (CALL_END % 32) & 1);
    walk_push(&w, CALL_END);
    walk_push(&w, END);
    struct delta_view v;
    struct delta_call c;
    struct buf arguments;
    buf_init(&arguments, 1000);
    delta_see(&w.made, &v);
    for (size_t at = 0; delta_next_call(&v, &at, &c);)
        CHECK_INT(buf_adds(&arguments, c.arguments), OK);
    CHECK_STR(
        buf_cstr(&arguments),
        "{\"s\": \"if a < b:\\t\\\"\xc3\xbc\\\"</parameter>\\n\\n</parameter\\n\", \"m\": null, "
        "\"o\": {\"k\": true}}");
    buf_done(&arguments);
    walk_done(&w);
}

/* What a text cannot be held to is refused when it is strict, and let be otherwise. */
static void test_coder_refused(struct planner *p)
{
    static const struct {
        const char *schema, *place;
    } refused[] = {
        {"{\"type\":\"string\",\"pattern\":\"^a$\"}", "s.pattern"},
        {"{\"type\":[\"string\",\"integer\"]}", "s"},
        {"{\"enum\":[\"a\\n</parameter>\"]}", "s.enum"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        char schema[200], place[100];
        snprintf(schema, sizeof schema,
                 "{\"type\":\"object\",\"properties\":{\"s\":%s},\"required\":[\"s\"],"
                 "\"additionalProperties\":false}",
                 refused[i].schema);
        snprintf(place, sizeof place, "tools[0].function.parameters.properties.%s",
                 refused[i].place);
        struct tool t = {"f", "", schema, true};
        struct job job = {.tools = &t, .tool_count = 1, .tool_name = "", .schema = ""};
        struct plan *plan = NULL;
        struct job_fault fault = {.param = ""};
        CHECK_INT(planner_plan(p, &job, false, &plan, &fault), INVALID);
        CHECK_STR(fault.param, place);
        t.strict = false;
        CHECK_INT(planner_plan(p, &job, false, &plan, &fault), i < 2 ? OK : INVALID);
        plan_free(plan);
    }
}

int main(void)
{
    static const enum tool_form forms[] = {TOOLS_DEEPSEEK,   TOOLS_DEEPSEEK_31, TOOLS_QWEN,
                                           TOOLS_QWEN_CODER, TOOLS_MISTRAL,     TOOLS_LLAMA};
    struct buf text;
    struct error err = {0};
    fixture_tokenizer(&text);
    CHECK_FATAL(tokenizer_parse((const char *)buf_head(&text), buf_len(&text), &tokenizer, &err) ==
                OK);
    buf_done(&text);
    for (int i = 0; i < 6; i++) {
        struct chat_markers m = markers_of(forms[i]);
        struct planner *p = NULL;
        struct planner_options o = {.tokenizer = tokenizer, .markers = &m, .vocab = VOCAB};
        CHECK_INT(planner_new(&o, &p, &err), OK);
        CHECK_STR(err.text, "");
        test_required(p, &m);
        test_auto(p, &m);
        test_never(p, &m);
        test_format(p, &m);
        test_cache(p);
        if (forms[i] == TOOLS_QWEN_CODER) {
            test_coder_texts(p, &m);
            test_coder_refused(p);
        }
        planner_free(p);
    }
    tokenizer_free(tokenizer);
    return check_done();
}
