#include "worker/constraint.h"

#include <assert.h>

enum { NAME_MAX_BYTES = 80, SURE_BYTES = 10 /* {"name": " */ };

enum state {
    REASONING,
    START,     /* of the content */
    FREE,      /* content of any kind */
    FORMAT,    /* content by the format */
    TENTATIVE, /* LLAMA: content that may become a call */
    OPENED,    /* the calls have begun: a call must */
    KIND,      /* up to the sep */
    NAME,      /* up to the sep */
    BODY,      /* up to the call's end */
    BETWEEN,   /* a call has ended */
    NEW_LINE,  /* after one, a call must begin */
    DONE,
};

struct constraint {
    const struct plan *plan;
    enum state state;
    struct grammar_state *grammar; /* of START, if that has one, FORMAT, KIND, NAME, BODY */
    bool asked;                    /* the maker has it */
    char name[NAME_MAX_BYTES];     /* so far */
    size_t name_len, tentative_bytes;
    uint32_t mask[];
};

struct constraint *constraint_new(const struct plan *plan)
{
    struct constraint *c = calloc(1, sizeof *c + plan->words * sizeof *c->mask);
    if (!c)
        return NULL;
    c->plan = plan;
    c->state = plan->in_reasoning ? REASONING : START;
    return c;
}

void constraint_free(struct constraint *c)
{
    if (!c)
        return;
    grammar_maker_drop(c->plan->maker, c->grammar);
    free(c);
}

/* ---- masks ---- */

static void allow(struct constraint *c, int32_t id)
{
    if (id >= 0)
        c->mask[id / 32] |= 1u << (id % 32);
}

static void forbid(struct constraint *c, int32_t id)
{
    if (id >= 0)
        c->mask[id / 32] &= ~(1u << (id % 32));
}

static void allow_all(struct constraint *c)
{
    memset(c->mask, 0xff, c->plan->words * sizeof *c->mask);
}

static void allow_none(struct constraint *c)
{
    memset(c->mask, 0, c->plan->words * sizeof *c->mask);
}

static void allow_ends(struct constraint *c)
{
    for (int i = 0; i < c->plan->markers->stop_count; i++)
        allow(c, c->plan->markers->stop_ids[i]);
}

static bool allow_grammar(struct constraint *c)
{
    const uint32_t *mask = grammar_state_mask(c->grammar);
    size_t words = grammar_vocab_words(c->plan->vocab);
    if (!mask)
        return false;
    allow_none(c);
    memcpy(c->mask, mask, (words < c->plan->words ? words : c->plan->words) * sizeof *mask);
    return true;
}

/* Where the grammar may end, `next` comes in place of the answer's end. */
static bool allow_grammar_then(struct constraint *c, int32_t next)
{
    if (!allow_grammar(c))
        return false;
    for (int i = 0; i < c->plan->markers->stop_count; i++)
        forbid(c, c->plan->markers->stop_ids[i]);
    if (grammar_state_may_end(c->grammar))
        allow(c, next);
    return true;
}

/* Whether the answer ends with the call, or the calls, and no mark. */
static bool ends_itself(const struct constraint *c)
{
    enum tool_form form = c->plan->markers->tools;
    return form == TOOLS_LLAMA || form == TOOLS_MISTRAL;
}

/* The mark that opens calls. */
static int32_t opening(const struct constraint *c)
{
    const struct chat_markers *m = c->plan->markers;
    return m->calls_begin >= 0 ? m->calls_begin : m->call_begin;
}

static bool has_tools(const struct constraint *c)
{
    return c->plan->tool_count > 0;
}

static enum status start_grammar(struct constraint *c, struct grammar *g)
{
    assert(!c->asked);
    grammar_state_free(c->grammar);
    c->grammar = grammar_state_new(g, c->plan->vocab);
    return c->grammar ? OK : NOMEM;
}

/* What content must follow from its start on; NULL: nothing, or nothing yet. */
static struct grammar *first_grammar(const struct plan *p)
{
    if (p->required)
        return p->markers->tools == TOOLS_LLAMA ? p->body : NULL;
    return p->format;
}

/* At the content's start; false: out of memory. */
static bool allow_start(struct constraint *c, bool *any)
{
    const struct plan *p = c->plan;
    bool llama = p->markers->tools == TOOLS_LLAMA;
    *any = false;
    if (p->required || p->format) {
        struct grammar *g = first_grammar(p);
        allow_none(c);
        if (g && !c->grammar && start_grammar(c, g) != OK)
            return false;
        if (g && !allow_grammar(c))
            return false;
        if (has_tools(c) && !llama)
            allow(c, opening(c));
        if (p->may_think)
            allow(c, p->markers->think_begin);
        return true;
    }
    if (p->never && opening(c) >= 0) {
        allow_all(c);
        forbid(c, opening(c));
        forbid(c, p->markers->call_begin);
        return true;
    }
    *any = true;
    return true;
}

/* What must come has not come while the answer reasons: it may not end there. */
static void allow_reasoning(struct constraint *c)
{
    allow_all(c);
    for (int i = 0; i < c->plan->markers->stop_count; i++)
        forbid(c, c->plan->markers->stop_ids[i]);
}

static void allow_between(struct constraint *c)
{
    const struct chat_markers *m = c->plan->markers;
    allow_none(c);
    if (m->calls_end >= 0)
        allow(c, m->calls_end);
    else
        allow_ends(c);
    if (c->plan->one_call)
        return;
    bool line = m->tools != TOOLS_DEEPSEEK_31 && c->plan->newline >= 0;
    allow(c, line ? c->plan->newline : m->call_begin);
}

/* The grammar that the next mask comes from; NULL: none, or out of memory. */
static struct grammar_state *needed(struct constraint *c)
{
    struct grammar *first = first_grammar(c->plan);
    switch (c->state) {
    case START:
        if (first && !c->grammar)
            start_grammar(c, first); /* without memory the mask says so */
        return first ? c->grammar : NULL;
    case FORMAT:
    case KIND:
    case NAME:
    case BODY:
        return c->grammar;
    default:
        return NULL;
    }
}

bool constraint_ready(struct constraint *c)
{
    struct grammar_maker *maker = c->plan->maker;
    struct grammar_state *s = needed(c);
    if (c->asked)
        c->asked = !grammar_maker_done(maker, s);
    else if (s && !grammar_state_ready(s)) {
        grammar_maker_ask(maker, s);
        c->asked = true;
    }
    return !c->asked;
}

enum status constraint_mask(struct constraint *c, const uint32_t **mask)
{
    const struct chat_markers *m = c->plan->markers;
    bool any = false, made = true;
    assert(!c->asked);
    switch (c->state) {
    case REASONING:
        any = !c->plan->required && !c->plan->format;
        if (!any)
            allow_reasoning(c);
        break;
    case TENTATIVE:
        any = true;
        break;
    case START:
        made = allow_start(c, &any);
        break;
    case FREE:
        made = c->plan->never ? allow_start(c, &any) : (any = true);
        break;
    case FORMAT:
        made = allow_grammar(c);
        break;
    case OPENED:
    case NEW_LINE:
        allow_none(c);
        allow(c, m->call_begin);
        break;
    case KIND:
    case NAME:
        made = allow_grammar_then(c, m->call_sep);
        break;
    case BODY:
        made = ends_itself(c) ? allow_grammar(c) : allow_grammar_then(c, m->call_end);
        break;
    case BETWEEN:
        allow_between(c);
        break;
    case DONE:
        allow_none(c);
        allow_ends(c);
        break;
    }
    *mask = any ? NULL : c->mask;
    return made ? OK : NOMEM;
}

/* ---- tokens ---- */

static enum status enter(struct constraint *c, enum state state, struct grammar *g)
{
    c->state = state;
    c->name_len = 0;
    return start_grammar(c, g);
}

/* Behind the mark that begins a call. */
static enum status begin_call(struct constraint *c)
{
    switch (c->plan->markers->tools) {
    case TOOLS_DEEPSEEK:
        return enter(c, KIND, c->plan->kind);
    case TOOLS_DEEPSEEK_31:
        return enter(c, NAME, c->plan->names);
    default:
        return enter(c, BODY, c->plan->body);
    }
}

static enum status begin_arguments(struct constraint *c)
{
    if (c->state == KIND)
        return enter(c, BODY, c->plan->body);
    for (int i = 0; i < c->plan->tool_count; i++)
        if (strlen(c->plan->tools[i].name) == c->name_len &&
            memcmp(c->plan->tools[i].name, c->name, c->name_len) == 0)
            return enter(c, BODY, c->plan->tools[i].arguments);
    c->state = FREE; /* no such name: nobody can have let it through */
    return OK;
}

static enum status follow_grammar(struct constraint *c, int32_t token)
{
    size_t len = 0;
    const uint8_t *bytes = tokenizer_bytes(c->plan->tokenizer, token, &len);
    if (c->state == NAME && bytes && c->name_len + len <= sizeof c->name) {
        memcpy(c->name + c->name_len, bytes, len);
        c->name_len += len;
    }
    return grammar_state_accept_allowed(c->grammar, token) ? OK : INVALID;
}

/* LLAMA has no mark: what reads like a call for long enough is one. */
static enum status tentative(struct constraint *c, int32_t token)
{
    size_t len = 0;
    const uint8_t *bytes = tokenizer_bytes(c->plan->tokenizer, token, &len);
    bool space = bytes && len > 0;
    for (size_t i = 0; space && i < len; i++)
        space = strchr(" \t\r\n", bytes[i]) && bytes[i];
    if (space && !c->tentative_bytes)
        return OK;
    if (!grammar_state_accept(c->grammar, token)) {
        c->state = FREE;
        return OK;
    }
    c->tentative_bytes += len;
    if (c->tentative_bytes >= SURE_BYTES)
        c->state = BODY;
    return OK;
}

static enum status accept_content(struct constraint *c, int32_t token)
{
    const struct plan *p = c->plan;
    const struct chat_markers *m = p->markers;
    if (token == m->think_begin && token >= 0 && c->state == START && !p->never) {
        c->state = REASONING;
        return OK;
    }
    if (has_tools(c) && token >= 0 && token == m->calls_begin) {
        if (m->tools == TOOLS_MISTRAL)
            return begin_call(c);
        c->state = OPENED;
        return OK;
    }
    if (has_tools(c) && token >= 0 && token == m->call_begin)
        return begin_call(c);
    if (c->state != START)
        return OK;
    bool llama = m->tools == TOOLS_LLAMA && has_tools(c);
    if (p->format || (p->required && llama)) {
        c->state = p->required ? BODY : FORMAT;
        return follow_grammar(c, token);
    }
    c->state = FREE;
    if (!llama)
        return OK;
    c->state = TENTATIVE;
    enum status st = start_grammar(c, p->body);
    return st == OK ? tentative(c, token) : st;
}

static bool is_end(const struct constraint *c, int32_t token)
{
    for (int i = 0; i < c->plan->markers->stop_count; i++)
        if (c->plan->markers->stop_ids[i] == token)
            return true;
    return false;
}

enum status constraint_accept(struct constraint *c, int32_t token)
{
    const struct chat_markers *m = c->plan->markers;
    if (is_end(c, token))
        return OK;
    switch (c->state) {
    case REASONING:
        c->state = token == m->think_end ? START : REASONING;
        return OK;
    case START:
    case FREE:
        return accept_content(c, token);
    case TENTATIVE:
        return tentative(c, token);
    case OPENED:
    case NEW_LINE:
        return begin_call(c);
    case KIND:
    case NAME:
        return token == m->call_sep ? begin_arguments(c) : follow_grammar(c, token);
    case BODY:
        if (token != m->call_end || token < 0)
            return follow_grammar(c, token);
        c->state = BETWEEN;
        return OK;
    case BETWEEN:
        if (token == m->call_begin)
            return begin_call(c);
        c->state = token == m->calls_end ? DONE : NEW_LINE;
        return OK;
    case FORMAT:
        return follow_grammar(c, token);
    case DONE:
        return OK;
    }
    return OK;
}
