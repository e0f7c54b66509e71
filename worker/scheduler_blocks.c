#include <assert.h>

#include "worker/kv.h"
#include "worker/scheduler_private.h"

/* Of a request of several choices, the prompt's full blocks are held once. */
int64_t blocks_needed(uint32_t prompt, uint32_t max_tokens, uint32_t choices)
{
    int64_t each = kv_blocks_for((int64_t)prompt + max_tokens);
    return each + (int64_t)(choices - 1) * (each - prompt / KV_BLOCK_TOKENS);
}

void blocks_drop(struct scheduler *s, struct sequence *q)
{
    for (int i = q->block_count - 1; i >= q->first_block; i--) {
        prefix_touch(s->prefix, q->blocks[i]);
        kv_unref(s->kv, q->blocks[i]);
    }
    q->block_count = q->first_block = 0;
}

/* The next block of a prompt, when it is in the cache; -1: it is not, or must not be used. The
 * last token is left to compute: its logits are wanted. */
static int32_t take_next(struct scheduler *s, struct sequence *q)
{
    uint32_t end = (q->keyed + 1) * KV_BLOCK_TOKENS;
    if (!q->request->salted || end >= q->request->prompt)
        return -1;
    struct prefix_key key = q->key;
    prefix_advance(&key, q->tokens + q->keyed * KV_BLOCK_TOKENS);
    int32_t block = prefix_take(s->prefix, &key);
    if (block < 0)
        return -1;
    q->key = key;
    q->keyed++;
    q->done = end;
    return block;
}

static bool take_rest(struct scheduler *s, struct sequence *q, int count)
{
    if (!kv_take(s->kv, count, q->blocks + q->block_count))
        return false;
    q->block_count += count;
    return true;
}

bool blocks_reserve(struct scheduler *s, struct request *r)
{
    int each = kv_blocks_for((int64_t)r->prompt + r->max_tokens);
    int shared = (int)(r->prompt / KV_BLOCK_TOKENS);
    struct sequence *first = &r->sequences[0];
    struct prefix_key start = first->key;
    for (int32_t block; (block = take_next(s, first)) >= 0;)
        first->blocks[first->block_count++] = block;
    int64_t need = blocks_needed(r->prompt, r->max_tokens, r->choices) - first->block_count;
    if (need > kv_free_count(s->kv) + prefix_unused(s->prefix)) {
        blocks_drop(s, first);
        first->key = start;
        first->keyed = first->done = 0;
        return false;
    }
    prefix_make_room(s->prefix, (int)need);
    bool all = take_rest(s, first, each - first->block_count);
    for (uint32_t i = 1; i < r->choices; i++) {
        struct sequence *q = &r->sequences[i];
        q->first_block = q->block_count = shared;
        all = all && take_rest(s, q, each - shared);
    }
    assert(all);
    r->cached = first->done;
    return true;
}

void blocks_share(struct scheduler *s, struct sequence *q)
{
    while (q->request->salted && (q->keyed + 1) * KV_BLOCK_TOKENS <= q->done) {
        prefix_advance(&q->key, q->tokens + q->keyed * KV_BLOCK_TOKENS);
        prefix_add(s->prefix, &q->key, q->blocks[q->keyed++]);
    }
}

void blocks_catch_up(struct scheduler *s, struct sequence *q)
{
    while (q->done == q->keyed * KV_BLOCK_TOKENS) {
        int32_t block = take_next(s, q);
        if (block < 0)
            return;
        int32_t *own = &q->blocks[q->keyed - 1];
        kv_unref(s->kv, *own);
        *own = block;
        q->request->cached += KV_BLOCK_TOKENS;
        s->changed = true; /* a block is free again */
    }
}

void blocks_fork(struct scheduler *s, struct request *r)
{
    const struct sequence *first = &r->sequences[0];
    int shared = (int)(r->prompt / KV_BLOCK_TOKENS);
    for (uint32_t i = 1; i < r->choices; i++) {
        struct sequence *q = &r->sequences[i];
        if (q->state != SEQUENCE_FORK)
            continue;
        assert(q->first_block == shared);
        memcpy(q->tokens, first->tokens, (size_t)r->prompt * sizeof *q->tokens);
        for (int b = 0; b < shared; b++) {
            q->blocks[b] = first->blocks[b];
            kv_ref(s->kv, q->blocks[b]);
        }
        q->first_block = 0;
        if (r->prompt % KV_BLOCK_TOKENS)
            kv_copy(s->kv, q->blocks[shared], first->blocks[shared]);
        q->done = first->done;
        q->key = first->key;
        q->keyed = first->keyed;
        q->state = SEQUENCE_DECODE;
    }
}
