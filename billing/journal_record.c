#include "billing/journal_record.h"

#include <assert.h>

#include "base/crypto.h"
#include "billing/bytes.h"

enum { MARK = 0x4754, CONTEXT_VERSION = 1, FLAG_PREPAID = 1, CURRENCY_BYTES = 3 };

static const int64_t WALL_MS_MAX = 253402300799999; /* the end of the year 9999 */
static const money_pico COST_MAX = (money_pico)INT64_MAX * 10000000000000000;

static bool context_sound(const struct meter_context *c)
{
    for (int i = 0; i < CURRENCY_BYTES; i++)
        if (c->currency[i] < 'A' || c->currency[i] > 'Z')
            return false;
    for (const char *p = c->model; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return false;
    return c->model[0] && c->price.input_miss_pico >= 0 && c->price.input_hit_pico >= 0 &&
           c->price.output_pico >= 0 && c->hold_nano >= 0 && c->hold_tokens >= 0 &&
           c->admitted_wall_ms >= 0 && c->admitted_wall_ms <= WALL_MS_MAX;
}

static void put_context(struct bytes_out *o, const struct meter_context *c)
{
    const struct uuid *ids[] = {&c->request_id, &c->tenant_id, &c->project_id, &c->key_id};
    const int64_t numbers[] = {
        c->admitted_wall_ms,     c->price.price_id,    c->price.input_miss_pico,
        c->price.input_hit_pico, c->price.output_pico, c->hold_nano,
        c->hold_tokens};
    bytes_put_number(o, CONTEXT_VERSION, 1);
    bytes_put_number(o, c->prepaid ? FLAG_PREPAID : 0, 1);
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        bytes_put(o, ids[i]->bytes, sizeof ids[i]->bytes);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        bytes_put_number(o, (uint64_t)numbers[i], 8);
    bytes_put(o, c->currency, CURRENCY_BYTES);
    size_t model = strnlen(c->model, sizeof c->model);
    assert(model < sizeof c->model && context_sound(c));
    bytes_put_number(o, model, 1);
    bytes_put(o, c->model, model);
}

enum status meter_context_pack(const struct meter_context *c, uint8_t *out, size_t size,
                               size_t *len)
{
    struct bytes_out o = {out, out + size, false};
    put_context(&o, c);
    if (o.bad)
        return LIMITED;
    *len = (size_t)(o.at - out);
    return OK;
}

enum status meter_context_unpack(const uint8_t *data, size_t len, struct meter_context *out)
{
    struct bytes_in in = {data, data + len, false};
    struct meter_context c = {0};
    uint64_t version = bytes_take_number(&in, 1);
    c.prepaid = bytes_take_number(&in, 1) & FLAG_PREPAID;
    struct uuid *ids[] = {&c.request_id, &c.tenant_id, &c.project_id, &c.key_id};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        const uint8_t *p = bytes_take(&in, sizeof ids[i]->bytes);
        if (p)
            memcpy(ids[i]->bytes, p, sizeof ids[i]->bytes);
    }
    int64_t *numbers[] = {&c.admitted_wall_ms,     &c.price.price_id,    &c.price.input_miss_pico,
                          &c.price.input_hit_pico, &c.price.output_pico, &c.hold_nano,
                          &c.hold_tokens};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        *numbers[i] = (int64_t)bytes_take_number(&in, 8);
    const uint8_t *currency = bytes_take(&in, CURRENCY_BYTES);
    size_t model_bytes = bytes_take_number(&in, 1);
    const uint8_t *model = bytes_take(&in, model_bytes);
    if (in.bad || version < CONTEXT_VERSION || model_bytes >= sizeof c.model)
        return CORRUPT;
    memcpy(c.currency, currency, CURRENCY_BYTES);
    memcpy(c.model, model, model_bytes);
    if (strlen(c.model) != model_bytes || !context_sound(&c))
        return CORRUPT;
    *out = c;
    return OK;
}

static size_t finish(uint8_t *out, enum record_type type, const struct bytes_out *payload)
{
    assert(!payload->bad); /* RECORD_BYTES_MAX holds every record of this version */
    size_t len = (size_t)(payload->at - (out + RECORD_HEAD_BYTES));
    struct bytes_out head = {out, out + RECORD_HEAD_BYTES, false};
    bytes_put_number(&head, MARK, 2);
    bytes_put_number(&head, type, 1);
    bytes_put_number(&head, 1, 1);
    bytes_put_number(&head, len, 4);
    uint32_t crc = crypto_crc32c(0, out, 8);
    bytes_put_number(&head, crc, 4);
    bytes_put_number(&head, crypto_crc32c(crc, out + RECORD_HEAD_BYTES, len), 4);
    return RECORD_HEAD_BYTES + len;
}

size_t record_put_admit(const struct meter_context *c, uint8_t *out)
{
    struct bytes_out o = {out + RECORD_HEAD_BYTES, out + RECORD_BYTES_MAX, false};
    put_context(&o, c);
    return finish(out, RECORD_ADMIT, &o);
}

size_t record_put_settle(const struct meter_settle *s, uint8_t *out)
{
    struct bytes_out o = {out + RECORD_HEAD_BYTES, out + RECORD_BYTES_MAX, false};
    uint8_t *length = o.at;
    bytes_put_number(&o, 0, 2);
    put_context(&o, &s->context);
    size_t context_bytes = (size_t)(o.at - length) - 2;
    length[0] = (uint8_t)context_bytes;
    length[1] = (uint8_t)(context_bytes >> 8);
    const int64_t counts[] = {s->counts.prompt, s->counts.cached, s->counts.completion,
                              s->counts.reasoning};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        bytes_put_number(&o, (uint64_t)counts[i], 8);
    bytes_put_number(&o, s->outcome, 1);
    bytes_put_number(&o, s->attempt, 4);
    bytes_put_number(&o, (uint64_t)s->settled_wall_ms, 8);
    unsigned __int128 cost = (unsigned __int128)s->cost_pico;
    bytes_put_number(&o, (uint64_t)cost, 8);
    bytes_put_number(&o, (uint64_t)(cost >> 64), 8);
    return finish(out, RECORD_SETTLE, &o);
}

enum record_verdict record_view(const uint8_t *data, size_t len, struct record_view *out)
{
    if (len < RECORD_HEAD_BYTES)
        return RECORD_SHORT;
    struct bytes_in in = {data, data + RECORD_HEAD_BYTES, false};
    struct record_view v = {.payload = data + RECORD_HEAD_BYTES};
    uint64_t mark = bytes_take_number(&in, 2);
    v.type = (uint8_t)bytes_take_number(&in, 1);
    v.version = (uint8_t)bytes_take_number(&in, 1);
    v.payload_bytes = (uint32_t)bytes_take_number(&in, 4);
    uint32_t head_crc = (uint32_t)bytes_take_number(&in, 4);
    uint32_t whole_crc = (uint32_t)bytes_take_number(&in, 4);
    if (mark != MARK || head_crc != crypto_crc32c(0, data, 8) ||
        v.payload_bytes > RECORD_PAYLOAD_MAX)
        return RECORD_BAD_HEAD;
    v.bytes = RECORD_HEAD_BYTES + (size_t)v.payload_bytes;
    if (v.bytes > len)
        return RECORD_SHORT;
    *out = v;
    if (whole_crc != crypto_crc32c(head_crc, v.payload, v.payload_bytes))
        return RECORD_BAD_PAYLOAD;
    return RECORD_GOOD;
}

enum status record_unpack_admit(const struct record_view *v, struct meter_context *out)
{
    assert(v->type == RECORD_ADMIT);
    return meter_context_unpack(v->payload, v->payload_bytes, out);
}

enum status record_unpack_settle(const struct record_view *v, struct meter_settle *out)
{
    assert(v->type == RECORD_SETTLE);
    struct bytes_in in = {v->payload, v->payload + v->payload_bytes, false};
    struct meter_settle s = {0};
    size_t context_bytes = bytes_take_number(&in, 2);
    const uint8_t *context = bytes_take(&in, context_bytes);
    if (!context || meter_context_unpack(context, context_bytes, &s.context) != OK)
        return CORRUPT;
    int64_t *counts[] = {&s.counts.prompt, &s.counts.cached, &s.counts.completion,
                         &s.counts.reasoning};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        *counts[i] = (int64_t)bytes_take_number(&in, 8);
        if (*counts[i] < 0)
            return CORRUPT;
    }
    uint64_t outcome = bytes_take_number(&in, 1);
    s.attempt = (uint32_t)bytes_take_number(&in, 4);
    s.settled_wall_ms = (int64_t)bytes_take_number(&in, 8);
    uint64_t low = bytes_take_number(&in, 8), high = bytes_take_number(&in, 8);
    s.cost_pico = (money_pico)((unsigned __int128)high << 64 | low);
    if (in.bad || outcome < METER_FINISHED || outcome > METER_FAILED || s.cost_pico < 0 ||
        s.cost_pico > COST_MAX || s.settled_wall_ms < 0 || s.settled_wall_ms > WALL_MS_MAX)
        return CORRUPT;
    s.outcome = (enum meter_outcome)outcome;
    *out = s;
    return OK;
}
