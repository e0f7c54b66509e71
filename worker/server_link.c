#include <assert.h>
#include <errno.h>
#include <unistd.h>

#include "base/log.h"
#include "worker/server_internal.h"

static void set_state(struct link *l, enum link_state state)
{
    static const bool allowed[4][4] = {
        [LINK_HELLO] = {[LINK_OPEN] = true, [LINK_CLOSING] = true, [LINK_DEAD] = true},
        [LINK_OPEN] = {[LINK_CLOSING] = true, [LINK_DEAD] = true},
        [LINK_CLOSING] = {[LINK_DEAD] = true},
    };
    assert(allowed[l->state][state]);
    l->state = state;
}

struct link *link_find(struct server *s, uint64_t serial)
{
    uint32_t index = (uint32_t)(serial & 0xffff);
    if (serial == 0 || index >= (uint32_t)s->options.links_max)
        return NULL;
    struct link *l = s->link_table[index];
    return l && l->serial == serial && l->state != LINK_DEAD ? l : NULL;
}

void link_kill(struct link *l, const char *reason)
{
    if (l->state == LINK_DEAD)
        return;
    set_state(l, LINK_DEAD);
    if (reason) {
        l->server->stats.links_cut++;
        log_warn("gateway %s: link closed: %s", l->node_id, reason);
    }
    streams_lost(l);
    loop_io_want(l->io, 0);
    loop_again(l->server->loop); /* so that it is reaped */
}

void link_put(struct link *l, Wire__FrameType type, uint32_t stream, const ProtobufCMessage *m)
{
    if (l->state == LINK_DEAD || l->state == LINK_CLOSING)
        return;
    enum status st = wire_put(&l->out, type, stream, m);
    if (st != OK)
        link_kill(l, st == LIMITED ? "it does not read what it asked for" : status_name(st));
    else if (buf_len(&l->out) > LINK_HIGH_BYTES)
        l->choked = true;
}

void link_close(struct link *l, Wire__ErrorCode code, const char *reason)
{
    if (l->state != LINK_HELLO && l->state != LINK_OPEN)
        return;
    Wire__Error m = WIRE__ERROR__INIT;
    m.code = code;
    m.message = (char *)reason;
    l->server->stats.links_cut++;
    log_warn("gateway %s: link closed: %s", l->node_id, reason);
    link_put(l, WIRE__FRAME_TYPE__ERROR, 0, &m.base);
    if (l->state == LINK_DEAD)
        return;
    set_state(l, LINK_CLOSING);
    l->deadline_ms = loop_now_ms(l->server->loop) + CLOSE_MS;
    streams_lost(l);
}

static void put_hello(struct link *l)
{
    struct server *s = l->server;
    const struct backend *b = engine_backend(s->engine);
    Wire__Model model = WIRE__MODEL__INIT, *models[1] = {&model};
    model.name = (char *)b->model.name;
    model.tokenizer_hash =
        (ProtobufCBinaryData){sizeof b->model.tokenizer_hash, (uint8_t *)b->model.tokenizer_hash};
    model.context_tokens = b->model.context_tokens;
    model.max_output_tokens = b->model.max_output_tokens;
    model.prompt_overhead_tokens = b->model.prompt_overhead_tokens;
    model.message_overhead_tokens = b->model.message_overhead_tokens;
    model.tools_overhead_tokens = b->model.tools_overhead_tokens;
    model.tool_overhead_tokens = b->model.tool_overhead_tokens;
    Wire__Hello m = WIRE__HELLO__INIT;
    m.version = WIRE_VERSION;
    m.oldest_version = WIRE_OLDEST;
    m.node_id = s->node_id;
    m.models = models;
    m.n_models = 1;
    m.capacity_sequences = b->capacity_sequences;
    m.software = (char *)"tollgate-worker";
    link_put(l, WIRE__FRAME_TYPE__HELLO, 0, &m.base);
}

static void take_hello(struct link *l, const struct wire_frame *f)
{
    struct error err = {"a malformed HELLO"};
    Wire__Hello *m = wire_unpack(hello, f);
    if (!m || wire_check_hello(m, &err) != OK) {
        link_close(l, WIRE__ERROR_CODE__ERROR_PROTOCOL, err.text);
    } else if (m->version < WIRE_OLDEST || m->oldest_version > WIRE_VERSION) {
        char text[128];
        snprintf(text, sizeof text, "this worker speaks versions %d to %d, the gateway %u to %u",
                 WIRE_OLDEST, WIRE_VERSION, m->oldest_version, m->version);
        link_close(l, WIRE__ERROR_CODE__ERROR_VERSION, text);
    } else {
        memcpy(l->node_id, m->node_id, USAGE_NODE_SIZE);
        set_state(l, LINK_OPEN);
        log_info("gateway %s connected", l->node_id);
        offer_hello(l);
        if (l->server->draining)
            link_put(l, WIRE__FRAME_TYPE__DRAIN, 0, NULL);
    }
    if (m)
        wire__hello__free_unpacked(m, NULL);
}

static void take_ping(struct link *l, const struct wire_frame *f)
{
    Wire__Ping *m = wire_unpack(ping, f);
    if (!m) {
        link_close(l, WIRE__ERROR_CODE__ERROR_PROTOCOL, "a malformed PING");
        return;
    }
    struct engine_load load;
    engine_load(l->server->engine, &load);
    Wire__Pong pong = WIRE__PONG__INIT;
    pong.nonce = m->nonce;
    pong.step_age_ms = (uint64_t)load.step_age_ms;
    pong.running_sequences = load.backend.running;
    pong.waiting_sequences = load.backend.waiting;
    pong.outstanding_tokens = load.backend.outstanding_tokens;
    link_put(l, WIRE__FRAME_TYPE__PONG, 0, &pong.base);
    wire__ping__free_unpacked(m, NULL);
}

static void take_credit(struct link *l, const struct wire_frame *f)
{
    Wire__Credit *m = wire_unpack(credit, f);
    if (!m) {
        link_close(l, WIRE__ERROR_CODE__ERROR_PROTOCOL, "a malformed CREDIT");
        return;
    }
    stream_credit(l, f->stream, m->bytes);
    wire__credit__free_unpacked(m, NULL);
}

static void take_frame(struct link *l, const struct wire_frame *f)
{
    if (l->state == LINK_HELLO) {
        if (f->type == WIRE__FRAME_TYPE__HELLO && f->stream == 0)
            take_hello(l, f);
        else
            link_close(l, WIRE__ERROR_CODE__ERROR_PROTOCOL, "the first frame is not HELLO");
        return;
    }
    char name[24], text[64];
    switch (f->type) {
    case WIRE__FRAME_TYPE__REQUEST:
        stream_request(l, f);
        break;
    case WIRE__FRAME_TYPE__CANCEL:
        stream_cancel(l, f->stream);
        break;
    case WIRE__FRAME_TYPE__CREDIT:
        take_credit(l, f);
        break;
    case WIRE__FRAME_TYPE__PING:
        take_ping(l, f);
        break;
    case WIRE__FRAME_TYPE__USAGE_ACK:
        offer_ack(l, f);
        break;
    case WIRE__FRAME_TYPE__HELLO:
    case WIRE__FRAME_TYPE__TOKENS:
    case WIRE__FRAME_TYPE__FINISH:
    case WIRE__FRAME_TYPE__PONG:
    case WIRE__FRAME_TYPE__DRAIN:
    case WIRE__FRAME_TYPE__USAGE:
        snprintf(text, sizeof text, "%s does not belong here", wire_type_name(f->type, name));
        link_close(l, WIRE__ERROR_CODE__ERROR_PROTOCOL, text);
        break;
    case WIRE__FRAME_TYPE__ERROR:
        if (f->stream == 0)
            link_kill(l, "the gateway gave up on it");
        break;
    default:
        break; /* of a later version */
    }
}

static void take_frames(struct link *l)
{
    struct wire_frame f;
    size_t used;
    struct error err;
    while (l->state == LINK_HELLO || l->state == LINK_OPEN) {
        enum status st = wire_next(&l->in, &f, &used, &err);
        if (st == NOT_FOUND)
            break;
        if (st != OK) {
            link_close(l, WIRE__ERROR_CODE__ERROR_PROTOCOL, err.text);
            break;
        }
        take_frame(l, &f);
        buf_eat(&l->in, used);
    }
    if (l->state == LINK_CLOSING)
        buf_clear(&l->in);
    if (buf_len(&l->in) == 0 && l->in.size > 4 * READ_BYTES)
        buf_done(&l->in); /* a large request came through */
}

static void lost(struct link *l, enum channel_io io)
{
    if (l->state == LINK_OPEN)
        log_info("gateway %s disconnected", l->node_id);
    /* A handshake that fails is worth a word: somebody's certificate is wrong. */
    link_kill(l, io == CHANNEL_FAILED && l->state == LINK_HELLO ? l->channel.why : NULL);
}

static void read_link(struct link *l)
{
    for (int i = 0; (i < 8 || channel_reads_on(&l->channel)) && l->state != LINK_DEAD; i++) {
        if (buf_reserve(&l->in, READ_BYTES) != OK) {
            link_kill(l, "out of memory for its input");
            return;
        }
        size_t room = l->in.size - l->in.end, got;
        enum channel_io io = channel_read(&l->channel, l->in.data + l->in.end, room, &got);
        if (io == CHANNEL_AGAIN)
            return;
        if (io != CHANNEL_OK) {
            lost(l, io);
            return;
        }
        l->in.end += got;
        take_frames(l);
        if (got < room && !channel_reads_on(&l->channel))
            return;
    }
}

static void link_ready(int fd, int ready, void *arg)
{
    struct link *l = arg;
    if (l->state != LINK_DEAD && (ready & LOOP_READ || l->channel.read_needs_output))
        read_link(l);
    /* Output goes out at the end of the turn. */
}

static void unchoke(struct link *l)
{
    l->choked = false;
    for (struct stream *st = l->streams, *next; st && !l->choked; st = next) {
        next = st->next;
        stream_resume(st);
        if (l->state == LINK_DEAD)
            return;
    }
}

void link_flush(struct link *l)
{
    if (l->state == LINK_DEAD)
        return;
    int64_t now = loop_now_ms(l->server->loop);
    if (buf_len(&l->out) > 0) {
        size_t put = 0;
        enum channel_io io = channel_write(&l->channel, buf_head(&l->out), buf_len(&l->out), &put);
        if (io == CHANNEL_EOF || io == CHANNEL_FAILED) {
            link_kill(l, l->channel.why);
            return;
        }
        if (put > 0) {
            buf_eat(&l->out, put);
            l->progress_ms = now;
        }
    } else {
        l->progress_ms = now;
    }
    if (l->choked && buf_len(&l->out) <= LINK_LOW_BYTES) {
        unchoke(l);
        loop_again(l->server->loop);
    }
    if (l->state == LINK_CLOSING && buf_len(&l->out) == 0 && !l->shut) {
        channel_shut(&l->channel);
        l->shut = true;
    }
    if (l->state != LINK_DEAD)
        loop_io_want(l->io, channel_want(&l->channel, buf_len(&l->out) > 0));
}

void link_tick(struct link *l, int64_t now)
{
    struct server *s = l->server;
    if (l->state == LINK_HELLO && now >= l->deadline_ms)
        link_close(l, WIRE__ERROR_CODE__ERROR_PROTOCOL, "no HELLO came in time");
    else if (l->state == LINK_CLOSING && now >= l->deadline_ms)
        link_kill(l, NULL);
    else if (buf_len(&l->out) > 0 && now - l->progress_ms >= s->options.stall_ms)
        link_kill(l, "it reads nothing");
}

static uint64_t new_serial(struct server *s)
{
    for (int i = 0; i < s->options.links_max; i++)
        if (!s->link_table[i])
            return ++s->link_generation << 16 | (uint64_t)i;
    return 0;
}

void link_accept(struct server *s, int fd)
{
    uint64_t serial = new_serial(s);
    struct link *l = serial ? calloc(1, sizeof *l) : NULL;
    bool tls = s->options.tls && !address_is_unix(&s->options.listen);
    struct tls_conn *conn = l && tls ? tls_accept(s->options.tls, fd) : NULL;
    if (l && (conn || !tls))
        l->io = loop_io_new(s->loop, fd, link_ready, l);
    if (!l || !l->io) {
        log_warn("a gateway's connection was refused: %s", serial ? "no memory" : "too many links");
        tls_conn_free(conn);
        free(l);
        close(fd);
        return;
    }
    address_tune(fd);
    l->server = s;
    channel_open(&l->channel, fd, conn);
    l->serial = serial;
    l->state = LINK_HELLO;
    l->progress_ms = loop_now_ms(s->loop);
    l->deadline_ms = l->progress_ms + s->options.hello_ms;
    snprintf(l->node_id, sizeof l->node_id, "(not yet known)");
    buf_init(&l->in, WIRE_PAYLOAD_MAX + WIRE_HEADER_BYTES + READ_BYTES);
    buf_init(&l->out, s->options.link_output_bytes);
    buf_init(&l->finals, sizeof(uint32_t) * usage_slots(s->usage));
    s->link_table[serial & 0xffff] = l;
    l->next = s->links;
    s->links = l;
    s->link_count++;
    loop_io_want(l->io, LOOP_READ);
    put_hello(l);
}

void link_free(struct link *l)
{
    struct server *s = l->server;
    s->link_table[l->serial & 0xffff] = NULL;
    s->link_count--;
    loop_io_free(l->io);
    channel_close(&l->channel);
    buf_done(&l->in);
    buf_done(&l->out);
    buf_done(&l->finals);
    free(l);
}
