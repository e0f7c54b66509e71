#include "gateway/serve.h"

#include <assert.h>

#include "base/log.h"
#include "gateway/meter.h"

enum { ATTEMPTS_MAX = 2, CREDIT_PARTS = 4, OVERDRAFT_MAX = 1 << 20 };

/* The client is told now; the record waits for the worker's own counts. */
static void wait_for_counts(struct request *r)
{
    request_set_state(r, REQUEST_GRACE);
    r->deadline_ms = loop_now_ms(r->gl->loop) + r->gl->tunables.settle_grace_ms;
}

/* From a queue, or a worker that did nothing: straight through the one exit. */
static void settle_now(struct request *r, enum meter_outcome outcome)
{
    if (r->state != REQUEST_GRACE)
        request_set_state(r, REQUEST_GRACE);
    request_settle(r, outcome);
}

static void fail(struct request *r, const struct api_error *e)
{
    r->failed = true;
    request_error(r, e);
}

void serve_admitted(struct request *r)
{
    struct api_error e;
    if (dispatch_submit(r->gl, r) == OK)
        return;
    if (r->journaled) { /* the queue filled up behind a link that broke */
        api_error_overloaded(&e, 1000, "The server is overloaded; try again.");
        fail(r, &e);
        settle_now(r, METER_FAILED);
        return;
    }
    api_error_overloaded(&e, 1000, "Too many requests are waiting for this model; try again.");
    request_refuse(r, &e);
}

/* Counts of an attempt only grow. false: the worker is not to be believed, nothing was taken. */
static bool take_counts(struct request *r, const Wire__Counts *c)
{
    const struct token_counts *have = &r->counts;
    if (!c)
        return true;
    if (c->prompt < have->prompt || c->cached < have->cached || c->completion < have->completion ||
        c->reasoning < have->reasoning || c->cached > c->prompt || c->reasoning > c->completion)
        return false;
    r->counts = (struct token_counts){.prompt = c->prompt,
                                      .cached = c->cached,
                                      .completion = c->completion,
                                      .reasoning = c->reasoning};
    return true;
}

/* --- what the worker says --- */

static void write_out(struct request *r, const struct buf *out)
{
    r->output_ms = loop_now_ms(r->gl->loop);
    http_reply_write(r->ex, buf_head(out), buf_len(out));
}

static const char *finish_word(Wire__FinishReason reason)
{
    static const char *const words[] = {[WIRE__FINISH_REASON__STOP] = "stop",
                                        [WIRE__FINISH_REASON__LENGTH] = "length",
                                        [WIRE__FINISH_REASON__TOOL_CALLS] = "tool_calls"};
    return (unsigned)reason < sizeof words / sizeof *words ? words[reason] : NULL;
}

static bool others_go_on(const struct request *r)
{
    for (uint32_t i = 0; i < r->chat.choices; i++)
        if (!r->choices[i].finish)
            return true;
    return false;
}

/* The end of the last choice is said when the usage is on record. */
static void stream_tokens(struct request *r, struct chat_choice *c, const Wire__Tokens *m)
{
    struct buf *out = &r->gl->scratch;
    buf_clear(out);
    enum status st = chat_put_tokens(out, &r->answer, c, m);
    chat_choice_pass(c, m);
    if (st == OK && c->finish && !c->ended && others_go_on(r))
        st = chat_put_finish(out, &r->answer, c, m->choice);
    if (st != OK) {
        http_reply_abort(r->ex); /* `closed` follows, and cancels */
        return;
    }
    if (buf_len(out) == 0)
        return;
    if (!r->head_sent)
        request_begin_reply(r);
    write_out(r, out);
    serve_drained(r);
}

/* Not streamed: kept until the end. */
static void gather_tokens(struct request *r, struct chat_choice *c, const Wire__Tokens *m)
{
    enum status st = chat_choice_gather(c, m, r->chat.completion);
    if (st == OK && r->credit_left > 0) /* without credit the worker would wait for ever */
        return;
    struct api_error e;
    api_error_set(&e, 500, "answer_too_long",
                  "The answer is too long to be given whole; ask for a stream.");
    fail(r, &e);
    link_cancel(r->link, r->stream);
    wait_for_counts(r);
}

/* As the protocol counts them against credit. */
static int64_t text_bytes(const Wire__Tokens *m)
{
    size_t bytes = strlen(m->content) + strlen(m->reasoning);
    for (size_t i = 0; i < m->n_tool_calls; i++) {
        const Wire__ToolCallDelta *d = m->tool_calls[i];
        bytes += strlen(d->id) + strlen(d->name) + strlen(d->arguments);
    }
    return (int64_t)bytes;
}

static void note_progress(struct request *r)
{
    if (r->state == REQUEST_DISPATCHED)
        request_set_state(r, REQUEST_STREAMING);
    if (r->first_token_seen)
        return;
    r->first_token_seen = true;
    stats_observe(&r->gl->stats.first_token, loop_now_ms(r->gl->loop) - r->begun_ms);
}

static bool on_tokens(void *user, const Wire__Tokens *m)
{
    struct request *r = user;
    int64_t bytes = text_bytes(m);
    if (m->choice >= r->chat.choices || !take_counts(r, m->counts))
        return false;
    /* A worker may overdraw by what one step makes, not by more. */
    r->credit_left -= bytes;
    r->credit_owed += bytes;
    if (r->credit_left < -OVERDRAFT_MAX)
        return false;
    if (r->state == REQUEST_GRACE)
        return true; /* on its way when we cancelled */
    struct chat_choice *c = &r->choices[m->choice];
    if (chat_choice_check(c, m) != OK)
        return false;
    note_progress(r);
    if (!c->finish)
        c->finish = finish_word(m->finish);
    if (!r->ex)
        return true;
    if (r->chat.stream)
        stream_tokens(r, c, m);
    else
        gather_tokens(r, c, m);
    return true;
}

static void on_finish(void *user, const Wire__Finish *m)
{
    struct request *r = user;
    r->link = NULL;
    r->witness = true;
    if (!take_counts(r, m->counts)) {
        struct api_error e;
        log_error("request %s: the worker's last counts contradict its earlier ones", r->id_text);
        api_error_set(&e, 500, NULL, "The worker failed; the request is not charged.");
        fail(r, &e);
        request_settle(r, METER_FAILED);
        return;
    }
    if (m->reason != WIRE__FINISH_REASON__CANCELLED) {
        for (uint32_t i = 0; i < r->chat.choices; i++)
            if (!r->choices[i].finish)
                r->choices[i].finish = finish_word(m->reason);
        request_settle(r, METER_FINISHED);
        return;
    }
    if (r->ex) { /* the worker stopped of its own accord */
        struct api_error e;
        api_error_overloaded(&e, 1000, "The worker stopped; try again.");
        fail(r, &e);
    }
    request_settle(r, METER_CANCELLED);
}

static void error_answer(const struct request *r, const Wire__Error *m, struct api_error *e)
{
    switch (m->code) {
    case WIRE__ERROR_CODE__ERROR_CONTEXT_LENGTH:
        api_error_set(e, 400, "context_length_exceeded", "%s", m->message);
        snprintf(e->param, sizeof e->param, "%s", r->chat.completion ? "prompt" : "messages");
        break;
    case WIRE__ERROR_CODE__ERROR_INVALID:
        api_error_set(e, 400, "invalid_value", "%s", m->message);
        snprintf(e->param, sizeof e->param, "%s", m->param);
        break;
    case WIRE__ERROR_CODE__ERROR_MODEL_NOT_FOUND:
        api_error_set(e, 404, "model_not_found", "%s", m->message);
        snprintf(e->param, sizeof e->param, "model");
        break;
    default:
        api_error_set(e, 500, NULL, "The worker failed; the request is not charged.");
    }
}

/* Puts it back in front of the queue; false: it must end. */
static bool try_again(struct request *r, struct link *avoid, int64_t wait_ms)
{
    if (!r->ex || r->first_token_seen || r->state == REQUEST_GRACE)
        return false;
    if (dispatch_again(r->gl, r, wait_ms) != OK)
        return false;
    r->avoid = avoid;
    r->counts = (struct token_counts){0};
    return true;
}

static void on_error(void *user, const Wire__Error *m)
{
    struct request *r = user;
    struct link *l = r->link;
    r->link = NULL;
    take_counts(r, m->counts);
    r->witness = true;
    bool nothing_done = m->code == WIRE__ERROR_CODE__ERROR_OVERLOADED ||
                        m->code == WIRE__ERROR_CODE__ERROR_DRAINING;
    const struct tunables *t = &r->gl->tunables;
    int64_t now_ms = loop_now_ms(r->gl->loop);
    if (m->code == WIRE__ERROR_CODE__ERROR_OVERLOADED)
        link_full(l, now_ms);
    if (m->code == WIRE__ERROR_CODE__ERROR_DRAINING)
        link_draining(l);
    bool ours = m->code == WIRE__ERROR_CODE__ERROR_INTERNAL && r->attempt < ATTEMPTS_MAX;
    /* Refused: it waits in the queue as if it had never left it. */
    int64_t wait_ms = nothing_done ? r->begun_ms + t->queue_wait_ms - now_ms : t->settle_grace_ms;
    if ((nothing_done || ours) && try_again(r, l, wait_ms))
        return;
    struct api_error e;
    if (nothing_done)
        api_error_overloaded(&e, 1000, "No worker has a place; try again.");
    else
        error_answer(r, m, &e);
    fail(r, &e);
    request_settle(r, METER_FAILED);
}

static void on_lost(void *user, enum link_loss loss)
{
    struct request *r = user;
    struct link *l = r->link;
    r->link = NULL;
    /* A worker that was lost may be back soon; for one that hangs only another will do. */
    bool again = r->attempt < ATTEMPTS_MAX && (loss == LINK_LOST || dispatch_other(r->gl, r, l));
    if (again && try_again(r, l, r->gl->tunables.settle_grace_ms))
        return;
    struct api_error e;
    if (loss == LINK_SILENT)
        api_error_set(&e, 504, NULL, "The worker does not answer; the request is not charged.");
    else
        api_error_set(&e, 500, NULL, "The worker was lost; the request is not charged.");
    if (r->ex)
        fail(r, &e);
    if (r->state != REQUEST_GRACE)
        wait_for_counts(r);
}

/* The link's own events end in the orphans' part, which fills in the rest. */
const struct link_handlers serve_link_handlers = {
    .tokens = on_tokens, .finish = on_finish, .error = on_error, .lost = on_lost};

void serve_usage(struct request *r, const struct token_counts *counts, Wire__Outcome outcome,
                 uint32_t attempt, int worker)
{
    if (r->state != REQUEST_GRACE || r->link || attempt != r->attempt)
        return;
    r->counts = *counts;
    r->witness = true;
    r->worker = worker;
    request_settle(r,
                   outcome == WIRE__OUTCOME__OUTCOME_FINISHED ? METER_FINISHED : METER_CANCELLED);
}

/* --- what the client does --- */

void serve_client_gone(struct request *r)
{
    switch (r->state) {
    case REQUEST_QUEUED:
        dispatch_remove(r->gl, r);
        if (!r->journaled)
            request_release(r);
        else if (r->attempt == 0)
            settle_now(r, METER_CANCELLED);
        else
            wait_for_counts(r);
        break;
    case REQUEST_DISPATCHED:
    case REQUEST_STREAMING:
        link_cancel(r->link, r->stream);
        wait_for_counts(r);
        break;
    default: /* a callback that is on its way, or the record, ends it */
        break;
    }
}

void serve_drained(struct request *r)
{
    struct gateway_loop *gl = r->gl;
    if (!r->ex || !r->link || !r->chat.stream || r->state != REQUEST_STREAMING)
        return;
    if (r->credit_owed < serve_credit(r) / CREDIT_PARTS)
        return;
    if (http_pending(r->ex) > (size_t)gl->gateway->settings.output_mark_bytes)
        return;
    link_credit(r->link, r->stream, (uint64_t)r->credit_owed);
    r->credit_left += r->credit_owed;
    r->credit_owed = 0;
}

void serve_gave_up(struct request *r)
{
    struct api_error e;
    dispatch_remove(r->gl, r);
    api_error_overloaded(&e, 1000, "No worker was free in time; try again.");
    if (!r->journaled) {
        request_refuse(r, &e);
        return;
    }
    fail(r, &e);
    if (r->attempt == 0)
        settle_now(r, METER_FAILED);
    else
        wait_for_counts(r);
}

static void keep_alive(struct request *r)
{
    struct buf *out = &r->gl->scratch;
    buf_clear(out);
    if (buf_adds(out, r->chat.stream ? ": keep-alive\n\n" : "\n") != OK)
        return;
    if (!r->head_sent)
        request_begin_reply(r);
    write_out(r, out);
}

void serve_tick(struct request *r, int64_t now_ms)
{
    if (r->state == REQUEST_GRACE && now_ms > r->deadline_ms) {
        if (r->link)
            link_forget(r->link, r->stream);
        r->link = NULL;
        request_settle(r, METER_CANCELLED);
        return;
    }
    bool waits = r->state == REQUEST_QUEUED || r->state == REQUEST_DISPATCHED ||
                 r->state == REQUEST_STREAMING;
    if (waits && r->ex && now_ms - r->output_ms >= r->gl->tunables.keepalive_ms)
        keep_alive(r);
}
