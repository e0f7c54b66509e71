/* links: tg_base */
/* Frames from untrusted bytes: the reader, then the unpacking and checks of every message. */
#include <assert.h>

#include "base/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* What unpacks can be packed. (protobuf-c takes unknown fields with tags that it would not take
 * back, so unpacking once more may fail, but must not crash.) */
static void again(const ProtobufCMessage *m)
{
    struct buf out;
    buf_init(&out, (size_t)64 << 20);
    if (wire_put(&out, WIRE__FRAME_TYPE__PING, 7, m) == OK) {
        struct wire_frame f;
        size_t used;
        enum status st = wire_next(&out, &f, &used, NULL);
        assert(st == OK && used == buf_len(&out) && f.stream == 7);
        ProtobufCMessage *n =
            protobuf_c_message_unpack(m->descriptor, NULL, f.payload_len, f.payload);
        if (n)
            protobuf_c_message_free_unpacked(n, NULL);
    }
    buf_done(&out);
}

#define TRY(kind, frame, check)                                                                    \
    do {                                                                                           \
        __typeof__(wire_unpack(kind, frame)) m = wire_unpack(kind, frame);                         \
        if (m) {                                                                                   \
            struct error err = {""};                                                               \
            enum status st = check;                                                                \
            assert(st == OK || (st == INVALID && err.text[0]));                                    \
            again(&m->base);                                                                       \
            wire__##kind##__free_unpacked(m, NULL);                                                \
        }                                                                                          \
    } while (0)

static void unpack(const struct wire_frame *f)
{
    switch (f->type) {
    case WIRE__FRAME_TYPE__HELLO:
        TRY(hello, f, wire_check_hello(m, &err));
        break;
    case WIRE__FRAME_TYPE__REQUEST:
        TRY(request, f, wire_check_request(m, &err));
        break;
    case WIRE__FRAME_TYPE__TOKENS:
        TRY(tokens, f, OK);
        break;
    case WIRE__FRAME_TYPE__FINISH:
        TRY(finish, f, OK);
        break;
    case WIRE__FRAME_TYPE__ERROR:
        TRY(error, f, OK);
        break;
    case WIRE__FRAME_TYPE__CREDIT:
        TRY(credit, f, OK);
        break;
    case WIRE__FRAME_TYPE__PING:
        TRY(ping, f, OK);
        break;
    case WIRE__FRAME_TYPE__PONG:
        TRY(pong, f, OK);
        break;
    case WIRE__FRAME_TYPE__USAGE:
        TRY(usage_list, f, wire_check_usage(m, &err));
        break;
    case WIRE__FRAME_TYPE__USAGE_ACK:
        TRY(usage_ack, f, wire_check_ack(m, &err));
        break;
    default:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct buf in;
    buf_init(&in, len + 1);
    if (buf_add(&in, data, len) != OK)
        return 0;
    struct wire_frame f;
    size_t used;
    struct error err = {""};
    enum status st;
    while ((st = wire_next(&in, &f, &used, &err)) == OK) {
        assert(used <= buf_len(&in) && f.payload_len == used - WIRE_HEADER_BYTES);
        char name[24];
        assert(wire_type_name(f.type, name)[0]);
        unpack(&f);
        buf_eat(&in, used);
    }
    assert(st == NOT_FOUND || (st == INVALID && err.text[0]));
    buf_done(&in);
    return 0;
}
