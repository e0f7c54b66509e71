#include <assert.h>

#include "base/buf.h"
#include "worker/backend.h"

enum { TOKENS_PER_STEP = 16, DEFAULT_TOKENS = 16, CONTEXT_TOKENS = 1 << 20, JOBS_MAX = 8192 };

/* Each word, with its space, is a token. */
static const char *const words[] = {"The ",  "quick ", "brown ", "fox ", "jumps ",
                                    "over ", "the ",   "lazy ",  "dog. "};
enum { WORDS = sizeof words / sizeof *words };

struct echo_job {
    uint64_t id;
    struct counts counts;
    uint32_t max_tokens, reasoning_tokens; /* the first ones are reasoning */
    enum job_end end;
    bool paused, gone; /* gone: to be dropped at the end of the step */
};

struct echo {
    struct backend base;
    struct sink sink;
    struct echo_job *jobs;
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
    size_t bytes = 0;
    for (int i = 0; i < job->message_count; i++)
        bytes += strlen(job->messages[i].content);
    size_t tokens = bytes / 4 + 1;
    return tokens < CONTEXT_TOKENS ? (uint32_t)tokens : CONTEXT_TOKENS;
}

static void echo_submit(struct backend *b, const struct job *job)
{
    struct echo *e = self(b);
    struct echo_job j = {.id = job->id, .counts.prompt = prompt_tokens(job)};
    if (e->count == JOBS_MAX) {
        e->sink.fail(e->sink.arg, job->id, JOB_OVERLOADED, "the worker's queue is full", NULL,
                     &(struct counts){0});
        return;
    }
    if (j.counts.prompt >= CONTEXT_TOKENS) {
        e->sink.fail(e->sink.arg, job->id, JOB_CONTEXT_LENGTH,
                     "the messages are longer than the model's context", "messages", &j.counts);
        return;
    }
    uint32_t room = CONTEXT_TOKENS - j.counts.prompt;
    j.max_tokens = job->max_tokens ? job->max_tokens : DEFAULT_TOKENS;
    if (j.max_tokens > room)
        j.max_tokens = room;
    j.end = job->max_tokens ? JOB_LENGTH : JOB_STOP;
    j.reasoning_tokens = job->thinking ? j.max_tokens / 2 : 0;
    e->jobs[e->count++] = j;
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

static void step_job(struct echo *e, struct echo_job *j)
{
    char content[TOKENS_PER_STEP * 8], reasoning[TOKENS_PER_STEP * 8];
    size_t content_len = 0, reasoning_len = 0;
    for (int i = 0; i < TOKENS_PER_STEP && j->counts.completion < j->max_tokens; i++) {
        const char *word = words[j->counts.completion % WORDS];
        size_t len = strlen(word);
        if (j->counts.completion < j->reasoning_tokens) {
            memcpy(reasoning + reasoning_len, word, len);
            reasoning_len += len;
            j->counts.reasoning++;
        } else {
            memcpy(content + content_len, word, len);
            content_len += len;
        }
        j->counts.completion++;
    }
    uint64_t id = j->id;
    e->sink.tokens(e->sink.arg, id, content, content_len, reasoning, reasoning_len, &j->counts);
    if (!j->gone && j->counts.completion == j->max_tokens) {
        j->gone = true;
        e->sink.finish(e->sink.arg, id, j->end, &j->counts);
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

static void echo_load(struct backend *b, struct backend_load *out)
{
    struct echo *e = self(b);
    *out = (struct backend_load){.running = (uint32_t)e->count};
    for (int i = 0; i < e->count; i++)
        out->outstanding_tokens += e->jobs[i].max_tokens - e->jobs[i].counts.completion;
}

static void echo_free(struct backend *b)
{
    struct echo *e = self(b);
    free(e->jobs);
    free(e);
}

static const struct backend_ops ops = {
    .submit = echo_submit,
    .cancel = echo_cancel,
    .set_paused = echo_set_paused,
    .step = echo_step,
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
    return &e->base;
}
