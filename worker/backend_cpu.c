/*
 * The engine behind the server: messages to ids (worker/chat.h), ids to ids (worker/scheduler.h),
 * ids to text (worker/textout.h). The texts and counts of a step are gathered for each job and
 * told once.
 */
#include <assert.h>

#include "base/buf.h"
#include "worker/backend.h"
#include "worker/chat.h"
#include "worker/kv.h"
#include "worker/model/model.h"
#include "worker/scheduler.h"
#include "worker/textout.h"

enum { JOB_HEADS = 1024, STEP_TEXT_MAX = 1 << 20, QUEUE_MAX = 1024 };

struct cpu_job {
    uint64_t id;
    struct cpu_job *next;  /* in its chain of the index */
    struct cpu_job *dirty; /* the next that has something to tell */
    bool is_dirty, failed;
    struct textout *text;
    struct counts counts;
    struct buf content, reasoning; /* of this step */
};

struct cpu {
    struct backend base;
    struct sink sink;
    struct tokenizer *tokenizer;
    struct chat_template *chat;
    struct chat_markers markers;
    struct model *model;
    struct scheduler *scheduler;
    struct cpu_job *heads[JOB_HEADS];
    struct cpu_job *dirty;
};

static struct cpu *self(struct backend *b)
{
    return (struct cpu *)b;
}

static struct cpu_job **find(struct cpu *c, uint64_t id)
{
    struct cpu_job **at = &c->heads[id % JOB_HEADS];
    while (*at && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

static void job_free(struct cpu_job *j)
{
    if (!j)
        return;
    textout_free(j->text);
    buf_done(&j->content);
    buf_done(&j->reasoning);
    free(j);
}

static struct cpu_job *job_new(struct cpu *c, const struct job *job)
{
    struct cpu_job *j = calloc(1, sizeof *j);
    if (!j)
        return NULL;
    j->id = job->id;
    buf_init(&j->content, STEP_TEXT_MAX);
    buf_init(&j->reasoning, STEP_TEXT_MAX);
    bool reasoning =
        chat_starts_in_reasoning(c->chat, job->messages, job->message_count, job->thinking);
    j->text = textout_new(c->tokenizer, &c->markers, reasoning, job->stop, job->stop_count);
    if (!j->text) {
        job_free(j);
        return NULL;
    }
    return j;
}

static void mark(struct cpu *c, struct cpu_job *j)
{
    if (j->is_dirty)
        return;
    j->is_dirty = true;
    j->dirty = c->dirty;
    c->dirty = j;
}

static void tell(struct cpu *c, struct cpu_job *j)
{
    if (!j->is_dirty)
        return;
    struct cpu_job **at = &c->dirty;
    while (*at != j)
        at = &(*at)->dirty;
    *at = j->dirty;
    j->is_dirty = false;
    c->sink.tokens(c->sink.arg, j->id, (const char *)buf_head(&j->content), buf_len(&j->content),
                   (const char *)buf_head(&j->reasoning), buf_len(&j->reasoning), &j->counts);
    buf_clear(&j->content);
    buf_clear(&j->reasoning);
}

static bool on_token(void *arg, const struct sched_token *made)
{
    struct cpu *c = arg;
    struct cpu_job *j = *find(c, made->id);
    assert(j);
    bool is_reasoning = false, stopped = false;
    enum status st =
        textout_push(j->text, made->token, &j->content, &j->reasoning, &is_reasoning, &stopped);
    j->counts.cached = made->cached;
    j->counts.completion++;
    j->counts.reasoning += is_reasoning;
    mark(c, j);
    j->failed = st != OK;
    return stopped || j->failed;
}

static void on_ended(void *arg, uint64_t id, uint32_t choice, enum sched_end end)
{
    struct cpu *c = arg;
    struct cpu_job **at = find(c, id), *j = *at;
    assert(j);
    if (end == SCHED_LENGTH && !j->failed) {
        j->failed = textout_flush(j->text, &j->content, &j->reasoning) != OK;
        mark(c, j);
    }
    tell(c, j);
    *at = j->next;
    if (j->failed) {
        c->sink.fail(c->sink.arg, id, JOB_INTERNAL, "the worker is out of memory", NULL,
                     &j->counts);
    } else if (end == SCHED_EXPIRED) {
        c->sink.fail(c->sink.arg, id, JOB_OVERLOADED, "the deadline passed before it could begin",
                     NULL, &j->counts);
    } else if (end == SCHED_BLOCKED) {
        c->sink.fail(c->sink.arg, id, JOB_INTERNAL, "the model has no token to go on with", NULL,
                     &j->counts);
    } else {
        enum job_end how = end == SCHED_STOPPED  ? JOB_STOP
                           : end == SCHED_LENGTH ? JOB_LENGTH
                                                 : JOB_CANCELLED;
        c->sink.finish(c->sink.arg, id, how, &j->counts);
    }
    job_free(j);
}

static void refuse(struct cpu *c, uint64_t id, enum job_error code, const char *message,
                   const char *param)
{
    static const struct counts zero;
    c->sink.fail(c->sink.arg, id, code, message, param, &zero);
}

static void refuse_status(struct cpu *c, uint64_t id, enum status st, const struct error *err)
{
    if (st == INVALID)
        refuse(c, id, JOB_INVALID, err->text, "messages");
    else if (st == NOMEM)
        refuse(c, id, JOB_OVERLOADED, "the worker is out of memory", NULL);
    else
        refuse(c, id, st == LIMITED ? JOB_OVERLOADED : JOB_INTERNAL, err->text, NULL);
}

/* The words are those that OpenAI's clients know. false: refused. */
static bool fits(struct cpu *c, const struct job *job, size_t prompt, bool cut)
{
    uint32_t context = c->base.model.context_tokens;
    char text[256];
    if (cut || prompt >= context)
        snprintf(text, sizeof text,
                 "This model's maximum context length is %u tokens. However, your messages "
                 "resulted in %s%zu tokens. Please reduce the length of the messages.",
                 context, cut ? "more than " : "", prompt);
    else if (job->max_tokens > context - prompt)
        snprintf(text, sizeof text,
                 "This model's maximum context length is %u tokens. However, you requested %zu "
                 "tokens (%zu in the messages, %u in the completion). Please reduce the length of "
                 "the messages or completion.",
                 context, prompt + job->max_tokens, prompt, job->max_tokens);
    else
        return true;
    refuse(c, job->id, JOB_CONTEXT_LENGTH, text, "messages");
    return false;
}

static void schedule(struct cpu *c, const struct job *job, const struct token_list *prompt)
{
    uint32_t room = c->base.model.context_tokens - (uint32_t)prompt->count;
    uint32_t most = job->max_tokens ? job->max_tokens : c->base.model.max_output_tokens;
    struct cpu_job *j = job_new(c, job);
    if (!j) {
        refuse(c, job->id, JOB_OVERLOADED, "the worker is out of memory", NULL);
        return;
    }
    j->counts.prompt = (uint32_t)prompt->count;
    struct sched_request r = {.id = job->id,
                              .prompt = prompt->ids,
                              .prompt_count = (uint32_t)prompt->count,
                              .max_tokens = most < room ? most : room,
                              .sampling = job->sampling,
                              .tenant = job->tenant,
                              .priority = job->priority,
                              .deadline_ms = job->deadline_ms,
                              .cache_salt = job->cache_salt,
                              .cache_salt_len = job->cache_salt_len};
    struct error err = {""};
    enum status st = scheduler_submit(c->scheduler, &r, &err);
    if (st != OK) {
        job_free(j);
        refuse_status(c, job->id, st, &err);
        return;
    }
    struct cpu_job **head = &c->heads[job->id % JOB_HEADS];
    j->next = *head;
    *head = j;
}

static void cpu_submit(struct backend *b, const struct job *job)
{
    struct cpu *c = self(b);
    struct token_list prompt;
    struct error err = {""};
    /* Text far past the context is not encoded to its end: other requests wait for this thread. */
    token_list_init(&prompt, 2 * (size_t)c->base.model.context_tokens + 64);
    enum status st =
        chat_render(c->chat, job->messages, job->message_count, job->thinking, &prompt, &err);
    if (st != OK && st != LIMITED)
        refuse_status(c, job->id, st, &err);
    else if (fits(c, job, prompt.count, st == LIMITED))
        schedule(c, job, &prompt);
    token_list_done(&prompt);
}

static void cpu_cancel(struct backend *b, uint64_t id)
{
    scheduler_cancel(self(b)->scheduler, id);
}

static void cpu_set_paused(struct backend *b, uint64_t id, bool paused)
{
    scheduler_set_paused(self(b)->scheduler, id, paused);
}

static bool cpu_step(struct backend *b)
{
    struct cpu *c = self(b);
    bool worked = scheduler_step(c->scheduler);
    while (c->dirty)
        tell(c, c->dirty);
    return worked;
}

static void cpu_load(struct backend *b, struct backend_load *out)
{
    scheduler_load(self(b)->scheduler, out);
}

static void cpu_free(struct backend *b)
{
    struct cpu *c = self(b);
    scheduler_free(c->scheduler);
    model_free(c->model);
    chat_free(c->chat);
    tokenizer_free(c->tokenizer);
    for (int i = 0; i < JOB_HEADS; i++)
        while (c->heads[i]) {
            struct cpu_job *j = c->heads[i];
            c->heads[i] = j->next;
            job_free(j);
        }
    free(c);
}

static const struct backend_ops ops = {
    .submit = cpu_submit,
    .cancel = cpu_cancel,
    .set_paused = cpu_set_paused,
    .step = cpu_step,
    .load = cpu_load,
    .free = cpu_free,
};

static void set_name(struct backend_model *m, const struct cpu_options *o)
{
    const char *name = o->model_name;
    size_t len;
    if (name && *name) {
        len = strlen(name);
    } else {
        size_t end = strlen(o->model_dir);
        while (end > 1 && o->model_dir[end - 1] == '/')
            end--;
        size_t start = end;
        while (start > 0 && o->model_dir[start - 1] != '/')
            start--;
        name = o->model_dir + start;
        len = end - start;
    }
    if (len > sizeof m->name - 1)
        len = sizeof m->name - 1;
    memcpy(m->name, name, len);
}

/* A sequence must fit into the model's context and, alone, into the cache. */
static enum status set_context(struct cpu *c, const struct cpu_options *o, struct error *err)
{
    struct backend_model *m = &c->base.model;
    struct kv_shape shape;
    model_kv_shape(c->model, &shape);
    int64_t tokens = o->kv_bytes / (int64_t)kv_block_bytes(&shape) * KV_BLOCK_TOKENS;
    uint32_t context = model_context_tokens(c->model);
    m->context_tokens = tokens < context ? (uint32_t)tokens : context;
    if (m->context_tokens < 2 * KV_BLOCK_TOKENS)
        return error_set(err, INVALID, "a KV cache of %lld bytes holds only %u tokens",
                         (long long)o->kv_bytes, m->context_tokens);
    m->max_output_tokens = (uint32_t)o->default_output_tokens;
    if (m->max_output_tokens > m->context_tokens)
        m->max_output_tokens = m->context_tokens;
    return OK;
}

static enum status load(struct cpu *c, const struct cpu_options *o, struct error *err)
{
    enum status st = tokenizer_load(o->model_dir, &c->tokenizer, err);
    if (st == OK)
        st = chat_load(o->model_dir, c->tokenizer, &c->chat, err);
    struct model_options options = {.threads = o->threads};
    if (st == OK)
        st = model_load(o->model_dir, &options, &c->model, err);
    if (st != OK)
        return st;
    if ((uint32_t)tokenizer_vocab_size(c->tokenizer) > model_vocab_size(c->model))
        return error_set(
            err, INVALID, "%s: the tokenizer has ids up to %d, the model's vocabulary is %u",
            o->model_dir, tokenizer_vocab_size(c->tokenizer) - 1, model_vocab_size(c->model));
    chat_markers(c->chat, &c->markers);
    return set_context(c, o, err);
}

struct backend *backend_cpu_new(const struct cpu_options *options, const struct sink *sink,
                                struct error *err)
{
    struct cpu *c = calloc(1, sizeof *c);
    if (!c) {
        error_set(err, NOMEM, "out of memory");
        return NULL;
    }
    c->base.ops = &ops;
    c->base.capacity_sequences = (uint32_t)options->sequences_max;
    c->sink = *sink;
    enum status st = load(c, options, err);
    struct sched_options sched = {.sequences_max = options->sequences_max,
                                  .step_tokens = options->step_tokens,
                                  .kv_bytes = options->kv_bytes,
                                  .queue_max = QUEUE_MAX};
    struct sched_events events = {.token = on_token, .ended = on_ended, .arg = c};
    if (st == OK)
        st = scheduler_new(c->model, &sched, &events, &c->scheduler, err);
    if (st != OK) {
        cpu_free(&c->base);
        return NULL;
    }
    struct backend_model *m = &c->base.model;
    set_name(m, options);
    memcpy(m->tokenizer_hash, tokenizer_hash(c->tokenizer), sizeof m->tokenizer_hash);
    chat_overhead(c->chat, &m->prompt_overhead_tokens, &m->message_overhead_tokens);
    return &c->base;
}
