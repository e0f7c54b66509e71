#include "worker/plan.h"

#include "base/buf.h"
#include "base/json.h"
#include "worker/plan_cache.h"
#include "worker/plan_coder.h"

/* Other requests with new schemas wait meanwhile: all schemas of one take some 40 ms at most. */
enum { WORK_MAX = 2000000, WORK_LEAST = 50000, KEY_BYTES_MAX = 16 << 20 };
enum { FIND_BYTES_MAX = 64 << 10 /* texts that planner_find looks for */ };

struct planner {
    const struct tokenizer *tokenizer;
    const struct chat_markers *markers;
    struct grammar_vocab *vocab;
    struct grammar_maker *maker;
    struct plan_cache *cache;
    uint32_t words;
    int32_t newline;
};

/* One request's plan in the making. */
struct planning {
    struct planner *planner;
    const struct job *job;
    struct plan *plan;
    struct job_fault *fault;
    bool only_find; /* do not compile */
};

enum status planner_new(const struct planner_options *options, struct planner **out,
                        struct error *err)
{
    struct planner *p = calloc(1, sizeof *p);
    if (!p)
        return error_set(err, NOMEM, "out of memory");
    const struct tokenizer *t = p->tokenizer = options->tokenizer;
    const struct chat_markers *markers = p->markers = options->markers;
    p->words = (options->vocab + 31) / 32;
    p->cache = plan_cache_new();
    struct token_list newline;
    token_list_init(&newline, 4);
    enum status st = p->cache ? tokenizer_encode(t, "\n", 1, false, &newline)
                              : error_set(err, NOMEM, "out of memory");
    p->newline = newline.count == 1 ? newline.ids[0] : -1;
    token_list_done(&newline);
    if (st == OK)
        st = grammar_vocab_new(t, markers->stop_ids, (size_t)markers->stop_count, &p->vocab, err);
    if (st == OK)
        st = grammar_maker_new(p->vocab, options->wake, options->wake_arg, &p->maker, err);
    if (st != OK) {
        planner_free(p);
        return st;
    }
    *out = p;
    return OK;
}

void planner_free(struct planner *p)
{
    if (!p)
        return;
    grammar_maker_free(p->maker);
    plan_cache_free(p->cache);
    grammar_vocab_free(p->vocab);
    free(p);
}

void plan_free(struct plan *plan)
{
    if (!plan)
        return;
    for (int i = 0; plan->tools && i < plan->tool_count; i++) {
        free(plan->tools[i].name);
        grammar_unref(plan->tools[i].arguments);
    }
    free(plan->tools);
    grammar_unref(plan->format);
    grammar_unref(plan->kind);
    grammar_unref(plan->names);
    grammar_unref(plan->body);
    free(plan);
}

/* ---- grammars by what they are made of ---- */

/* The parts as one text, in which no two differ alike. */
static enum status describe(const struct grammar_part *part, struct buf *out)
{
    enum status st =
        buf_addf(out, "%d %d %zu %zu ", (int)part->kind, part->strict, part->len, part->count);
    if (st == OK && part->len)
        st = buf_add(out, part->text, part->len);
    for (size_t i = 0; i < part->count && st == OK; i++)
        st = describe(&part->parts[i], out);
    return st;
}

static enum status digest(const struct grammar_part *part, uint8_t key[SHA256_BYTES],
                          struct error *err)
{
    struct buf text;
    buf_init(&text, KEY_BYTES_MAX);
    enum status st = describe(part, &text);
    if (st == OK)
        crypto_sha256(buf_head(&text), buf_len(&text), key);
    buf_done(&text);
    return st == OK ? OK
                    : error_set(err, st, "%s: too large", part->place ? part->place : "schema");
}

/* UNAVAILABLE: it is not there, or (for want of room) cannot be kept. */
static enum status compile(struct planning *w, const struct grammar_part *part, uint64_t work,
                           struct grammar **out)
{
    uint8_t key[SHA256_BYTES];
    struct error *err = &w->fault->error;
    enum status st = digest(part, key, err);
    if (st != OK)
        return st;
    *out = plan_cache_find(w->planner->cache, key);
    if (*out)
        return OK;
    if (w->only_find)
        return UNAVAILABLE;
    struct grammar_limits limits = grammar_limits_default;
    limits.work = work;
    st = grammar_compile(part, &limits, out, err);
    if (st != OK)
        return st;
    st = plan_cache_add(w->planner->cache, key, *out);
    if (st == OK)
        return OK;
    grammar_unref(*out);
    *out = NULL;
    return st == LIMITED ? UNAVAILABLE : st;
}

static struct grammar_part literal(const char *text)
{
    return (struct grammar_part){.kind = GRAMMAR_LITERAL, .text = text, .len = strlen(text)};
}

/* The place of a fault: what the error's text begins with, up to the colon. */
static enum status refuse(struct job_fault *fault, enum status st, const char *param)
{
    if (st == NOMEM || st == UNAVAILABLE)
        return st;
    size_t len = strcspn(fault->error.text, ":");
    const char *place =
        strncmp(fault->error.text, param, strlen(param)) == 0 && len < sizeof fault->param
            ? fault->error.text
            : NULL;
    if (place)
        snprintf(fault->param, sizeof fault->param, "%.*s", (int)len, place);
    else
        snprintf(fault->param, sizeof fault->param, "%s", param);
    return INVALID;
}

static enum status plan_format(struct planning *w)
{
    static const char place[] = "response_format.json_schema.schema";
    const struct job *job = w->job;
    if (job->format == FORMAT_TEXT)
        return OK;
    struct grammar_part part = {.kind = GRAMMAR_JSON_OBJECT};
    if (job->format == FORMAT_JSON_SCHEMA)
        part = (struct grammar_part){.kind = GRAMMAR_SCHEMA,
                                     .text = job->schema,
                                     .len = strlen(job->schema),
                                     .place = place};
    enum status st = compile(w, &part, WORK_MAX, &w->plan->format);
    return st == OK ? OK : refuse(w->fault, st, place);
}

/* ---- tools ---- */

/* The parts of one tool's body, which live as long as the planning of it. */
struct body {
    struct grammar_part parts[3];
    struct coder_plan *coder; /* QWEN_CODER: whose the arguments are */
    char head[160];
};

/* Parameters whose schemas are not understood may be any text, unless they are strict. */
static enum status plan_coder(struct planning *w, const struct tool *t, const char *place,
                              struct body *b)
{
    struct error *err = &w->fault->error;
    uint64_t work = WORK_MAX / (uint64_t)w->job->tool_count;
    enum status st = coder_plan_new(t, place, &b->coder, err);
    for (int i = 0; st == OK && i < coder_plan_count(b->coder); i++) {
        const struct grammar_part *value = coder_plan_schema(b->coder, i);
        struct grammar *g = NULL;
        if (!value)
            continue;
        st = compile(w, value, work > WORK_LEAST ? work : WORK_LEAST, &g);
        grammar_unref(g);
        if ((st == INVALID || st == LIMITED) && !t->strict) {
            coder_plan_let(b->coder, i);
            st = OK;
        }
    }
    if (st == OK)
        b->parts[1] = coder_plan_part(b->coder);
    return st == OK || st == UNAVAILABLE ? st : refuse(w->fault, st, place);
}

/* What a call's arguments may be. A schema that is not understood is none, unless it is strict;
 * what is not JSON is refused. */
static enum status plan_arguments(struct planning *w, int at, struct body *b)
{
    const struct tool *t = &w->job->tools[at];
    struct grammar_part *out = &b->parts[1];
    bool coder = w->planner->markers->tools == TOOLS_QWEN_CODER;
    struct job_fault *fault = w->fault;
    char place[64];
    snprintf(place, sizeof place, "tools[%d].function.parameters", at);
    *out = literal(coder ? "" : "{}");
    if (!*t->parameters)
        return OK;
    if (json_guard(t->parameters, strlen(t->parameters), NULL, &fault->error) != OK) {
        error_prefix(&fault->error, "%s", place);
        return refuse(fault, INVALID, place);
    }
    struct grammar *g = NULL;
    uint64_t work = WORK_MAX / (uint64_t)w->job->tool_count;
    struct grammar_part part = {.kind = GRAMMAR_SCHEMA,
                                .text = t->parameters,
                                .len = strlen(t->parameters),
                                .strict = t->strict,
                                .place = place};
    enum status st = compile(w, &part, work > WORK_LEAST ? work : WORK_LEAST, &g);
    grammar_unref(g);
    if (st == NOMEM || st == UNAVAILABLE)
        return st;
    if (st != OK && t->strict)
        return refuse(fault, st, place);
    if (coder)
        return plan_coder(w, t, place, b);
    part.place = NULL;
    *out = st == OK ? part : (struct grammar_part){.kind = GRAMMAR_JSON_OBJECT};
    return OK;
}

static void make_body(enum tool_form form, const char *name, struct body *b)
{
    const char *tail = "";
    switch (form) {
    case TOOLS_DEEPSEEK:
        snprintf(b->head, sizeof b->head, "%s\n```json\n", name);
        tail = "\n```";
        break;
    case TOOLS_QWEN:
        snprintf(b->head, sizeof b->head, "\n{\"name\": \"%s\", \"arguments\": ", name);
        tail = "}\n";
        break;
    case TOOLS_MISTRAL:
        snprintf(b->head, sizeof b->head, "{\"name\": \"%s\", \"arguments\": ", name);
        tail = "}";
        break;
    case TOOLS_LLAMA:
        snprintf(b->head, sizeof b->head, "{\"name\": \"%s\", \"parameters\": ", name);
        tail = "}";
        break;
    case TOOLS_QWEN_CODER:
        snprintf(b->head, sizeof b->head, "\n<function=%s>\n", name);
        tail = "</function>\n";
        break;
    case TOOLS_NONE:
    case TOOLS_DEEPSEEK_31:
        break;
    }
    b->parts[0] = literal(b->head);
    b->parts[2] = literal(tail);
}

static enum status compile_bodies(struct planning *w, struct body *bodies,
                                  struct grammar_part *choices)
{
    struct plan *plan = w->plan;
    enum tool_form form = w->planner->markers->tools;
    for (int i = 0; i < plan->tool_count; i++) {
        make_body(form, plan->tools[i].name, &bodies[i]);
        choices[i] =
            (struct grammar_part){.kind = GRAMMAR_SEQUENCE, .parts = bodies[i].parts, .count = 3};
    }
    struct grammar_part all = {
        .kind = GRAMMAR_CHOICE, .parts = choices, .count = (size_t)plan->tool_count};
    struct grammar_part list[] = {
        {.kind = GRAMMAR_CHOICE,
         .parts = (struct grammar_part[]){literal(" ["), literal("[")},
         .count = 2},
        {.kind = GRAMMAR_LIST, .parts = (struct grammar_part[]){all, literal(", ")}, .count = 2},
        literal("]")};
    if (plan->one_call)
        list[1] = all;
    struct grammar_part whole = {.kind = GRAMMAR_SEQUENCE, .parts = list, .count = 3};
    enum status st = compile(w, form == TOOLS_MISTRAL ? &whole : &all, WORK_MAX, &plan->body);
    struct grammar_part kind = literal("function");
    if (st == OK && form == TOOLS_DEEPSEEK)
        st = compile(w, &kind, WORK_MAX, &plan->kind);
    return st;
}

/* Names and arguments apart: see chat.h. */
static enum status compile_names(struct planning *w, struct body *bodies,
                                 struct grammar_part *choices)
{
    struct plan *plan = w->plan;
    enum status st = OK;
    for (int i = 0; i < plan->tool_count && st == OK; i++) {
        choices[i] = literal(plan->tools[i].name);
        st = compile(w, &bodies[i].parts[1], WORK_MAX, &plan->tools[i].arguments);
    }
    struct grammar_part all = {
        .kind = GRAMMAR_CHOICE, .parts = choices, .count = (size_t)plan->tool_count};
    return st == OK ? compile(w, &all, WORK_MAX, &plan->names) : st;
}

static enum status list_tools(struct planning *w, struct body *bodies)
{
    const struct job *job = w->job;
    struct plan *plan = w->plan;
    enum status st = OK;
    for (int i = 0; i < job->tool_count && st == OK; i++) {
        if (job->tool_choice == TOOL_NAMED && strcmp(job->tools[i].name, job->tool_name) != 0)
            continue;
        struct plan_tool *t = &plan->tools[plan->tool_count];
        st = plan_arguments(w, i, &bodies[plan->tool_count]);
        t->name = strdup(job->tools[i].name);
        plan->tool_count++;
        if (st == OK && !t->name)
            st = NOMEM;
    }
    return st;
}

static enum status plan_tools(struct planning *w)
{
    struct plan *plan = w->plan;
    if (!w->job->tool_count || plan->never)
        return OK;
    size_t n = (size_t)w->job->tool_count;
    struct body *bodies = calloc(n, sizeof *bodies);
    struct grammar_part *choices = calloc(n, sizeof *choices);
    plan->tools = calloc(n, sizeof *plan->tools);
    enum status st = bodies && choices && plan->tools ? OK : NOMEM;
    if (st == OK)
        st = list_tools(w, bodies);
    if (st == OK) {
        st = w->planner->markers->tools == TOOLS_DEEPSEEK_31 ? compile_names(w, bodies, choices)
                                                             : compile_bodies(w, bodies, choices);
        if (st != OK)
            st = refuse(w->fault, st, "tools");
    }
    for (size_t i = 0; bodies && i < n; i++)
        coder_plan_free(bodies[i].coder);
    free(bodies);
    free(choices);
    return st;
}

/* ---- plans ---- */

static struct plan *plan_new(struct planner *p, const struct job *job, bool starts_in_reasoning)
{
    struct plan *plan = calloc(1, sizeof *plan);
    if (!plan)
        return NULL;
    plan->tokenizer = p->tokenizer;
    plan->markers = p->markers;
    plan->vocab = p->vocab;
    plan->maker = p->maker;
    plan->words = p->words;
    plan->newline = p->newline;
    plan->in_reasoning = starts_in_reasoning;
    plan->may_think = job->thinking && p->markers->opens_thinking && !starts_in_reasoning;
    plan->never = job->tool_choice == TOOL_NEVER;
    plan->required = job->tool_choice == TOOL_REQUIRED || job->tool_choice == TOOL_NAMED;
    plan->one_call = job->one_call;
    return plan;
}

/* Those that come first are needed first. */
static void warm(const struct plan *plan)
{
    struct grammar *const first[] = {plan->format, plan->kind, plan->names, plan->body};
    for (size_t i = 0; i < sizeof first / sizeof *first; i++)
        if (first[i])
            grammar_maker_warm(plan->maker, first[i]);
    for (int i = 0; i < plan->tool_count; i++)
        if (plan->tools[i].arguments)
            grammar_maker_warm(plan->maker, plan->tools[i].arguments);
}

static enum status make_plan(struct planning *w, bool starts_in_reasoning, struct plan **out)
{
    w->plan = plan_new(w->planner, w->job, starts_in_reasoning);
    if (!w->plan)
        return NOMEM;
    *w->fault = (struct job_fault){.param = ""};
    enum status st = plan_format(w);
    if (st == OK)
        st = plan_tools(w);
    if (st != OK) {
        plan_free(w->plan);
        return st;
    }
    warm(w->plan);
    *out = w->plan;
    return OK;
}

static bool has_form(const struct job *job)
{
    return job->format != FORMAT_TEXT || job->tool_count;
}

enum status planner_plan(struct planner *p, const struct job *job, bool starts_in_reasoning,
                         struct plan **out, struct job_fault *fault)
{
    struct planning w = {.planner = p, .job = job, .fault = fault};
    *out = NULL;
    if (!has_form(job))
        return OK;
    enum status st = make_plan(&w, starts_in_reasoning, out);
    return st == UNAVAILABLE ? LIMITED : st;
}

static bool is_long(const struct job *job)
{
    size_t bytes = job->format == FORMAT_JSON_SCHEMA ? strlen(job->schema) : 0;
    for (int i = 0; i < job->tool_count && bytes <= FIND_BYTES_MAX; i++)
        bytes += strlen(job->tools[i].parameters);
    return bytes > FIND_BYTES_MAX;
}

enum status planner_find(struct planner *p, const struct job *job, bool starts_in_reasoning,
                         struct plan **out, struct job_fault *fault)
{
    struct planning w = {.planner = p, .job = job, .fault = fault, .only_find = true};
    *out = NULL;
    if (!has_form(job))
        return OK;
    return is_long(job) ? UNAVAILABLE : make_plan(&w, starts_in_reasoning, out);
}
