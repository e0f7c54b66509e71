/* What the demo model is held to: tool calls, JSON, schemas, completions; through the server. */
#include "base/json.h"
#include "tests/unit/worker/demo_rig.h"

/* A request in the protocol's own words. */
struct ask {
    Wire__Request m;
    Wire__Tool weather, time, *tools[2];
    Wire__ToolChoice choice;
    Wire__Format format;
    Wire__Sampling sampling;
};

static void ask_init(struct ask *a)
{
    static const char city[] = "{\"type\": \"object\", \"properties\": {\"city\": {\"type\": "
                               "\"string\"}}, \"required\": [\"city\"]}";
    wire__request__init(&a->m);
    wire__tool__init(&a->weather);
    wire__tool__init(&a->time);
    wire__tool_choice__init(&a->choice);
    wire__format__init(&a->format);
    wire__sampling__init(&a->sampling);
    a->weather.name = (char *)"get_weather";
    a->weather.description = (char *)"Get the weather for a city.";
    a->time.name = (char *)"get_time";
    a->time.description = (char *)"Get the current time in a city.";
    a->weather.parameters = a->time.parameters = (char *)city;
    a->tools[0] = &a->weather;
    a->tools[1] = &a->time;
    a->m.tools = a->tools;
    a->m.tool_choice = &a->choice;
    a->m.format = &a->format;
    a->sampling.top_p = 1;
    a->m.sampling = &a->sampling;
}

static void hear(struct wire_client *c, const struct ask *a, const char *text, uint32_t tokens,
                 struct heard *h)
{
    struct wire_client_request q = demo_ask(1, text, tokens);
    q.with = &a->m;
    q.thinking = a->m.thinking;
    wire_client_request(c, &q);
    hear_stream(c, 1, h);
    if (h->error >= 0)
        fprintf(stderr, "%s\n", h->message);
}

static void test_auto_call(struct wire_client *c)
{
    for (int thinking = 0; thinking < 2; thinking++) {
        struct ask a;
        struct heard h;
        ask_init(&a);
        a.m.n_tools = 2;
        a.m.thinking = thinking;
        hear(c, &a, "What is the weather in Paris?", 0, &h);
        CHECK_INT(h.reason, WIRE__FINISH_REASON__TOOL_CALLS);
        CHECK_INT(h.choices[0].finish, WIRE__FINISH_REASON__TOOL_CALLS);
        CHECK_STR(h.choices[0].calls, "get_weather {\"city\": \"Paris\"}");
        CHECK_INT(h.len, 0);
        CHECK_INT(h.reasoning_len > 0, thinking);
        heard_done(&h);
    }
}

/* The result comes back, and the model says it. */
static void test_result(struct wire_client *c)
{
    struct ask a;
    struct heard h;
    Wire__ChatMessage m[3], *messages[] = {&m[0], &m[1], &m[2]};
    Wire__ToolCall call = WIRE__TOOL_CALL__INIT, *calls[] = {&call};
    ask_init(&a);
    a.m.n_tools = 2;
    for (int i = 0; i < 3; i++)
        wire__chat_message__init(&m[i]);
    m[0].role = (char *)"user";
    m[0].content = (char *)"What is the weather in Paris?";
    m[1].role = (char *)"assistant";
    m[1].tool_calls = calls;
    m[1].n_tool_calls = 1;
    call.name = (char *)"get_weather";
    call.arguments = (char *)"{\"city\": \"Paris\"}";
    m[2].role = (char *)"tool";
    m[2].content = (char *)"20 C, sunny";
    a.m.messages = messages;
    a.m.n_messages = 3;
    hear(c, &a, NULL, 60, &h);
    CHECK_INT(h.reason, WIRE__FINISH_REASON__STOP);
    CHECK(h.text && strstr(h.text, "20") && strstr(h.text, "sunny"));
    heard_done(&h);
}

static void test_forced_call(struct wire_client *c)
{
    struct ask a;
    struct heard h;
    ask_init(&a);
    a.m.n_tools = 2;
    a.choice.kind = WIRE__TOOL_CHOICE__KIND__NAMED;
    a.choice.name = (char *)"get_time";
    a.choice.one_call = true;
    hear(c, &a, "Hello!", 200, &h);
    CHECK_INT(h.reason, WIRE__FINISH_REASON__TOOL_CALLS);
    CHECK(strncmp(h.choices[0].calls, "get_time {\"city\": \"", 19) == 0);
    CHECK(!strchr(h.choices[0].calls, ';') && h.len == 0);
    heard_done(&h);
    a.choice.kind = WIRE__TOOL_CHOICE__KIND__REQUIRED;
    a.m.thinking = true;
    hear(c, &a, "Hello!", 300, &h);
    CHECK_INT(h.reason, WIRE__FINISH_REASON__TOOL_CALLS);
    CHECK(strstr(h.choices[0].calls, " {\"city\": \""));
    heard_done(&h);
    a.choice.kind = WIRE__TOOL_CHOICE__KIND__NEVER;
    a.m.thinking = false;
    hear(c, &a, "What is the weather in Paris?", 60, &h);
    CHECK(h.reason == WIRE__FINISH_REASON__STOP || h.reason == WIRE__FINISH_REASON__LENGTH);
    CHECK_STR(h.choices[0].calls, "");
    CHECK(h.text && !strstr(h.text, "tool▁calls"));
    heard_done(&h);
}

/* Arguments follow the schema, also where the model would rather say something else: hot draws. */
static void test_strict_arguments(struct wire_client *c)
{
    struct ask a;
    ask_init(&a);
    a.m.n_tools = 1;
    a.weather.strict = true;
    a.weather.parameters = (char *)"{\"type\": \"object\", \"properties\": {\"unit\": {\"enum\": "
                                   "[\"C\", \"F\"]}, \"days\": {\"type\": \"integer\", "
                                   "\"minimum\": 1, \"maximum\": 7}}, \"required\": [\"unit\", "
                                   "\"days\"], \"additionalProperties\": false}";
    a.choice.kind = WIRE__TOOL_CHOICE__KIND__REQUIRED;
    a.choice.one_call = true;
    a.m.choices = 4;
    a.sampling.temperature = 3;
    for (uint64_t seed = 0; seed < 4; seed++) {
        struct heard h;
        a.sampling.has_seed = true;
        a.sampling.seed = seed;
        hear(c, &a, "Hello!", 100, &h);
        CHECK_INT(h.error, -1);
        for (int i = 0; i < 4; i++) {
            const char *arguments = strchr(h.choices[i].calls, ' ');
            struct json *v = NULL;
            int64_t days = 0;
            CHECK_INT(h.choices[i].finish, WIRE__FINISH_REASON__TOOL_CALLS);
            CHECK_FATAL(arguments &&
                        json_parse(arguments + 1, strlen(arguments + 1), NULL, &v, NULL) == OK);
            const char *unit = json_string(json_get(v, "unit"));
            CHECK(unit && (strcmp(unit, "C") == 0 || strcmp(unit, "F") == 0));
            CHECK(json_int(json_get(v, "days"), 1, 7, &days));
            CHECK_INT(json_count(v), 2);
            json_free(v);
        }
        heard_done(&h);
    }
}

static void test_format(struct wire_client *c)
{
    struct ask a;
    struct heard h;
    ask_init(&a);
    a.format.kind = WIRE__FORMAT__KIND__JSON_OBJECT;
    hear(c, &a, "Return JSON with keys name and age for Ada, 36.", 200, &h);
    struct json *v = NULL;
    CHECK_INT(h.reason, WIRE__FINISH_REASON__STOP);
    CHECK_INT(json_parse(h.text, h.len, NULL, &v, NULL), OK);
    CHECK(json_is_object(v));
    json_free(v);
    heard_done(&h);
    a.format.kind = WIRE__FORMAT__KIND__JSON_SCHEMA;
    a.format.schema = (char *)"{\"type\": \"object\", \"properties\": {\"ok\": {\"type\": "
                              "\"boolean\"}, \"list\": {\"type\": \"array\", \"maxItems\": 2, "
                              "\"items\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": "
                              "99}}}, \"required\": [\"ok\", \"list\"]}";
    a.m.choices = 4;
    for (int thinking = 0; thinking < 2; thinking++) {
        a.sampling.temperature = 2;
        a.m.thinking = thinking;
        hear(c, &a, "What is 12 + 30?", 400, &h);
        CHECK_INT(h.error, -1);
        for (int i = 0; i < 4; i++) {
            struct heard_choice *choice = &h.choices[i];
            if (choice->finish != WIRE__FINISH_REASON__STOP) {
                CHECK(thinking); /* hot reasoning may go on and on */
                continue;
            }
            v = NULL;
            CHECK_FATAL(json_parse(choice->text, strlen(choice->text), NULL, &v, NULL) == OK);
            CHECK(json_is_bool(json_get(v, "ok")) && json_is_array(json_get(v, "list")));
            CHECK(json_count(json_get(v, "list")) <= 2);
            json_free(v);
        }
        heard_done(&h);
    }
}

static void check_refused(struct wire_client *c, const struct ask *a, const char *param,
                          const char *words)
{
    struct wire_client_request q = {
        .id = uuid_v7(clock_wall_ms()), .stream = 1, .credit = 1000, .with = &a->m};
    struct wire_frame f;
    wire_client_request(c, &q);
    CHECK_FATAL(wire_client_wait(c, WIRE__FRAME_TYPE__ERROR, &f));
    Wire__Error *m = wire_unpack(error, &f);
    CHECK_FATAL(m);
    CHECK_INT(m->code, WIRE__ERROR_CODE__ERROR_INVALID);
    CHECK_STR(m->param, param);
    if (!strstr(m->message, words))
        fprintf(stderr, "%s\n", m->message);
    CHECK(strstr(m->message, words));
    CHECK_INT(m->counts->prompt, 0);
    wire__error__free_unpacked(m, NULL);
}

static void test_refusals(struct wire_client *c)
{
    struct ask a;
    ask_init(&a);
    a.format.kind = WIRE__FORMAT__KIND__JSON_SCHEMA;
    a.format.schema = (char *)"{\"type\": \"object\", \"properties\": {\"a\": {\"type\": "
                              "\"wizard\"}}}";
    check_refused(c, &a, "response_format.json_schema.schema.properties.a.type", "a type's name");
    a.format.schema = (char *)"{\"enum\": []}";
    check_refused(c, &a, "response_format.json_schema.schema.enum", "");
    a.format.kind = WIRE__FORMAT__KIND__TEXT;
    a.m.n_tools = 2;
    a.time.parameters = (char *)"{\"type\": ";
    check_refused(c, &a, "tools[1].function.parameters", "");
    a.time.parameters = (char *)"{\"type\": \"object\", \"not\": {}}";
    a.time.strict = true;
    check_refused(c, &a, "tools[1].function.parameters.not", "not");
    a.time.strict = false; /* what is not understood does not bind, unless it is strict */
    struct heard h;
    hear(c, &a, "What time is it in Rome?", 100, &h);
    CHECK_INT(h.error, -1);
    heard_done(&h);
}

static void test_completion(struct wire_client *c)
{
    struct ask a;
    struct heard h;
    ask_init(&a);
    a.m.prompt = (char *)"def add(a, b):\n    return ";
    hear(c, &a, NULL, 20, &h);
    CHECK_INT(h.error, -1);
    CHECK(h.counts.completion > 0);
    heard_done(&h);
    a.m.suffix = (char *)" b\n";
    a.m.fill_in = true;
    hear(c, &a, NULL, 20, &h);
    CHECK_INT(h.error, -1);
    CHECK(h.counts.completion > 0);
    heard_done(&h);
}

int main(void)
{
    struct rig r;
    struct wire_client c;
    demo_start(&r, &c);
    test_auto_call(&c);
    test_result(&c);
    test_forced_call(&c);
    test_strict_arguments(&c);
    test_format(&c);
    test_refusals(&c);
    test_completion(&c);
    demo_stop(&r, &c);
    return check_done();
}
