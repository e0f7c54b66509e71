#include "worker/job_wire.h"

#include <math.h>

#include "tests/unit/check.h"

/* A request with one message, to be changed by each case. */
struct ask {
    Wire__Request m;
    Wire__ChatMessage message, *messages[1];
    Wire__Tool tools[3], *tool_list[3];
    Wire__ToolChoice choice;
    Wire__Format format;
    Wire__Sampling sampling;
    Wire__LogitBias bias, *biases[1];
    Wire__ToolCall call, *calls[1];
    char *stop[1];
};

static void ask_init(struct ask *a)
{
    wire__request__init(&a->m);
    wire__chat_message__init(&a->message);
    wire__tool_choice__init(&a->choice);
    wire__format__init(&a->format);
    wire__sampling__init(&a->sampling);
    wire__logit_bias__init(&a->bias);
    wire__tool_call__init(&a->call);
    a->message.role = (char *)"user";
    a->message.content = (char *)"Hi";
    a->messages[0] = &a->message;
    a->m.messages = a->messages;
    a->m.n_messages = 1;
    for (int i = 0; i < 3; i++) {
        wire__tool__init(&a->tools[i]);
        a->tool_list[i] = &a->tools[i];
    }
    a->tools[0].name = (char *)"get";
    a->tools[1].name = (char *)"put";
    a->tools[2].name = (char *)"add";
    a->m.tools = a->tool_list;
    a->biases[0] = &a->bias;
    a->sampling.logit_bias = a->biases;
    a->sampling.top_p = 1;
    a->calls[0] = &a->call;
    a->stop[0] = (char *)"x";
    a->m.stop = a->stop;
}

static void no_messages(struct ask *a)
{
    a->m.n_messages = 0;
}
static void both(struct ask *a)
{
    a->m.prompt = (char *)"p";
}
static void suffix_of_chat(struct ask *a)
{
    a->m.fill_in = true;
}
static void tools_of_prompt(struct ask *a)
{
    a->m.n_messages = 0;
    a->m.prompt = (char *)"p";
    a->m.n_tools = 1;
}
static void bad_name(struct ask *a)
{
    a->m.n_tools = 3;
    a->tools[2].name = (char *)"a b";
}
static void same_name(struct ask *a)
{
    a->m.n_tools = 2;
    a->tools[1].name = (char *)"get";
}
static void required_without(struct ask *a)
{
    a->m.tool_choice = &a->choice;
    a->choice.kind = WIRE__TOOL_CHOICE__KIND__REQUIRED;
}
static void named_other(struct ask *a)
{
    a->m.n_tools = 3;
    a->m.tool_choice = &a->choice;
    a->choice.kind = WIRE__TOOL_CHOICE__KIND__NAMED;
    a->choice.name = (char *)"sub";
}
static void choice_unknown(struct ask *a)
{
    a->m.tool_choice = &a->choice;
    a->choice.kind = 77;
}
static void no_schema(struct ask *a)
{
    a->m.format = &a->format;
    a->format.kind = WIRE__FORMAT__KIND__JSON_SCHEMA;
}
static void format_unknown(struct ask *a)
{
    a->m.format = &a->format;
    a->format.kind = 9;
}
static void many(struct ask *a)
{
    a->m.choices = 9;
}
static void penalty(struct ask *a)
{
    a->m.sampling = &a->sampling;
    a->sampling.presence_penalty = 3;
}
static void not_a_number(struct ask *a)
{
    a->m.sampling = &a->sampling;
    a->sampling.min_p = NAN;
}
static void top_alone(struct ask *a)
{
    a->m.sampling = &a->sampling;
    a->sampling.top_logprobs = 3;
}
static void top_many(struct ask *a)
{
    a->m.sampling = &a->sampling;
    a->sampling.logprobs = true;
    a->sampling.top_logprobs = 21;
}
static void bias_large(struct ask *a)
{
    a->m.sampling = &a->sampling;
    a->sampling.n_logit_bias = 1;
    a->bias.bias = 101;
}
static void stop_empty(struct ask *a)
{
    a->m.n_stop = 1;
    a->stop[0] = (char *)"";
}
static void user_calls(struct ask *a)
{
    a->message.n_tool_calls = 1;
    a->message.tool_calls = a->calls;
}

static const struct {
    void (*change)(struct ask *a);
    const char *param;
} refused[] = {
    {no_messages, "messages"},
    {both, "prompt"},
    {suffix_of_chat, "suffix"},
    {tools_of_prompt, "tools"},
    {bad_name, "tools[2].function.name"},
    {same_name, "tools[1].function.name"},
    {required_without, "tool_choice"},
    {named_other, "tool_choice"},
    {choice_unknown, "tool_choice"},
    {no_schema, "response_format.json_schema.schema"},
    {format_unknown, "response_format"},
    {many, "n"},
    {penalty, "presence_penalty"},
    {not_a_number, "min_p"},
    {top_alone, "top_logprobs"},
    {top_many, "top_logprobs"},
    {bias_large, "logit_bias"},
    {stop_empty, "stop"},
    {user_calls, "messages[0].tool_calls"},
};

static void test_refused(void)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct ask a;
        struct job job;
        struct job_fault fault = {.param = ""};
        struct arena *arena = arena_new(1 << 20);
        ask_init(&a);
        refused[i].change(&a);
        CHECK_INT(job_from_wire(&a.m, arena, &job, &fault), INVALID);
        CHECK_STR(fault.param, refused[i].param);
        CHECK(*fault.error.text);
        arena_free(arena);
    }
}

static void test_all_fields(void)
{
    struct ask a;
    struct job job;
    struct job_fault fault;
    struct arena *arena = arena_new(1 << 20);
    ask_init(&a);
    a.message.role = (char *)"assistant";
    a.message.n_tool_calls = 1;
    a.message.tool_calls = a.calls;
    a.call.name = (char *)"get";
    a.call.arguments = (char *)"{}";
    a.m.n_tools = 3;
    a.tools[1].strict = true;
    a.tools[1].parameters = (char *)"{\"type\":\"object\"}";
    a.m.tool_choice = &a.choice;
    a.choice.kind = WIRE__TOOL_CHOICE__KIND__NAMED;
    a.choice.name = (char *)"put";
    a.choice.one_call = true;
    a.m.format = &a.format;
    a.format.kind = WIRE__FORMAT__KIND__JSON_SCHEMA;
    a.format.schema = (char *)"true";
    a.m.sampling = &a.sampling;
    a.sampling.logprobs = true;
    a.sampling.top_logprobs = 20;
    a.sampling.n_logit_bias = 1;
    a.bias.token = 7;
    a.bias.bias = -100;
    a.m.choices = 8;
    a.m.tenant = (char *)"acme";
    a.m.priority = -3;
    a.m.deadline_ms = 1500;
    a.m.cache_salt = (ProtobufCBinaryData){2, (uint8_t *)"\1\2"};
    a.m.user = (char *)"u1";
    CHECK_INT(job_from_wire(&a.m, arena, &job, &fault), OK);
    CHECK(job.message_count == 1 && job.messages[0].tool_call_count == 1);
    CHECK_STR(job.messages[0].tool_calls[0].name, "get");
    CHECK(job.tool_count == 3 && job.tools[1].strict && !job.tools[0].strict);
    CHECK(job.tool_choice == TOOL_NAMED && job.one_call);
    CHECK_STR(job.tool_name, "put");
    CHECK_INT(job.format, FORMAT_JSON_SCHEMA);
    CHECK_STR(job.schema, "true");
    CHECK(job.sampling.logprobs && job.sampling.top_logprobs == 20);
    CHECK(job.sampling.bias_count == 1 && job.sampling.bias[0].token == 7);
    CHECK(job.choices == 8 && job.priority == -3 && job.deadline_ms == 1500);
    CHECK_STR(job.tenant, "acme");
    CHECK(job.cache_salt_len == 5 && memcmp(job.cache_salt, "\1\2\0u1", 5) == 0);
    CHECK(!job.prompt && !job.suffix);
    arena_free(arena);
}

static void test_prompt(void)
{
    struct ask a;
    struct job job;
    struct job_fault fault;
    struct arena *arena = arena_new(1 << 20);
    ask_init(&a);
    a.m.n_messages = 0;
    a.m.prompt = (char *)"def ";
    CHECK_INT(job_from_wire(&a.m, arena, &job, &fault), OK);
    CHECK(job.choices == 1 && job.message_count == 0 && !job.suffix);
    CHECK_STR(job.prompt, "def ");
    a.m.fill_in = true;
    CHECK_INT(job_from_wire(&a.m, arena, &job, &fault), OK);
    CHECK_STR(job.suffix, "");
    arena_free(arena);
}

static void test_out_of_memory(void)
{
    struct ask a;
    struct job job;
    struct job_fault fault;
    struct arena *arena = arena_new(16);
    ask_init(&a);
    CHECK_INT(job_from_wire(&a.m, arena, &job, &fault), NOMEM);
    arena_free(arena);
}

int main(void)
{
    test_refused();
    test_all_fields();
    test_prompt();
    test_out_of_memory();
    return check_done();
}
