#include <assert.h>

#include "worker/backend.h"

enum {
    TOKENS_PER_STEP = 16,
    DEFAULT_TOKENS = 16,
    CONTEXT_TOKENS = 1 << 20,
    JOBS_MAX = 8192,
    STEP_BYTES_MAX = 4096
};

/* Each word, with its space, is a token. */
static const char *const words[] = {"The ",  "quick ", "brown ", "fox ", "jumps ",
                                    "over ", "the ",   "lazy ",  "dog. "};
enum { WORDS = sizeof words / sizeof *words };

struct echo_job {
    uint64_t id;
    struct counts counts;
    uint32_t choices;                      /* all alike, made side by side */
    uint32_t made;                         /* tokens of each choice */
    uint32_t max_tokens, reasoning_tokens; /* of a choice; the first ones are reasoning */
    enum job_end end;
    char tool[72];     /* a call of this function ends the answer; "": none */
    bool paused, gone; /* gone: to be dropped at the end of the step */
};

struct echo {
    struct backend base;
    struct sink sink;
    struct echo_job *jobs;
    struct delta made; /* by the choice that is told */
    int count;
    bool stepping;
};

static struct echo *self(struct backend *b)
{
    return (struct echo *)b;
}

static struct echo_job *find(struct echo *e, uint64_t id)
{
    for (int i = 0; i < e->count; i++)
        if (e->jobs[i].id == id && !e->jobs[i].gone)
            return &e->jobs[i];
    return NULL;
}

static void drop_gone(struct echo *e)
{
    int kept = 0;
    for (int i = 0; i < e->count; i++)
        if (!e->jobs[i].gone)
            e->jobs[kept++] = e->jobs[i];
    e->count = kept;
}

static uint32_t prompt_tokens(const struct job *job)
{
    size_t bytes = job->prompt ? strlen(job->prompt) : 0;
    for (int i = 0; i < job->message_count; i++)
        bytes += strlen(job->messages[i].content);
    size_t tokens = bytes / 4 + 1;
    return tokens < CONTEXT_TOKENS ? (uint32_t)tokens : CONTEXT_TOKENS;
}

/* A call is made when it must be. */
static const char *tool_of(const struct job *job)
{
    if (job->tool_choice == TOOL_NAMED)
        return job->tool_name;
    return job->tool_choice == TOOL_REQUIRED ? job->tools[0].name : "";
}

static struct echo_job job_of(const struct job *job, uint32_t prompt)
{
    struct echo_job j = {.id = job->id, .counts.prompt = prompt, .choices = (uint32_t)job->choices};
    uint32_t room = CONTEXT_TOKENS - prompt;
    j.max_tokens = job->max_tokens ? job->max_tokens : DEFAULT_TOKENS;
    if (j.max_tokens > room)
        j.max_tokens = room;
    j.end = job->max_tokens ? JOB_LENGTH : JOB_STOP;
    j.reasoning_tokens = job->thinking ? j.max_tokens / 2 : 0;
    snprintf(j.tool, sizeof j.tool, "%s", tool_of(job));
    if (*j.tool) {
        /* In place of content; the call counts as one token. */
        j.end = JOB_TOOL_CALLS;
        j.max_tokens = j.reasoning_tokens + 1;
    }
    return j;
}

static void echo_submit(struct backend *b, const struct job *job)
{
    struct echo *e = self(b);
    uint32_t prompt = prompt_tokens(job);
    if (e->count == JOBS_MAX) {
        e->sink.fail(e->sink.arg, job->id, JOB_OVERLOADED, "the worker's queue is full", NULL,
                     &(struct counts){0});
        return;
    }
    if (prompt >= CONTEXT_TOKENS) {
        e->sink.fail(e->sink.arg, job->id, JOB_CONTEXT_LENGTH,
                     "the messages are longer than the model's context", "messages",
                     &(struct counts){.prompt = prompt});
        return;
    }
    e->jobs[e->count++] = job_of(job, prompt);
}

static void echo_cancel(struct backend *b, uint64_t id)
{
    struct echo *e = self(b);
    struct echo_job *j = find(e, id);
    if (!j)
        return;
    j->gone = true;
    struct counts counts = j->counts;
    if (!e->stepping)
        drop_gone(e);
    e->sink.finish(e->sink.arg, id, JOB_CANCELLED, &counts);
}

static void echo_set_paused(struct backend *b, uint64_t id, bool paused)
{
    struct echo_job *j = find(self(b), id);
    if (j)
        j->paused = paused;
}

/* Adds the choice's next token. Without room for it the delta stays as it is: it has room. */
static void add_token(const struct echo_job *j, uint32_t at, struct delta *d)
{
    const char *word = words[at % WORDS];
    if (at < j->reasoning_tokens)
        buf_adds(&d->parts[DELTA_REASONING], word);
    else if (*j->tool)
        delta_add_call(d, &(struct delta_call){0, "call_echo", j->tool, "{}"});
    else
        buf_adds(&d->parts[DELTA_CONTENT], word);
}

static void tell_choice(struct echo *e, struct echo_job *j, uint32_t choice, uint32_t tokens)
{
    struct delta_view made;
    delta_clear(&e->made);
    for (uint32_t i = 0; i < tokens; i++)
        add_token(j, j->made + i, &e->made);
    uint32_t end = j->made + tokens;
    if (end == j->max_tokens)
        e->made.end = j->end;
    uint32_t thought = j->made < j->reasoning_tokens ? j->reasoning_tokens - j->made : 0;
    j->counts.completion += tokens;
    j->counts.reasoning += thought < tokens ? thought : tokens;
    delta_see(&e->made, &made);
    e->sink.tokens(e->sink.arg, j->id, choice, &made, &j->counts);
}

static void step_job(struct echo *e, struct echo_job *j)
{
    uint32_t left = j->max_tokens - j->made;
    uint32_t tokens = left < TOKENS_PER_STEP ? left : TOKENS_PER_STEP;
    for (uint32_t i = 0; i < j->choices && !j->gone; i++)
        tell_choice(e, j, i, tokens);
    j->made += tokens;
    if (!j->gone && j->made == j->max_tokens) {
        j->gone = true;
        e->sink.finish(e->sink.arg, j->id, j->end, &j->counts);
    }
}

/* The sink may cancel and pause from inside; `jobs` does not move while stepping, and what is
 * submitted meanwhile waits for the next step. */
static bool echo_step(struct backend *b)
{
    struct echo *e = self(b);
    int count = e->count;
    e->stepping = true;
    for (int i = 0; i < count; i++)
        if (!e->jobs[i].gone && !e->jobs[i].paused)
            step_job(e, &e->jobs[i]);
    e->stepping = false;
    drop_gone(e);
    for (int i = 0; i < e->count; i++)
        if (!e->jobs[i].paused)
            return true;
    return false;
}

static int64_t echo_due_us(struct backend *b)
{
    (void)b;
    return 0; /* nothing ever waits */
}

static void echo_load(struct backend *b, struct backend_load *out)
{
    struct echo *e = self(b);
    *out = (struct backend_load){.running = (uint32_t)e->count};
    for (int i = 0; i < e->count; i++)
        out->outstanding_tokens +=
            (uint64_t)e->jobs[i].choices * (e->jobs[i].max_tokens - e->jobs[i].made);
}

static void echo_free(struct backend *b)
{
    struct echo *e = self(b);
    delta_done(&e->made);
    free(e->jobs);
    free(e);
}

static const struct backend_ops ops = {
    .submit = echo_submit,
    .cancel = echo_cancel,
    .set_paused = echo_set_paused,
    .step = echo_step,
    .due_us = echo_due_us,
    .load = echo_load,
    .free = echo_free,
};

struct backend *backend_echo_new(const char *model_name, const struct sink *sink, struct error *err)
{
    struct echo *e = calloc(1, sizeof *e);
    struct echo_job *jobs = calloc(JOBS_MAX, sizeof *jobs);
    if (!e || !jobs) {
        free(e);
        free(jobs);
        error_set(err, NOMEM, "out of memory for the echo backend");
        return NULL;
    }
    e->base = (struct backend){
        .ops = &ops,
        .model = {.context_tokens = CONTEXT_TOKENS,
                  .max_output_tokens = DEFAULT_TOKENS,
                  .prompt_overhead_tokens = 1},
        .capacity_sequences = JOBS_MAX,
        .immediate = true,
    };
    size_t len = strnlen(model_name, sizeof e->base.model.name - 1);
    memcpy(e->base.model.name, model_name, len);
    e->sink = *sink;
    e->jobs = jobs;
    delta_init(&e->made, STEP_BYTES_MAX);
    return &e->base;
}
