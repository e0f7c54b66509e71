#include "base/json.h"
#include "worker/chat_private.h"

void prompt_begin(struct prompt *p, const struct tokenizer *t, struct token_list *out)
{
    *p = (struct prompt){.tokenizer = t, .out = out, .status = OK};
    buf_init(&p->plain, SIZE_MAX / 4);
}

static void flush(struct prompt *p)
{
    const char *text = (const char *)buf_head(&p->plain);
    size_t len = buf_len(&p->plain);
    if (p->status == OK && len)
        p->status = p->out->count ? tokenizer_encode_on(p->tokenizer, text, len, p->out)
                                  : tokenizer_encode(p->tokenizer, text, len, false, p->out);
    buf_clear(&p->plain);
}

enum status prompt_end(struct prompt *p)
{
    flush(p);
    buf_done(&p->plain);
    return p->status;
}

void prompt_words_n(struct prompt *p, const char *text, size_t len)
{
    if (p->status == OK)
        p->status = buf_add(&p->plain, text, len);
}

void prompt_words(struct prompt *p, const char *text)
{
    prompt_words_n(p, text, strlen(text));
}

void prompt_literal(struct prompt *p, const char *text)
{
    size_t len = strlen(text), done = 0;
    for (size_t i = 0; i < len && p->status == OK;) {
        size_t token_len = 0;
        int32_t id = tokenizer_added_at(p->tokenizer, text + i, len - i, &token_len);
        if (id < 0) {
            i++;
            continue;
        }
        prompt_words_n(p, text + done, i - done);
        flush(p);
        if (p->status == OK)
            p->status = token_list_add(p->out, id);
        i += token_len;
        done = i;
    }
    prompt_words_n(p, text + done, len - done);
}

/* The tool as the text that its client sent, more or less: the order of its members is ours. */
static enum status tool_text(struct buf *b, const struct tool *tool, bool inner)
{
    enum status st =
        buf_adds(b, inner ? "{\"name\":" : "{\"type\":\"function\",\"function\":{\"name\":");
    if (st == OK)
        st = json_put_string(b, tool->name, strlen(tool->name));
    if (st == OK && *tool->description)
        st = buf_adds(b, ",\"description\":");
    if (st == OK && *tool->description)
        st = json_put_string(b, tool->description, strlen(tool->description));
    if (st == OK && *tool->parameters)
        st = buf_addf(b, ",\"parameters\":%s", tool->parameters);
    return st == OK ? buf_adds(b, inner ? "}" : "}}") : st;
}

void prompt_tool(struct prompt *p, const struct tool *tool, int indent, bool inner)
{
    struct buf b;
    if (p->status != OK)
        return;
    buf_init(&b, SIZE_MAX / 4);
    enum status st = tool_text(&b, tool, inner);
    const char *text = st == OK ? buf_cstr(&b) : NULL;
    if (text)
        prompt_json(p, text, indent);
    else
        p->status = NOMEM;
    buf_done(&b);
}

/* ---- what templates have in common ---- */

const char *chat_trim(const char *text, size_t *len)
{
    static const char space[] = " \t\n\v\f\r";
    text += strspn(text, space);
    *len = strlen(text);
    while (*len && strchr(space, text[*len - 1]))
        --*len;
    return text;
}

bool chat_is(const struct chat_message *m, const char *role)
{
    return m && strcmp(m->role, role) == 0;
}

const struct chat_message *chat_prefix(const struct chat_request *in)
{
    const struct chat_message *last = &in->messages[in->count - 1];
    return last->prefix ? last : NULL;
}

const char *chat_after_first_think(const char *content)
{
    const char *end = strstr(content, "</think>");
    return end ? end + strlen("</think>") : content;
}

const char *chat_after_last_think(const char *content)
{
    for (const char *next; (next = strstr(content, "</think>"));)
        content = next + strlen("</think>");
    return content;
}

void chat_systems(const struct chat_request *in, struct prompt *p, bool *any)
{
    bool first = true;
    *any = false;
    for (int i = 0; i < in->count; i++) {
        if (!chat_is(&in->messages[i], "system"))
            continue;
        if (!first)
            prompt_words(p, "\n\n");
        prompt_words(p, in->messages[i].content);
        *any = *any || *in->messages[i].content;
        first = false;
    }
}
