/* What a chat request may ask for: one table of bodies, and what each becomes. */
#include "gateway/api/chat.h"
#include "tests/unit/check.h"

static const struct chat_limits limits = {.messages_max = 4, .stop_max = 3};

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
    CHECK(p.chat.temperature == 1 && p.chat.top_p == 1);
    CHECK(!p.chat.stream && !p.chat.include_usage && !p.chat.thinking && !p.chat.has_seed);
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
    CHECK_STR(p.chat.messages[2]->tool_call_id, "c1");
    CHECK_STR(p.chat.messages[3]->reasoning_content, "hm");
    CHECK(p.chat.messages[3]->prefix);
    CHECK_INT(p.chat.prompt_bytes, 3 + 1 + 3 + 1 + 2 + 2 + 2);
    CHECK(p.chat.temperature == 0.5f && p.chat.top_p == 0.25f);
    CHECK_INT(p.chat.max_tokens, 7);
    CHECK_INT(p.chat.stop_count, 2);
    CHECK_STR(p.chat.stop[1], "b");
    CHECK(p.chat.has_seed && p.chat.seed == (uint64_t)-3);
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
    CHECK(p.chat.temperature == 1 && !p.chat.stream);
    close_body(&p);
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
     "messages[0].tool_calls"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"mood\":1}]}",
     "messages[0].mood"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"1\"},"
     "{\"role\":\"user\",\"content\":\"2\"},{\"role\":\"user\",\"content\":\"3\"},"
     "{\"role\":\"user\",\"content\":\"4\"},{\"role\":\"user\",\"content\":\"5\"}]}",
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
    {"{" BASE ",\"n\":2}", "n"},
    {"{" BASE ",\"thinking\":true}", "thinking"},
    {"{" BASE ",\"thinking\":{\"type\":\"enabled\",\"budget\":1}}", "thinking"},
    {"{" BASE ",\"reasoning_effort\":\"huge\"}", "reasoning_effort"},
    {"{" BASE ",\"user\":\"a b\"}", "user"},
    {"{" BASE ",\"user\":\"\"}", "user"},
    {"{" BASE ",\"user\":\"a\",\"user_id\":\"b\"}", "user_id"},
    {"{" BASE ",\"tools\":[{\"type\":\"function\"}]}", "tools"},
    {"{" BASE ",\"tool_choice\":\"required\"}", "tool_choice"},
    {"{" BASE ",\"response_format\":{\"type\":\"json_object\"}}", "response_format"},
    {"{" BASE ",\"logprobs\":true}", "logprobs"},
    {"{" BASE ",\"top_logprobs\":1}", "top_logprobs"},
    {"{" BASE ",\"logit_bias\":{\"1\":5}}", "logit_bias"},
    {"{" BASE ",\"frequency_penalty\":0.1}", "frequency_penalty"},
    {"{" BASE ",\"presence_penalty\":1}", "presence_penalty"},
    {"{" BASE ",\"modalities\":[\"text\",\"audio\"]}", "modalities"},
    {"{" BASE ",\"top_k\":5}", "top_k"},
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
    test_refused();
    test_long_name();
    test_no_memory();
    return check_done();
}
