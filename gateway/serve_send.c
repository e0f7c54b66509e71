/* Sending a request to a worker. */
#include "base/crypto.h"
#include "gateway/meter.h"
#include "gateway/serve.h"

enum { BILLING_MAX = 512, CREDIT_LEAST_BYTES = 256, LOGPROB_WEIGHT = 16 };

static void set_link(struct request *r, struct link *l)
{
    r->link = l;
    r->avoid = NULL;
}

/* A byte of text may stand for many in the answer: with log probabilities a stream's credit is
 * cut by what they weigh. */
int64_t serve_credit(const struct request *r)
{
    const struct tunables *t = &r->gl->tunables;
    if (!r->chat.stream)
        return t->answer_bytes_max;
    int64_t weight = 1;
    if (r->chat.sampling->logprobs)
        weight += LOGPROB_WEIGHT * (1 + (int64_t)r->chat.sampling->top_logprobs);
    int64_t credit = t->stream_credit_bytes / weight;
    return credit > CREDIT_LEAST_BYTES ? credit : CREDIT_LEAST_BYTES;
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

/* A worker's queue is part of the wait for a place. One that is asked again after a loss is
 * given as long as it may wait here. */
static int64_t deadline(const struct request *r)
{
    const struct tunables *t = &r->gl->tunables;
    int64_t left = r->begun_ms + t->queue_wait_ms - loop_now_ms(r->gl->loop);
    return left > t->settle_grace_ms ? left : t->settle_grace_ms;
}

static enum status send_request(struct request *r, struct link *l)
{
    uint8_t billing[BILLING_MAX], salt[SHA256_BYTES];
    size_t billing_len;
    enum status st = meter_context_pack(&r->context, billing, sizeof billing, &billing_len);
    if (st != OK)
        return st;
    const struct chat_request *chat = &r->chat;
    char tenant[UUID_TEXT_SIZE];
    uuid_format(&r->context.tenant_id, tenant);
    Wire__Request m = WIRE__REQUEST__INIT;
    m.request_id = (ProtobufCBinaryData){sizeof r->id.bytes, r->id.bytes};
    m.attempt = r->attempt + 1;
    m.cache_salt = (ProtobufCBinaryData){cache_salt(r, salt), salt};
    m.credit_bytes = (uint64_t)r->credit_left;
    m.billing = (ProtobufCBinaryData){billing_len, billing};
    m.tenant = tenant;
    m.priority = r->priority;
    m.deadline_ms = (uint64_t)deadline(r);
    m.model = (char *)chat->model; /* only read, like all below */
    m.user = (char *)chat->user;
    m.messages = chat->messages;
    m.n_messages = chat->message_count;
    m.prompt = chat->prompt ? chat->prompt : m.prompt;
    m.suffix = chat->suffix ? chat->suffix : m.suffix;
    m.fill_in = chat->suffix != NULL;
    m.max_tokens = (uint32_t)chat->max_tokens;
    m.sampling = chat->sampling;
    m.stop = chat->stop;
    m.n_stop = chat->stop_count;
    m.thinking = chat->thinking;
    m.choices = chat->choices;
    m.tools = chat->tools;
    m.n_tools = chat->tool_count;
    m.tool_choice = (Wire__ToolChoice *)&chat->tool_choice;
    m.format = (Wire__Format *)&chat->format;
    return link_request(l, &m, r->context.hold_tokens, r->position, r, &r->stream);
}

enum status serve_send(struct request *r, struct link *l)
{
    if (!r->journaled && !meter_admit(r))
        return UNAVAILABLE;
    r->credit_left = serve_credit(r);
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
