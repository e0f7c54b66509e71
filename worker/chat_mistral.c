/*
 * The templates of Mixtral 8x7B, and of Mistral 7B in the same years: "<s>[INST] words
 * [/INST]answer
 * </s>". [INST] is text, no token. The first ones take no system text. The later one puts it in
 * front of the first question, and a space in front of [INST] and of an answer.
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
