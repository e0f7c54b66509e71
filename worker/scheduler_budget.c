/*
 * The rows of a step. Every sequence that decodes gets its own first. The rest goes to prompts:
 * evenly to the tenants that have any, and of each tenant's share evenly to its prompts, so that a
 * short one does not wait behind a long one; what a tenant or a prompt does not need goes to the
 * others in the same way.
 */
#include <assert.h>

#include "worker/kv.h"
#include "worker/scheduler_private.h"

static bool same_next_block(const struct sequence *a, const struct sequence *b)
{
    size_t at = (size_t)a->keyed * KV_BLOCK_TOKENS;
    return a->keyed == b->keyed && at + KV_BLOCK_TOKENS < a->request->prompt &&
           at + KV_BLOCK_TOKENS < b->request->prompt &&
           memcmp(&a->key, &b->key, sizeof a->key) == 0 &&
           memcmp(a->tokens + at, b->tokens + at, KV_BLOCK_TOKENS * sizeof *a->tokens) == 0;
}

/* It makes no token for now; what it would compute meanwhile would be computed again. */
static bool waits(struct scheduler *s, struct sequence *q)
{
    q->waits = q->waits && !sequence_is_ready(s, q);
    return q->waits;
}

static bool reads(const struct sequence *q)
{
    return q->state == SEQUENCE_PREFILL && !q->request->paused;
}

/* An older sequence is about to compute the very block that number i needs next: it is worth
 * waiting for. */
static bool follows(const struct scheduler *s, int i)
{
    const struct sequence *q = s->running[i];
    if (!q->request->salted || q->done != q->keyed * KV_BLOCK_TOKENS)
        return false;
    for (int j = 0; j < i; j++) {
        const struct sequence *p = s->running[j];
        if (reads(p) && p->request->salted && same_next_block(p, q))
            return true;
    }
    return false;
}

static int wanted(const struct sequence *q)
{
    return (int)(q->request->prompt - q->done) - q->rows;
}

/* One round of giving; returns how much is left. */
static int give(struct sequence **readers, int count, int left)
{
    int tenants = 0;
    for (int i = 0; i < count; i++)
        readers[i]->request->tenant->hungry = 0;
    for (int i = 0; i < count; i++)
        if (wanted(readers[i]) > 0)
            tenants += readers[i]->request->tenant->hungry++ == 0;
    if (!tenants)
        return left;
    int share = left / tenants > 0 ? left / tenants : 1;
    for (int i = 0; i < count; i++)
        readers[i]->request->tenant->share = share;
    for (int i = 0; i < count; i++) {
        struct tenant *t = readers[i]->request->tenant;
        int want = wanted(readers[i]);
        int most = t->hungry && share / t->hungry > 0 ? share / t->hungry : 1;
        int rows = want < most ? want : most;
        rows = rows < t->share ? rows : t->share;
        rows = rows < left ? rows : left;
        readers[i]->rows += rows;
        t->share -= rows;
        left -= rows;
    }
    return left;
}

/* Rows for guesses; the guesses that get none are forgotten. */
static int give_drafts(struct scheduler *s, int left)
{
    for (int i = 0; i < s->running_count; i++) {
        struct sequence *q = s->running[i];
        if (!q->rows || q->state != SEQUENCE_DECODE)
            continue;
        if (q->drafts > left)
            q->drafts = left;
        q->rows += q->drafts;
        left -= q->drafts;
    }
    return left;
}

void budget_share(struct scheduler *s)
{
    int left = s->options.step_tokens, count = 0;
    for (int i = 0; i < s->running_count; i++) {
        struct sequence *q = s->running[i];
        q->rows = 0;
        if (q->request->paused || waits(s, q))
            continue;
        q->rows = q->state == SEQUENCE_DECODE;
        left -= q->rows;
        if (!reads(q))
            continue;
        blocks_catch_up(s, q);
        if (!follows(s, i))
            s->readers[count++] = q;
    }
    assert(left >= 0);
    left = give_drafts(s, left);
    for (int before = 0; left > 0 && left != before;) {
        before = left;
        left = give(s->readers, count, left);
    }
}
