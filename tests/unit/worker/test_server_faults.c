/* runs: thread */
/* What goes wrong on links: killed workers, lost and hostile gateways, readers that do not read. */
#include "tests/unit/worker/rig.h"

static struct uuid new_id(void)
{
    return uuid_v7(clock_wall_ms());
}

static void start_long(struct wire_client *c, uint32_t stream, const struct uuid *id,
                       struct heard *h)
{
    struct wire_client_request q = {
        .id = *id, .stream = stream, .max_tokens = 1000000, .credit = 400};
    *h = (struct heard){.reason = -1, .error = -1};
    wire_client_request(c, &q);
    while (h->len + h->reasoning_len < 400) {
        struct wire_frame f;
        CHECK_FATAL(wire_client_next(c, &f, 10000) == OK);
        if (f.stream == stream)
            heard_frame(h, &f);
    }
}

/* Usage frames that are there by the time of the PONG. */
static int usages_before_pong(struct wire_client *c)
{
    Wire__Ping ping = WIRE__PING__INIT;
    wire_client_send(c, WIRE__FRAME_TYPE__PING, 0, &ping.base);
    struct wire_frame f;
    int count = 0;
    for (;;) {
        CHECK_FATAL(wire_client_next(c, &f, 10000) == OK);
        if (f.type == WIRE__FRAME_TYPE__PONG)
            return count;
        count += f.type == WIRE__FRAME_TYPE__USAGE;
    }
}

static void test_kill_worker(bool threaded)
{
    struct rig r;
    rig_init(&r, threaded);
    r.options.offer_ms = 600000;
    r.options.foreign_offer_ms = 500;
    rig_fork(&r);
    struct wire_client c, other;
    struct heard h;
    struct uuid id = new_id();
    wire_client_open(&c, r.address, GATEWAY_A);
    start_long(&c, 1, &id, &h);
    rig_kill(&r);
    struct wire_frame f;
    while (wire_client_next(&c, &f, 10000) == OK)
        if (f.stream == 1)
            heard_frame(&h, &f);
    wire_client_close(&c);
    CHECK(strstr(table_line(&r, &id), "\"state\":\"running\""));

    rig_fork(&r);
    wire_client_open(&c, r.address, GATEWAY_A);
    struct usage_record u = {.attempt = 0};
    CHECK(hear_usage(&c, &id, &u));
    CHECK_INT(u.outcome, WIRE__OUTCOME__OUTCOME_FAILED);
    CHECK(u.counts.completion >= h.counts.completion); /* never less than what was sent */
    char want[64];
    snprintf(want, sizeof want, "\"completion\":%u", u.counts.completion);
    CHECK(strstr(table_line(&r, &id), want));
    rig_kill(&r); /* before it is acknowledged */
    wire_client_close(&c);

    rig_fork(&r);
    wire_client_open(&other, r.address, GATEWAY_B);
    CHECK(hear_usage(&other, &id, &u)); /* A is away for longer than foreign_offer_ms */
    CHECK_STR(u.gateway_id, GATEWAY_A);
    wire_client_ack(&other, &id, 1);
    CHECK_INT(usages_before_pong(&other), 0);
    CHECK(strstr(table_line(&r, &id), "\"state\":\"acked\""));
    wire_client_open(&c, r.address, GATEWAY_A);
    CHECK_INT(usages_before_pong(&c), 0);
    CHECK_INT(usages_before_pong(&c), 0); /* a turn later, too */
    wire_client_close(&c);
    wire_client_close(&other);
    rig_kill(&r);
    heard_done(&h);
    rig_done(&r);
}

static void test_lost_link(struct rig *r)
{
    struct wire_client c, other;
    struct heard h;
    struct uuid id = new_id();
    wire_client_open(&other, r->address, GATEWAY_A); /* another loop of the same gateway */
    wire_client_open(&c, r->address, GATEWAY_A);
    start_long(&c, 1, &id, &h);
    wire_client_close(&c);
    struct usage_record u = {.attempt = 0};
    CHECK(hear_usage(&other, &id, &u));
    CHECK_INT(u.outcome, WIRE__OUTCOME__OUTCOME_LINK_LOST);
    CHECK(u.counts.completion >= h.counts.completion);
    Wire__Pong pong = WIRE__PONG__INIT;
    do /* the engine may need a step to hear of it */
        hear_until_pong(&other, &h, &pong);
    while (pong.running_sequences > 0);
    wire_client_ack(&other, &id, 1);
    wire_client_close(&other);
    heard_done(&h);
}

static void expect_close(struct wire_client *c, Wire__ErrorCode code, const char *words)
{
    struct wire_frame f;
    struct heard h = {.reason = -1, .error = -1};
    CHECK(wire_client_wait(c, WIRE__FRAME_TYPE__ERROR, &f));
    CHECK_INT(f.stream, 0);
    heard_frame(&h, &f);
    CHECK_INT(h.error, code);
    if (!strstr(h.message, words))
        fprintf(stderr, "\"%s\" is not in \"%s\"\n", words, h.message);
    CHECK(strstr(h.message, words) != NULL);
    CHECK_INT(wire_client_next(c, &f, 10000), CLOSED);
    wire_client_close(c);
}

static void test_versions(struct rig *r)
{
    struct wire_client c;
    struct wire_frame f;
    wire_client_connect(&c, r->address);
    wire_client_hello(&c, GATEWAY_A, 9, 8);
    expect_close(&c, WIRE__ERROR_CODE__ERROR_VERSION, "1 to 1, the gateway 8 to 9");
    wire_client_connect(&c, r->address);
    wire_client_hello(&c, GATEWAY_A, 3, 1); /* two later, and still speaks ours */
    CHECK(wire_client_wait(&c, WIRE__FRAME_TYPE__HELLO, &f));
    Wire__Hello *m = wire_unpack(hello, &f);
    CHECK_FATAL(m);
    struct error err;
    CHECK_INT(wire_check_hello(m, &err), OK);
    CHECK_STR(m->node_id, WORKER_ID);
    CHECK_INT(m->n_models, 1);
    CHECK_STR(m->models[0]->name, "tollgate-demo");
    wire__hello__free_unpacked(m, NULL);
    CHECK_INT(usages_before_pong(&c), 0);
    wire_client_close(&c);
    wire_client_connect(&c, r->address);
    wire_client_hello(&c, "not a uuid", 1, 1);
    expect_close(&c, WIRE__ERROR_CODE__ERROR_PROTOCOL, "node_id");
}

static void send_raw(struct rig *r, const void *bytes, size_t len, const char *words)
{
    struct wire_client c;
    wire_client_open(&c, r->address, GATEWAY_A);
    wire_client_send_bytes(&c, bytes, len);
    expect_close(&c, WIRE__ERROR_CODE__ERROR_PROTOCOL, words);
}

static void test_garbage(struct rig *r)
{
    struct wire_client c;
    static const char http[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    wire_client_connect(&c, r->address);
    wire_client_send_bytes(&c, http, sizeof http - 1);
    expect_close(&c, WIRE__ERROR_CODE__ERROR_PROTOCOL, "longer than");
    wire_client_connect(&c, r->address);
    wire_client_send(&c, WIRE__FRAME_TYPE__CANCEL, 1, NULL);
    expect_close(&c, WIRE__ERROR_CODE__ERROR_PROTOCOL, "first frame");

    send_raw(r, "\x01\x00\x00\x01\x02\x00\x00\x00\x01\x00\x00\x00", 12, "longer than 16777216");
    send_raw(r, "\x00\x00\x00\x00\x08\x00\x01\x00\x00\x00\x00\x00", 12, "reserved");
    send_raw(r, "\x01\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\xff", 13, "malformed REQUEST");
    send_raw(r, "\x01\x00\x00\x00\x07\x00\x00\x00\x01\x00\x00\x00\xff", 13, "malformed CREDIT");
    send_raw(r, "\x01\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\xff", 13, "malformed PING");
    send_raw(r, "\x01\x00\x00\x00\x0c\x00\x00\x00\x00\x00\x00\x00\xff", 13, "malformed USAGE_ACK");
    send_raw(r, "\x02\x00\x00\x00\x0c\x00\x00\x00\x00\x00\x00\x00\x0a\x00", 14, "request_id");
    send_raw(r, "\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00", 12, "stream 0");
    send_raw(r, "\x00\x00\x00\x00\x0b\x00\x00\x00\x00\x00\x00\x00", 12, "USAGE does not belong");

    /* A stream id twice: the link goes, and what ran on it is not run on. */
    struct uuid id = new_id();
    struct heard h;
    wire_client_open(&c, r->address, GATEWAY_A);
    start_long(&c, 7, &id, &h);
    struct wire_client_request q = {.id = new_id(), .stream = 7};
    wire_client_request(&c, &q);
    expect_close(&c, WIRE__ERROR_CODE__ERROR_PROTOCOL, "in use");
    CHECK(strstr(table_line(r, &id), "\"outcome\":\"link_lost\""));
    CHECK_STR(table_line(r, &q.id), "");
    wire_client_open(&c, r->address, GATEWAY_A);
    wire_client_ack(&c, &id, 1);
    CHECK(usages_before_pong(&c) <= 2);
    wire_client_close(&c);
    heard_done(&h);
}

/* A reader that stops does not stop the others, nor fill the worker's memory; when it reads on,
 * nothing is missing. */
static void test_slow_reader(struct rig *r)
{
    enum { TOKENS = 600000 };
    struct wire_client slow, quick;
    struct heard h;
    wire_client_open(&slow, r->address, GATEWAY_A);
    struct wire_client_request q = {
        .id = new_id(), .stream = 1, .max_tokens = TOKENS, .credit = UINT64_MAX};
    wire_client_request(&slow, &q);
    wire_client_open(&quick, r->address, GATEWAY_A);
    for (uint32_t i = 1; i <= 20; i++) {
        struct wire_client_request one = {.id = new_id(), .stream = i, .credit = 1 << 20};
        wire_client_request(&quick, &one);
        hear_stream(&quick, i, &h);
        CHECK_INT(h.reason, WIRE__FINISH_REASON__STOP);
        heard_done(&h);
        wire_client_ack(&quick, &one.id, 1);
    }
    hear_stream(&slow, 1, &h);
    CHECK_INT(h.reason, WIRE__FINISH_REASON__LENGTH);
    CHECK_INT(h.counts.completion, TOKENS);
    CHECK_INT(h.len, TOKENS / 9 * 45 + 31); /* and six words more */
    heard_done(&h);
    wire_client_ack(&slow, &q.id, 1);
    hear_until_pong(&slow, &h, NULL);
    wire_client_close(&slow);
    wire_client_close(&quick);
}

static void test_deaf_reader(void)
{
    struct rig r;
    rig_init(&r, false);
    r.options.stall_ms = 300;
    rig_start(&r);
    struct wire_client deaf, c;
    wire_client_open(&deaf, r.address, GATEWAY_A);
    struct wire_client_request q = {
        .id = new_id(), .stream = 1, .max_tokens = 1000000, .credit = UINT64_MAX};
    wire_client_request(&deaf, &q);
    wire_client_open(&c, r.address, GATEWAY_B);
    while (!strstr(table_line(&r, &q.id), "\"outcome\":\"link_lost\""))
        usleep(10000);
    struct heard h = {.reason = -1, .error = -1};
    hear_until_pong(&c, &h, NULL); /* the other is served all along */
    wire_client_close(&deaf);
    wire_client_close(&c);
    rig_stop(&r);
    rig_done(&r);
}

/* Control frames count as output too: a flood of PING from a gateway that reads nothing. */
static void test_flood(void)
{
    struct rig r;
    rig_init(&r, false);
    r.options.link_output_bytes = 64 << 10;
    rig_start(&r);
    struct wire_client c;
    wire_client_open(&c, r.address, GATEWAY_A);
    struct buf flood;
    buf_init(&flood, 1 << 24);
    Wire__Ping ping = WIRE__PING__INIT;
    ping.nonce = UINT64_MAX;
    for (int i = 0; i < 40000; i++)
        CHECK_INT(wire_put(&flood, WIRE__FRAME_TYPE__PING, 0, &ping.base), OK);
    wire_client_send_bytes(&c, buf_head(&flood), buf_len(&flood));
    struct wire_frame f;
    int pongs = 0;
    while (wire_client_next(&c, &f, 10000) == OK)
        pongs++;
    CHECK(pongs < 40000);
    buf_done(&flood);
    wire_client_close(&c);
    rig_stop(&r);
    rig_done(&r);
}

static void test_silent(void)
{
    struct rig r;
    rig_init(&r, false);
    r.options.hello_ms = 100;
    r.options.links_max = 2;
    rig_start(&r);
    struct wire_client a, b, c;
    wire_client_connect(&a, r.address);
    wire_client_connect(&b, r.address);
    wire_client_connect(&c, r.address);
    struct wire_frame f;
    CHECK_INT(wire_client_next(&c, &f, 10000), CLOSED); /* one too many */
    wire_client_close(&c);
    expect_close(&a, WIRE__ERROR_CODE__ERROR_PROTOCOL, "in time");
    expect_close(&b, WIRE__ERROR_CODE__ERROR_PROTOCOL, "in time");
    /* There is room again, as soon as the worker has seen that the others have hung up. */
    enum status st = CLOSED;
    for (int i = 0; i < 1000 && st != OK; i++) {
        wire_client_connect(&a, r.address);
        st = wire_client_next(&a, &f, 10000);
        wire_client_close(&a);
    }
    CHECK_INT(st, OK);
    rig_stop(&r);
    rig_done(&r);
}

int main(void)
{
    for (int threaded = 0; threaded < 2; threaded++) {
        test_kill_worker(threaded);
        struct rig r;
        rig_init(&r, threaded);
        rig_start(&r);
        test_versions(&r);
        test_garbage(&r);
        test_lost_link(&r);
        if (!threaded) /* its engine thread sleeps in each step: too slow for that many */
            test_slow_reader(&r);
        rig_stop(&r);
        rig_done(&r);
    }
    test_deaf_reader();
    test_flood();
    test_silent();
    return check_done();
}
