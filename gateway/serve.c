#include "gateway/serve.h"

#include <assert.h>

#include "base/crypto.h"
#include "base/log.h"
#include "gateway/meter.h"

enum { BILLING_MAX = 512, ATTEMPTS_MAX = 2, CREDIT_PARTS = 4 };

static void set_link(struct request *r, struct link *l)
{
    r->link = l;
    r->avoid = NULL;
}

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

/* Prefixes are shared within a tenant, and within one of its users where it names them. */
static uint32_t cache_salt(const struct request *r, uint8_t out[SHA256_BYTES])
{
    memcpy(out, r->context.tenant_id.bytes, 16);
    if (!r->chat.user[0])
        return 16;
    uint8_t user[SHA256_BYTES];
    crypto_sha256(r->chat.user, strlen(r->chat.user), user);
    memcpy(out + 16, user, SHA256_BYTES - 16);
    return SHA256_BYTES;
}

static enum status send_request(struct request *r, struct link *l)
{
    uint8_t billing[BILLING_MAX], salt[SHA256_BYTES];
    size_t billing_len;
    enum status st = meter_context_pack(&r->context, billing, sizeof billing, &billing_len);
    if (st != OK)
        return st;
    Wire__Sampling sampling = WIRE__SAMPLING__INIT;
    sampling.temperature = r->chat.temperature;
    sampling.top_p = r->chat.top_p;
    sampling.seed = r->chat.seed;
    sampling.has_seed = r->chat.has_seed;
    Wire__Request m = WIRE__REQUEST__INIT;
    m.request_id = (ProtobufCBinaryData){sizeof r->id.bytes, r->id.bytes};
    m.attempt = r->attempt + 1;
    m.model = (char *)r->chat.model; /* only read, like all below */
    m.messages = r->chat.messages;
    m.n_messages = r->chat.message_count;
    m.max_tokens = (uint32_t)r->chat.max_tokens;
    m.sampling = &sampling;
    m.stop = r->chat.stop;
    m.n_stop = r->chat.stop_count;
    m.thinking = r->chat.thinking;
    m.cache_salt = (ProtobufCBinaryData){cache_salt(r, salt), salt};
    m.credit_bytes = (uint64_t)r->credit_left;
    m.billing = (ProtobufCBinaryData){billing_len, billing};
    m.user = (char *)r->chat.user;
    return link_request(l, &m, r->context.hold_tokens, r->position, r, &r->stream);
}

enum status serve_send(struct request *r, struct link *l)
{
    if (!r->journaled && !meter_admit(r))
        return UNAVAILABLE;
    r->credit_left =
        r->chat.stream ? r->gl->tunables.stream_credit_bytes : r->gl->tunables.answer_bytes_max;
    r->credit_owed = 0;
    enum status st = send_request(r, l);
    if (st != OK)
        return st;
    if (r->attempt > 0)
        stat_add(&r->gl->stats.retries, 1);
    r->attempt++;
    r->worker = link_index(l);
    set_link(r, l);
    request_set_state(r, REQUEST_DISPATCHED);
    return OK;
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

static void stream_text(struct request *r, const struct chat_text *text)
{
    struct buf *out = &r->gl->scratch;
    buf_clear(out);
    enum status st = r->role_sent ? OK : chat_put_role(out, &r->answer);
    if (st == OK)
        st = chat_put_delta(out, &r->answer, text);
    if (st != OK) {
        http_reply_abort(r->ex); /* `closed` follows, and cancels */
        return;
    }
    if (!r->head_sent)
        request_begin_reply(r);
    r->role_sent = true;
    write_out(r, out);
    serve_drained(r);
}

/* Not streamed: kept until the end. */
static void gather_text(struct request *r, const struct chat_text *text)
{
    enum status st = buf_add(&r->content, text->content, text->content_len);
    if (st == OK)
        st = buf_add(&r->reasoning, text->reasoning, text->reasoning_len);
    if (st == OK && r->credit_left > 0) /* without credit the worker would wait for ever */
        return;
    struct api_error e;
    api_error_set(&e, 500, "answer_too_long",
                  "The answer is too long to be given whole; ask for a stream.");
    fail(r, &e);
    link_cancel(r->link, r->stream);
    wait_for_counts(r);
}

static bool on_tokens(void *user, const Wire__Tokens *m)
{
    struct request *r = user;
    struct chat_text text = {m->content, m->reasoning, strlen(m->content), strlen(m->reasoning)};
    size_t len = text.content_len + text.reasoning_len;
    if (!take_counts(r, m->counts))
        return false;
    /* A worker may overdraw by what one step makes, not by more. */
    r->credit_left -= (int64_t)len;
    r->credit_owed += (int64_t)len;
    if (r->credit_left < -(1 << 20))
        return false;
    if (r->state == REQUEST_GRACE)
        return true; /* on its way when we cancelled */
    if (r->state == REQUEST_DISPATCHED)
        request_set_state(r, REQUEST_STREAMING);
    if (!r->first_token_seen) {
        r->first_token_seen = true;
        stats_observe(&r->gl->stats.first_token, loop_now_ms(r->gl->loop) - r->begun_ms);
    }
    if (!r->ex || len == 0)
        return true;
    if (r->chat.stream)
        stream_text(r, &text);
    else
        gather_text(r, &text);
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
        r->finish_reason = m->reason == WIRE__FINISH_REASON__LENGTH ? "length" : "stop";
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

static void error_answer(const Wire__Error *m, struct api_error *e)
{
    switch (m->code) {
    case WIRE__ERROR_CODE__ERROR_CONTEXT_LENGTH:
        api_error_set(e, 400, "context_length_exceeded", "%s", m->message);
        snprintf(e->param, sizeof e->param, "messages");
        break;
    case WIRE__ERROR_CODE__ERROR_INVALID:
        api_error_set(e, 400, NULL, "%s", m->message);
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
        error_answer(m, &e);
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
    if (r->credit_owed < gl->tunables.stream_credit_bytes / CREDIT_PARTS)
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
