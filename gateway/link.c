#include "gateway/link.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <unistd.h>

#include "gateway/link_private.h"

enum {
    READ_BYTES = 64 << 10,
    TURN_BYTES = 1 << 20, /* read in one go, so that one worker cannot keep the loop */
    OUT_MAX = 64 << 20,
    OUT_FULL = 32 << 20, /* no new requests above it */
    BACKOFF_LEAST_MS = 50,
    BACKOFF_MOST_MS = 1000,
    GREETING_MS = 5000,
    PING_MS = 1000,
    FULL_MS = 50,
    SLOT_BITS = 16,
    NO_STREAM = UINT32_MAX
};

static void begin_connect(void *arg);
static void close_link(struct link *l);

/* --- streams --- */

static uint32_t stream_id(uint32_t slot, uint32_t generation)
{
    return generation << SLOT_BITS | slot;
}

struct stream *link_stream(struct link *l, uint32_t id)
{
    uint32_t slot = id & ((1u << SLOT_BITS) - 1);
    if (slot >= l->stream_size)
        return NULL;
    struct stream *s = &l->streams[slot];
    return s->user && s->generation == id >> SLOT_BITS ? s : NULL;
}

static enum status grow_streams(struct link *l)
{
    uint32_t size = l->stream_size ? 2 * l->stream_size : 64;
    if (size > LINK_STREAMS_MAX)
        size = LINK_STREAMS_MAX;
    if (size == l->stream_size)
        return LIMITED;
    struct stream *streams = realloc(l->streams, size * sizeof *streams);
    if (!streams)
        return NOMEM;
    for (uint32_t i = size; i-- > l->stream_size;) {
        streams[i] = (struct stream){.generation = 1, .next_free = l->free_stream};
        l->free_stream = i;
    }
    l->streams = streams;
    l->stream_size = size;
    return OK;
}

static enum status open_stream(struct link *l, void *user, uint32_t *id)
{
    if (l->free_stream == NO_STREAM) {
        enum status st = grow_streams(l);
        if (st != OK)
            return st;
    }
    uint32_t slot = l->free_stream;
    struct stream *s = &l->streams[slot];
    l->free_stream = s->next_free;
    s->user = user;
    l->open_streams++;
    *id = stream_id(slot, s->generation);
    return OK;
}

void link_close_stream(struct link *l, uint32_t id)
{
    struct stream *s = link_stream(l, id);
    assert(s);
    s->user = NULL;
    s->generation = s->generation == (1u << SLOT_BITS) - 1 ? 1 : s->generation + 1;
    s->next_free = l->free_stream;
    l->free_stream = (uint32_t)(s - l->streams);
    l->open_streams--;
}

static void lose_streams(struct link *l, enum link_loss loss)
{
    for (uint32_t i = 0; i < l->stream_size; i++) {
        struct stream *s = &l->streams[i];
        if (!s->user)
            continue;
        void *user = s->user;
        uint32_t id = stream_id(i, s->generation);
        if (loss == LINK_SILENT)
            link_put(l, WIRE__FRAME_TYPE__CANCEL, id, NULL);
        link_close_stream(l, id);
        l->options.handlers->lost(user, loss);
    }
}

/* --- connection --- */

void link_break(struct link *l, const char *format, ...)
{
    if (l->broken)
        return;
    l->broken = true;
    va_list args;
    va_start(args, format);
    vsnprintf(l->why, sizeof l->why, format, args);
    va_end(args);
}

static void changed(struct link *l, const char *what)
{
    l->options.handlers->changed(l, what, l->options.handlers->arg);
}

static void try_again(struct link *l)
{
    loop_timer_start(l->retry, l->backoff_ms);
    l->backoff_ms = l->backoff_ms * 2 > BACKOFF_MOST_MS ? BACKOFF_MOST_MS : l->backoff_ms * 2;
}

static void close_link(struct link *l)
{
    enum link_state before = l->state;
    l->state = LINK_DOWN;
    loop_io_free(l->io);
    l->io = NULL;
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
    channel_close(&l->channel);
    buf_done(&l->in);
    buf_done(&l->out);
    l->need = 0;
    l->ack_count = 0; /* the worker offers them again */
    l->broken = l->silent = l->draining = false;
    l->outstanding_tokens = l->sent_tokens = l->step_age_ms = 0;
    lose_streams(l, LINK_LOST);
    l->model_count = 0;
    char text[sizeof l->why + 16];
    snprintf(text, sizeof text, "%s: %s", before == LINK_UP ? "lost" : "no link", l->why);
    changed(l, text);
    try_again(l);
}

static void send_out(struct link *l)
{
    enum channel_io io = CHANNEL_OK;
    while (io == CHANNEL_OK && buf_len(&l->out) > 0) {
        size_t put;
        io = channel_write(&l->channel, buf_head(&l->out), buf_len(&l->out), &put);
        if (io == CHANNEL_OK)
            buf_eat(&l->out, put);
    }
    if (io == CHANNEL_EOF || io == CHANNEL_FAILED)
        link_break(l, "cannot send: %s", l->channel.why);
    else
        loop_io_want(l->io, channel_want(&l->channel, buf_len(&l->out) > 0));
}

static void read_in(struct link *l)
{
    size_t total = 0;
    while (!l->broken && (total < TURN_BYTES || channel_reads_on(&l->channel))) {
        if (buf_reserve(&l->in, READ_BYTES) != OK) {
            link_break(l, "out of memory");
            return;
        }
        size_t space = l->in.size - l->in.end, got;
        enum channel_io io = channel_read(&l->channel, l->in.data + l->in.end, space, &got);
        if (io == CHANNEL_EOF)
            link_break(l, "the worker closed the connection");
        if (io == CHANNEL_FAILED)
            link_break(l, "cannot receive: %s", l->channel.why);
        if (io != CHANNEL_OK)
            return;
        l->in.end += got;
        total += got;
        link_frames(l);
        if (got < space && !channel_reads_on(&l->channel))
            return;
    }
}

/* The host of "host:port" or "[v6]:port". */
static void host_of(const char *text, char host[256])
{
    const char *end = strrchr(text, ':');
    size_t len = end ? (size_t)(end - text) : strlen(text);
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    snprintf(host, 256, "%.*s", (int)len, text);
}

static bool open_channel(struct link *l)
{
    struct tls_conn *tls = NULL;
    if (l->options.tls && !address_is_unix(&l->address)) {
        char host[256];
        host_of(l->address.text, host);
        tls = tls_connect(l->options.tls, l->fd, host);
        if (!tls) {
            link_break(l, "out of memory");
            return false;
        }
    }
    channel_open(&l->channel, l->fd, tls);
    l->fd = -1;
    return true;
}

static void greet(struct link *l)
{
    Wire__Hello hello = WIRE__HELLO__INIT;
    hello.version = WIRE_VERSION;
    hello.oldest_version = WIRE_OLDEST;
    hello.node_id = (char *)l->options.node_id; /* only read */
    hello.software = "tollgate-gateway";
    if (!open_channel(l))
        return;
    l->state = LINK_GREETING;
    l->greeting_ms = loop_now_ms(l->loop);
    link_put(l, WIRE__FRAME_TYPE__HELLO, 0, &hello.base);
    loop_io_want(l->io, LOOP_READ);
}

static void ready(int fd, int what, void *arg)
{
    struct link *l = arg;
    struct error err;
    if (l->state == LINK_CONNECTING) {
        if (address_connected(fd, &err) == OK)
            greet(l);
        else
            link_break(l, "%s", err.text);
    } else {
        if (what & LOOP_READ || l->channel.read_needs_output)
            read_in(l);
        if (!l->broken) /* what waits is sent at the end of the turn */
            loop_io_want(l->io, channel_want(&l->channel, buf_len(&l->out) > 0));
    }
    if (l->broken)
        close_link(l);
}

static void begin_connect(void *arg)
{
    struct link *l = arg;
    struct error err;
    bool connected;
    assert(l->state == LINK_DOWN);
    if (address_connect(&l->address, &l->fd, &connected, &err) != OK) {
        l->fd = -1;
        changed(l, err.text);
        try_again(l);
        return;
    }
    l->io = loop_io_new(l->loop, l->fd, ready, l);
    if (!l->io) {
        close(l->fd);
        l->fd = -1;
        try_again(l);
        return;
    }
    l->state = LINK_CONNECTING;
    l->greeting_ms = loop_now_ms(l->loop);
    if (connected)
        greet(l);
    else
        loop_io_want(l->io, LOOP_WRITE);
}

/* --- output --- */

void link_put(struct link *l, Wire__FrameType type, uint32_t stream, const ProtobufCMessage *m)
{
    if (l->state < LINK_GREETING)
        return;
    if (wire_put(&l->out, type, stream, m) != OK)
        link_break(l, "the worker takes no data");
}

static void put_acks(struct link *l)
{
    if (l->ack_count == 0 || l->state != LINK_UP)
        return;
    Wire__UsageAck__Id ids[LINK_ACKS_MAX], *list[LINK_ACKS_MAX];
    for (int i = 0; i < l->ack_count; i++) {
        wire__usage_ack__id__init(&ids[i]);
        ids[i].request_id = (ProtobufCBinaryData){sizeof l->acks[i].id.bytes, l->acks[i].id.bytes};
        ids[i].attempt = l->acks[i].attempt;
        list[i] = &ids[i];
    }
    Wire__UsageAck m = WIRE__USAGE_ACK__INIT;
    m.ids = list;
    m.n_ids = (size_t)l->ack_count;
    link_put(l, WIRE__FRAME_TYPE__USAGE_ACK, 0, &m.base);
    l->ack_count = 0;
}

/* LOOP_PHASE_LINKS */
static void flush(void *arg)
{
    struct link *l = arg;
    put_acks(l);
    if (l->state >= LINK_GREETING && buf_len(&l->out) > 0 && !l->broken) {
        if (l->need && journal_written(l->options.journal) < l->need)
            link_break(l, "the journal takes no records, so no work may be asked for");
        else
            send_out(l);
    }
    if (l->broken && l->state != LINK_DOWN)
        close_link(l);
}

void link_ack(struct link *l, const struct uuid *id, uint32_t attempt)
{
    if (l->state != LINK_UP)
        return; /* the worker offers it again */
    if (l->ack_count == LINK_ACKS_MAX)
        put_acks(l);
    l->acks[l->ack_count].id = *id;
    l->acks[l->ack_count++].attempt = attempt;
}

enum status link_request(struct link *l, const Wire__Request *m, int64_t tokens, int64_t need,
                         void *user, uint32_t *stream)
{
    assert(link_serves(l) && user);
    uint32_t id;
    enum status st = open_stream(l, user, &id);
    if (st != OK)
        return st;
    st = wire_put(&l->out, WIRE__FRAME_TYPE__REQUEST, id, &m->base);
    if (st != OK) {
        link_close_stream(l, id);
        return st;
    }
    if (l->options.journal)
        l->need = need;
    l->sent_tokens += (uint64_t)tokens;
    *stream = id;
    return OK;
}

void link_cancel(struct link *l, uint32_t stream)
{
    if (link_stream(l, stream))
        link_put(l, WIRE__FRAME_TYPE__CANCEL, stream, NULL);
}

void link_forget(struct link *l, uint32_t stream)
{
    if (link_stream(l, stream))
        link_close_stream(l, stream);
}

void link_credit(struct link *l, uint32_t stream, uint64_t bytes)
{
    Wire__Credit m = WIRE__CREDIT__INIT;
    m.bytes = bytes;
    if (link_stream(l, stream))
        link_put(l, WIRE__FRAME_TYPE__CREDIT, stream, &m.base);
}

/* --- state --- */

int link_index(const struct link *l)
{
    return l->options.index;
}

const char *link_name(const struct link *l)
{
    return l->address.text;
}

enum link_state link_state(const struct link *l)
{
    return l->state;
}

int link_models(const struct link *l, const struct link_model **models)
{
    *models = l->models;
    return l->state == LINK_UP ? l->model_count : 0;
}

const struct link_model *link_find_model(const struct link *l, const char *name)
{
    for (int i = 0; l->state == LINK_UP && i < l->model_count; i++)
        if (strcmp(l->models[i].name, name) == 0)
            return &l->models[i];
    return NULL;
}

bool link_serves(const struct link *l)
{
    return l->state == LINK_UP && !l->draining && !l->silent && !l->broken;
}

bool link_has_room(const struct link *l, int64_t now_ms)
{
    return link_serves(l) && l->open_streams < l->capacity && now_ms >= l->full_until_ms &&
           buf_len(&l->out) < OUT_FULL;
}

uint64_t link_outstanding(const struct link *l)
{
    return l->outstanding_tokens + l->sent_tokens;
}

void link_full(struct link *l, int64_t now_ms)
{
    l->full_until_ms = now_ms + FULL_MS;
}

void link_draining(struct link *l)
{
    l->draining = true;
}

static void check_silence(struct link *l, int64_t now_ms, int64_t silent_ms)
{
    bool silent = now_ms - l->pong_ms > silent_ms ||
                  (l->open_streams > 0 && l->step_age_ms > (uint64_t)silent_ms);
    if (silent == l->silent)
        return;
    l->silent = silent;
    changed(l, silent ? "silent: no step completed" : "answers again");
    if (silent)
        lose_streams(l, LINK_SILENT);
}

void link_tick(struct link *l, int64_t now_ms, int64_t silent_ms)
{
    if ((l->state == LINK_GREETING || l->state == LINK_CONNECTING) &&
        now_ms - l->greeting_ms > GREETING_MS) {
        link_break(l, "no HELLO in time");
        close_link(l);
        return;
    }
    if (l->state != LINK_UP)
        return;
    if (now_ms - l->pinged_ms >= PING_MS && buf_len(&l->out) < OUT_FULL) {
        Wire__Ping m = WIRE__PING__INIT;
        m.nonce = (uint64_t)now_ms;
        l->pinged_ms = now_ms;
        link_put(l, WIRE__FRAME_TYPE__PING, 0, &m.base);
    }
    check_silence(l, now_ms, silent_ms);
}

struct link *link_new(struct loop *loop, const struct link_options *options)
{
    struct link *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    l->loop = loop;
    l->options = *options;
    l->address = *options->address;
    l->fd = l->channel.fd = -1;
    l->free_stream = NO_STREAM;
    l->backoff_ms = BACKOFF_LEAST_MS;
    buf_init(&l->in, (size_t)WIRE_PAYLOAD_MAX + WIRE_HEADER_BYTES + READ_BYTES);
    buf_init(&l->out, OUT_MAX);
    l->scratch = arena_new(wire_budget(WIRE_PAYLOAD_MAX));
    l->retry = loop_timer_new(loop, begin_connect, l);
    if (!l->scratch || !l->retry) {
        link_free(l);
        return NULL;
    }
    loop_hook(loop, LOOP_PHASE_LINKS, flush, l);
    loop_timer_start(l->retry, 0);
    return l;
}

/* The loop must not turn any more: its hook cannot be taken back. */
void link_free(struct link *l)
{
    if (!l)
        return;
    if (l->state != LINK_DOWN) {
        snprintf(l->why, sizeof l->why, "the gateway ends");
        close_link(l);
    }
    loop_timer_free(l->retry);
    buf_done(&l->in);
    buf_done(&l->out);
    arena_free(l->scratch);
    free(l->streams);
    free(l);
}
