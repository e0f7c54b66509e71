#include "gateway/meter.h"

#include <assert.h>

#include "base/clock.h"
#include "base/log.h"

bool meter_admit(struct request *r)
{
    struct gateway_loop *gl = r->gl;
    if (journal_failed(gl->journal, NULL))
        return false;
    if (registry_set(gl->gateway->registry, &r->id, REGISTRY_RUNNING, gl->number) != OK)
        return false;
    r->position = journal_admit(gl->journal, &r->context);
    if (r->position == 0) {
        registry_remove(gl->gateway->registry, &r->id);
        return false;
    }
    r->journaled = true;
    stat_add(&gl->stats.journal_records, 1);
    return true;
}

static void settle_hold(struct request *r)
{
    if (!r->held)
        return;
    r->held = false;
    const struct meter_context *c = &r->context;
    bool charged = r->outcome != METER_FAILED;
    struct settle_request s = {
        .request_id = r->id,
        .key_id = c->key_id,
        .project_id = c->project_id,
        .tenant_id = c->tenant_id,
        .tokens = r->counts.prompt + r->counts.completion,
        .cost_nano = charged ? money_nano_up(price_rate(&c->price, &r->counts)) : 0,
    };
    admission_settle(r->gl->admission, &s);
    loop_again(r->gl->loop);
}

static void count_settled(struct request *r)
{
    struct stats *s = &r->gl->stats;
    if (r->counts.prompt + r->counts.completion > r->context.hold_tokens) {
        stat_add(&s->over_hold, 1);
        log_warn("request %s used %lld tokens and held %lld: the worker's estimate is too small",
                 r->id_text, (long long)(r->counts.prompt + r->counts.completion),
                 (long long)r->context.hold_tokens);
    }
    stat_add(&s->journal_records, 1);
    stat_add(&s->outcomes[r->outcome], 1);
    stat_add(&s->prompt_tokens, (uint64_t)r->counts.prompt);
    stat_add(&s->cached_tokens, (uint64_t)r->counts.cached);
    stat_add(&s->completion_tokens, (uint64_t)r->counts.completion);
    stat_add(&s->reasoning_tokens, (uint64_t)r->counts.reasoning);
}

/* The record could not be kept. The process after us finds the open ADMIT, and the worker has
 * the counts; here all that is left is to not pretend. */
static void lost_record(struct request *r)
{
    struct api_error e;
    api_error_set(&e, 500, "metering_failed",
                  "The request could not be recorded; it is not "
                  "charged.");
    request_error(r, &e);
    r->held = false; /* stays until the next process settles it */
    r->journaled = false;
    list_remove(&r->fifo);
    registry_remove(r->gl->gateway->registry, &r->id);
    request_release(r);
}

void request_settle(struct request *r, enum meter_outcome outcome)
{
    struct gateway_loop *gl = r->gl;
    assert(r->journaled && !r->link);
    request_set_state(r, REQUEST_SETTLING);
    r->outcome = r->failed ? METER_FAILED : outcome;
    struct meter_settle s = {
        .context = r->context,
        .counts = r->counts,
        .outcome = r->outcome,
        .attempt = r->attempt,
        .settled_wall_ms = clock_wall_ms(),
        .cost_pico = r->outcome == METER_FAILED ? 0 : price_rate(&r->context.price, &r->counts),
    };
    r->position = journal_settle(gl->journal, &s);
    if (r->position == 0) {
        lost_record(r);
        return;
    }
    count_settled(r);
    json_free(r->body);
    r->body = NULL;
    list_append(&gl->settling, &r->fifo);
}

static void last_bytes(struct request *r)
{
    struct gateway_loop *gl = r->gl;
    if (!r->ex)
        return;
    struct buf *out = &gl->scratch;
    buf_clear(out);
    enum status st = OK;
    if (r->chat.stream) {
        for (uint32_t i = 0; st == OK && i < r->chat.choices; i++)
            if (!r->choices[i].ended)
                st = chat_put_finish(out, &r->answer, &r->choices[i], i);
        if (st == OK)
            st = chat_put_end(out, &r->answer, &r->counts);
    } else {
        st = chat_put_whole(out, &r->answer, r->choices, r->chat.choices, &r->counts);
    }
    if (st != OK) {
        struct api_error e;
        api_error_set(&e, 500, NULL, "The answer does not fit into memory.");
        request_error(r, &e);
        return;
    }
    if (!r->chat.stream && !r->head_sent) {
        request_reply(r, 200, out);
        return;
    }
    if (!r->head_sent)
        request_begin_reply(r);
    stat_add(&gl->stats.responses[2], 1);
    stats_observe(&gl->stats.total, loop_now_ms(gl->loop) - r->begun_ms);
    struct http_exchange *ex = r->ex;
    http_reply_write(ex, buf_head(out), buf_len(out));
    r->ex = NULL;
    http_set_user(ex, NULL);
    http_reply_end(ex);
}

/* Its record is written (or on disk, where answers wait for that). */
static void complete(struct gateway_loop *gl, int64_t limit)
{
    while (!list_empty(&gl->settling)) {
        struct request *r = list_entry(gl->settling.next, struct request, fifo);
        if (r->position > limit)
            return;
        list_remove(&r->fifo);
        settle_hold(r);
        last_bytes(r);
        list_append(&gl->unsynced, &r->fifo);
    }
}

static void acknowledge(struct gateway_loop *gl)
{
    int64_t durable = journal_durable(gl->journal);
    while (!list_empty(&gl->unsynced)) {
        struct request *r = list_entry(gl->unsynced.next, struct request, fifo);
        if (r->position > durable)
            return;
        list_remove(&r->fifo);
        registry_set(gl->gateway->registry, &r->id, REGISTRY_SETTLED, gl->number);
        if (r->attempt > 0)
            link_ack(gl->links[r->worker], &r->id, r->attempt);
        request_release(r);
    }
}

static void say_failed(struct gateway_loop *gl)
{
    struct error err;
    bool failed = journal_failed(gl->journal, &err);
    if (failed && !gl->journal_was_failed)
        log_error("the journal takes no new work: %s", err.text);
    if (!failed && gl->journal_was_failed)
        log_info("the journal takes new work again");
    gl->journal_was_failed = failed;
    atomic_store_explicit(&gl->journal_ready, !failed, memory_order_relaxed);
}

static int64_t reply_limit(const struct gateway_loop *gl)
{
    return gl->gateway->settings.journal_sync == JOURNAL_SYNC_BEFORE_REPLY
               ? journal_durable(gl->journal)
               : journal_written(gl->journal);
}

/* What was settled can be recorded no more: nothing may be answered as if it were. */
static void fail_settling(struct gateway_loop *gl)
{
    while (!list_empty(&gl->settling))
        lost_record(list_entry(gl->settling.next, struct request, fifo));
}

void meter_turn(struct gateway_loop *gl)
{
    enum status st = journal_flush(gl->journal);
    complete(gl, reply_limit(gl));
    if (st != OK) {
        say_failed(gl);
        fail_settling(gl);
    }
}

void meter_durable(struct gateway_loop *gl)
{
    complete(gl, reply_limit(gl));
    acknowledge(gl);
    if (journal_failed(gl->journal, NULL) != gl->journal_was_failed)
        say_failed(gl);
}

void meter_describe(struct gateway_loop *gl)
{
    int64_t lag = journal_written(gl->journal) - journal_durable(gl->journal);
    stat_set(&gl->stats.journal_lag_bytes, (uint64_t)(lag > 0 ? lag : 0));
    uint64_t unsettled = 0;
    for (const struct list *at = gl->unsynced.next; at != &gl->unsynced; at = at->next)
        unsettled++;
    stat_set(&gl->stats.unsettled, unsettled);
    if (journal_failed(gl->journal, NULL) != gl->journal_was_failed)
        say_failed(gl);
}
