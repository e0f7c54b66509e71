#include "base/wire.h"

#include <math.h>

static uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put_u32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    p[2] = (uint8_t)(v >> 16);
    p[3] = (uint8_t)(v >> 24);
}

enum status wire_next(const struct buf *in, struct wire_frame *out, size_t *used, struct error *err)
{
    size_t have = buf_len(in);
    if (have < WIRE_HEADER_BYTES)
        return NOT_FOUND;
    const uint8_t *p = buf_head(in);
    uint32_t payload = get_u32(p);
    if (payload > WIRE_PAYLOAD_MAX)
        return error_set(err, INVALID, "a frame of %u bytes is longer than %d", payload,
                         WIRE_PAYLOAD_MAX);
    if (p[4] == 0)
        return error_set(err, INVALID, "a frame of type 0");
    if (p[5] || p[6] || p[7])
        return error_set(err, INVALID, "a frame header with reserved bits set");
    if (have - WIRE_HEADER_BYTES < payload)
        return NOT_FOUND;
    out->type = (Wire__FrameType)p[4];
    out->stream = get_u32(p + 8);
    out->payload = p + WIRE_HEADER_BYTES;
    out->payload_len = payload;
    *used = WIRE_HEADER_BYTES + (size_t)payload;
    return OK;
}

enum status wire_put(struct buf *out, Wire__FrameType type, uint32_t stream,
                     const ProtobufCMessage *message)
{
    size_t len = message ? protobuf_c_message_get_packed_size(message) : 0;
    if (len > WIRE_PAYLOAD_MAX)
        return LIMITED;
    enum status st = buf_reserve(out, WIRE_HEADER_BYTES + len);
    if (st != OK)
        return st;
    uint8_t *p = out->data + out->end;
    put_u32(p, (uint32_t)len);
    p[4] = (uint8_t)type;
    p[5] = p[6] = p[7] = 0;
    put_u32(p + 8, stream);
    if (len)
        protobuf_c_message_pack(message, p + WIRE_HEADER_BYTES);
    out->end += WIRE_HEADER_BYTES + len;
    return OK;
}

size_t wire_budget(size_t payload_len)
{
    /* The text itself, its NULs, and the structs of the longest lists allowed. */
    return 2 * payload_len + ((size_t)4 << 20);
}

void *wire_alloc(void *budget, size_t size)
{
    size_t *left = budget;
    if (size > *left)
        return NULL;
    *left -= size;
    return malloc(size);
}

void wire_dealloc(void *budget, void *data)
{
    (void)budget; /* counts what was ever taken: lists that grow and shrink are bounded too */
    free(data);
}

static enum status check_text(const char *text, size_t most, const char *field, struct error *err)
{
    if (strnlen(text, most + 1) > most)
        return error_set(err, INVALID, "%s is longer than %zu bytes", field, most);
    return OK;
}

static enum status check_count(size_t count, size_t most, const char *field, struct error *err)
{
    if (count > most)
        return error_set(err, INVALID, "%s has %zu entries; %zu are allowed", field, count, most);
    return OK;
}

static enum status check_id(const ProtobufCBinaryData *id, struct error *err)
{
    if (id->len != 16)
        return error_set(err, INVALID, "request_id has %zu bytes, not 16", id->len);
    return OK;
}

enum status wire_check_hello(const Wire__Hello *m, struct error *err)
{
    if (m->version < 1 || m->oldest_version < 1 || m->oldest_version > m->version)
        return error_set(err, INVALID, "hello with versions %u to %u", m->oldest_version,
                         m->version);
    if (strnlen(m->node_id, 37) != 36)
        return error_set(err, INVALID, "node_id does not have 36 characters");
    for (const char *p = m->node_id; *p; p++)
        if (!strchr("0123456789abcdefABCDEF-", *p))
            return error_set(err, INVALID, "node_id is not a UUID");
    enum status st = check_count(m->n_models, WIRE_MODELS_MAX, "models", err);
    for (size_t i = 0; st == OK && i < m->n_models; i++) {
        st = check_text(m->models[i]->name, WIRE_MODEL_NAME_MAX, "model name", err);
        if (st == OK && m->models[i]->tokenizer_hash.len > 64)
            st = error_set(err, INVALID, "tokenizer_hash is longer than 64 bytes");
    }
    return st == OK ? check_text(m->software, WIRE_SHORT_TEXT_MAX, "software", err) : st;
}

static enum status check_message(const Wire__ChatMessage *m, struct error *err)
{
    enum status st = check_text(m->role, 16, "role", err);
    if (st == OK)
        st = check_text(m->name, WIRE_SHORT_TEXT_MAX, "name", err);
    return st == OK ? check_text(m->tool_call_id, WIRE_SHORT_TEXT_MAX, "tool_call_id", err) : st;
}

static enum status check_sampling(const Wire__Sampling *m, struct error *err)
{
    if (!m)
        return OK;
    if (!isfinite(m->temperature) || m->temperature < 0 || m->temperature > 100)
        return error_set(err, INVALID, "temperature is not between 0 and 100");
    if (!isfinite(m->top_p) || m->top_p < 0 || m->top_p > 1)
        return error_set(err, INVALID, "top_p is not between 0 and 1");
    return OK;
}

static enum status check_request_lists(const Wire__Request *m, struct error *err)
{
    enum status st = check_count(m->n_messages, WIRE_MESSAGES_MAX, "messages", err);
    for (size_t i = 0; st == OK && i < m->n_messages; i++)
        st = check_message(m->messages[i], err);
    if (st == OK)
        st = check_count(m->n_stop, WIRE_STOPS_MAX, "stop", err);
    for (size_t i = 0; st == OK && i < m->n_stop; i++)
        st = check_text(m->stop[i], 4096, "stop", err);
    return st;
}

enum status wire_check_request(const Wire__Request *m, struct error *err)
{
    enum status st = check_id(&m->request_id, err);
    if (st == OK && m->attempt == 0)
        st = error_set(err, INVALID, "attempt is 0");
    if (st == OK)
        st = check_text(m->model, WIRE_MODEL_NAME_MAX, "model", err);
    if (st == OK)
        st = check_request_lists(m, err);
    if (st == OK)
        st = check_sampling(m->sampling, err);
    if (st == OK && m->cache_salt.len > WIRE_SALT_MAX)
        st = error_set(err, INVALID, "cache_salt is longer than %d bytes", WIRE_SALT_MAX);
    if (st == OK && m->billing.len > WIRE_BILLING_MAX)
        st = error_set(err, INVALID, "billing is longer than %d bytes", WIRE_BILLING_MAX);
    return st == OK ? check_text(m->user, WIRE_SHORT_TEXT_MAX, "user", err) : st;
}

enum status wire_check_usage(const Wire__UsageList *m, struct error *err)
{
    enum status st = check_count(m->n_usage, WIRE_USAGES_MAX, "usage", err);
    for (size_t i = 0; st == OK && i < m->n_usage; i++) {
        const Wire__Usage *u = m->usage[i];
        st = check_id(&u->request_id, err);
        if (st == OK)
            st = check_text(u->model, WIRE_MODEL_NAME_MAX, "model", err);
        if (st == OK)
            st = check_text(u->gateway_id, 36, "gateway_id", err);
        if (st == OK && u->billing.len > WIRE_BILLING_MAX)
            st = error_set(err, INVALID, "billing is longer than %d bytes", WIRE_BILLING_MAX);
    }
    return st;
}

enum status wire_check_ack(const Wire__UsageAck *m, struct error *err)
{
    enum status st = check_count(m->n_ids, WIRE_USAGES_MAX, "ids", err);
    for (size_t i = 0; st == OK && i < m->n_ids; i++)
        st = check_id(&m->ids[i]->request_id, err);
    return st;
}

const char *wire_type_name(Wire__FrameType type, char buffer[24])
{
    const ProtobufCEnumValue *v =
        protobuf_c_enum_descriptor_get_value(&wire__frame_type__descriptor, (int)type);
    if (v)
        return v->name;
    snprintf(buffer, 24, "frame %d", (int)type);
    return buffer;
}
