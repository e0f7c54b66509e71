/*
 * Llama's templates. 2: "<s>[INST] words [/INST] answer </s>" with the system text
 * inside the first question. 3: a header with the role, words, <|eot_id|>. 3.1 to 3.3 add a system
 * message with a date, show tools in the first question, and take one call a message as JSON; 3.2
 * says today's date, the others a fixed one.
 */
#include <time.h>

#include "base/json.h"
#include "worker/chat_private.h"

static void put_trimmed(struct prompt *p, const char *text)
{
    size_t len;
    text = chat_trim(text, &len);
    prompt_words_n(p, text, len);
}

/* ---- Llama 2 ---- */

static enum status put_2(const struct chat_request *in, struct prompt *p, int at, int turn,
                         struct error *err)
{
    const struct chat_message *m = &in->messages[at];
    bool user = turn % 2 == 0;
    if (!chat_is(m, user ? "user" : "assistant"))
        return error_set(err, INVALID, "messages[%d]: this model takes user and assistant in turn",
                         at);
    if (!user) {
        prompt_words(p, " ");
        put_trimmed(p, m->content);
        if (!m->prefix)
            prompt_literal(p, " </s>");
        return OK;
    }
    prompt_literal(p, "<s>[INST] ");
    if (turn == 0 && at == 1) {
        /* The whole, system text and question, is stripped as one. */
        size_t len;
        prompt_words(p, "<<SYS>>\n");
        prompt_words(p, in->messages[0].content);
        prompt_words(p, "\n<</SYS>>\n\n");
        chat_trim(m->content, &len);
        size_t whole = strlen(m->content);
        while (whole && strchr(" \t\n\v\f\r", m->content[whole - 1]))
            whole--;
        prompt_words_n(p, m->content, whole);
    } else {
        put_trimmed(p, m->content);
    }
    prompt_words(p, " [/INST]");
    return OK;
}

static enum status render_llama2(const struct chat_request *in, struct prompt *p, struct error *err)
{
    int first = chat_is(&in->messages[0], "system");
    enum status st = OK;
    if (first == in->count)
        return error_set(err, INVALID, "messages: there is no message of the user");
    for (int i = first; i < in->count && st == OK; i++)
        st = put_2(in, p, i, i - first, err);
    return st;
}

const struct chat_kind chat_llama2 = {
    .name = "Llama 2",
    .has = {"<<SYS>>", "{% set system_message = false %}", "bos_token + '[INST] ' + content",
            "' ' + eos_token"},
    .has_not = {"tool", "true == true", "elif not", "+ content + ' [/INST]'"},
    .needs = {"<s>", "</s>"},
    .ends = {"</s>"},
    .render = render_llama2,
    .overhead = {.prompt = 24, .message = 24},
};

/* ---- Llama 3 ---- */

static void put_header(struct prompt *p, const char *role)
{
    prompt_literal(p, "<|start_header_id|>");
    prompt_words(p, role);
    prompt_literal(p, "<|end_header_id|>\n\n");
}

static void put_turn(struct prompt *p, const struct chat_message *m)
{
    put_header(p, m->role);
    if (m->prefix) {
        prompt_words(p, m->content); /* what it ends on matters to what follows */
        return;
    }
    put_trimmed(p, m->content);
    prompt_literal(p, "<|eot_id|>");
}

static enum status render_llama3(const struct chat_request *in, struct prompt *p, struct error *err)
{
    prompt_literal(p, "<|begin_of_text|>");
    for (int i = 0; i < in->count; i++)
        put_turn(p, &in->messages[i]);
    if (!chat_prefix(in))
        put_header(p, "assistant");
    return OK;
}

/* ---- Llama 3.1 ---- */

static void put_system_31(const struct chat_request *in, struct prompt *p, const char *date)
{
    put_header(p, "system");
    if (in->tool_count)
        prompt_words(p, "Environment: ipython\n");
    prompt_words(p, "Cutting Knowledge Date: December 2023\nToday Date: ");
    prompt_words(p, date);
    prompt_words(p, "\n\n");
    if (chat_is(&in->messages[0], "system"))
        put_trimmed(p, in->messages[0].content);
    prompt_literal(p, "<|eot_id|>");
}

static void put_tools_31(const struct chat_request *in, struct prompt *p,
                         const struct chat_message *question)
{
    put_header(p, "user");
    prompt_words(p, "Given the following functions, please respond with a JSON for a function call "
                    "with its proper arguments that best answers the given prompt.\n\nRespond in "
                    "the format {\"name\": function name, \"parameters\": dictionary of argument "
                    "name and its value}.Do not use variables.\n\n");
    for (int i = 0; i < in->tool_count; i++) {
        prompt_tool(p, &in->tools[i], 4, false);
        prompt_words(p, "\n\n");
    }
    put_trimmed(p, question->content);
    prompt_literal(p, "<|eot_id|>");
}

/* A result is a string, which the template writes as JSON: with quotes and escapes. */
static void put_result_31(struct prompt *p, const struct chat_message *m)
{
    struct buf b;
    buf_init(&b, SIZE_MAX / 4);
    put_header(p, "ipython");
    enum status st = json_put_string(&b, m->content, strlen(m->content));
    const char *text = st == OK ? buf_cstr(&b) : NULL;
    if (text)
        prompt_json(p, text, 0);
    else
        p->status = NOMEM;
    buf_done(&b);
    prompt_literal(p, "<|eot_id|>");
}

static void put_call_31(struct prompt *p, const struct tool_call *call)
{
    put_header(p, "assistant");
    prompt_words(p, "{\"name\": \"");
    prompt_words(p, call->name);
    prompt_words(p, "\", \"parameters\": ");
    prompt_json(p, call->arguments, 0);
    prompt_literal(p, "}<|eot_id|>");
}

static enum status render_31(const struct chat_request *in, struct prompt *p, const char *date,
                             struct error *err)
{
    int i = chat_is(&in->messages[0], "system");
    prompt_literal(p, "<|begin_of_text|>");
    put_system_31(in, p, date);
    if (in->tool_count) {
        if (i == in->count || !chat_is(&in->messages[i], "user"))
            return error_set(err, INVALID,
                             "messages[%d]: with tools, this model takes the user's "
                             "message first",
                             i);
        put_tools_31(in, p, &in->messages[i++]);
    }
    for (; i < in->count; i++) {
        const struct chat_message *m = &in->messages[i];
        if (chat_is(m, "tool"))
            put_result_31(p, m);
        else if (m->tool_call_count)
            put_call_31(p, &m->tool_calls[0]);
        else
            put_turn(p, m);
    }
    if (!chat_prefix(in))
        put_header(p, "assistant");
    return OK;
}

static enum status render_llama31(const struct chat_request *in, struct prompt *p,
                                  struct error *err)
{
    return render_31(in, p, "26 Jul 2024", err);
}

static enum status render_llama32(const struct chat_request *in, struct prompt *p,
                                  struct error *err)
{
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    char date[48];
    struct tm day;
    time_t now = (time_t)in->wall_s;
    gmtime_r(&now, &day);
    snprintf(date, sizeof date, "%02d %s %d", day.tm_mday, months[day.tm_mon], day.tm_year + 1900);
    return render_31(in, p, date, err);
}

#define HEADER_TOKENS                                                                              \
    {                                                                                              \
        "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"              \
    }
#define ENDS                                                                                       \
    {                                                                                              \
        "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"                                              \
    }

const struct chat_kind chat_llama3 = {
    .name = "Llama 3",
    .has = {"<|start_header_id|>", "loop_messages", "{% set content = bos_token + content %}"},
    .has_not = {"ipython", "tool", "function"},
    .needs = HEADER_TOKENS,
    .ends = ENDS,
    .render = render_llama3,
    .overhead = {.prompt = 16, .message = 16},
};

const struct chat_kind chat_llama31 = {
    .name = "Llama 3.1",
    .has = {"<|start_header_id|>", "ipython", "Cutting Knowledge Date: December 2023"},
    .has_not = {"strftime_now", "<function="},
    .needs = HEADER_TOKENS,
    .ends = ENDS,
    .tools = TOOLS_LLAMA,
    .single_calls = true,
    .render = render_llama31,
    .overhead = {.prompt = 128, .message = 24, .tools = 320, .tool = 512},
};

const struct chat_kind chat_llama32 = {
    .name = "Llama 3.2",
    .has = {"<|start_header_id|>", "ipython", "Cutting Knowledge Date: December 2023",
            "strftime_now"},
    .has_not = {"<function=", "image"},
    .needs = HEADER_TOKENS,
    .ends = ENDS,
    .tools = TOOLS_LLAMA,
    .single_calls = true,
    .render = render_llama32,
    .overhead = {.prompt = 128, .message = 24, .tools = 320, .tool = 512},
};
