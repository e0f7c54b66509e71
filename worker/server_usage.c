#include "base/log.h"
#include "worker/server_internal.h"

enum { FRAME_USAGES = 64 };

void offer_final(struct server *s, struct link *l, uint32_t slot)
{
    struct slot_note *n = &s->notes[slot];
    *n = (struct slot_note){.link = l->serial};
    if (l->state == LINK_OPEN && buf_add(&l->finals, &slot, sizeof slot) == OK)
        n->next_offer_ms = loop_now_ms(s->loop) + s->options.offer_ms;
    else
        s->offer_now = true;
}

void offer_ack(struct link *l, const struct wire_frame *f)
{
    struct server *s = l->server;
    struct error err;
    Wire__UsageAck *m = wire_unpack(usage_ack, f);
    if (!m) {
        link_close(l, WIRE__ERROR_CODE__ERROR_PROTOCOL, "a malformed USAGE_ACK");
        return;
    }
    if (wire_check_ack(m, &err) != OK) {
        link_close(l, WIRE__ERROR_CODE__ERROR_PROTOCOL, err.text);
    } else {
        for (size_t i = 0; i < m->n_ids; i++) {
            enum status st =
                usage_ack(s->usage, m->ids[i]->request_id.data, m->ids[i]->attempt, NULL);
            if (st == CONFLICT)
                log_warn("gateway %s acknowledged a request that still runs", l->node_id);
        }
    }
    wire__usage_ack__free_unpacked(m, NULL);
}

void offer_hello(struct link *l)
{
    struct server *s = l->server;
    for (uint32_t i = 0; i < usage_unacked_count(s->usage); i++) {
        uint32_t slot = usage_unacked(s->usage, i);
        if (strcmp(usage_gateway(s->usage, slot), l->node_id) == 0 &&
            !link_find(s, s->notes[slot].link))
            s->notes[slot] = (struct slot_note){.link = l->serial};
    }
    s->offer_now = true;
}

static struct link *choose(struct server *s, uint32_t slot, int64_t now)
{
    struct slot_note *n = &s->notes[slot];
    struct link *l = link_find(s, n->link), *any = NULL;
    if (l && l->state == LINK_OPEN)
        return l;
    const char *gateway = usage_gateway(s->usage, slot);
    for (l = s->links; l; l = l->next) {
        if (l->state != LINK_OPEN)
            continue;
        if (strcmp(l->node_id, gateway) == 0) {
            n->link = l->serial;
            n->away_since_ms = 0;
            return l;
        }
        if (!any)
            any = l;
    }
    if (n->away_since_ms == 0)
        n->away_since_ms = now;
    return now - n->away_since_ms >= s->options.foreign_offer_ms ? any : NULL;
}

void offer_all(struct server *s)
{
    int64_t now = loop_now_ms(s->loop);
    s->offer_now = false;
    for (uint32_t i = 0; i < usage_unacked_count(s->usage); i++) {
        uint32_t slot = usage_unacked(s->usage, i);
        struct slot_note *n = &s->notes[slot];
        if (n->next_offer_ms > now)
            continue;
        struct link *l = choose(s, slot, now);
        /* A link that is behind gets its usage at a later tick. */
        if (!l || buf_len(&l->out) > LINK_LOW_BYTES)
            continue;
        if (buf_add(&l->finals, &slot, sizeof slot) == OK)
            n->next_offer_ms = now + s->options.offer_ms;
    }
}

static void put_usages(struct link *l, const struct usage_record *records, size_t count)
{
    Wire__Usage usages[FRAME_USAGES], *list[FRAME_USAGES];
    Wire__Counts counts[FRAME_USAGES];
    for (size_t i = 0; i < count; i++) {
        const struct usage_record *r = &records[i];
        counts_to_wire(&r->counts, &counts[i]);
        Wire__Usage *u = &usages[i];
        wire__usage__init(u);
        u->request_id = (ProtobufCBinaryData){16, (uint8_t *)r->request_id};
        u->attempt = r->attempt;
        u->model = (char *)r->model;
        u->counts = &counts[i];
        u->outcome = r->outcome;
        u->billing = (ProtobufCBinaryData){r->billing_len, (uint8_t *)r->billing};
        u->gateway_id = (char *)r->gateway_id;
        u->finished_wall_ms = (uint64_t)r->finished_wall_ms;
        list[i] = u;
    }
    Wire__UsageList m = WIRE__USAGE_LIST__INIT;
    m.usage = list;
    m.n_usage = count;
    link_put(l, WIRE__FRAME_TYPE__USAGE, 0, &m.base);
}

void offer_flush(struct link *l)
{
    struct usage_record records[FRAME_USAGES];
    while (buf_len(&l->finals) > 0 && l->state == LINK_OPEN) {
        size_t count = 0;
        while (count < FRAME_USAGES && buf_len(&l->finals) > 0) {
            uint32_t slot;
            memcpy(&slot, buf_head(&l->finals), sizeof slot);
            buf_eat(&l->finals, sizeof slot);
            if (usage_is_final(l->server->usage, slot)) /* acknowledged in this turn: no more */
                usage_read(l->server->usage, slot, &records[count++]);
        }
        /* Past this the rest waits for the next offer rather than filling the link. */
        if (buf_len(&l->out) > LINK_HIGH_BYTES)
            break;
        if (count > 0)
            put_usages(l, records, count);
    }
    buf_clear(&l->finals);
}
