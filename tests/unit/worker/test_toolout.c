/* Calls in every form, the text cut at every place. */
#include "worker/toolout.h"

#include "tests/unit/check.h"

/* The script's marks. */
#define BEGIN "\1"
#define CALL "\2"
#define SEP "\3"
#define END "\4"
#define ENDS "\5"

static const struct tool tools[] = {
    {"get", "",
     "{\"properties\": {\"a\": {\"type\": \"string\"}, \"n\": {\"type\": \"integer\"}, "
     "\"m\": {\"anyOf\": [{\"type\": \"string\"}, {\"type\": \"null\"}]}, "
     "\"r\": {\"$ref\": \"#/$defs/r\"}}, \"$defs\": {\"r\": {\"type\": \"array\"}}}",
     false},
    {"put_it", "", "", false}};

struct outcome {
    char content[1024], calls[1024];
};

/* "name arguments;" of each call. */
static void list_calls(const struct delta *d, char *out, size_t size)
{
    struct delta_view v;
    struct delta_call c;
    size_t used = 0;
    uint32_t next = 0;
    delta_see(d, &v);
    *out = 0;
    for (size_t at = 0; delta_next_call(&v, &at, &c);) {
        CHECK_INT(c.index, next);
        next += 1;
        CHECK(strlen(c.id) == 9 || (strncmp(c.id, "call_", 5) == 0 && strlen(c.id) == 21));
        used += (size_t)snprintf(out + used, size - used, "%s %s;", c.name, c.arguments);
    }
}

/* Runs of text are fed in pieces that end at the cuts, or one character at a time. */
struct feed {
    struct toolout *t;
    struct delta *made;
    struct buf *content;
    size_t cuts[2];
    bool single;
};

static void feed_text(struct feed *f, const char *script, size_t from, size_t to)
{
    while (from < to) {
        size_t end = f->single ? from + 1 : to;
        for (int i = 0; i < 2; i++)
            if (f->cuts[i] > from && f->cuts[i] < end)
                end = f->cuts[i];
        CHECK_INT(toolout_text(f->t, script + from, end - from, f->made, f->content), OK);
        from = end;
    }
}

static void run(enum tool_form form, const char *script, const size_t cuts[2], bool single,
                struct outcome *out)
{
    static const char *const texts[] = {"<calls>", "<call>", "<sep>", "</call>", "</calls>"};
    struct toolout_options o = {form, tools, 2, 42};
    struct delta made;
    struct buf content;
    delta_init(&made, 1 << 16);
    buf_init(&content, 1 << 16);
    struct feed f = {toolout_new(&o), &made, &content, {cuts[0], cuts[1]}, single};
    CHECK_FATAL(f.t);
    size_t len = strlen(script);
    for (size_t at = 0; at < len;) {
        size_t end = at;
        while (end < len && (unsigned char)script[end] > 5)
            end++;
        feed_text(&f, script, at, end);
        at = end;
        if (at < len) {
            int mark = script[at++] - 1;
            CHECK_INT(toolout_mark(f.t, (enum tool_mark)mark, texts[mark], &made, &content), OK);
        }
    }
    CHECK_INT(toolout_end(f.t, &made, &content), OK);
    snprintf(out->content, sizeof out->content, "%s", buf_cstr(&content));
    list_calls(&made, out->calls, sizeof out->calls);
    toolout_free(f.t);
    delta_done(&made);
    buf_done(&content);
}

static const struct {
    enum tool_form form;
    const char *script, *content, *calls;
} cases[] = {
    {TOOLS_DEEPSEEK_31, "Hi" BEGIN CALL "get" SEP "{\"a\": \"</call>\"}" END ENDS, "Hi",
     "get {\"a\": \"</call>\"};"},
    {TOOLS_DEEPSEEK_31, CALL " get\n" SEP "{}" END CALL "put_it" SEP "[]" END ENDS, "",
     "get {};put_it [];"},
    {TOOLS_DEEPSEEK_31, BEGIN CALL "get" SEP "{}" CALL "get" SEP "{}", "", "get {};get {};"},
    {TOOLS_DEEPSEEK_31, BEGIN CALL "none" SEP "{}" END CALL "get" SEP "{}" END ENDS,
     "<calls><call>none<sep>{}</call>", "get {};"},
    {TOOLS_DEEPSEEK_31, "a" SEP "b" END "c" ENDS, "a<sep>b</call>c</calls>", ""},
    {TOOLS_DEEPSEEK_31, BEGIN CALL "get" END ENDS, "<calls><call>get</call></calls>", ""},
    {TOOLS_DEEPSEEK, BEGIN CALL "function" SEP "get\n```json\n{\"a\": 1}\n```" END ENDS, "",
     "get {\"a\": 1};"},
    {TOOLS_DEEPSEEK,
     BEGIN CALL "function" SEP "get\n```json\n{\n  \"a\": 1\n}\n```" END "\n" CALL "function" SEP
                "put_it\n```json\n{}\n```" END ENDS,
     "", "get {\n  \"a\": 1\n};put_it {};"},
    {TOOLS_DEEPSEEK, BEGIN CALL "function" SEP "get\n{\"a\": 1}" END ENDS, "", "get {\"a\": 1};"},
    {TOOLS_DEEPSEEK, BEGIN CALL "function" SEP "get\n```json\n{\"a\":\n``", "", "get {\"a\":\n``;"},
    {TOOLS_DEEPSEEK, BEGIN CALL "function" SEP "nix\n```json\n{}\n```" END ENDS,
     "<calls><call>function<sep>nix\n```json\n{}\n```</call></calls>", ""},
    {TOOLS_DEEPSEEK, BEGIN CALL "function" SEP "get", "<calls><call>function<sep>get", ""},
    {TOOLS_QWEN, "So:\n" CALL "\n{\"name\": \"get\", \"arguments\": {\"a\": \"}\\\"\"}}\n" END,
     "So:\n", "get {\"a\": \"}\\\"\"};"},
    {TOOLS_QWEN,
     CALL "{\"name\":\"get\",\"arguments\":{}}" END "\n" CALL
          "\n{\"name\": \"put_it\", \"arguments\": {\"b\": [1]}}\n" END,
     "", "get {};put_it {\"b\": [1]};"},
    {TOOLS_QWEN, CALL "\n{\"arguments\": {\"a\": 1}, \"name\": \"get\"}\n" END, "",
     "get {\"a\": 1};"},
    {TOOLS_QWEN, CALL "\n{\"name\": \"nix\", \"arguments\": {}}\n" END " ok",
     "<call>\n{\"name\": \"nix\", \"arguments\": {}}\n</call> ok", ""},
    {TOOLS_QWEN, CALL "\nno JSON\n" END, "<call>\nno JSON\n</call>", ""},
    {TOOLS_QWEN, CALL "\n{\"name\": \"get\", \"arguments\": {\"a\": ", "", "get {\"a\": ;"},
    {TOOLS_QWEN, CALL "\n{\"name\": \"get\", \"argu", "<call>\n{\"name\": \"get\", \"argu", ""},
    {TOOLS_QWEN, CALL "\n{\"name\": \"get\", \"arguments\": {}}\n" END "\nand", "\nand", "get {};"},
    {TOOLS_QWEN_CODER,
     "So:\n" CALL "\n<function=get>\n<parameter=a>\n\nx \"</parameter>\n\n</parameter>\n"
     "<parameter=n>\n12\n</parameter>\n</function>\n" END,
     "So:\n", "get {\"a\": \"\\nx \\\"</parameter>\\n\", \"n\": 12};"},
    {TOOLS_QWEN_CODER,
     CALL "\n<function=put_it>\n</function>\n" END "\n" CALL
          "\n<function=get>\n<parameter=a>\n12\n</parameter>\n</function>\n" END,
     "", "put_it {};get {\"a\": \"12\"};"},
    {TOOLS_QWEN_CODER,
     CALL "<function=get><parameter=m>null\n</parameter><parameter=m>\n5\n</parameter>"
          "<parameter=r>\n[1, {}]\n</parameter><parameter=n>\nten\n</parameter></function>" END,
     "", "get {\"m\": null, \"m\": \"5\", \"r\": [1, {}], \"n\": \"ten\"};"},
    {TOOLS_QWEN_CODER,
     CALL
     "<function=put_it><parameter=x>\nTrue\n</parameter><parameter=y>\n{\"z\": 1}\n</parameter>"
     "<parameter=z>\n\n</parameter>" END,
     "", "put_it {\"x\": true, \"y\": {\"z\": 1}, \"z\": \"\"};"},
    {TOOLS_QWEN_CODER, CALL "\n<function=nix>\n</function>\n" END " ok",
     "<call>\n<function=nix>\n</function>\n</call> ok", ""},
    {TOOLS_QWEN_CODER, CALL "\n{\"name\": \"get\"}\n" END, "<call>\n{\"name\": \"get\"}\n</call>",
     ""},
    {TOOLS_QWEN_CODER, CALL "<function=get>\n<parameter=a>\nx\n</parameter>\n<param", "",
     "get {\"a\": \"x\";"},
    {TOOLS_QWEN_CODER, CALL "<functi", "<call><functi", ""},
    {TOOLS_QWEN_CODER, CALL "<function=get></function>" END "\nand", "\nand", "get {};"},
    {TOOLS_MISTRAL,
     BEGIN " [{\"name\": \"get\", \"arguments\": {\"a\": \"]}\"}}, {\"name\": \"put_it\", "
           "\"arguments\": {}, \"id\": \"abcdefghi\"}]",
     "", "get {\"a\": \"]}\"};put_it {};"},
    {TOOLS_MISTRAL, "So: " BEGIN "[{\"name\": \"get\", \"arguments\": {}}]\n", "So: ", "get {};"},
    {TOOLS_MISTRAL, BEGIN "[{\"name\": \"nix\", \"arguments\": {}}]",
     "<calls>[{\"name\": \"nix\", \"arguments\": {}}]", ""},
    {TOOLS_MISTRAL, BEGIN "[{\"name\": \"get\", \"arguments\": {\"a\": ", "", "get {\"a\": ;"},
    {TOOLS_MISTRAL, BEGIN " none", "<calls> none", ""},
    {TOOLS_MISTRAL, "[{\"name\": \"get\", \"arguments\": {}}]",
     "[{\"name\": \"get\", \"arguments\": {}}]", ""},
    {TOOLS_LLAMA, "{\"name\": \"get\", \"parameters\": {\"a\": {}}}", "", "get {\"a\": {}};"},
    {TOOLS_LLAMA, " {\"type\": \"function\", \"name\": \"get\", \"parameters\": {}}", "",
     "get {};"},
    {TOOLS_LLAMA,
     "{\"name\": \"get\", \"parameters\": {}}; {\"name\": \"put_it\", \"parameters\": {}}", "",
     "get {};put_it {};"},
    {TOOLS_LLAMA, "{\"temperature\": 20}", "{\"temperature\": 20}", ""},
    {TOOLS_LLAMA, "{\"name\": \"Ada\", \"age\": 3}", "{\"name\": \"Ada\", \"age\": 3}", ""},
    {TOOLS_LLAMA, "{\"name\": \"nix\", \"parameters\": {}}",
     "{\"name\": \"nix\", \"parameters\": {}}", ""},
    {TOOLS_LLAMA, " text {\"name\": \"get\", \"parameters\": {}}",
     " text {\"name\": \"get\", \"parameters\": {}}", ""},
    {TOOLS_LLAMA, " \n", " \n", ""},
};

static void check_case(size_t i, const size_t cuts[2], bool single)
{
    struct outcome got;
    run(cases[i].form, cases[i].script, cuts, single, &got);
    CHECK_STR(got.content, cases[i].content);
    CHECK_STR(got.calls, cases[i].calls);
}

int main(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t len = strlen(cases[i].script);
        check_case(i, (const size_t[]){0, 0}, false);
        check_case(i, (const size_t[]){0, 0}, true);
        for (size_t a = 1; a < len; a++)
            for (size_t b = a; b < len; b++)
                check_case(i, (const size_t[]){a, b}, false);
    }
    return check_done();
}
