#include "tests/lib/wire_client.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "base/address.h"
#include "base/clock.h"

enum { WAIT_MS = 10000 };

static void fatal(const char *what, const char *why)
{
    fprintf(stderr, "wire_client: %s: %s\n", what, why);
    exit(1);
}

static bool try_connect(struct wire_client *c, const struct address *a, struct error *err)
{
    bool done;
    if (address_connect(a, &c->fd, &done, err) != OK)
        return false;
    struct pollfd p = {.fd = c->fd, .events = POLLOUT};
    if (poll(&p, 1, WAIT_MS) == 1 && address_connected(c->fd, err) == OK)
        return true;
    close(c->fd);
    return false;
}

void wire_client_connect(struct wire_client *c, const char *address)
{
    struct address a;
    struct error err = {""};
    *c = (struct wire_client){.fd = -1};
    buf_init(&c->in, (size_t)64 << 20);
    buf_init(&c->out, (size_t)64 << 20);
    if (address_parse(address, &a, &err) != OK)
        fatal(address, err.text);
    int64_t until = clock_mono_ms() + WAIT_MS;
    while (!try_connect(c, &a, &err)) {
        if (clock_mono_ms() > until)
            fatal(address, err.text);
        usleep(10000);
    }
}

void wire_client_close(struct wire_client *c)
{
    close(c->fd);
    buf_done(&c->in);
    buf_done(&c->out);
}

void wire_client_send_bytes(struct wire_client *c, const void *data, size_t len)
{
    while (len > 0) {
        ssize_t put = send(c->fd, data, len, MSG_NOSIGNAL);
        if (put < 0 && errno == EAGAIN) {
            struct pollfd p = {.fd = c->fd, .events = POLLOUT};
            if (poll(&p, 1, WAIT_MS) != 1)
                fatal("send", "timed out");
            continue;
        }
        if (put < 0)
            return; /* closed: the next read says so */
        data = (const char *)data + put;
        len -= (size_t)put;
    }
}

void wire_client_send(struct wire_client *c, Wire__FrameType type, uint32_t stream,
                      const ProtobufCMessage *m)
{
    if (wire_put(&c->out, type, stream, m) != OK)
        fatal("send", "out of memory");
    wire_client_send_bytes(c, buf_head(&c->out), buf_len(&c->out));
    buf_clear(&c->out);
}

void wire_client_hello(struct wire_client *c, const char *node_id, uint32_t version,
                       uint32_t oldest)
{
    Wire__Hello m = WIRE__HELLO__INIT;
    m.version = version;
    m.oldest_version = oldest;
    m.node_id = (char *)node_id;
    wire_client_send(c, WIRE__FRAME_TYPE__HELLO, 0, &m.base);
}

void wire_client_open(struct wire_client *c, const char *address, const char *node_id)
{
    struct wire_frame f;
    wire_client_connect(c, address);
    wire_client_hello(c, node_id, WIRE_VERSION, WIRE_OLDEST);
    if (!wire_client_wait(c, WIRE__FRAME_TYPE__HELLO, &f))
        fatal(address, "no HELLO");
}

void wire_client_request(struct wire_client *c, const struct wire_client_request *r)
{
    Wire__ChatMessage message = WIRE__CHAT_MESSAGE__INIT, *messages[1] = {&message};
    message.role = (char *)"user";
    message.content = (char *)(r->text ? r->text : "Hello!");
    Wire__Sampling sampling = WIRE__SAMPLING__INIT;
    sampling.top_p = 1;
    Wire__Request m = WIRE__REQUEST__INIT;
    if (r->with)
        m = *r->with;
    m.request_id = (ProtobufCBinaryData){16, (uint8_t *)r->id.bytes};
    m.attempt = r->attempt ? r->attempt : 1;
    m.model = (char *)(r->model ? r->model : "tollgate-demo");
    if (!m.n_messages && !*m.prompt) {
        m.messages = messages;
        m.n_messages = 1;
    }
    m.max_tokens = r->max_tokens;
    if (!m.sampling)
        m.sampling = &sampling;
    m.thinking = r->thinking;
    m.credit_bytes = r->credit;
    if (r->billing)
        m.billing = (ProtobufCBinaryData){strlen(r->billing), (uint8_t *)r->billing};
    wire_client_send(c, WIRE__FRAME_TYPE__REQUEST, r->stream, &m.base);
}

void wire_client_credit(struct wire_client *c, uint32_t stream, uint64_t bytes)
{
    Wire__Credit m = WIRE__CREDIT__INIT;
    m.bytes = bytes;
    wire_client_send(c, WIRE__FRAME_TYPE__CREDIT, stream, &m.base);
}

void wire_client_ack(struct wire_client *c, const struct uuid *id, uint32_t attempt)
{
    Wire__UsageAck__Id one = WIRE__USAGE_ACK__ID__INIT, *ids[1] = {&one};
    one.request_id = (ProtobufCBinaryData){16, (uint8_t *)id->bytes};
    one.attempt = attempt;
    Wire__UsageAck m = WIRE__USAGE_ACK__INIT;
    m.ids = ids;
    m.n_ids = 1;
    wire_client_send(c, WIRE__FRAME_TYPE__USAGE_ACK, 0, &m.base);
}

enum status wire_client_next(struct wire_client *c, struct wire_frame *f, int timeout_ms)
{
    int64_t until = clock_mono_ms() + timeout_ms;
    buf_eat(&c->in, c->used);
    c->used = 0;
    for (;;) {
        struct error err;
        enum status st = wire_next(&c->in, f, &c->used, &err);
        if (st == INVALID)
            fatal("a bad frame", err.text);
        if (st == OK)
            return OK;
        int64_t left = until - clock_mono_ms();
        struct pollfd p = {.fd = c->fd, .events = POLLIN};
        if (poll(&p, 1, left > 0 ? (int)left : 0) == 0)
            return TIMED_OUT;
        if (buf_reserve(&c->in, 1 << 16) != OK)
            fatal("read", "too much input");
        ssize_t got = read(c->fd, c->in.data + c->in.end, c->in.size - c->in.end);
        if (got <= 0)
            return CLOSED;
        c->in.end += (size_t)got;
    }
}

bool wire_client_wait(struct wire_client *c, Wire__FrameType type, struct wire_frame *f)
{
    enum status st;
    while ((st = wire_client_next(c, f, WAIT_MS)) == OK)
        if (f->type == type)
            return true;
    return false;
}
