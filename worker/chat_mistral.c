/*
 * Mistral's templates. Of the first years, Mixtral 8x7B and Mistral 7B v0.1: "<s>[INST] words
 * [/INST]answer</s>". [INST] is text, no token. The first ones take no system text. The later one
 * puts it in front of the first question, and a space in front of [INST] and of an answer.
 *
 * Mistral 7B v0.3 and Nemo, Mixtral 8x22B: [INST] and the like are tokens. The tools are shown in
 * front of the last question, the system text inside it, as long as nothing follows. Calls are a
 * list of JSON objects; an id has nine letters and digits.
 */
#include "worker/chat_private.h"

struct form {
    const char *begin;  /* of a question */
    const char *answer; /* what stands in front of one ... */
    const char *behind; /* ... and behind one, and its end token */
    bool system;
};

static enum status render(const struct chat_request *in, struct prompt *p, const struct form *f,
                          struct error *err)
{
    int first = f->system && chat_is(&in->messages[0], "system");
    prompt_literal(p, "<s>");
    for (int i = first; i < in->count; i++) {
        const struct chat_message *m = &in->messages[i];
        bool user = (i - first) % 2 == 0;
        if (!chat_is(m, user ? "user" : "assistant"))
            return error_set(err, INVALID,
                             "messages[%d]: this model takes user and assistant in turn", i);
        prompt_words(p, user ? f->begin : f->answer);
        if (first && i == first) {
            prompt_words(p, in->messages[0].content);
            prompt_words(p, "\n\n");
        }
        prompt_words(p, m->content);
        if (user)
            prompt_words(p, " [/INST]");
        else if (!m->prefix)
            prompt_literal(p, f->behind);
    }
    return OK;
}

static enum status render_mixtral(const struct chat_request *in, struct prompt *p,
                                  struct error *err)
{
    return render(in, p, &(struct form){" [INST] ", " ", "</s>", true}, err);
}

static enum status render_mixtral_first(const struct chat_request *in, struct prompt *p,
                                        struct error *err)
{
    return render(in, p, &(struct form){"[INST] ", "", "</s>", false}, err);
}

static enum status render_mistral_first(const struct chat_request *in, struct prompt *p,
                                        struct error *err)
{
    return render(in, p, &(struct form){"[INST] ", "", "</s> ", false}, err);
}

/* ---- tokens for [INST]: v0.3, Nemo, 8x22B ---- */

enum { ID_LETTERS = 9 };

struct later {
    const char *space; /* behind [INST], in front of answers and lists; "": none */
    bool strips;       /* an answer */
};

/* Questions and answers in turn, calls and results between them. */
static enum status check_turns(const struct chat_request *in, struct error *err)
{
    int turn = 0;
    for (int i = chat_is(&in->messages[0], "system"); i < in->count; i++) {
        const struct chat_message *m = &in->messages[i];
        if (chat_is(m, "tool") || m->tool_call_count)
            continue;
        if (!chat_is(m, turn++ % 2 == 0 ? "user" : "assistant"))
            return error_set(err, INVALID,
                             "messages[%d]: this model takes user and assistant in turn", i);
    }
    return OK;
}

/* The template takes no others; what a client brings from elsewhere gets one of the same kind. */
static void put_id(struct prompt *p, const char *id)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    if (strlen(id) == ID_LETTERS && strspn(id, letters) == ID_LETTERS) {
        prompt_words(p, id);
        return;
    }
    uint64_t sum = 0xcbf29ce484222325u; /* FNV-1a */
    for (const char *c = id; *c; c++)
        sum = (sum ^ (unsigned char)*c) * 0x100000001b3u;
    for (int i = 0; i < ID_LETTERS; i++, sum /= 62)
        prompt_words_n(p, &letters[sum % 62], 1);
}

/* Texts stand between quotes as they are. */
static void put_tools(const struct chat_request *in, struct prompt *p, const struct later *f)
{
    prompt_literal(p, "[AVAILABLE_TOOLS]");
    prompt_words(p, f->space);
    prompt_words(p, "[");
    for (int i = 0; i < in->tool_count; i++) {
        const struct tool *t = &in->tools[i];
        prompt_words(p, i ? ", {\"type\": \"function\", \"function\": {\"name\": \""
                          : "{\"type\": \"function\", \"function\": {\"name\": \"");
        prompt_words(p, t->name);
        if (*t->description) {
            prompt_words(p, "\", \"description\": \"");
            prompt_words(p, t->description);
        }
        prompt_words(p, *t->parameters ? "\", \"parameters\": " : "\"");
        if (*t->parameters)
            prompt_json(p, t->parameters, 0);
        prompt_words(p, "}}");
    }
    prompt_words(p, "]");
    prompt_literal(p, "[/AVAILABLE_TOOLS]");
}

static void put_question(const struct chat_request *in, struct prompt *p, int at,
                         const struct later *f)
{
    bool system = at + 1 == in->count && chat_is(&in->messages[0], "system");
    int last = in->count - 1;
    while (!chat_is(&in->messages[last], "user"))
        last--;
    if (in->tool_count && strcmp(in->messages[at].content, in->messages[last].content) == 0)
        put_tools(in, p, f);
    prompt_literal(p, "[INST]");
    prompt_words(p, f->space);
    if (system) {
        prompt_words(p, in->messages[0].content);
        prompt_words(p, "\n\n");
    }
    prompt_words(p, in->messages[at].content);
    prompt_literal(p, "[/INST]");
}

static void put_calls(struct prompt *p, const struct chat_message *m, const struct later *f)
{
    prompt_literal(p, "[TOOL_CALLS]");
    prompt_words(p, f->space);
    for (int i = 0; i < m->tool_call_count; i++) {
        prompt_words(p, i ? ", {\"name\": \"" : "[{\"name\": \"");
        prompt_words(p, m->tool_calls[i].name);
        prompt_words(p, "\", \"arguments\": ");
        prompt_json(p, m->tool_calls[i].arguments, 0);
        prompt_words(p, ", \"id\": \"");
        put_id(p, m->tool_calls[i].id);
        prompt_words(p, "\"}");
    }
    prompt_words(p, "]");
    prompt_literal(p, "</s>");
}

static void put_answer(struct prompt *p, const struct chat_message *m, const struct later *f)
{
    size_t len = strlen(m->content);
    const char *text = f->strips && !m->prefix ? chat_trim(m->content, &len) : m->content;
    prompt_words(p, f->space);
    prompt_words_n(p, text, len);
    if (!m->prefix)
        prompt_literal(p, "</s>");
}

static void put_result(struct prompt *p, const struct chat_message *m, const struct later *f)
{
    prompt_literal(p, "[TOOL_RESULTS]");
    prompt_words(p, f->space);
    prompt_words(p, "{\"content\": ");
    prompt_words(p, m->content);
    prompt_words(p, ", \"call_id\": \"");
    put_id(p, m->tool_call_id);
    prompt_words(p, "\"}");
    prompt_literal(p, "[/TOOL_RESULTS]");
}

static enum status render_later(const struct chat_request *in, struct prompt *p,
                                const struct later *f, struct error *err)
{
    enum status st = check_turns(in, err);
    if (st != OK)
        return st;
    prompt_literal(p, "<s>");
    for (int i = chat_is(&in->messages[0], "system"); i < in->count; i++) {
        const struct chat_message *m = &in->messages[i];
        if (chat_is(m, "user"))
            put_question(in, p, i, f);
        else if (m->tool_call_count)
            put_calls(p, m, f);
        else if (chat_is(m, "tool"))
            put_result(p, m, f);
        else
            put_answer(p, m, f);
    }
    return OK;
}

static enum status render_v3(const struct chat_request *in, struct prompt *p, struct error *err)
{
    return render_later(in, p, &(struct later){" ", true}, err);
}

static enum status render_nemo(const struct chat_request *in, struct prompt *p, struct error *err)
{
    return render_later(in, p, &(struct later){"", false}, err);
}

static enum status render_8x22b(const struct chat_request *in, struct prompt *p, struct error *err)
{
    return render_later(in, p, &(struct later){" ", false}, err);
}

#define OVERHEAD                                                                                   \
    {                                                                                              \
        .prompt = 24, .message = 24                                                                \
    }

const struct chat_kind chat_mixtral = {
    .name = "Mixtral",
    .has = {"' [INST] ' + system_message", "' [/INST]'", "' ' + message['content'] + eos_token"},
    .has_not = {"<<SYS>>", "tool"},
    .needs = {"<s>", "</s>"},
    .ends = {"</s>"},
    .render = render_mixtral,
    .overhead = OVERHEAD,
};

const struct chat_kind chat_mixtral_first = {
    .name = "Mixtral (first)",
    .has = {"'[INST] ' + message['content'] + ' [/INST]'",
            "Only user and assistant roles are supported!"},
    .has_not = {"<<SYS>>", "tool", "eos_token + ' '", "system"},
    .needs = {"<s>", "</s>"},
    .ends = {"</s>"},
    .render = render_mixtral_first,
    .overhead = OVERHEAD,
};

const struct chat_kind chat_mistral_first = {
    .name = "Mistral (first)",
    .has = {"'[INST] ' + message['content'] + ' [/INST]'",
            "Only user and assistant roles are supported!", "eos_token + ' '"},
    .has_not = {"<<SYS>>", "tool", "system"},
    .needs = {"<s>", "</s>"},
    .ends = {"</s>"},
    .render = render_mistral_first,
    .overhead = OVERHEAD,
};

#define TOKENS "<s>", "</s>", "[INST]", "[/INST]"
#define CALL_TOKENS                                                                                \
    {                                                                                              \
        "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",               \
            "[/TOOL_RESULTS]"                                                                      \
    }
#define LATER_OVERHEAD                                                                             \
    {                                                                                              \
        .prompt = 16, .message = 48, .tools = 16, .tool = 80                                       \
    }

const struct chat_kind chat_mistral_v3 = {
    .name = "Mistral v0.3",
    .has = {"\"[INST] \" + message[\"content\"] + \"[/INST]\"", "[AVAILABLE_TOOLS] [",
            "Tool call IDs should be alphanumeric strings with length 9!"},
    .has_not = {"[SYSTEM_PROMPT]"},
    .needs = {TOKENS},
    .tool_tokens = CALL_TOKENS,
    .ends = {"</s>"},
    .tools = TOOLS_MISTRAL,
    .render = render_v3,
    .overhead = LATER_OVERHEAD,
};

const struct chat_kind chat_mistral_nemo = {
    .name = "Mistral Nemo",
    .has = {"\"[INST]\" + message[\"content\"] + \"[/INST]\"", "[AVAILABLE_TOOLS][",
            "Tool call IDs should be alphanumeric strings with length 9!"},
    .has_not = {"[SYSTEM_PROMPT]"},
    .needs = {TOKENS},
    .tool_tokens = CALL_TOKENS,
    .ends = {"</s>"},
    .tools = TOOLS_MISTRAL,
    .render = render_nemo,
    .overhead = LATER_OVERHEAD,
};

const struct chat_kind chat_mixtral_8x22b = {
    .name = "Mixtral 8x22B",
    .has = {"'[INST] ' + message['content'] + '[/INST]'", "loop.last and system_message is defined",
            "' ' + message['content'] + eos_token"},
    .has_not = {"tool", "[SYSTEM_PROMPT]"},
    .needs = {TOKENS},
    .ends = {"</s>"},
    .render = render_8x22b,
    .overhead = LATER_OVERHEAD,
};
