#include "worker/scheduler.h"

#include <assert.h>

#include "base/crypto.h"
#include "worker/kv.h"
#include "worker/model/model.h"
#include "worker/prefix.h"
#include "worker/sampler.h"

enum sequence_state {
    SEQUENCE_WAITING, /* in the queue: has no blocks */
    SEQUENCE_PREFILL, /* has blocks; its prompt is not yet in them */
    SEQUENCE_DECODE,
    SEQUENCE_ENDED, /* its end was told; freed when the step is over */
};

struct sequence {
    uint64_t id;
    enum sequence_state state;
    bool paused;
    struct sampling sampling;
    int32_t *tokens; /* the prompt, then what was made */
    uint32_t prompt, made, max_tokens;
    uint32_t done;   /* how many of tokens are in the cache */
    uint32_t cached; /* of those, found there */
    int32_t *blocks;
    int block_count;
    bool salted;           /* its blocks may be shared */
    struct prefix_key key; /* behind the `keyed` first blocks */
    uint32_t keyed;
    int rows;                /* of this step's batch */
    struct sequence *behind; /* in the queue */
};

struct scheduler {
    struct model *model;
    struct sched_options options;
    struct sched_events events;
    struct kv *kv;
    struct prefix *prefix;
    struct sampler *sampler;
    struct sequence **running; /* in order of admission */
    int running_count;
    struct sequence *queue_head, *queue_tail;
    int queue_count;
    bool in_step;
    bool full;              /* the head of the queue did not fit, and nobody has left since */
    struct batch_row *rows; /* [step_tokens] */
    float *logits;          /* [sequences_max][vocabulary] */
};

static void sequence_free(struct sequence *q)
{
    if (!q)
        return;
    free(q->tokens);
    free(q->blocks);
    free(q);
}

static void drop_blocks(struct scheduler *s, struct sequence *q)
{
    for (int i = q->block_count - 1; i >= 0; i--) {
        prefix_touch(s->prefix, q->blocks[i]);
        kv_unref(s->kv, q->blocks[i]);
    }
    q->block_count = 0;
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
    s->running = calloc(sequences, sizeof *s->running);
    s->rows = calloc((size_t)s->options.step_tokens, sizeof *s->rows);
    s->logits = calloc(sequences * vocab, sizeof *s->logits);
    if (!s->sampler || !s->running || !s->rows || !s->logits)
        return error_set(err, NOMEM, "out of memory for the scheduler");
    enum status st = model_reserve(s->model, s->options.step_tokens, err);
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
    s->events = *events;
    enum status st = make(s, err);
    if (st != OK) {
        scheduler_free(s);
        return st;
    }
    *out = s;
    return OK;
}

void scheduler_free(struct scheduler *s)
{
    if (!s)
        return;
    assert(!s->in_step);
    for (int i = 0; i < s->running_count; i++)
        sequence_free(s->running[i]);
    while (s->queue_head) {
        struct sequence *q = s->queue_head;
        s->queue_head = q->behind;
        sequence_free(q);
    }
    prefix_free(s->prefix);
    kv_free(s->kv);
    sampler_free(s->sampler);
    free(s->running);
    free(s->rows);
    free(s->logits);
    free(s);
}

static enum status check_request(const struct scheduler *s, const struct sched_request *r,
                                 struct error *err)
{
    uint32_t context = model_context_tokens(s->model), vocab = model_vocab_size(s->model);
    if (r->prompt_count < 1 || r->max_tokens < 1)
        return error_set(err, INVALID, "the prompt and max_tokens must be at least one token");
    if (r->prompt_count > context || r->max_tokens > context - r->prompt_count)
        return error_set(err, INVALID,
                         "%u prompt tokens and %u to make are more than the context of %u",
                         r->prompt_count, r->max_tokens, context);
    if (kv_blocks_for((int64_t)r->prompt_count + r->max_tokens) > kv_total(s->kv))
        return error_set(err, INVALID, "%u prompt tokens and %u to make do not fit into the cache",
                         r->prompt_count, r->max_tokens);
    for (uint32_t i = 0; i < r->prompt_count; i++)
        if (r->prompt[i] < 0 || (uint32_t)r->prompt[i] >= vocab)
            return error_set(err, INVALID, "no such token: %d", (int)r->prompt[i]);
    if (s->queue_count >= s->options.queue_max)
        return error_set(err, LIMITED, "%d requests are waiting already", s->queue_count);
    return OK;
}

enum status scheduler_submit(struct scheduler *s, const struct sched_request *r, struct error *err)
{
    enum status st = check_request(s, r, err);
    if (st != OK)
        return st;
    struct sequence *q = calloc(1, sizeof *q);
    size_t total = (size_t)r->prompt_count + r->max_tokens;
    int blocks = kv_blocks_for((int64_t)total);
    if (q) {
        q->tokens = calloc(total, sizeof *q->tokens);
        q->blocks = calloc((size_t)blocks, sizeof *q->blocks);
    }
    if (!q || !q->tokens || !q->blocks) {
        sequence_free(q);
        return error_set(err, NOMEM, "out of memory for a request");
    }
    q->id = r->id;
    q->sampling = r->sampling;
    if (!q->sampling.has_seed)
        crypto_random(&q->sampling.seed, sizeof q->sampling.seed);
    q->salted = r->cache_salt_len > 0;
    if (q->salted)
        prefix_begin(r->cache_salt, r->cache_salt_len, &q->key);
    q->prompt = r->prompt_count;
    q->max_tokens = r->max_tokens;
    memcpy(q->tokens, r->prompt, (size_t)r->prompt_count * sizeof *q->tokens);
    if (s->queue_tail)
        s->queue_tail->behind = q;
    else
        s->queue_head = q;
    s->queue_tail = q;
    s->queue_count++;
    return OK;
}

/* The running ones that have ended leave, and their blocks with them. */
static void reap(struct scheduler *s)
{
    int kept = 0;
    for (int i = 0; i < s->running_count; i++) {
        struct sequence *q = s->running[i];
        if (q->state == SEQUENCE_ENDED) {
            drop_blocks(s, q);
            sequence_free(q);
            s->full = false;
        } else {
            s->running[kept++] = q;
        }
    }
    s->running_count = kept;
    int64_t used = 0;
    for (int i = 0; i < kept; i++)
        used += s->running[i]->block_count;
    /* No block is lost: each reference is a sequence's or the prefix cache's. */
    assert(kv_references(s->kv) == used + prefix_count(s->prefix));
}

static void end(struct scheduler *s, struct sequence *q, enum sched_end how)
{
    assert(q->state != SEQUENCE_ENDED);
    q->state = SEQUENCE_ENDED;
    s->events.ended(s->events.arg, q->id, how);
}

static struct sequence *unqueue(struct scheduler *s, uint64_t id)
{
    struct sequence *ahead = NULL;
    for (struct sequence *q = s->queue_head; q; ahead = q, q = q->behind) {
        if (q->id != id)
            continue;
        if (ahead)
            ahead->behind = q->behind;
        else
            s->queue_head = q->behind;
        if (s->queue_tail == q)
            s->queue_tail = ahead;
        s->queue_count--;
        return q;
    }
    return NULL;
}

static struct sequence *find_running(const struct scheduler *s, uint64_t id)
{
    for (int i = 0; i < s->running_count; i++)
        if (s->running[i]->id == id && s->running[i]->state != SEQUENCE_ENDED)
            return s->running[i];
    return NULL;
}

void scheduler_cancel(struct scheduler *s, uint64_t id)
{
    struct sequence *q = unqueue(s, id);
    if (q) {
        s->full = false;
        end(s, q, SCHED_CANCELLED);
        sequence_free(q);
        return;
    }
    q = find_running(s, id);
    if (!q)
        return;
    end(s, q, SCHED_CANCELLED);
    if (!s->in_step)
        reap(s);
}

void scheduler_set_paused(struct scheduler *s, uint64_t id, bool paused)
{
    struct sequence *q = find_running(s, id);
    for (struct sequence *w = s->queue_head; w && !q; w = w->behind)
        if (w->id == id)
            q = w;
    if (q)
        q->paused = paused;
}

/* The blocks of the prompt's beginning that are there already. The last token is left to compute:
 * its logits are wanted. */
static void find_prefix(struct scheduler *s, struct sequence *q)
{
    struct prefix_key key = q->key;
    int most = q->salted ? (int)((q->prompt - 1) / KV_BLOCK_TOKENS) : 0;
    while (q->block_count < most) {
        prefix_advance(&key, q->tokens + q->block_count * KV_BLOCK_TOKENS);
        int32_t block = prefix_take(s->prefix, &key);
        if (block < 0)
            break;
        q->blocks[q->block_count++] = block;
        q->key = key;
    }
    q->keyed = (uint32_t)q->block_count;
    q->cached = q->done = q->keyed * KV_BLOCK_TOKENS;
}

/* All blocks that q may ever need, or none. */
static bool reserve(struct scheduler *s, struct sequence *q)
{
    struct prefix_key start = q->key;
    find_prefix(s, q);
    int blocks = kv_blocks_for((int64_t)q->prompt + q->max_tokens) - q->block_count;
    prefix_make_room(s->prefix, blocks);
    if (kv_take(s->kv, blocks, q->blocks + q->block_count)) {
        q->block_count += blocks;
        return true;
    }
    drop_blocks(s, q);
    q->key = start;
    q->keyed = q->cached = q->done = 0;
    return false;
}

/* The blocks that have become full may be shared from now on. */
static void share_blocks(struct scheduler *s, struct sequence *q)
{
    while (q->salted && (q->keyed + 1) * KV_BLOCK_TOKENS <= q->done) {
        prefix_advance(&q->key, q->tokens + q->keyed * KV_BLOCK_TOKENS);
        prefix_add(s->prefix, &q->key, q->blocks[q->keyed++]);
    }
}

/* In order of arrival: a request that must wait for blocks is not overtaken, so it cannot starve.
 */
static void admit(struct scheduler *s)
{
    while (s->queue_head && !s->full && s->running_count < s->options.sequences_max) {
        struct sequence *q = s->queue_head;
        if (!reserve(s, q)) {
            s->full = true;
            return;
        }
        unqueue(s, q->id);
        q->behind = NULL;
        q->state = SEQUENCE_PREFILL;
        s->running[s->running_count++] = q;
    }
}

/* What decoding leaves of the budget is split evenly among the prompts, so that a short one does
 * not wait behind a long one; what a short one leaves goes to the others, the oldest first. */
static void share_budget(struct scheduler *s)
{
    int left = s->options.step_tokens, prompts = 0;
    for (int i = 0; i < s->running_count; i++) {
        struct sequence *q = s->running[i];
        q->rows = q->state == SEQUENCE_DECODE && !q->paused;
        left -= q->rows;
        prompts += q->state == SEQUENCE_PREFILL && !q->paused;
    }
    int share = prompts ? left / prompts : 0;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < s->running_count; i++) {
            struct sequence *q = s->running[i];
            if (q->state != SEQUENCE_PREFILL || q->paused)
                continue;
            int want = (int)(q->prompt - q->done) - q->rows, most = pass ? left : share;
            int given = want < most ? want : most;
            q->rows += given;
            left -= given;
        }
    assert(left >= 0);
}

static int compose(struct scheduler *s)
{
    int count = 0;
    for (int i = 0; i < s->running_count; i++) {
        struct sequence *q = s->running[i];
        for (int j = 0; j < q->rows; j++) {
            uint32_t at = q->done + (uint32_t)j;
            s->rows[count++] = (struct batch_row){.token = q->tokens[at],
                                                  .position = (int32_t)at,
                                                  .blocks = q->blocks,
                                                  .wants_logits = at + 1 == q->prompt + q->made};
        }
    }
    return count;
}

/* The token after the last of q's; the listener may end q, or any other sequence, meanwhile. */
static void deliver(struct scheduler *s, struct sequence *q, const float *logits)
{
    int32_t token = sampler_pick(s->sampler, logits, &q->sampling, q->made);
    q->tokens[q->prompt + q->made++] = token;
    q->state = SEQUENCE_DECODE;
    bool stop = s->events.token(s->events.arg, q->id, token, q->cached);
    if (q->state == SEQUENCE_ENDED)
        return;
    if (stop)
        end(s, q, SCHED_STOPPED);
    else if (q->made == q->max_tokens)
        end(s, q, SCHED_LENGTH);
}

bool scheduler_step(struct scheduler *s)
{
    assert(!s->in_step);
    admit(s);
    share_budget(s);
    int count = compose(s);
    if (!count)
        return false;
    model_forward(s->model, s->kv, s->rows, count, s->logits);
    s->in_step = true;
    const float *logits = s->logits;
    /* Listeners may submit (to the queue) but not start sequences: the list stays as it is. */
    for (int i = 0; i < s->running_count; i++) {
        struct sequence *q = s->running[i];
        if (!q->rows)
            continue;
        q->done += (uint32_t)q->rows;
        share_blocks(s, q);
        if (q->done < q->prompt + q->made)
            continue;
        if (q->state != SEQUENCE_ENDED)
            deliver(s, q, logits);
        logits += model_vocab_size(s->model);
    }
    s->in_step = false;
    reap(s);
    return true;
}

void scheduler_load(const struct scheduler *s, struct backend_load *out)
{
    struct backend_load load = {.running = (uint32_t)s->running_count,
                                .waiting = (uint32_t)s->queue_count};
    for (int i = 0; i < s->running_count; i++) {
        const struct sequence *q = s->running[i];
        if (q->done < q->prompt)
            load.outstanding_tokens += q->prompt - q->done;
        load.outstanding_tokens += q->max_tokens - q->made;
    }
    for (const struct sequence *q = s->queue_head; q; q = q->behind)
        load.outstanding_tokens += (uint64_t)q->prompt + q->max_tokens;
    *out = load;
}
