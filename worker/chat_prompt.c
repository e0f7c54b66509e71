#include "base/json.h"
#include "worker/chat_private.h"

void prompt_begin(struct prompt *p, const struct tokenizer *t, struct token_list *out)
{
    *p = (struct prompt){.tokenizer = t, .out = out, .status = OK};
    buf_init(&p->plain, SIZE_MAX / 4);
}

static void flush(struct prompt *p)
{
    if (p->status == OK && buf_len(&p->plain))
        p->status = tokenizer_encode(p->tokenizer, (const char *)buf_head(&p->plain),
                                     buf_len(&p->plain), false, p->out);
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

/* ---- JSON as Python writes it ---- */

struct writer {
    struct prompt *p;
    int indent, depth;
};

static void new_line(struct writer *w)
{
    if (!w->indent)
        return;
    prompt_words(w->p, "\n");
    for (int i = 0; i < w->indent * w->depth; i++)
        prompt_words(w->p, " ");
}

static void put_character(struct prompt *p, uint32_t c)
{
    static const char named[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* character, letter behind \ */
    char text[8];
    for (const char *n = named; *n; n += 2)
        if (c == (unsigned char)*n) {
            prompt_words_n(p, (char[]){'\\', n[1]}, 2);
            return;
        }
    if (c < 0x20)
        prompt_words_n(p, text, (size_t)snprintf(text, sizeof text, "\\u%04x", c));
    else if (c < 0x80)
        prompt_words_n(p, (char[]){(char)c}, 1);
    else if (c < 0x800)
        prompt_words_n(p, (char[]){(char)(0xc0 | c >> 6), (char)(0x80 | (c & 63))}, 2);
    else if (c < 0x10000)
        prompt_words_n(
            p,
            (char[]){(char)(0xe0 | c >> 12), (char)(0x80 | (c >> 6 & 63)), (char)(0x80 | (c & 63))},
            3);
    else
        prompt_words_n(p,
                       (char[]){(char)(0xf0 | c >> 18), (char)(0x80 | (c >> 12 & 63)),
                                (char)(0x80 | (c >> 6 & 63)), (char)(0x80 | (c & 63))},
                       4);
}

static uint32_t hex4(const char *text)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char c = text[i];
        value = value * 16 + (uint32_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return value;
}

/* One escape, from behind its backslash; the guard has seen that it is right. */
static const char *put_escape(struct prompt *p, const char *at)
{
    static const char plain[] = "b\bf\fn\nr\rt\t";
    if (*at != 'u') {
        const char *named = strchr(plain, *at);
        put_character(p, (unsigned char)(named ? named[1] : *at));
        return at + 1;
    }
    uint32_t c = hex4(at + 1);
    at += 5;
    if (c >= 0xd800 && c < 0xdc00) {
        c = 0x10000 + ((c - 0xd800) << 10) + (hex4(at + 2) - 0xdc00);
        at += 6;
    }
    put_character(p, c);
    return at;
}

/* From the quote on; returns what is behind the closing one. */
static const char *put_string(struct prompt *p, const char *at)
{
    prompt_words(p, "\"");
    for (at++; *at != '"';) {
        size_t run = strcspn(at, "\"\\");
        prompt_words_n(p, at, run);
        at += run;
        if (*at == '\\')
            at = put_escape(p, at + 1);
    }
    prompt_words(p, "\"");
    return at + 1;
}

static const char *put_bracket(struct writer *w, const char *at)
{
    char c = *at++;
    bool opens = c == '{' || c == '[';
    if (opens) {
        at += strspn(at, " \t\r\n");
        bool empty = *at == '}' || *at == ']';
        prompt_words_n(w->p, &c, 1);
        w->depth++;
        if (!empty) {
            new_line(w);
        } else {
            prompt_words_n(w->p, at, 1);
            w->depth--;
            at++;
        }
        return at;
    }
    w->depth--;
    new_line(w);
    prompt_words_n(w->p, &c, 1);
    return at;
}

static void put_json(struct writer *w, const char *at)
{
    while (*at && w->p->status == OK) {
        size_t run;
        switch (*at) {
        case ' ':
        case '\t':
        case '\r':
        case '\n':
            at++;
            break;
        case '"':
            at = put_string(w->p, at);
            break;
        case ',':
            prompt_words(w->p, w->indent ? "," : ", ");
            new_line(w);
            at++;
            break;
        case ':':
            prompt_words(w->p, ": ");
            at++;
            break;
        case '{':
        case '[':
        case '}':
        case ']':
            at = put_bracket(w, at);
            break;
        default: /* a number, true, false, null */
            run = strcspn(at, " \t\r\n,:{}[]\"");
            prompt_words_n(w->p, at, run);
            at += run;
        }
    }
}

void prompt_json(struct prompt *p, const char *json, int indent)
{
    if (p->status != OK)
        return;
    if (json_guard(json, strlen(json), NULL, NULL) != OK) {
        prompt_words(p, json);
        return;
    }
    struct writer w = {p, indent, 0};
    put_json(&w, json);
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
