#include "base/wire.h"

#include <math.h>

#include "tests/unit/check.h"

static void test_round_trip(void)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    Wire__Ping ping = WIRE__PING__INIT;
    ping.nonce = 77;
    CHECK_INT(wire_put(&b, WIRE__FRAME_TYPE__PING, 0, &ping.base), OK);
    CHECK_INT(wire_put(&b, WIRE__FRAME_TYPE__CANCEL, 0x01020304, NULL), OK);
    struct wire_frame f;
    size_t used;
    struct error err;
    CHECK_INT(wire_next(&b, &f, &used, &err), OK);
    CHECK_INT(f.type, WIRE__FRAME_TYPE__PING);
    Wire__Ping *got = wire_unpack(ping, &f);
    CHECK_FATAL(got);
    CHECK_INT(got->nonce, 77);
    wire__ping__free_unpacked(got, NULL);
    buf_eat(&b, used);
    CHECK_INT(wire_next(&b, &f, &used, &err), OK);
    CHECK_INT(f.type, WIRE__FRAME_TYPE__CANCEL);
    CHECK_INT(f.stream, 0x01020304);
    CHECK_INT(f.payload_len, 0);
    buf_eat(&b, used);
    CHECK_INT(wire_next(&b, &f, &used, &err), NOT_FOUND);
    buf_done(&b);
}

/* A frame that arrives byte by byte is seen once it is whole. */
static void test_pieces(void)
{
    struct buf whole, part;
    buf_init(&whole, 4096);
    buf_init(&part, 4096);
    Wire__Credit credit = WIRE__CREDIT__INIT;
    credit.bytes = 1 << 20;
    CHECK_INT(wire_put(&whole, WIRE__FRAME_TYPE__CREDIT, 5, &credit.base), OK);
    struct wire_frame f;
    size_t used, len = buf_len(&whole);
    for (size_t i = 0; i < len; i++) {
        CHECK_INT(wire_next(&part, &f, &used, NULL), NOT_FOUND);
        CHECK_INT(buf_add(&part, buf_head(&whole) + i, 1), OK);
    }
    CHECK_INT(wire_next(&part, &f, &used, NULL), OK);
    CHECK_INT(used, len);
    buf_done(&whole);
    buf_done(&part);
}

static void test_bad_headers(void)
{
    static const struct {
        uint8_t bytes[12];
        enum status want;
    } table[] = {
        {{0, 0, 0, 1, 1}, NOT_FOUND},                             /* 16 MiB: allowed */
        {{1, 0, 0, 1, 1}, INVALID},                               /* a byte more */
        {{0xff, 0xff, 0xff, 0xff, 1}, INVALID},                   /* 4 GiB */
        {{0, 0, 0, 0, 0}, INVALID},                               /* type 0 */
        {{0, 0, 0, 0, 8, 1}, INVALID},                            /* flags */
        {{0, 0, 0, 0, 8, 0, 0, 1}, INVALID},                      /* reserved */
        {{0, 0, 0, 0, 200, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, OK}, /* unknown type: to be skipped */
        {{'G', 'E', 'T', ' ', '/', ' ', 'H', 'T', 'T', 'P', '/', '1'}, INVALID},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct buf b;
        buf_init(&b, 64);
        CHECK_INT(buf_add(&b, table[i].bytes, 12), OK);
        struct wire_frame f;
        size_t used;
        struct error err = {""};
        CHECK_INT(wire_next(&b, &f, &used, &err), table[i].want);
        CHECK((err.text[0] != 0) == (table[i].want == INVALID));
        buf_done(&b);
    }
}

/* Two bytes on the wire for each empty message, 88 in memory: refused before it hurts. */
static void test_amplification(void)
{
    enum { BYTES = 8 << 20 };
    uint8_t *payload = malloc(BYTES);
    CHECK_FATAL(payload);
    for (int i = 0; i < BYTES; i += 2) {
        payload[i] = 4 << 3 | 2; /* messages, length-delimited */
        payload[i + 1] = 0;
    }
    struct wire_frame f = {.type = WIRE__FRAME_TYPE__REQUEST, .payload = payload};
    f.payload_len = BYTES;
    CHECK(wire_unpack(request, &f) == NULL);
    f.payload_len = 2 * WIRE_MESSAGES_MAX;
    Wire__Request *m = wire_unpack(request, &f);
    CHECK_FATAL(m);
    CHECK_INT(m->n_messages, WIRE_MESSAGES_MAX);
    wire__request__free_unpacked(m, NULL);
    free(payload);
}

static void test_unknown_field(void)
{
    /* nonce 5, then field 99 (bytes "x"): a later version's */
    static const uint8_t bytes[] = {0x08, 5, 0x9a, 0x06, 1, 'x'};
    struct wire_frame f = {.type = WIRE__FRAME_TYPE__PING, .payload = bytes, .payload_len = 6};
    Wire__Ping *m = wire_unpack(ping, &f);
    CHECK_FATAL(m);
    CHECK_INT(m->nonce, 5);
    wire__ping__free_unpacked(m, NULL);
    f.payload_len = 5; /* cut */
    CHECK(wire_unpack(ping, &f) == NULL);
}

static void test_check_request(void)
{
    uint8_t id[16] = {1};
    Wire__Sampling s = WIRE__SAMPLING__INIT;
    Wire__Request good = WIRE__REQUEST__INIT;
    good.request_id = (ProtobufCBinaryData){16, id};
    good.attempt = 1;
    good.model = (char *)"m";
    good.sampling = &s;
    struct error err;
    CHECK_INT(wire_check_request(&good, &err), OK);
    Wire__Request m = good;
    m.request_id.len = 15;
    CHECK_INT(wire_check_request(&m, &err), INVALID);
    CHECK(strstr(err.text, "request_id"));
    m = good;
    m.attempt = 0;
    CHECK_INT(wire_check_request(&m, &err), INVALID);
    s.temperature = NAN;
    CHECK_INT(wire_check_request(&good, &err), INVALID);
    s.temperature = 1;
    s.top_p = 2;
    CHECK_INT(wire_check_request(&good, &err), INVALID);
    s.top_p = 1;
    static uint8_t large[WIRE_BILLING_MAX + 1];
    m = good;
    m.billing = (ProtobufCBinaryData){sizeof large, large};
    CHECK_INT(wire_check_request(&m, &err), INVALID);
    static char name[WIRE_MODEL_NAME_MAX + 2];
    memset(name, 'x', sizeof name - 1);
    m = good;
    m.model = name;
    CHECK_INT(wire_check_request(&m, &err), INVALID);
    char *stops[WIRE_STOPS_MAX + 1];
    for (int i = 0; i <= WIRE_STOPS_MAX; i++)
        stops[i] = (char *)"x";
    m = good;
    m.stop = stops;
    m.n_stop = WIRE_STOPS_MAX + 1;
    CHECK_INT(wire_check_request(&m, &err), INVALID);
    m.n_stop = WIRE_STOPS_MAX;
    CHECK_INT(wire_check_request(&m, &err), OK);
}

static void test_check_others(void)
{
    struct error err;
    Wire__Hello h = WIRE__HELLO__INIT;
    h.version = h.oldest_version = 1;
    h.node_id = (char *)"01936f2e-1111-7222-8333-444455556666";
    CHECK_INT(wire_check_hello(&h, &err), OK);
    h.node_id = (char *)"01936f2e-1111-7222-8333-44445555666";
    CHECK_INT(wire_check_hello(&h, &err), INVALID);
    h.node_id = (char *)"01936f2e-1111-7222-8333-44445555666\n";
    CHECK_INT(wire_check_hello(&h, &err), INVALID);
    h.node_id = (char *)"01936f2e-1111-7222-8333-444455556666";
    h.oldest_version = 2;
    CHECK_INT(wire_check_hello(&h, &err), INVALID);
    Wire__UsageAck__Id id = WIRE__USAGE_ACK__ID__INIT, *ids[1] = {&id};
    Wire__UsageAck ack = WIRE__USAGE_ACK__INIT;
    ack.ids = ids;
    ack.n_ids = 1;
    CHECK_INT(wire_check_ack(&ack, &err), INVALID);
    Wire__Usage u = WIRE__USAGE__INIT, *us[1] = {&u};
    Wire__UsageList list = WIRE__USAGE_LIST__INIT;
    list.usage = us;
    list.n_usage = 1;
    CHECK_INT(wire_check_usage(&list, &err), INVALID);
    char name[24];
    CHECK_STR(wire_type_name(WIRE__FRAME_TYPE__TOKENS, name), "TOKENS");
    CHECK_STR(wire_type_name((Wire__FrameType)99, name), "frame 99");
}

static void test_full_buffer(void)
{
    struct buf b;
    buf_init(&b, 20);
    CHECK_INT(wire_put(&b, WIRE__FRAME_TYPE__CANCEL, 1, NULL), OK);
    CHECK_INT(wire_put(&b, WIRE__FRAME_TYPE__CANCEL, 2, NULL), LIMITED);
    CHECK_INT(buf_len(&b), 12);
    buf_done(&b);
}

int main(void)
{
    test_round_trip();
    test_pieces();
    test_bad_headers();
    test_amplification();
    test_unknown_field();
    test_check_request();
    test_check_others();
    test_full_buffer();
    return check_done();
}
