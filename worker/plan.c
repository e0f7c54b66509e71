#include "worker/plan.h"

#include "base/buf.h"
#include "base/json.h"
#include "worker/plan_cache.h"

/* Compiling runs on the engine thread: all of a request's schemas together take some 40 ms at
 * most, and others wait that long once. */
enum { WORK_MAX = 2000000, WORK_LEAST = 50000, KEY_BYTES_MAX = 16 << 20 };

struct planner {
    const struct tokenizer *tokenizer;
    const struct chat_markers *markers;
    struct grammar_vocab *vocab;
    struct plan_cache *cache;
    uint32_t words;
    int32_t newline;
};

enum status planner_new(const struct tokenizer *t, const struct chat_markers *markers,
                        uint32_t vocab, struct planner **out, struct error *err)
{
    struct planner *p = calloc(1, sizeof *p);
    if (!p)
        return error_set(err, NOMEM, "out of memory");
    p->tokenizer = t;
    p->markers = markers;
    p->words = (vocab + 31) / 32;
    struct token_list newline;
    token_list_init(&newline, 4);
    enum status st = tokenizer_encode(t, "\n", 1, false, &newline);
    p->newline = newline.count == 1 ? newline.ids[0] : -1;
    token_list_done(&newline);
    if (st == OK)
        st = grammar_vocab_new(t, markers->stop_ids, (size_t)markers->stop_count, &p->vocab, err);
    if (st == OK) {
        p->cache = plan_cache_new(p->vocab, err);
        st = p->cache ? OK : NOMEM;
    }
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

static enum status compile(struct planner *p, const struct grammar_part *part, uint64_t work,
                           struct grammar **out, struct error *err)
{
    uint8_t key[SHA256_BYTES];
    struct buf text;
    buf_init(&text, KEY_BYTES_MAX);
    enum status st = describe(part, &text);
    if (st == OK)
        crypto_sha256(buf_head(&text), buf_len(&text), key);
    buf_done(&text);
    if (st != OK)
        return error_set(err, st, "%s: too large", part->place ? part->place : "schema");
    *out = plan_cache_find(p->cache, key);
    if (*out)
        return OK;
    struct grammar_limits limits = grammar_limits_default;
    limits.work = work;
    st = grammar_compile(part, &limits, out, err);
    if (st != OK)
        return st;
    plan_cache_add(p->cache, key, *out);
    plan_cache_warm(p->cache, *out);
    return OK;
}

static struct grammar_part literal(const char *text)
{
    return (struct grammar_part){.kind = GRAMMAR_LITERAL, .text = text, .len = strlen(text)};
}

/* The place of a fault: what the error's text begins with, up to the colon. */
static enum status refuse(struct job_fault *fault, enum status st, const char *param)
{
    if (st == NOMEM)
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

static enum status plan_format(struct planner *p, const struct job *job, struct plan *plan,
                               struct job_fault *fault)
{
    static const char place[] = "response_format.json_schema.schema";
    if (job->format == FORMAT_TEXT)
        return OK;
    struct grammar_part part = {.kind = GRAMMAR_JSON_OBJECT};
    if (job->format == FORMAT_JSON_SCHEMA)
        part = (struct grammar_part){.kind = GRAMMAR_SCHEMA,
                                     .text = job->schema,
                                     .len = strlen(job->schema),
                                     .place = place};
    enum status st = compile(p, &part, WORK_MAX, &plan->format, &fault->error);
    return st == OK ? OK : refuse(fault, st, place);
}

/* ---- tools ---- */

/* What a call's arguments may be. A schema that is not understood is none, unless it is strict;
 * what is not JSON is refused. */
static enum status plan_arguments(struct planner *p, const struct job *job, int at,
                                  struct grammar_part *out, struct job_fault *fault)
{
    const struct tool *t = &job->tools[at];
    char place[64];
    snprintf(place, sizeof place, "tools[%d].function.parameters", at);
    *out = literal("{}");
    if (!*t->parameters)
        return OK;
    if (json_guard(t->parameters, strlen(t->parameters), NULL, &fault->error) != OK) {
        error_prefix(&fault->error, "%s", place);
        return refuse(fault, INVALID, place);
    }
    struct grammar *g = NULL;
    uint64_t work = WORK_MAX / (uint64_t)job->tool_count;
    struct grammar_part part = {.kind = GRAMMAR_SCHEMA,
                                .text = t->parameters,
                                .len = strlen(t->parameters),
                                .strict = t->strict,
                                .place = place};
    enum status st = compile(p, &part, work > WORK_LEAST ? work : WORK_LEAST, &g, &fault->error);
    grammar_unref(g);
    if (st == NOMEM)
        return st;
    if (st != OK && t->strict)
        return refuse(fault, st, place);
    part.place = NULL;
    *out = st == OK ? part : (struct grammar_part){.kind = GRAMMAR_JSON_OBJECT};
    return OK;
}

/* The parts of one tool's body, which live as long as the planning of it. */
struct body {
    struct grammar_part parts[3];
    char head[160];
};

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
    case TOOLS_LLAMA:
        snprintf(b->head, sizeof b->head, "{\"name\": \"%s\", \"parameters\": ", name);
        tail = "}";
        break;
    case TOOLS_NONE:
    case TOOLS_DEEPSEEK_31:
        break;
    }
    b->parts[0] = literal(b->head);
    b->parts[2] = literal(tail);
}

static enum status compile_bodies(struct planner *p, struct plan *plan, struct body *bodies,
                                  struct grammar_part *choices, struct error *err)
{
    for (int i = 0; i < plan->tool_count; i++) {
        make_body(p->markers->tools, plan->tools[i].name, &bodies[i]);
        choices[i] =
            (struct grammar_part){.kind = GRAMMAR_SEQUENCE, .parts = bodies[i].parts, .count = 3};
    }
    struct grammar_part all = {
        .kind = GRAMMAR_CHOICE, .parts = choices, .count = (size_t)plan->tool_count};
    enum status st = compile(p, &all, WORK_MAX, &plan->body, err);
    struct grammar_part kind = literal("function");
    if (st == OK && p->markers->tools == TOOLS_DEEPSEEK)
        st = compile(p, &kind, WORK_MAX, &plan->kind, err);
    return st;
}

/* Names and arguments apart: see chat.h. */
static enum status compile_names(struct planner *p, struct plan *plan, struct body *bodies,
                                 struct grammar_part *choices, struct error *err)
{
    enum status st = OK;
    for (int i = 0; i < plan->tool_count && st == OK; i++) {
        choices[i] = literal(plan->tools[i].name);
        st = compile(p, &bodies[i].parts[1], WORK_MAX, &plan->tools[i].arguments, err);
    }
    struct grammar_part all = {
        .kind = GRAMMAR_CHOICE, .parts = choices, .count = (size_t)plan->tool_count};
    return st == OK ? compile(p, &all, WORK_MAX, &plan->names, err) : st;
}

static enum status list_tools(struct planner *p, const struct job *job, struct plan *plan,
                              struct body *bodies, struct job_fault *fault)
{
    enum status st = OK;
    for (int i = 0; i < job->tool_count && st == OK; i++) {
        if (job->tool_choice == TOOL_NAMED && strcmp(job->tools[i].name, job->tool_name) != 0)
            continue;
        struct plan_tool *t = &plan->tools[plan->tool_count];
        st = plan_arguments(p, job, i, &bodies[plan->tool_count].parts[1], fault);
        t->name = strdup(job->tools[i].name);
        plan->tool_count++;
        if (st == OK && !t->name)
            st = NOMEM;
    }
    return st;
}

static enum status plan_tools(struct planner *p, const struct job *job, struct plan *plan,
                              struct job_fault *fault)
{
    if (!job->tool_count || plan->never)
        return OK;
    size_t n = (size_t)job->tool_count;
    struct body *bodies = calloc(n, sizeof *bodies);
    struct grammar_part *choices = calloc(n, sizeof *choices);
    plan->tools = calloc(n, sizeof *plan->tools);
    enum status st = bodies && choices && plan->tools ? OK : NOMEM;
    if (st == OK)
        st = list_tools(p, job, plan, bodies, fault);
    if (st == OK) {
        st = p->markers->tools == TOOLS_DEEPSEEK_31
                 ? compile_names(p, plan, bodies, choices, &fault->error)
                 : compile_bodies(p, plan, bodies, choices, &fault->error);
        if (st != OK)
            st = refuse(fault, st, "tools");
    }
    free(bodies);
    free(choices);
    return st;
}

enum status planner_plan(struct planner *p, const struct job *job, bool starts_in_reasoning,
                         struct plan **out, struct job_fault *fault)
{
    *out = NULL;
    if (job->format == FORMAT_TEXT && !job->tool_count)
        return OK;
    struct plan *plan = calloc(1, sizeof *plan);
    if (!plan)
        return NOMEM;
    plan->tokenizer = p->tokenizer;
    plan->markers = p->markers;
    plan->vocab = p->vocab;
    plan->words = p->words;
    plan->newline = p->newline;
    plan->in_reasoning = starts_in_reasoning;
    plan->may_think = job->thinking && p->markers->opens_thinking && !starts_in_reasoning;
    plan->never = job->tool_choice == TOOL_NEVER;
    plan->required = job->tool_choice == TOOL_REQUIRED || job->tool_choice == TOOL_NAMED;
    plan->one_call = job->one_call;
    *fault = (struct job_fault){.param = ""};
    enum status st = plan_format(p, job, plan, fault);
    if (st == OK)
        st = plan_tools(p, job, plan, fault);
    if (st != OK) {
        plan_free(plan);
        return st;
    }
    *out = plan;
    return OK;
}
