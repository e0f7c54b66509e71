/* What a chat request may ask for: one table of bodies, and what each becomes. */
#include "gateway/api/chat.h"
#include "tests/unit/check.h"

static const struct chat_limits limits = {
    .messages_max = 5, .stop_max = 3, .tools_max = 3, .choices_max = 4};

/* The parse of one body; its memory lives until close_body. */
struct parsed {
    struct json *body;
    struct arena *arena;
    struct chat_request chat;
    struct api_error e;
    bool ok;
};

static struct parsed open_body(const char *text)
{
    struct parsed p = {0};
    struct error err;
    p.arena = arena_new(1 << 20);
    CHECK_FATAL(json_parse(text, strlen(text), NULL, &p.body, &err) == OK);
    p.ok = chat_parse(p.body, &limits, p.arena, &p.chat, &p.e);
    return p;
}

static void close_body(struct parsed *p)
{
    json_free(p->body);
    arena_free(p->arena);
}

#define USER "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define BASE "\"model\":\"m\"," USER
#define CALL "{\"id\":\"c\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}"

static void test_defaults(void)
{
    struct parsed p = open_body("{" BASE "}");
    CHECK_FATAL(p.ok);
    CHECK_STR(p.chat.model, "m");
    CHECK_INT(p.chat.message_count, 1);
    CHECK_STR(p.chat.messages[0]->role, "user");
    CHECK_STR(p.chat.messages[0]->content, "hi");
    CHECK_STR(p.chat.messages[0]->reasoning_content, "");
    CHECK_STR(p.chat.user, "");
    CHECK(p.chat.sampling->temperature == 1 && p.chat.sampling->top_p == 1);
    CHECK(!p.chat.stream && !p.chat.include_usage && !p.chat.thinking &&
          !p.chat.sampling->has_seed);
    CHECK_INT(p.chat.max_tokens, 0);
    CHECK_INT(p.chat.stop_count, 0);
    CHECK_INT(p.chat.prompt_bytes, 2);
    close_body(&p);
}

static void test_everything(void)
{
    struct parsed p = open_body(
        "{\"model\":\"m\",\"messages\":["
        "{\"role\":\"developer\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
        "{\"type\":\"text\",\"text\":\"\xc3\xa9\"}]},"
        "{\"role\":\"user\",\"content\":\"q\",\"name\":\"bob\"},"
        "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c1\","
        "\"type\":\"function\",\"index\":0,\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},"
        "{\"role\":\"tool\",\"content\":\"r\",\"tool_call_id\":\"c1\"},"
        "{\"role\":\"assistant\",\"content\":\"An\",\"reasoning_content\":\"hm\",\"prefix\":true,"
        "\"refusal\":null,\"tool_calls\":[],\"annotations\":[],\"audio\":null}],"
        "\"temperature\":0.5,\"top_p\":0.25,\"max_completion_tokens\":7,\"max_tokens\":7,"
        "\"stop\":[\"a\",\"b\"],\"seed\":-3,\"stream\":true,"
        "\"stream_options\":{\"include_usage\":true,\"include_obfuscation\":false},"
        "\"n\":1,\"thinking\":{\"type\":\"enabled\"},\"reasoning_effort\":\"none\","
        "\"user\":\"u-1\",\"user_id\":\"u-1\",\"store\":false,\"metadata\":{\"a\":\"b\"},"
        "\"frequency_penalty\":0,\"presence_penalty\":0.0,\"logit_bias\":{},\"tools\":[],"
        "\"tool_choice\":\"auto\",\"response_format\":{\"type\":\"text\"},\"logprobs\":false,"
        "\"modalities\":[\"text\"],\"service_tier\":\"auto\",\"parallel_tool_calls\":true}");
    CHECK_FATAL(p.ok);
    CHECK_STR(p.chat.messages[0]->role, "system");
    CHECK_STR(p.chat.messages[0]->content, "a\xc3\xa9");
    CHECK_STR(p.chat.messages[1]->name, "bob");
    CHECK_STR(p.chat.messages[2]->tool_calls[0]->arguments, "{}");
    CHECK_STR(p.chat.messages[3]->tool_call_id, "c1");
    CHECK_STR(p.chat.messages[4]->reasoning_content, "hm");
    CHECK(p.chat.messages[4]->prefix);
    /* The id, the name and the arguments of a call count with the quotes they may get. */
    CHECK_INT(p.chat.prompt_bytes, 3 + 1 + 3 + (4 + 3 + 4) + 1 + 2 + 2 + 2);
    CHECK_INT(p.chat.tool_parts, 1);
    CHECK(p.chat.sampling->temperature == 0.5f && p.chat.sampling->top_p == 0.25f);
    CHECK_INT(p.chat.max_tokens, 7);
    CHECK_INT(p.chat.stop_count, 2);
    CHECK_STR(p.chat.stop[1], "b");
    CHECK(p.chat.sampling->has_seed && p.chat.sampling->seed == (uint64_t)-3);
    CHECK(p.chat.stream && p.chat.include_usage);
    CHECK(p.chat.thinking); /* `thinking` goes before `reasoning_effort` */
    CHECK_STR(p.chat.user, "u-1");
    close_body(&p);
}

static void test_thinking(void)
{
    static const struct {
        const char *fields;
        bool thinking;
    } cases[] = {
        {"\"reasoning_effort\":\"low\"", true},
        {"\"reasoning_effort\":\"high\"", true},
        {"\"reasoning_effort\":\"none\"", false},
        {"\"reasoning_effort\":null", false},
        {"\"thinking\":{\"type\":\"disabled\"},\"reasoning_effort\":\"high\"", false},
        {"\"thinking\":{\"type\":\"enabled\"}", true},
        {"\"thinking\":null,\"reasoning_effort\":\"medium\"", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[300];
        snprintf(text, sizeof text, "{" BASE ",%s}", cases[i].fields);
        struct parsed p = open_body(text);
        CHECK(p.ok);
        CHECK_INT(p.chat.thinking, cases[i].thinking);
        close_body(&p);
    }
}

static void test_null_is_absent(void)
{
    struct parsed p =
        open_body("{" BASE ",\"temperature\":null,\"top_p\":null,\"max_tokens\":null,\"stop\":null,"
                  "\"seed\":null,\"stream\":null,\"stream_options\":null,\"n\":null,\"tools\":null,"
                  "\"logit_bias\":null,\"response_format\":null,\"user\":null,\"functions\":null}");
    CHECK(p.ok);
    CHECK(p.chat.sampling->temperature == 1 && !p.chat.stream);
    close_body(&p);
}

static void test_sampling(void)
{
    struct parsed p = open_body(
        "{" BASE ",\"n\":4,\"frequency_penalty\":-2,\"presence_penalty\":2,\"top_k\":40,"
        "\"min_p\":0.25,\"repetition_penalty\":1.5,\"logit_bias\":{\"0\":-100,\"50256\":0.5},"
        "\"logprobs\":true,\"top_logprobs\":20}");
    CHECK_FATAL(p.ok);
    const Wire__Sampling *s = p.chat.sampling;
    CHECK_INT(p.chat.choices, 4);
    CHECK(s->frequency_penalty == -2 && s->presence_penalty == 2 && s->min_p == 0.25f);
    CHECK(s->repetition_penalty == 1.5f && s->top_k == 40);
    CHECK(s->logprobs && s->top_logprobs == 20);
    CHECK_INT(s->n_logit_bias, 2);
    CHECK(s->logit_bias[0]->token == 0 && s->logit_bias[0]->bias == -100);
    CHECK(s->logit_bias[1]->token == 50256 && s->logit_bias[1]->bias == 0.5f);
    close_body(&p);
    p = open_body("{" BASE ",\"top_k\":-1,\"logit_bias\":[]}");
    CHECK(p.ok && p.chat.sampling->top_k == 0 && p.chat.choices == 1);
    close_body(&p);
}

static void test_tools(void)
{
    struct parsed p =
        open_body("{" BASE ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"get\","
                  "\"description\":\"Ge\\nt\",\"parameters\":{\"type\":\"object\",\"enum\":[1,0.1,"
                  "null,true]},"
                  "\"strict\":true}},{\"type\":\"function\",\"function\":{\"name\":\"put\","
                  "\"description\":null,\"strict\":null}}],\"parallel_tool_calls\":false,"
                  "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"put\"}}}");
    CHECK_FATAL(p.ok);
    CHECK_INT(p.chat.tool_count, 2);
    CHECK_INT(p.chat.tool_parts, 2);
    CHECK_STR(p.chat.tools[0]->name, "get");
    CHECK_STR(p.chat.tools[0]->description, "Ge\nt");
    static const char parameters[] = "{\"type\": \"object\", \"enum\": [1, 0.1, null, true]}";
    CHECK_STR(p.chat.tools[0]->parameters, parameters);
    CHECK(p.chat.tools[0]->strict && !p.chat.tools[1]->strict);
    CHECK_STR(p.chat.tools[1]->parameters, "");
    CHECK_INT(p.chat.tool_choice.kind, WIRE__TOOL_CHOICE__KIND__NAMED);
    CHECK_STR(p.chat.tool_choice.name, "put");
    CHECK(p.chat.tool_choice.one_call);
    /* "hi", two names and two descriptions with quotes, a newline as \u000a at most. */
    CHECK_INT(p.chat.prompt_bytes,
              2 + (5 + 11) + (5 + 2) + (int)strlen(parameters) + 2 * 6 + 4 * 2);
    close_body(&p);
    static const struct {
        const char *word;
        Wire__ToolChoice__Kind kind;
    } words[] = {{"auto", WIRE__TOOL_CHOICE__KIND__AUTO},
                 {"none", WIRE__TOOL_CHOICE__KIND__NEVER},
                 {"required", WIRE__TOOL_CHOICE__KIND__REQUIRED}};
    for (int i = 0; i < 3; i++) {
        char text[300];
        snprintf(text, sizeof text,
                 "{" BASE ",\"tool_choice\":\"%s\",\"tools\":[{\"type\":\"function\","
                 "\"function\":{\"name\":\"f\"}}]}",
                 words[i].word);
        p = open_body(text);
        CHECK(p.ok);
        CHECK_INT(p.chat.tool_choice.kind, words[i].kind);
        close_body(&p);
    }
}

static void test_formats(void)
{
    struct parsed p = open_body("{" BASE ",\"response_format\":{\"type\":\"json_object\"}}");
    CHECK(p.ok && p.chat.format.kind == WIRE__FORMAT__KIND__JSON_OBJECT);
    close_body(&p);
    p = open_body("{" BASE ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{"
                  "\"name\":\"n\",\"strict\":true,\"description\":\"d\","
                  "\"schema\":{\"type\":\"object\"}}}}");
    CHECK(p.ok && p.chat.format.kind == WIRE__FORMAT__KIND__JSON_SCHEMA);
    CHECK_STR(p.chat.format.schema, "{\"type\": \"object\"}");
    CHECK_INT(p.chat.prompt_bytes, 2 + 18 + 6);
    close_body(&p);
}

static bool open_completion(const char *text, struct parsed *p, bool brief)
{
    struct error err;
    *p = (struct parsed){.arena = arena_new(1 << 20)};
    CHECK_FATAL(json_parse(text, strlen(text), NULL, &p->body, &err) == OK);
    return brief ? completion_parse_short(p->body, &limits, p->arena, &p->chat, &p->e)
                 : completion_parse(p->body, &limits, p->arena, &p->chat, &p->e);
}

static void test_completions(void)
{
    struct parsed p;
    CHECK(open_completion("{\"model\":\"m\",\"prompt\":[\"ab\"],\"suffix\":\"c\",\"logprobs\":3,"
                          "\"echo\":false,\"best_of\":1,\"n\":2}",
                          &p, true));
    CHECK(p.chat.completion && p.chat.choices == 2);
    CHECK_STR(p.chat.prompt, "ab");
    CHECK_STR(p.chat.suffix, "c");
    CHECK_INT(p.chat.max_tokens, 16);
    CHECK_INT(p.chat.prompt_bytes, 3);
    CHECK(p.chat.sampling->logprobs && p.chat.sampling->top_logprobs == 3);
    close_body(&p);
    CHECK(open_completion("{\"model\":\"m\",\"prompt\":\"\",\"suffix\":\"\"}", &p, false));
    CHECK(p.chat.max_tokens == 0 && *p.chat.suffix == 0);
    close_body(&p);
    static const struct {
        const char *body, *param;
    } bad[] = {{"{\"model\":\"m\"}", "prompt"},
               {"{\"prompt\":\"x\"}", "model"},
               {"{\"model\":\"m\",\"prompt\":\"\"}", "prompt"},
               {"{\"model\":\"m\",\"prompt\":[\"a\",\"b\"]}", "prompt"},
               {"{\"model\":\"m\",\"prompt\":[1,2]}", "prompt"},
               {"{\"model\":\"m\",\"prompt\":\"x\",\"echo\":true}", "echo"},
               {"{\"model\":\"m\",\"prompt\":\"x\",\"best_of\":2}", "best_of"},
               {"{\"model\":\"m\",\"prompt\":\"x\",\"logprobs\":true}", "logprobs"},
               {"{\"model\":\"m\",\"prompt\":\"x\",\"messages\":[]}", "messages"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(!open_completion(bad[i].body, &p, true));
        CHECK_STR(p.e.param, bad[i].param);
        close_body(&p);
    }
}

/* What is refused, and the field that the answer names. */
static const struct {
    const char *body, *param;
} refused[] = {
    {"{" USER "}", "model"},
    {"{\"model\":\"\"," USER "}", "model"},
    {"{\"model\":3," USER "}", "model"},
    {"{\"model\":\"m\"}", "messages"},
    {"{\"model\":\"m\",\"messages\":[]}", "messages"},
    {"{\"model\":\"m\",\"messages\":{}}", "messages"},
    {"{\"model\":\"m\",\"messages\":[1]}", "messages[0]"},
    {"{\"model\":\"m\",\"messages\":[{\"content\":\"x\"}]}", "messages[0].role"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"oracle\",\"content\":\"x\"}]}",
     "messages[0].role"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\"}]}", "messages[0].content"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":null}]}",
     "messages[0].content"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":5}]}", "messages[0].content"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}",
     "messages[0].content"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"a\"}]}]}",
     "messages[0].content"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[\"a\"]}]}",
     "messages[0].content"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}",
     "messages[0].tool_call_id"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"prefix\":true}]}",
     "messages[0].prefix"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"content\":\"x\",\"prefix\":true},"
     "{\"role\":\"user\",\"content\":\"x\"}]}",
     "messages[0].prefix"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{}]}]}",
     "messages[0].tool_calls[0]"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"tool_calls\":{}}]}",
     "messages[0].tool_calls"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"tool_calls\":[" CALL
     "]}]}",
     "messages[0].tool_calls"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"tool\",\"content\":\"x\",\"tool_call_id\":\"c\"}]"
     "}",
     "messages[0].tool_call_id"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[" CALL "]},"
     "{\"role\":\"tool\",\"content\":\"x\",\"tool_call_id\":\"other\"}]}",
     "messages[1].tool_call_id"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[" CALL "]},"
     "{\"role\":\"user\",\"content\":\"x\"},"
     "{\"role\":\"tool\",\"content\":\"x\",\"tool_call_id\":\"c\"}]}",
     "messages[2].tool_call_id"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"mood\":1}]}",
     "messages[0].mood"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"1\"},"
     "{\"role\":\"user\",\"content\":\"2\"},{\"role\":\"user\",\"content\":\"3\"},"
     "{\"role\":\"user\",\"content\":\"4\"},{\"role\":\"user\",\"content\":\"5\"},"
     "{\"role\":\"user\",\"content\":\"6\"}]}",
     "messages"},
    {"{" BASE ",\"temperature\":2.1}", "temperature"},
    {"{" BASE ",\"temperature\":-0.1}", "temperature"},
    {"{" BASE ",\"temperature\":\"1\"}", "temperature"},
    {"{" BASE ",\"top_p\":0}", "top_p"},
    {"{" BASE ",\"top_p\":1.1}", "top_p"},
    {"{" BASE ",\"max_tokens\":0}", "max_tokens"},
    {"{" BASE ",\"max_tokens\":1.5}", "max_tokens"},
    {"{" BASE ",\"max_completion_tokens\":-1}", "max_completion_tokens"},
    {"{" BASE ",\"max_tokens\":3,\"max_completion_tokens\":4}", "max_tokens"},
    {"{" BASE ",\"stop\":[\"a\",\"b\",\"c\",\"d\"]}", "stop"},
    {"{" BASE ",\"stop\":\"\"}", "stop"},
    {"{" BASE ",\"stop\":[1]}", "stop"},
    {"{" BASE ",\"seed\":1.5}", "seed"},
    {"{" BASE ",\"stream\":\"yes\"}", "stream"},
    {"{" BASE ",\"stream_options\":{\"include_usage\":true}}", "stream_options"},
    {"{" BASE ",\"stream\":true,\"stream_options\":{\"x\":true}}", "stream_options"},
    {"{" BASE ",\"thinking\":true}", "thinking"},
    {"{" BASE ",\"thinking\":{\"type\":\"enabled\",\"budget\":1}}", "thinking"},
    {"{" BASE ",\"reasoning_effort\":\"huge\"}", "reasoning_effort"},
    {"{" BASE ",\"user\":\"a b\"}", "user"},
    {"{" BASE ",\"user\":\"\"}", "user"},
    {"{" BASE ",\"user\":\"a\",\"user_id\":\"b\"}", "user_id"},
    {"{" BASE ",\"tools\":[{\"type\":\"function\"}]}", "tools[0].function"},
    {"{" BASE ",\"tools\":{}}", "tools"},
    {"{" BASE ",\"tools\":[3]}", "tools[0]"},
    {"{" BASE ",\"tools\":[{\"type\":\"custom\",\"custom\":{}}]}", "tools[0].type"},
    {"{" BASE ",\"tools\":[{\"type\":\"function\",\"function\":{}}]}", "tools[0].function.name"},
    {"{" BASE ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"a b\"}}]}",
     "tools[0].function.name"},
    {"{" BASE ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"a\",\"x\":1}}]}",
     "tools[0].function.x"},
    {"{" BASE ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"a\"},\"strict\":true}]}",
     "tools[0].strict"},
    {"{" BASE
     ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"a\",\"parameters\":[]}}]}",
     "tools[0].function.parameters"},
    {"{" BASE ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"a\",\"strict\":1}}]}",
     "tools[0].function.strict"},
    {"{" BASE
     ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"a\",\"description\":1}}]}",
     "tools[0].function.description"},
    {"{" BASE ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"a\"}},{\"type\":"
     "\"function\",\"function\":{\"name\":\"a\"}}]}",
     "tools[1].function.name"},
    {"{" BASE ",\"tools\":[1,2,3,4]}", "tools"},
    {"{" BASE ",\"tool_choice\":\"required\"}", "tool_choice"},
    {"{" BASE ",\"tool_choice\":\"maybe\"}", "tool_choice"},
    {"{" BASE ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"a\"}}}",
     "tool_choice"},
    {"{" BASE ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"b\"}}],\"tool_choice\":{"
     "\"type\":\"function\",\"function\":{\"name\":\"a\"}}}",
     "tool_choice"},
    {"{" BASE ",\"parallel_tool_calls\":\"no\"}", "parallel_tool_calls"},
    {"{" BASE ",\"functions\":[{}]}", "functions"},
    {"{" BASE ",\"response_format\":\"json_object\"}", "response_format"},
    {"{" BASE ",\"response_format\":{\"type\":\"yaml\"}}", "response_format"},
    {"{" BASE ",\"response_format\":{\"type\":\"json_schema\"}}", "response_format.json_schema"},
    {"{" BASE ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{}}}}",
     "response_format.json_schema.name"},
    {"{" BASE ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"x\"}}}",
     "response_format.json_schema.schema"},
    {"{" BASE ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"x\","
     "\"schema\":{},\"strict\":\"yes\"}}}",
     "response_format.json_schema.strict"},
    {"{" BASE ",\"logprobs\":1}", "logprobs"},
    {"{" BASE ",\"top_logprobs\":1}", "top_logprobs"},
    {"{" BASE ",\"logprobs\":true,\"top_logprobs\":21}", "top_logprobs"},
    {"{" BASE ",\"logit_bias\":{\"1\":101}}", "logit_bias"},
    {"{" BASE ",\"logit_bias\":{\"1\":\"x\"}}", "logit_bias"},
    {"{" BASE ",\"logit_bias\":{\"one\":1}}", "logit_bias"},
    {"{" BASE ",\"logit_bias\":{\"01\":1}}", "logit_bias"},
    {"{" BASE ",\"logit_bias\":{\"99999999999\":1}}", "logit_bias"},
    {"{" BASE ",\"logit_bias\":[1]}", "logit_bias"},
    {"{" BASE ",\"frequency_penalty\":2.1}", "frequency_penalty"},
    {"{" BASE ",\"presence_penalty\":-2.1}", "presence_penalty"},
    {"{" BASE ",\"repetition_penalty\":0}", "repetition_penalty"},
    {"{" BASE ",\"min_p\":1.5}", "min_p"},
    {"{" BASE ",\"top_k\":1.5}", "top_k"},
    {"{" BASE ",\"top_k\":-2}", "top_k"},
    {"{" BASE ",\"n\":0}", "n"},
    {"{" BASE ",\"n\":5}", "n"},
    {"{" BASE ",\"modalities\":[\"text\",\"audio\"]}", "modalities"},
    {"{" BASE ",\"temprature\":0.5}", "temprature"},
    {"{" BASE ",\"Temperature\":0.5}", "Temperature"},
};

static void test_refused(void)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct parsed p = open_body(refused[i].body);
        if (p.ok)
            fprintf(stderr, "accepted: %s\n", refused[i].body);
        CHECK(!p.ok);
        CHECK_INT(p.e.status, 400);
        CHECK_STR(p.e.type, "invalid_request_error");
        CHECK_STR(p.e.param, refused[i].param);
        CHECK(p.e.message[0] != 0);
        close_body(&p);
    }
    struct parsed p = open_body("[]");
    CHECK(!p.ok && p.e.status == 400);
    close_body(&p);
}

/* A name of any length is shown, cut, and never breaks the answer. */
static void test_long_name(void)
{
    char text[2000];
    int n = snprintf(text, sizeof text, "{" BASE ",\"");
    memset(text + n, 'x', 1000);
    snprintf(text + n + 1000, sizeof text - (size_t)n - 1000, "\":1}");
    struct parsed p = open_body(text);
    CHECK(!p.ok);
    CHECK(strlen(p.e.param) > 50 && strlen(p.e.param) < sizeof p.e.param);
    close_body(&p);
}

static void test_no_memory(void)
{
    struct parsed p = {.arena = arena_new(8)};
    struct error err;
    const char *text = "{" BASE "}";
    CHECK_FATAL(json_parse(text, strlen(text), NULL, &p.body, &err) == OK);
    CHECK(!chat_parse(p.body, &limits, p.arena, &p.chat, &p.e));
    CHECK_INT(p.e.status, 503);
    close_body(&p);
}

int main(void)
{
    test_defaults();
    test_everything();
    test_thinking();
    test_null_is_absent();
    test_sampling();
    test_tools();
    test_formats();
    test_completions();
    test_refused();
    test_long_name();
    test_no_memory();
    return check_done();
}
