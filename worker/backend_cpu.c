/*
 * The engine behind the server: messages to ids (worker/chat.h), ids to ids (worker/scheduler.h),
 * ids to text (worker/textout.h). The texts and counts of a step are gathered for each job and
 * told once.
 */
#include <assert.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "worker/backend.h"
#include "worker/chat.h"
#include "worker/constraint.h"
#include "worker/kv.h"
#include "worker/model/model.h"
#include "worker/plan_orders.h"
#include "worker/scheduler.h"
#include "worker/textout.h"

enum { JOB_HEADS = 1024, STEP_TEXT_MAX = 1 << 20, QUEUE_MAX = 1024 };

struct choice {
    struct textout *text;
    struct constraint *constraint; /* NULL: any token may come */
    struct delta made;             /* in this step */
    bool is_dirty;
    enum job_end end;
};

struct cpu_job {
    uint64_t id;
    struct cpu_job *next;  /* in its chain of the index */
    struct cpu_job *dirty; /* the next that has something to tell */
    bool is_dirty;
    const char *failure; /* why it cannot go on; NULL: it can */
    const char *failure_param;
    enum job_error failure_code;
    bool giving_up; /* the other choices are being cancelled */
    bool logprobs;
    struct plan *plan;        /* NULL: anything goes */
    struct plan_order *order; /* NULL: its plan was at hand */
    struct counts counts;
    int count, running; /* choices: of the request, not yet ended */
    struct choice choices[];
};

struct cpu {
    struct backend base;
    struct sink sink;
    struct tokenizer *tokenizer;
    struct chat_template *chat;
    struct chat_markers markers;
    struct planner *planner;
    struct plan_orders *orders;
    struct model *model;
    struct scheduler *scheduler;
    struct cpu_job *heads[JOB_HEADS];
    struct cpu_job *dirty;
    uint32_t *no_token; /* a mask */
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
    for (int i = 0; i < j->count; i++) {
        textout_free(j->choices[i].text);
        constraint_free(j->choices[i].constraint);
        delta_done(&j->choices[i].made);
    }
    plan_free(j->plan);
    plan_order_drop(j->order);
    free(j);
}

/* Tools that must not be called are not shown either. */
static struct chat_request chat_request_of(const struct job *job)
{
    return (struct chat_request){.messages = job->messages,
                                 .count = job->message_count,
                                 .tools = job->tools,
                                 .tool_count = job->tool_choice == TOOL_NEVER ? 0 : job->tool_count,
                                 .thinking = job->thinking,
                                 .wall_s = clock_wall_ms() / 1000};
}

static bool choice_init(struct choice *ch, const struct textout_options *options)
{
    struct textout_options own = *options;
    crypto_random(&own.id_seed, sizeof own.id_seed);
    ch->text = textout_new(&own);
    return ch->text != NULL;
}

static struct cpu_job *job_new(const struct cpu *c, const struct job *job, bool starts_in_reasoning)
{
    struct cpu_job *j = calloc(1, sizeof *j + (size_t)job->choices * sizeof *j->choices);
    if (!j)
        return NULL;
    j->id = job->id;
    j->count = j->running = job->choices;
    j->logprobs = job->sampling.logprobs;
    struct textout_options options = {
        .tokenizer = c->tokenizer,
        .markers = &c->markers,
        .starts_in_reasoning = starts_in_reasoning,
        .stop = job->stop,
        .stop_count = job->stop_count,
        .tools = job->tools,
        .tool_count = job->tool_choice == TOOL_NEVER ? 0 : job->tool_count,
        .one_call = job->one_call,
        .plain = job->prompt,
        .drop_space = tokenizer_adds_space(c->tokenizer) && !job->prompt &&
                      !job->messages[job->message_count - 1].prefix};
    bool made = true;
    for (int i = 0; i < j->count; i++) {
        delta_init(&j->choices[i].made, STEP_TEXT_MAX);
        made = choice_init(&j->choices[i], &options) && made;
    }
    if (!made) {
        job_free(j);
        return NULL;
    }
    return j;
}

/* Takes the plan over, which may be NULL. false: out of memory. */
static bool adopt_plan(struct cpu_job *j, struct plan *plan)
{
    bool made = true;
    j->plan = plan;
    for (int i = 0; plan && i < j->count; i++) {
        j->choices[i].constraint = constraint_new(plan);
        made = made && j->choices[i].constraint;
    }
    return made;
}

static void mark(struct cpu *c, struct cpu_job *j, struct choice *ch)
{
    ch->is_dirty = true;
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
    for (int i = 0; i < j->count; i++) {
        struct choice *ch = &j->choices[i];
        if (!ch->is_dirty)
            continue;
        ch->is_dirty = false;
        struct delta_view made;
        delta_see(&ch->made, &made);
        c->sink.tokens(c->sink.arg, j->id, (uint32_t)i, &made, &j->counts);
        delta_clear(&ch->made);
    }
}

static struct delta_candidate candidate(const struct cpu *c, int32_t token, float logprob)
{
    size_t len = 0;
    const uint8_t *bytes = tokenizer_bytes(c->tokenizer, token, &len);
    return (struct delta_candidate){bytes, (uint32_t)len, logprob};
}

static enum status add_logprobs(const struct cpu *c, const struct sched_token *made,
                                struct delta *out)
{
    const struct token_logprobs *l = made->logprobs;
    struct delta_logprob d = {.token = candidate(c, made->token, l->logprob),
                              .top_count = l->top_count};
    for (int i = 0; i < l->top_count; i++)
        d.top[i] = candidate(c, l->top[i].token, l->top[i].logprob);
    return delta_add_logprob(out, &d);
}

static void set_failure(struct cpu_job *j, enum job_error code, const char *message)
{
    if (!j->failure) {
        j->failure = message;
        j->failure_code = code;
    }
}

static bool on_token(void *arg, const struct sched_token *made)
{
    struct cpu *c = arg;
    struct cpu_job *j = *find(c, made->id);
    assert(j);
    struct choice *ch = &j->choices[made->choice];
    struct textout_said said;
    enum status st = textout_push(ch->text, made->token, &ch->made, &said);
    if (st == OK && ch->constraint)
        st = constraint_accept(ch->constraint, made->token);
    if (st == OK && ch->constraint && !said.stopped)
        constraint_ready(
            ch->constraint); /* if its mask takes long, it is made during the next step */
    if (st == OK && made->logprobs && said.is_content)
        st = add_logprobs(c, made, &ch->made);
    j->counts.cached = made->cached;
    j->counts.completion++;
    j->counts.reasoning += said.is_reasoning;
    mark(c, j, ch);
    if (st != OK)
        set_failure(j, JOB_INTERNAL,
                    st == INVALID ? "the answer left its format" : "the worker is out of memory");
    return said.stopped || j->failure;
}

/* Without memory for a mask no token is allowed, which ends the choice. */
static const uint32_t *on_mask(void *arg, uint64_t id, uint32_t choice)
{
    struct cpu *c = arg;
    struct cpu_job *j = *find(c, id);
    assert(j);
    const uint32_t *mask = NULL;
    struct constraint *constraint = j->choices[choice].constraint;
    if (!constraint || constraint_mask(constraint, &mask) == OK)
        return mask;
    set_failure(j, JOB_INTERNAL, "the worker is out of memory");
    return c->no_token;
}

static bool on_ready(void *arg, uint64_t id, uint32_t choice)
{
    struct cpu_job *j = *find(arg, id);
    assert(j);
    struct constraint *constraint = j->choices[choice].constraint;
    return !constraint || constraint_ready(constraint);
}

static enum job_end end_choice(struct cpu_job *j, struct choice *ch, enum sched_end end)
{
    switch (end) {
    case SCHED_STOPPED:
        return textout_calls(ch->text) ? JOB_TOOL_CALLS : JOB_STOP;
    case SCHED_LENGTH:
        if (textout_flush(ch->text, &ch->made) != OK)
            set_failure(j, JOB_INTERNAL, "the worker is out of memory");
        return JOB_LENGTH;
    case SCHED_CANCELLED:
        return JOB_CANCELLED;
    case SCHED_EXPIRED:
        set_failure(j, JOB_OVERLOADED, "the deadline passed before the answer could begin");
        return JOB_CANCELLED;
    case SCHED_BLOCKED:
        set_failure(j, JOB_INTERNAL, "the model has no token to go on with");
        return JOB_CANCELLED;
    }
    return JOB_CANCELLED;
}

static void on_ended(void *arg, uint64_t id, uint32_t choice, enum sched_end end)
{
    struct cpu *c = arg;
    struct cpu_job **at = find(c, id), *j = *at;
    assert(j && j->running > 0);
    struct choice *ch = &j->choices[choice];
    ch->end = end_choice(j, ch, end);
    if (ch->end != JOB_CANCELLED && !j->failure) {
        ch->made.end = ch->end;
        mark(c, j, ch);
    }
    j->running--;
    if (j->running > 0) {
        /* One choice that cannot go on ends all: this comes again for each of the others. */
        if (j->failure && !j->giving_up && end != SCHED_EXPIRED) {
            j->giving_up = true;
            scheduler_cancel(c->scheduler, id);
        }
        return;
    }
    tell(c, j);
    *at = j->next;
    if (j->failure)
        c->sink.fail(c->sink.arg, id, j->failure_code, j->failure, j->failure_param, &j->counts);
    else
        c->sink.finish(c->sink.arg, id, j->choices[0].end, &j->counts);
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

static void schedule(struct cpu *c, const struct job *job, const struct token_list *prompt,
                     struct cpu_job *j)
{
    uint32_t room = c->base.model.context_tokens - (uint32_t)prompt->count;
    uint32_t most = job->max_tokens ? job->max_tokens : c->base.model.max_output_tokens;
    j->counts.prompt = (uint32_t)prompt->count;
    struct sched_request r = {.id = job->id,
                              .prompt = prompt->ids,
                              .prompt_count = (uint32_t)prompt->count,
                              .max_tokens = most < room ? most : room,
                              .sampling = job->sampling,
                              .choices = (uint32_t)job->choices,
                              .tenant = job->tenant,
                              .priority = job->priority,
                              .deadline_ms = job->deadline_ms,
                              .cache_salt = job->cache_salt,
                              .cache_salt_len = job->cache_salt_len,
                              .held = j->order != NULL};
    struct error err = {""};
    enum status st = scheduler_submit(c->scheduler, &r, &err);
    if (st != OK) {
        job_free(j);
        if (st == INVALID) /* it fits into the context, but not, with all choices, into the cache */
            refuse(c, job->id, JOB_CONTEXT_LENGTH, err.text, job->choices > 1 ? "n" : "messages");
        else
            refuse_status(c, job->id, st, &err);
        return;
    }
    struct cpu_job **head = &c->heads[job->id % JOB_HEADS];
    j->next = *head;
    *head = j;
}

/* What the answer must look like; then the job is on its way. What must be compiled for it first is
 * ordered, and the job held until then. */
static void plan_and_schedule(struct cpu *c, const struct job *job, bool starts_in_reasoning,
                              const struct token_list *prompt)
{
    struct plan *plan = NULL;
    struct job_fault fault;
    enum status st = planner_find(c->planner, job, starts_in_reasoning, &plan, &fault);
    if (st == INVALID) {
        refuse(c, job->id, JOB_INVALID, fault.error.text, fault.param);
        return;
    }
    struct cpu_job *j = st != NOMEM ? job_new(c, job, starts_in_reasoning) : NULL;
    if (j && st == UNAVAILABLE)
        j->order = plan_orders_add(c->orders, job, starts_in_reasoning, j);
    bool made = j && (st == UNAVAILABLE ? j->order != NULL : adopt_plan(j, plan));
    if (!j)
        plan_free(plan);
    if (made) {
        schedule(c, job, prompt, j);
        return;
    }
    job_free(j);
    refuse(c, job->id, JOB_OVERLOADED, "the worker is out of memory", NULL);
}

/* Nothing was done for it yet. */
static void refuse_plan(struct cpu *c, struct cpu_job *j, enum status st)
{
    const struct job_fault *fault = plan_order_fault(j->order);
    j->counts = (struct counts){0};
    if (st == INVALID) {
        set_failure(j, JOB_INVALID, fault->error.text);
        j->failure_param = fault->param;
    } else {
        set_failure(j, JOB_OVERLOADED,
                    st == LIMITED ? "the schemas of the answers under way leave no room for more"
                                  : "the worker is out of memory");
    }
    j->giving_up = true;
    scheduler_cancel(c->scheduler, j->id);
}

static void take_plans(struct cpu *c)
{
    for (struct plan_order *order; (order = plan_orders_next(c->orders));) {
        struct cpu_job *j = plan_order_owner(order);
        struct plan *plan = NULL;
        enum status st = plan_order_take(order, &plan);
        if (st == OK && !adopt_plan(j, plan))
            st = NOMEM;
        if (st == OK)
            scheduler_release(c->scheduler, j->id);
        else
            refuse_plan(c, j, st);
    }
}

static bool may_be_asked(struct cpu *c, const struct job *job)
{
    if (!job->prompt && !chat_converses(c->chat)) {
        refuse(c, job->id, JOB_INVALID,
               "this model has no chat template: it takes no messages, only a prompt "
               "(/v1/completions)",
               "messages");
        return false;
    }
    if (job->tool_count && c->markers.tools == TOOLS_NONE) {
        refuse(c, job->id, JOB_INVALID, "this model knows no tools", "tools");
        return false;
    }
    for (int i = 0; i < job->sampling.bias_count; i++)
        if (job->sampling.bias[i].token >= (int32_t)model_vocab_size(c->model)) {
            refuse(c, job->id, JOB_INVALID, "logit_bias names a token that the model has not",
                   "logit_bias");
            return false;
        }
    return true;
}

static void cpu_submit(struct backend *b, const struct job *job)
{
    struct cpu *c = self(b);
    struct token_list prompt;
    struct error err = {""};
    if (!may_be_asked(c, job))
        return;
    /* Text far past the context is not encoded to its end: other requests wait for this thread. */
    token_list_init(&prompt, 2 * (size_t)c->base.model.context_tokens + 64);
    struct chat_request chat = chat_request_of(job);
    enum status st = job->prompt ? chat_complete(c->chat, job->prompt, job->suffix, &prompt, &err)
                                 : chat_render(c->chat, &chat, &prompt, &err);
    if (st == INVALID && job->prompt)
        refuse(c, job->id, JOB_INVALID, err.text, job->suffix ? "suffix" : "prompt");
    else if (st == OK && prompt.count == 0)
        refuse(c, job->id, JOB_INVALID, "the prompt is empty", "prompt");
    else if (st != OK && st != LIMITED)
        refuse_status(c, job->id, st, &err);
    else if (fits(c, job, prompt.count, st == LIMITED))
        plan_and_schedule(c, job, !job->prompt && chat_starts_in_reasoning(c->chat, &chat),
                          &prompt);
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
    take_plans(c);
    bool worked = scheduler_step(c->scheduler);
    while (c->dirty)
        tell(c, c->dirty);
    return worked;
}

static int64_t cpu_due_us(struct backend *b)
{
    return scheduler_due_us(self(b)->scheduler);
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
    for (int i = 0; i < JOB_HEADS; i++)
        while (c->heads[i]) {
            struct cpu_job *j = c->heads[i];
            c->heads[i] = j->next;
            job_free(j);
        }
    plan_orders_free(c->orders);
    planner_free(c->planner);
    chat_free(c->chat);
    tokenizer_free(c->tokenizer);
    free(c->no_token);
    free(c);
}

static const struct backend_ops ops = {
    .submit = cpu_submit,
    .cancel = cpu_cancel,
    .set_paused = cpu_set_paused,
    .step = cpu_step,
    .due_us = cpu_due_us,
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
    struct model_options options = {.threads = o->threads,
                                    .kv_type = o->kv_type,
                                    .deterministic = o->deterministic,
                                    .weights = o->weights,
                                    .large_pages = o->large_pages,
                                    .rounded = o->rounded,
                                    .mtp = o->speculate != SPECULATE_OFF};
    if (st == OK)
        st = model_load(o->model_dir, &options, &c->model, err);
    if (st != OK)
        return st;
    if ((uint32_t)tokenizer_vocab_size(c->tokenizer) > model_vocab_size(c->model))
        return error_set(
            err, INVALID, "%s: the tokenizer has ids up to %d, the model's vocabulary is %u",
            o->model_dir, tokenizer_vocab_size(c->tokenizer) - 1, model_vocab_size(c->model));
    chat_markers(c->chat, &c->markers);
    c->no_token = calloc(model_vocab_size(c->model) / 32 + 1, sizeof *c->no_token);
    if (!c->no_token)
        return error_set(err, NOMEM, "out of memory");
    struct planner_options forms = {.tokenizer = c->tokenizer,
                                    .markers = &c->markers,
                                    .vocab = model_vocab_size(c->model),
                                    .wake = c->sink.wake,
                                    .wake_arg = c->sink.arg};
    st = planner_new(&forms, &c->planner, err);
    if (st == OK)
        st = plan_orders_new(c->planner, c->sink.wake, c->sink.arg, &c->orders, err);
    return st == OK ? set_context(c, o, err) : st;
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
                                  .queue_max = QUEUE_MAX,
                                  .speculate = (enum sched_speculation)options->speculate};
    struct sched_events events = {
        .token = on_token, .ended = on_ended, .mask = on_mask, .ready = on_ready, .arg = c};
    if (st == OK)
        st = scheduler_new(c->model, &sched, &events, &c->scheduler, err);
    if (st != OK) {
        cpu_free(&c->base);
        return NULL;
    }
    struct backend_model *m = &c->base.model;
    set_name(m, options);
    memcpy(m->tokenizer_hash, tokenizer_hash(c->tokenizer), sizeof m->tokenizer_hash);
    m->completions_only = !chat_converses(c->chat);
    struct chat_overhead overhead;
    chat_overhead(c->chat, &overhead);
    m->prompt_overhead_tokens = overhead.prompt;
    m->message_overhead_tokens = overhead.message;
    m->tools_overhead_tokens = overhead.tools;
    m->tool_overhead_tokens = overhead.tool;
    return &c->base;
}
