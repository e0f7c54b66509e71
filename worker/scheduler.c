#include "worker/scheduler.h"

#include <assert.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "worker/kv.h"
#include "worker/scheduler_private.h"

static int64_t system_clock_us(void *arg)
{
    return clock_mono_us();
}

static void sequences_free(struct request *r)
{
    for (uint32_t i = 0; r->sequences && i < r->choices; i++) {
        free(r->sequences[i].tokens);
        free(r->sequences[i].blocks);
    }
    free(r->sequences);
}

void request_free(struct scheduler *s, struct request *r)
{
    if (!r)
        return;
    if (r->tenant)
        tenant_leave(s, r->tenant);
    sequences_free(r);
    free((void *)(uintptr_t)r->sampling.bias);
    free(r);
}

static enum status make(struct scheduler *s, struct error *err)
{
    struct kv_shape shape;
    model_kv_shape(s->model, &shape);
    int64_t blocks = s->options.kv_bytes / (int64_t)kv_block_bytes(&shape);
    if (blocks < 1 || blocks > INT32_MAX)
        return error_set(err, INVALID, "a KV cache of %lld bytes holds %lld blocks",
                         (long long)s->options.kv_bytes, (long long)blocks);
    size_t sequences = (size_t)s->options.sequences_max, vocab = model_vocab_size(s->model);
    s->sampler = sampler_new((uint32_t)vocab);
    s->running = calloc(sequences, sizeof(struct sequence *));
    s->readers = calloc(sequences, sizeof(struct sequence *));
    s->rows = calloc((size_t)s->options.step_tokens, sizeof *s->rows);
    enum status st = draft_init(s, err);
    if (st != OK)
        return st;
    size_t logit_rows = sequences * (1 + (size_t)s->depth), step = (size_t)s->options.step_tokens;
    s->logits = calloc((logit_rows < step ? logit_rows : step) * vocab, sizeof *s->logits);
    if (!s->sampler || !s->running || !s->readers || !s->rows || !s->logits)
        return error_set(err, NOMEM, "out of memory for the scheduler");
    st = model_reserve(s->model, s->options.step_tokens, err);
    if (st == OK)
        st = kv_new(&shape, (int)blocks, &s->kv, err);
    if (st == OK && !(s->prefix = prefix_new(s->kv)))
        st = error_set(err, NOMEM, "out of memory for the prefix cache");
    return st;
}

enum status scheduler_new(struct model *model, const struct sched_options *options,
                          const struct sched_events *events, struct scheduler **out,
                          struct error *err)
{
    if (options->sequences_max < 1 || options->queue_max < 1 ||
        options->step_tokens < options->sequences_max)
        return error_set(err, INVALID, "a step's budget of %d tokens for %d sequences",
                         options->step_tokens, options->sequences_max);
    struct scheduler *s = calloc(1, sizeof *s);
    if (!s)
        return error_set(err, NOMEM, "out of memory for the scheduler");
    s->model = model;
    s->options = *options;
    if (!s->options.now_us)
        s->options.now_us = system_clock_us;
    s->events = *events;
    enum status st = make(s, err);
    if (st != OK) {
        scheduler_free(s);
        return st;
    }
    *out = s;
    return OK;
}

/* One choice fewer of a running request, which goes with the last. */
static void leave(struct scheduler *s, struct sequence *q)
{
    struct request *r = q->request;
    blocks_drop(s, q);
    r->tenant->in_flight -= r->max_tokens;
    if (--r->running > 0)
        return;
    r->tenant->in_flight -= r->prompt;
    request_free(s, r);
}

void scheduler_free(struct scheduler *s)
{
    if (!s)
        return;
    assert(!s->in_step);
    if (s->kv && s->prefix)
        scheduler_check(s);
    for (int i = 0; i < s->running_count; i++)
        leave(s, s->running[i]);
    while (s->queue_head) {
        struct request *r = s->queue_head;
        queue_remove(s, r);
        request_free(s, r);
    }
    assert(!s->tenants);
    prefix_free(s->prefix);
    assert(!s->kv || kv_used_count(s->kv) == 0);
    kv_free(s->kv);
    sampler_free(s->sampler);
    free(s->running);
    free(s->readers);
    free(s->rows);
    free(s->logits);
    draft_done(s);
    free(s);
}

static enum status check_sizes(const struct scheduler *s, const struct sched_request *r,
                               struct error *err)
{
    uint32_t context = model_context_tokens(s->model);
    uint32_t choices = r->choices ? r->choices : 1;
    if (r->prompt_count < 1 || r->max_tokens < 1)
        return error_set(err, INVALID, "the prompt and max_tokens must be at least one token");
    if (r->prompt_count > context || r->max_tokens > context - r->prompt_count)
        return error_set(err, INVALID,
                         "%u prompt tokens and %u to make are more than the context of %u",
                         r->prompt_count, r->max_tokens, context);
    if (choices > SCHED_CHOICES_MAX || (int)choices > s->options.sequences_max)
        return error_set(err, INVALID, "%u choices where %d sequences may run", choices,
                         s->options.sequences_max);
    if (blocks_needed(r->prompt_count, r->max_tokens, choices) > kv_total(s->kv))
        return error_set(err, INVALID,
                         "%u prompt tokens and %u times %u to make do not fit into the cache",
                         r->prompt_count, choices, r->max_tokens);
    return OK;
}

static enum status check_request(const struct scheduler *s, const struct sched_request *r,
                                 struct error *err)
{
    uint32_t vocab = model_vocab_size(s->model);
    enum status st = check_sizes(s, r, err);
    if (st != OK)
        return st;
    for (uint32_t i = 0; i < r->prompt_count; i++)
        if (r->prompt[i] < 0 || (uint32_t)r->prompt[i] >= vocab)
            return error_set(err, INVALID, "no such token: %d", (int)r->prompt[i]);
    for (int i = 0; i < r->sampling.bias_count; i++)
        if (r->sampling.bias[i].token < 0 || (uint32_t)r->sampling.bias[i].token >= vocab)
            return error_set(err, INVALID, "logit_bias: no such token: %d",
                             (int)r->sampling.bias[i].token);
    if (r->sampling.top_logprobs < 0 || r->sampling.top_logprobs > SAMPLER_TOP_MAX)
        return error_set(err, INVALID, "top_logprobs: 0 to %d, not %d", SAMPLER_TOP_MAX,
                         r->sampling.top_logprobs);
    if (s->queue_count >= s->options.queue_max)
        return error_set(err, LIMITED, "%d requests are waiting already", s->queue_count);
    return OK;
}

static bool copy_bias(struct request *r, const struct sampling *from)
{
    r->sampling.bias = NULL;
    r->sampling.bias_count = 0;
    if (from->bias_count < 1)
        return true;
    size_t bytes = (size_t)from->bias_count * sizeof *from->bias;
    struct logit_bias *copy = malloc(bytes);
    if (!copy)
        return false;
    memcpy(copy, from->bias, bytes);
    r->sampling.bias = copy;
    r->sampling.bias_count = from->bias_count;
    return true;
}

static bool make_sequences(struct request *r)
{
    size_t total = (size_t)r->prompt + r->max_tokens;
    r->sequences = calloc(r->choices, sizeof *r->sequences);
    for (uint32_t i = 0; r->sequences && i < r->choices; i++) {
        struct sequence *q = &r->sequences[i];
        q->request = r;
        q->choice = i;
        q->seed = sampler_choice_seed(r->sampling.seed, i);
        q->tokens = calloc(total, sizeof *q->tokens);
        q->blocks = calloc((size_t)kv_blocks_for((int64_t)total), sizeof *q->blocks);
        if (!q->tokens || !q->blocks)
            return false;
    }
    return r->sequences != NULL;
}

static bool fill(struct scheduler *s, struct request *r, const struct sched_request *from)
{
    r->id = from->id;
    r->priority = from->priority;
    if (from->deadline_ms > 0)
        r->deadline_us = s->options.now_us(s->options.now_arg) + from->deadline_ms * 1000;
    r->sampling = from->sampling;
    if (!r->sampling.has_seed)
        crypto_random(&r->sampling.seed, sizeof r->sampling.seed);
    r->prompt = from->prompt_count;
    r->max_tokens = from->max_tokens;
    r->choices = from->choices ? from->choices : 1;
    r->salted = from->cache_salt_len > 0;
    r->held = from->held;
    if (!copy_bias(r, &from->sampling) || !make_sequences(r) ||
        !(r->tenant = tenant_enter(s, from->tenant ? from->tenant : "")))
        return false;
    struct sequence *first = &r->sequences[0];
    memcpy(first->tokens, from->prompt, (size_t)r->prompt * sizeof *first->tokens);
    if (r->salted)
        prefix_begin(from->cache_salt, from->cache_salt_len, &first->key);
    return true;
}

enum status scheduler_submit(struct scheduler *s, const struct sched_request *from,
                             struct error *err)
{
    enum status st = check_request(s, from, err);
    if (st != OK)
        return st;
    struct request *r = calloc(1, sizeof *r);
    if (!r || !fill(s, r, from)) {
        request_free(s, r);
        return error_set(err, NOMEM, "out of memory for a request");
    }
    queue_push(s, r);
    return OK;
}

/* The running ones that have ended leave, and their blocks with them. */
static void reap(struct scheduler *s)
{
    int kept = 0;
    int64_t used = 0;
    for (int i = 0; i < s->running_count; i++) {
        struct sequence *q = s->running[i];
        if (q->state == SEQUENCE_ENDED) {
            leave(s, q);
            s->changed = true;
        } else {
            s->running[kept++] = q;
            used += q->block_count - q->first_block;
        }
    }
    s->running_count = kept;
    /* No block is lost: each reference is a sequence's or the prefix cache's. */
    assert(kv_references(s->kv) == used + prefix_count(s->prefix));
    assert(kv_free_count(s->kv) + kv_used_count(s->kv) == kv_total(s->kv));
}

void scheduler_check(const struct scheduler *s)
{
    int64_t held = prefix_count(s->prefix);
    for (int i = 0; i < s->running_count; i++)
        held += s->running[i]->block_count - s->running[i]->first_block;
    assert(kv_references(s->kv) == held);
    kv_check(s->kv);
}

void sequence_end(struct scheduler *s, struct sequence *q, enum sched_end how)
{
    assert(q->state != SEQUENCE_ENDED);
    q->state = SEQUENCE_ENDED;
    s->events.ended(s->events.arg, q->request->id, q->choice, how);
}

void request_end(struct scheduler *s, struct request *r, enum sched_end how)
{
    for (uint32_t i = 0; i < r->choices; i++)
        sequence_end(s, &r->sequences[i], how);
    request_free(s, r);
}

static struct request *find_waiting(const struct scheduler *s, uint64_t id)
{
    struct request *r = s->queue_head;
    while (r && r->id != id)
        r = r->behind;
    return r;
}

static struct request *find_running(const struct scheduler *s, uint64_t id)
{
    for (int i = 0; i < s->running_count; i++)
        if (s->running[i]->request->id == id)
            return s->running[i]->request;
    return NULL;
}

void scheduler_release(struct scheduler *s, uint64_t id)
{
    struct request *r = find_waiting(s, id);
    if (!r)
        return;
    r->held = false;
    s->changed = true;
}

void scheduler_cancel(struct scheduler *s, uint64_t id)
{
    struct request *r = find_waiting(s, id);
    if (r) {
        queue_remove(s, r);
        request_end(s, r, SCHED_CANCELLED);
        return;
    }
    r = find_running(s, id);
    if (!r)
        return;
    bool in_step = s->in_step;
    s->in_step = true; /* a listener that cancels others does not reap this one */
    for (uint32_t i = 0; i < r->choices; i++)
        if (r->sequences[i].state != SEQUENCE_ENDED)
            sequence_end(s, &r->sequences[i], SCHED_CANCELLED);
    s->in_step = in_step;
    if (!s->in_step)
        reap(s);
}

void scheduler_set_paused(struct scheduler *s, uint64_t id, bool paused)
{
    struct request *r = find_waiting(s, id);
    if (!r)
        r = find_running(s, id);
    if (r)
        r->paused = paused;
}

static int compose(struct scheduler *s)
{
    int count = 0;
    for (int i = 0; i < s->running_count; i++) {
        struct sequence *q = s->running[i];
        uint32_t end = q->request->prompt + q->made;
        q->first_row = count;
        q->fresh = 0;
        for (int j = 0; j < q->rows; j++, count++) {
            uint32_t at = q->done + (uint32_t)j;
            s->rows[count] = (struct batch_row){.token = q->tokens[at],
                                                .position = (int32_t)at,
                                                .blocks = q->blocks,
                                                .wants_logits = at + 1 >= end,
                                                .hidden_out = draft_hidden_row(s, count)};
        }
    }
    return count;
}

static bool is_ready(struct scheduler *s, const struct sequence *q)
{
    return !s->events.ready || s->events.ready(s->events.arg, q->request->id, q->choice);
}

/* A prompt's choices make their first tokens together. */
bool sequence_is_ready(struct scheduler *s, const struct sequence *q)
{
    const struct request *r = q->request;
    bool ready = true;
    if (q->state != SEQUENCE_PREFILL)
        return is_ready(s, q);
    for (uint32_t i = 0; i < r->choices; i++)
        if (r->sequences[i].state != SEQUENCE_ENDED)
            ready = is_ready(s, &r->sequences[i]) && ready;
    return ready;
}

int32_t sequence_pick(struct scheduler *s, const struct sequence *q, const float *logits,
                      bool is_guess)
{
    const struct request *r = q->request;
    struct sampling how = r->sampling;
    how.seed = q->seed;
    struct sampler_input in = {.logits = logits,
                               .tokens = q->tokens,
                               .prompt = r->prompt,
                               .made = q->made + (uint32_t)q->drafts};
    /* Behind a guess the listener cannot know the mask; such a guess is just judged later, as is
     * one made before the mask is there. */
    if (s->events.mask && (!is_guess || (!q->drafts && is_ready(s, q))))
        in.mask = s->events.mask(s->events.arg, r->id, q->choice);
    return sampler_pick(s->sampler, &in, &how);
}

static bool tell(struct scheduler *s, const struct sequence *q, int32_t token, const float *logits)
{
    const struct request *r = q->request;
    struct token_logprobs logprobs;
    if (r->sampling.logprobs)
        sampler_logprobs(s->sampler, logits, token, r->sampling.top_logprobs, &logprobs);
    struct sched_token told = {.id = r->id,
                               .choice = q->choice,
                               .token = token,
                               .cached = r->cached,
                               .logprobs = r->sampling.logprobs ? &logprobs : NULL};
    return s->events.token(s->events.arg, &told);
}

/* The token after the last of q's; the listener may end q, or any other sequence, meanwhile. */
static void deliver(struct scheduler *s, struct sequence *q, const float *logits)
{
    int32_t token = sequence_pick(s, q, logits, false);
    if (token < 0) {
        sequence_end(s, q, SCHED_BLOCKED);
        return;
    }
    q->tokens[q->request->prompt + q->made++] = token;
    q->fresh++;
    q->state = SEQUENCE_DECODE;
    bool stop = tell(s, q, token, logits);
    if (q->state == SEQUENCE_ENDED)
        return;
    if (stop)
        sequence_end(s, q, SCHED_STOPPED);
    else if (q->made == q->request->max_tokens)
        sequence_end(s, q, SCHED_LENGTH);
}

/* A prompt is read: every choice makes its first token from the same logits. */
static void deliver_first(struct scheduler *s, struct sequence *first, const float *logits)
{
    struct request *r = first->request;
    blocks_fork(s, r);
    for (uint32_t i = 0; i < r->choices; i++) {
        struct sequence *q = &r->sequences[i];
        q->fresh_row = first->first_row + first->rows - 1;
        q->fresh_at = r->prompt - 1;
        if (q->state != SEQUENCE_ENDED)
            deliver(s, q, logits);
    }
}

/* One token, and one more for every guess that was right. */
static void deliver_next(struct scheduler *s, struct sequence *q, const float *logits)
{
    int drafts = q->drafts;
    q->judges = drafts > 0;
    uint32_t at = q->request->prompt + q->made;
    q->fresh_row = q->first_row;
    q->fresh_at = q->done - 1;
    q->drafts = 0;
    s->drafted += (uint64_t)drafts;
    for (int i = 0;; i++) {
        int32_t guess = i < drafts ? q->tokens[at + (uint32_t)i] : -1;
        deliver(s, q, logits + (size_t)i * model_vocab_size(s->model));
        if (q->state == SEQUENCE_ENDED || q->request->paused || guess < 0 ||
            q->tokens[at + (uint32_t)i] != guess || !is_ready(s, q))
            return;
        q->done++;
        blocks_share(s, q);
        s->accepted++;
    }
}

/* Its next token would have come from this step, but cannot be made yet: the last row is computed
 * again. */
static bool put_off(struct scheduler *s, struct sequence *q, bool reads)
{
    if (reads && q->done + (uint32_t)q->rows < q->request->prompt)
        return false;
    q->waits = q->state != SEQUENCE_ENDED && !sequence_is_ready(s, q);
    if (q->waits && reads) {
        q->done += (uint32_t)q->rows - 1;
        blocks_share(s, q);
    }
    return q->waits;
}

static void take_results(struct scheduler *s)
{
    const float *logits = s->logits;
    /* Listeners may submit (to the queue) but not start sequences: the list stays as it is. */
    for (int i = 0; i < s->running_count; i++) {
        struct sequence *q = s->running[i];
        if (!q->rows)
            continue;
        bool reads = q->done < q->request->prompt;
        bool later = put_off(s, q, reads);
        if (!later) {
            q->done += reads ? (uint32_t)q->rows : 1;
            blocks_share(s, q);
        }
        if (!later && reads && q->done < q->request->prompt)
            continue;
        if (!later && q->state == SEQUENCE_PREFILL)
            deliver_first(s, q, logits);
        else if (!later && q->state == SEQUENCE_DECODE)
            deliver_next(s, q, logits);
        logits += (size_t)(reads ? 1 : q->rows) * model_vocab_size(s->model);
    }
}

bool scheduler_step(struct scheduler *s)
{
    assert(!s->in_step);
    queue_expire(s);
    queue_admit(s);
    draft_begin(s);
    budget_share(s);
    int count = compose(s);
    if (!count)
        return false;
    int64_t start = s->options.now_us(s->options.now_arg);
    model_forward(s->model, s->kv, s->rows, count, s->logits);
    draft_read(s);
    s->in_step = true;
    take_results(s);
    draft_guess(s);
    s->in_step = false;
    draft_note(s, s->options.now_us(s->options.now_arg) - start);
    reap(s);
    return true;
}

int64_t scheduler_due_us(const struct scheduler *s)
{
    int64_t due = 0;
    for (const struct request *r = s->queue_head; r; r = r->behind)
        if (r->deadline_us && (!due || r->deadline_us < due))
            due = r->deadline_us;
    return due;
}

void scheduler_load(const struct scheduler *s, struct backend_load *out)
{
    struct backend_load load = {
        .running = (uint32_t)s->running_count, .drafted = s->drafted, .accepted = s->accepted};
    for (int i = 0; i < s->running_count; i++) {
        const struct sequence *q = s->running[i];
        const struct request *r = q->request;
        if (q->choice == 0 && q->done < r->prompt)
            load.outstanding_tokens += r->prompt - q->done;
        load.outstanding_tokens += r->max_tokens - q->made;
    }
    for (const struct request *r = s->queue_head; r; r = r->behind) {
        load.waiting += r->choices;
        load.outstanding_tokens += (uint64_t)r->prompt + (uint64_t)r->max_tokens * r->choices;
    }
    *out = load;
}
