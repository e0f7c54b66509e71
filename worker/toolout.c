#include "worker/toolout.h"

#include "base/json.h"
#include "worker/coder_form.h"
#include "worker/toolout_json.h"

enum {
    ARGUMENT_MAX = 64 << 20, /* bytes of an argument that is told as one */
    HEAD_MAX = 1 << 20 /* bytes in front of the arguments, or of a call that is not streamed */
};

enum state {
    OUTSIDE, /* content */
    REGION,  /* between calls */
    HEAD,    /* up to the name, or to the arguments */
    FENCE,   /* behind the name: the line that opens the arguments */
    ARGUMENTS,
    TAIL, /* behind the arguments */
    LOST, /* in a call that was given back */
};

struct toolout {
    enum tool_form form;
    char **names;
    struct coder_parameters *parameters;   /* QWEN_CODER: of each */
    const struct coder_parameters *called; /* its: of the function at hand */
    bool told;                             /* its: an argument */
    size_t seen;                           /* its: bytes of head without a parameter's end */
    int name_count;
    uint64_t id_seed;
    enum state state;
    int calls;
    bool begun;       /* LLAMA: there was content */
    bool whole;       /* the head is read when the call has ended */
    struct buf raw;   /* what would be given back */
    struct buf head;  /* text since the state began */
    struct buf piece; /* of arguments, to be told */
    struct json_track track;
};

void toolout_free(struct toolout *t)
{
    if (!t)
        return;
    for (int i = 0; t->names && i < t->name_count; i++)
        free(t->names[i]);
    for (int i = 0; t->parameters && i < t->name_count; i++)
        coder_done(&t->parameters[i]);
    free(t->names);
    free(t->parameters);
    buf_done(&t->raw);
    buf_done(&t->head);
    buf_done(&t->piece);
    free(t);
}

struct toolout *toolout_new(const struct toolout_options *o)
{
    struct toolout *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->form = o->form;
    t->id_seed = o->id_seed;
    buf_init(&t->raw, HEAD_MAX);
    buf_init(&t->head, o->form == TOOLS_QWEN_CODER ? ARGUMENT_MAX : HEAD_MAX);
    buf_init(&t->piece, SIZE_MAX / 4);
    t->names = calloc((size_t)o->tool_count + 1, sizeof *t->names);
    t->parameters = calloc((size_t)o->tool_count + 1, sizeof *t->parameters);
    bool made = t->names && t->parameters;
    for (int i = 0; made && i < o->tool_count; i++) {
        t->names[i] = strdup(o->tools[i].name);
        t->name_count++;
        made = t->names[i] && (o->form != TOOLS_QWEN_CODER ||
                               coder_read(o->tools[i].parameters, &t->parameters[i]) == OK);
    }
    if (!made) {
        toolout_free(t);
        return NULL;
    }
    return t;
}

int toolout_calls(const struct toolout *t)
{
    return t->calls;
}

bool toolout_within(const struct toolout *t)
{
    return t->state != OUTSIDE && t->state != LOST;
}

bool toolout_within_call(const struct toolout *t)
{
    return t->state != OUTSIDE && t->state != REGION;
}

static void set_state(struct toolout *t, enum state state)
{
    t->state = state;
    t->whole = false;
    t->seen = 0;
    buf_clear(&t->head);
    t->track = (struct json_track){0};
}

/* Forms without marks around each call: an object's end is the call's. */
static bool is_bare(enum tool_form form)
{
    return form == TOOLS_LLAMA || form == TOOLS_MISTRAL;
}

/* ---- what comes out ---- */

static enum status give_back(struct toolout *t, enum state next, struct buf *content)
{
    enum status st = buf_len(&t->raw) ? buf_add(content, buf_head(&t->raw), buf_len(&t->raw)) : OK;
    buf_clear(&t->raw);
    set_state(t, next);
    return st;
}

static int tool_at(const struct toolout *t, const char *name, size_t len)
{
    for (int i = 0; i < t->name_count; i++)
        if (strlen(t->names[i]) == len && memcmp(t->names[i], name, len) == 0)
            return i;
    return -1;
}

static bool is_tool(const struct toolout *t, const char *name, size_t len)
{
    return tool_at(t, name, len) >= 0;
}

/* splitmix64 */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static enum status tell_name(struct toolout *t, const char *name, size_t len, struct delta *out)
{
    char id[32], text[128];
    uint64_t number = mix(t->id_seed ^ mix((uint64_t)t->calls + 1));
    if (t->form == TOOLS_MISTRAL) /* it takes only such of nine letters and digits back */
        snprintf(id, sizeof id, "%09llx", (unsigned long long)(number & 0xfffffffffu));
    else
        snprintf(id, sizeof id, "call_%016llx", (unsigned long long)number);
    snprintf(text, sizeof text, "%.*s", (int)len, name);
    struct delta_call call = {(uint32_t)t->calls, id, text, ""};
    t->calls++;
    buf_clear(&t->raw);
    return delta_add_call(out, &call);
}

static enum status tell_arguments(struct toolout *t, const char *text, size_t len,
                                  struct delta *out)
{
    if (!len)
        return OK;
    buf_clear(&t->piece);
    enum status st = buf_add(&t->piece, text, len);
    const char *z = st == OK ? buf_cstr(&t->piece) : NULL;
    if (!z)
        return st == OK ? NOMEM : st;
    return delta_add_call(out, &(struct delta_call){(uint32_t)t->calls - 1, "", "", z});
}

/* ---- heads ---- */

static size_t trimmed(const char **text, size_t len)
{
    while (len && strchr(" \t\r\n", **text)) {
        ++*text;
        len--;
    }
    while (len && strchr(" \t\r\n", (*text)[len - 1]))
        len--;
    return len;
}

/* The name is all of the text; the arguments (or the fence) follow. */
static enum status take_name(struct toolout *t, const char *text, size_t len, enum state next,
                             struct delta *out, struct buf *content)
{
    len = trimmed(&text, len);
    if (!is_tool(t, text, len))
        return give_back(t, LOST, content);
    enum status st = tell_name(t, text, len, out);
    set_state(t, next);
    return st;
}

static enum status head_line(struct toolout *t, struct delta *out, struct buf *content)
{
    const char *head = (const char *)buf_head(&t->head);
    const char *end = memchr(head, '\n', buf_len(&t->head));
    if (!end)
        return OK;
    struct buf rest;
    buf_init(&rest, HEAD_MAX);
    size_t len = (size_t)(end - head);
    enum status st = buf_add(&rest, end + 1, buf_len(&t->head) - len - 1);
    if (st == OK)
        st = take_name(t, head, len, FENCE, out, content);
    if (st == OK && t->state == FENCE)
        st = toolout_text(t, (const char *)buf_head(&rest), buf_len(&rest), out, content);
    else if (st == OK && buf_len(&rest))
        st = OK; /* given back already, as part of raw */
    buf_done(&rest);
    return st;
}

static enum status fence(struct toolout *t, struct delta *out, struct buf *content)
{
    static const char opening[] = "```json\n";
    const char *head = (const char *)buf_head(&t->head);
    size_t len = buf_len(&t->head), n = sizeof opening - 1;
    if (len < n && memcmp(head, opening, len) == 0)
        return OK;
    size_t skip = len >= n && memcmp(head, opening, n) == 0 ? n : 0;
    struct buf rest;
    buf_init(&rest, HEAD_MAX);
    enum status st = buf_add(&rest, head + skip, len - skip);
    set_state(t, ARGUMENTS);
    if (st == OK && buf_len(&rest))
        st = toolout_text(t, (const char *)buf_head(&rest), buf_len(&rest), out, content);
    buf_done(&rest);
    return st;
}

/* A whole object, its members in any order. */
static enum status whole_object(struct toolout *t, enum state next, struct delta *out,
                                struct buf *content)
{
    struct json_call call;
    const char *text = (const char *)buf_head(&t->head);
    if (!json_call_read(text, buf_len(&t->head), &call) || !is_tool(t, call.name, call.name_len))
        return give_back(t, next, content);
    enum status st = tell_name(t, call.name, call.name_len, out);
    if (st == OK)
        st = tell_arguments(t, call.arguments, call.arguments_len, out);
    set_state(t, next);
    return st;
}

static enum status head_object(struct toolout *t, struct delta *out, struct buf *content)
{
    struct json_call call;
    const char *text = (const char *)buf_head(&t->head);
    size_t len = buf_len(&t->head);
    if (t->whole)
        return OK;
    switch (json_call_head(text, len, &call)) {
    case JSON_HEAD_MORE:
        return OK;
    case JSON_HEAD_OTHER:     /* the members may stand in another order */
        if (is_bare(t->form)) /* an answer may be any JSON: it is not kept back */
            return give_back(t, OUTSIDE, content);
        t->whole = true;
        return OK;
    case JSON_HEAD_NONE:
        return give_back(t, is_bare(t->form) ? OUTSIDE : LOST, content);
    case JSON_HEAD_CALL:
        break;
    }
    if (!is_tool(t, call.name, call.name_len))
        return give_back(t, is_bare(t->form) ? OUTSIDE : LOST, content);
    struct buf rest;
    buf_init(&rest, HEAD_MAX);
    enum status st = buf_add(&rest, call.arguments, len - (size_t)(call.arguments - text));
    if (st == OK)
        st = tell_name(t, call.name, call.name_len, out);
    set_state(t, ARGUMENTS);
    if (st == OK)
        st = toolout_text(t, (const char *)buf_head(&rest), buf_len(&rest), out, content);
    buf_done(&rest);
    return st;
}

/* QWEN_CODER: <function=NAME>, and then what coder_arguments reads. */
static enum status head_function(struct toolout *t, struct delta *out, struct buf *content)
{
    static const char opening[] = "<function=";
    const char *text = (const char *)buf_head(&t->head);
    size_t len = buf_len(&t->head), n = sizeof opening - 1;
    for (; len && strchr(" \t\r\n", *text); len--)
        text++;
    if (memcmp(text, opening, len < n ? len : n) != 0)
        return give_back(t, LOST, content);
    const char *end = len > n ? memchr(text + n, '>', len - n) : NULL;
    if (!end)
        return OK;
    int at = tool_at(t, text + n, (size_t)(end - text) - n);
    if (at < 0)
        return give_back(t, LOST, content);
    struct buf rest;
    buf_init(&rest, HEAD_MAX);
    enum status st = buf_add(&rest, end + 1, (size_t)(text + len - end) - 1);
    if (st == OK)
        st = tell_name(t, t->names[at], strlen(t->names[at]), out);
    t->called = &t->parameters[at];
    t->told = false;
    set_state(t, ARGUMENTS);
    if (st == OK)
        st = tell_arguments(t, "{", 1, out);
    if (st == OK)
        st = toolout_text(t, (const char *)buf_head(&rest), buf_len(&rest), out, content);
    buf_done(&rest);
    return st;
}

static enum status head_text(struct toolout *t, const char *text, size_t len, struct delta *out,
                             struct buf *content)
{
    enum status st = buf_add(&t->raw, text, len);
    if (st == OK)
        st = buf_add(&t->head, text, len);
    if (st == LIMITED)
        return give_back(t, is_bare(t->form) ? OUTSIDE : LOST, content);
    if (st != OK)
        return st;
    if (t->form == TOOLS_QWEN || is_bare(t->form))
        return head_object(t, out, content);
    if (t->form == TOOLS_QWEN_CODER)
        return head_function(t, out, content);
    /* DEEPSEEK has its kind first, up to the sep; then `whole` is on and the name is a line. */
    return t->form == TOOLS_DEEPSEEK && t->whole ? head_line(t, out, content) : OK;
}

/* ---- arguments ---- */

/* Up to a line that begins with a fence; what may be its beginning is kept back. */
static enum status fenced_arguments(struct toolout *t, const char *text, size_t len,
                                    struct delta *out)
{
    static const char closing[] = "\n```";
    enum status st = buf_add(&t->head, text, len);
    if (st != OK)
        return st;
    const char *held = (const char *)buf_head(&t->head);
    size_t n = buf_len(&t->head);
    const char *end = memmem(held, n, closing, sizeof closing - 1);
    size_t keep = 0;
    for (size_t k = n < 3 ? n : 3; !end && k > 0 && !keep; k--)
        keep = memcmp(held + n - k, closing, k) == 0 ? k : 0;
    size_t shown = end ? (size_t)(end - held) : n - keep;
    st = tell_arguments(t, held, shown, out);
    if (end)
        set_state(t, TAIL);
    else
        buf_eat(&t->head, shown);
    return st;
}

/* The object ends the call, or a mark. */
static enum status tail_text(struct toolout *t, const char *text, size_t len, struct delta *out,
                             struct buf *content)
{
    if (!is_bare(t->form))
        return OK;
    const char *end = memchr(text, '}', len);
    if (!end)
        return OK;
    set_state(t, REGION);
    return toolout_text(t, end + 1, len - (size_t)(end + 1 - text), out, content);
}

static enum status object_arguments(struct toolout *t, const char *text, size_t len,
                                    struct delta *out, struct buf *content)
{
    size_t used = json_track_feed(&t->track, text, len);
    enum status st = tell_arguments(t, text, used, out);
    if (st != OK || !t->track.ended)
        return st;
    set_state(t, TAIL);
    return tail_text(t, text + used, len - used, out, content);
}

/* ---- QWEN_CODER's are tags with text between them ---- */

static enum status tell_argument(struct toolout *t, const char *name, size_t name_len,
                                 const char *value, size_t value_len, struct delta *out)
{
    struct buf b;
    buf_init(&b, SIZE_MAX / 4);
    enum status st = buf_adds(&b, t->told ? ", " : "");
    if (st == OK)
        st = json_put_string(&b, name, name_len);
    if (st == OK)
        st = buf_adds(&b, ": ");
    if (st == OK)
        st = coder_value(coder_find(t->called, name, name_len), value, value_len, &b);
    if (st == OK)
        st = tell_arguments(t, (const char *)buf_head(&b), buf_len(&b), out);
    t->told = true;
    buf_done(&b);
    return st;
}

/* One parameter from the head's beginning: its bytes, 0 while it is not whole. */
static enum status take_parameter(struct toolout *t, size_t *used, struct delta *out)
{
    static const char opening[] = "<parameter=", closing[] = "\n</parameter>";
    const char *text = (const char *)buf_head(&t->head), *limit = text + buf_len(&t->head);
    const char *name = text + sizeof opening - 1;
    const char *end = name < limit ? memchr(name, '>', (size_t)(limit - name)) : NULL;
    const char *from = end && (size_t)(end - text) < t->seen ? text + t->seen : end;
    const char *close =
        from ? memmem(from, (size_t)(limit - from), closing, sizeof closing - 1) : NULL;
    *used = 0;
    if (!close) {
        size_t all = buf_len(&t->head);
        t->seen = all > sizeof closing ? all - sizeof closing : 0;
        return OK;
    }
    const char *value = end + 1 + (end[1] == '\n');
    size_t len = value < close ? (size_t)(close - value) : 0;
    *used = (size_t)(close - text) + sizeof closing - 1;
    t->seen = 0;
    return tell_argument(t, name, (size_t)(end - name), value, len, out);
}

static bool begins_like(const char *text, size_t len, const char *with)
{
    size_t n = strlen(with);
    return memcmp(text, with, len < n ? len : n) == 0;
}

/* What is neither a parameter nor the end is passed over. */
static enum status coder_arguments(struct toolout *t, const char *text, size_t len,
                                   struct delta *out)
{
    static const char opening[] = "<parameter=", closing[] = "</function>";
    enum status st = buf_add(&t->head, text, len);
    while (st == OK && buf_len(&t->head)) {
        const char *head = (const char *)buf_head(&t->head);
        size_t n = buf_len(&t->head), used = 1;
        if (begins_like(head, n, opening)) {
            st = n >= sizeof opening - 1 ? take_parameter(t, &used, out) : OK;
            if (n < sizeof opening - 1 || !used)
                return st;
        } else if (begins_like(head, n, closing)) {
            if (n < sizeof closing - 1)
                return st;
            set_state(t, TAIL);
            return tell_arguments(t, "}", 1, out);
        }
        buf_eat(&t->head, used);
    }
    return st;
}

/* ---- LLAMA has no marks ---- */

static enum status outside_text(struct toolout *t, const char *text, size_t len, struct delta *out,
                                struct buf *content)
{
    if (t->form != TOOLS_LLAMA || t->begun)
        return buf_add(content, text, len);
    enum status st = buf_add(&t->raw, text, len);
    if (st != OK)
        return st;
    const char *held = (const char *)buf_head(&t->raw);
    size_t n = buf_len(&t->raw), space = 0;
    while (space < n && strchr(" \t\r\n", held[space]))
        space++;
    if (space == n)
        return OK;
    t->begun = true;
    if (held[space] != '{')
        return give_back(t, OUTSIDE, content);
    set_state(t, HEAD);
    st = buf_add(&t->head, held + space, n - space);
    return st == OK ? head_object(t, out, content) : st;
}

/* Between calls: white space, and what LLAMA and MISTRAL put there. */
static enum status region_text(struct toolout *t, const char *text, size_t len, struct delta *out,
                               struct buf *content)
{
    enum status st = buf_add(&t->raw, text, len);
    bool qwen = t->form == TOOLS_QWEN || t->form == TOOLS_QWEN_CODER;
    if (st != OK || (!is_bare(t->form) && !qwen))
        return st;
    size_t skip = 0;
    const char *between = t->form == TOOLS_MISTRAL ? " \t\r\n,[]" : " \t\r\n;,";
    while (skip < len && strchr(between, text[skip]))
        skip++;
    if (skip == len)
        return OK;
    t->begun = true; /* however the text is cut, what follows is told apart in the same way */
    if (text[skip] != '{' || qwen)
        return give_back(t, OUTSIDE, content);
    set_state(t, HEAD);
    st = buf_add(&t->head, text + skip, len - skip);
    return st == OK ? head_object(t, out, content) : st;
}

enum status toolout_text(struct toolout *t, const char *text, size_t len, struct delta *out,
                         struct buf *content)
{
    if (!len)
        return OK;
    switch (t->state) {
    case OUTSIDE:
        return outside_text(t, text, len, out, content);
    case LOST:
        return buf_add(content, text, len);
    case REGION:
        return region_text(t, text, len, out, content);
    case HEAD:
        return head_text(t, text, len, out, content);
    case FENCE: {
        enum status st = buf_add(&t->head, text, len);
        return st == OK ? fence(t, out, content) : st;
    }
    case ARGUMENTS:
        if (t->form == TOOLS_DEEPSEEK)
            return fenced_arguments(t, text, len, out);
        if (t->form == TOOLS_DEEPSEEK_31)
            return tell_arguments(t, text, len, out);
        if (t->form == TOOLS_QWEN_CODER)
            return coder_arguments(t, text, len, out);
        return object_arguments(t, text, len, out, content);
    case TAIL:
        return tail_text(t, text, len, out, content);
    }
    return OK;
}

/* ---- marks ---- */

static enum status end_arguments(struct toolout *t, struct delta *out)
{
    enum status st = OK;
    if (t->form == TOOLS_DEEPSEEK && (t->state == ARGUMENTS || t->state == FENCE))
        st = tell_arguments(t, (const char *)buf_head(&t->head), buf_len(&t->head), out);
    if (t->form == TOOLS_QWEN_CODER)
        st = tell_arguments(t, "}", 1, out);
    set_state(t, REGION);
    return st;
}

/* A call ends, by its mark or because another mark, or the answer's end, comes instead. */
static enum status end_call(struct toolout *t, struct delta *out, struct buf *content)
{
    switch (t->state) {
    case HEAD:
        if (t->form == TOOLS_QWEN)
            return whole_object(t, REGION, out, content);
        return give_back(t, REGION, content);
    case FENCE:
    case ARGUMENTS:
        return end_arguments(t, out);
    case TAIL:
    case LOST:
        set_state(t, REGION);
        return OK;
    case OUTSIDE:
    case REGION:
        break;
    }
    return OK;
}

static enum status mark_sep(struct toolout *t, const char *text, struct delta *out,
                            struct buf *content)
{
    if (t->state != HEAD || t->whole)
        return toolout_text(t, text, strlen(text), out, content);
    enum status st = buf_adds(&t->raw, text);
    if (st != OK)
        return st;
    if (t->form == TOOLS_DEEPSEEK_31)
        return take_name(t, (const char *)buf_head(&t->head), buf_len(&t->head), ARGUMENTS, out,
                         content);
    set_state(t, HEAD);
    t->whole = true; /* from here the name is a line: see head_text */
    return OK;
}

static enum status mark_end(struct toolout *t, const char *text, struct delta *out,
                            struct buf *content)
{
    if (t->state == OUTSIDE || t->state == LOST) {
        enum status st = buf_adds(content, text);
        set_state(t, t->state == LOST ? REGION : OUTSIDE);
        return st;
    }
    if (t->state == HEAD) { /* behind the head, in case it is given back */
        enum status st = buf_adds(&t->raw, text);
        if (st != OK)
            return st;
    }
    return end_call(t, out, content);
}

static enum status mark_calls_end(struct toolout *t, const char *text, struct delta *out,
                                  struct buf *content)
{
    if (t->state == OUTSIDE)
        return buf_adds(content, text);
    enum status st = end_call(t, out, content);
    if (st == OK)
        st = buf_adds(&t->raw, text);
    if (t->calls) /* the marks belong to the calls */
        buf_clear(&t->raw);
    return st == OK ? give_back(t, OUTSIDE, content) : st;
}

enum status toolout_mark(struct toolout *t, enum tool_mark mark, const char *text,
                         struct delta *out, struct buf *content)
{
    enum status st = OK;
    if (t->form == TOOLS_LLAMA) /* it has none: another form's is text like any */
        return toolout_text(t, text, strlen(text), out, content);
    switch (mark) {
    case MARK_CALL_SEP:
        return mark_sep(t, text, out, content);
    case MARK_CALL_END:
        return mark_end(t, text, out, content);
    case MARK_CALLS_END:
        return mark_calls_end(t, text, out, content);
    case MARK_CALLS_BEGIN:
    case MARK_CALL_BEGIN:
        st = end_call(t, out, content);
        if (st == OK)
            st = buf_adds(&t->raw, text);
        set_state(t, mark == MARK_CALL_BEGIN ? HEAD : REGION);
        return st;
    }
    return st;
}

enum status toolout_end(struct toolout *t, struct delta *out, struct buf *content)
{
    if (t->form == TOOLS_QWEN_CODER && t->state == ARGUMENTS)
        set_state(t, REGION); /* cut off, as the other forms' arguments would be */
    enum status st = end_call(t, out, content);
    if (t->calls) /* white space behind a call */
        buf_clear(&t->raw);
    return st == OK ? give_back(t, OUTSIDE, content) : st;
}
