/* runs: thread */
/* The server end to end with the echo backend, on the loop's thread and on one of its own. */
#include "tests/unit/worker/rig.h"

static struct uuid new_id(void)
{
    return uuid_v7(clock_wall_ms());
}

static void test_stream(struct rig *r)
{
    struct wire_client c;
    wire_client_open(&c, r->address, GATEWAY_A);
    struct wire_client_request q = {.id = new_id(),
                                    .stream = 1,
                                    .max_tokens = 40,
                                    .credit = 1 << 20,
                                    .thinking = true,
                                    .billing = "context"};
    wire_client_request(&c, &q);
    struct heard h;
    hear_stream(&c, 1, &h);
    CHECK_INT(h.reason, WIRE__FINISH_REASON__LENGTH);
    CHECK_INT(h.counts.completion, 40);
    CHECK_INT(h.counts.reasoning, 20);
    CHECK_INT(h.counts.prompt, 2);
    CHECK_INT(h.frames, 3); /* 16 tokens a step */
    CHECK(h.text && strncmp(h.text, "brown fox ", 10) == 0);
    struct usage_record u;
    CHECK(hear_usage(&c, &q.id, &u));
    CHECK_INT(u.outcome, WIRE__OUTCOME__OUTCOME_FINISHED);
    CHECK_INT(u.counts.completion, 40);
    CHECK_INT(u.counts.prompt, 2);
    CHECK_STR(u.gateway_id, GATEWAY_A);
    CHECK(u.billing_len == 7 && memcmp(u.billing, "context", 7) == 0);
    CHECK(strstr(table_line(r, &q.id), "\"state\":\"final\""));
    CHECK(hear_usage(&c, &q.id, &u)); /* again, until it is acknowledged */
    wire_client_ack(&c, &q.id, 1);
    hear_until_pong(&c, &h, NULL);
    CHECK(strstr(table_line(r, &q.id), "\"state\":\"acked\""));
    wire_client_ack(&c, &q.id, 1); /* twice is fine; so is what it never heard of */
    struct uuid other = new_id();
    wire_client_ack(&c, &other, 1);
    hear_until_pong(&c, &h, NULL);
    heard_done(&h);

    q = (struct wire_client_request){.id = new_id(), .stream = 1, .credit = 1 << 20};
    wire_client_request(&c, &q); /* the stream id is free again; no max_tokens */
    hear_stream(&c, 1, &h);
    CHECK_INT(h.reason, WIRE__FINISH_REASON__STOP);
    CHECK_INT(h.counts.completion, 16);
    CHECK_INT(h.counts.reasoning, 0);
    heard_done(&h);
    wire_client_close(&c);
}

static void test_credit(struct rig *r)
{
    struct wire_client c;
    wire_client_open(&c, r->address, GATEWAY_A);
    struct wire_client_request q = {.id = new_id(), .stream = 3, .max_tokens = 2000, .credit = 10};
    wire_client_request(&c, &q);
    struct heard h = {.reason = -1, .error = -1};
    struct wire_frame f;
    CHECK(wire_client_wait(&c, WIRE__FRAME_TYPE__TOKENS, &f));
    heard_frame(&h, &f);
    Wire__Pong pong;
    for (int i = 0; i < 20; i++)
        hear_until_pong(&c, &h, &pong);
    CHECK_INT(h.frames, 1); /* one frame may overdraw; then it waits */
    CHECK_INT(h.reason, -1);
    CHECK_INT(pong.running_sequences, 1);
    CHECK(pong.outstanding_tokens > 1000);
    while (h.reason < 0) {
        int frames = h.frames;
        wire_client_credit(&c, 3, 300);
        while (h.frames == frames && h.reason < 0) {
            CHECK_FATAL(wire_client_next(&c, &f, 10000) == OK);
            if (f.stream == 3)
                heard_frame(&h, &f);
        }
    }
    CHECK_INT(h.reason, WIRE__FINISH_REASON__LENGTH);
    CHECK_INT(h.counts.completion, 2000);
    CHECK_INT(h.len, 2000 / 9 * 45 + 10); /* nothing lost: 222 rounds and "The quick " */
    wire_client_credit(&c, 3, 300);       /* it has ended: ignored */
    hear_until_pong(&c, &h, NULL);
    heard_done(&h);
    wire_client_close(&c);
}

static void test_cancel(struct rig *r)
{
    struct wire_client c;
    wire_client_open(&c, r->address, GATEWAY_A);
    struct heard h = {.reason = -1, .error = -1};
    struct wire_client_request q = {
        .id = new_id(), .stream = 5, .max_tokens = 1000000, .credit = 1000};
    wire_client_request(&c, &q);
    struct wire_frame f;
    CHECK(wire_client_wait(&c, WIRE__FRAME_TYPE__TOKENS, &f));
    heard_frame(&h, &f);
    wire_client_send(&c, WIRE__FRAME_TYPE__CANCEL, 5, NULL);
    wire_client_send(&c, WIRE__FRAME_TYPE__CANCEL, 5, NULL);
    while (h.reason < 0 && wire_client_next(&c, &f, 10000) == OK)
        if (f.stream == 5)
            heard_frame(&h, &f);
    CHECK_INT(h.reason, WIRE__FINISH_REASON__CANCELLED);
    CHECK(h.counts.completion > 0 && h.counts.completion < 1000000);
    struct usage_record u;
    CHECK(hear_usage(&c, &q.id, &u));
    CHECK_INT(u.outcome, WIRE__OUTCOME__OUTCOME_CANCELLED);
    CHECK_INT(u.counts.completion, h.counts.completion);
    heard_done(&h);

    /* A request whose FINISH waits behind text without credit. */
    q = (struct wire_client_request){.id = new_id(), .stream = 6, .max_tokens = 16};
    wire_client_request(&c, &q);
    do
        hear_until_pong(&c, &h, NULL);
    while (!strstr(table_line(r, &q.id), "\"completion\":16"));
    CHECK_INT(h.frames, 0);
    CHECK_INT(h.reason, -1);
    wire_client_send(&c, WIRE__FRAME_TYPE__CANCEL, 6, NULL);
    hear_stream(&c, 6, &h);
    CHECK_INT(h.reason, WIRE__FINISH_REASON__CANCELLED);
    CHECK_INT(h.counts.completion, 16);
    CHECK_INT(h.frames, 0);
    wire_client_send(&c, WIRE__FRAME_TYPE__CANCEL, 77, NULL); /* nothing of that number */
    hear_until_pong(&c, &h, NULL);
    heard_done(&h);
    wire_client_close(&c);
}

static void test_many_streams(struct rig *r)
{
    enum { STREAMS = 64 };
    struct wire_client c;
    struct heard h[STREAMS + 1];
    wire_client_open(&c, r->address, GATEWAY_A);
    for (uint32_t i = 1; i <= STREAMS; i++) {
        h[i] = (struct heard){.reason = -1, .error = -1};
        struct wire_client_request q = {
            .id = new_id(), .stream = i, .max_tokens = 100 + i, .credit = 50};
        wire_client_request(&c, &q);
    }
    struct wire_frame f;
    int open = STREAMS;
    while (open > 0) {
        enum status st = wire_client_next(&c, &f, 10000);
        CHECK_FATAL(st == OK);
        if (f.stream == 0 || f.stream > STREAMS)
            continue;
        heard_frame(&h[f.stream], &f);
        if (h[f.stream].reason >= 0)
            open--;
        else
            wire_client_credit(&c, f.stream, 1000); /* more than a frame can overdraw */
    }
    for (uint32_t i = 1; i <= STREAMS; i++) {
        CHECK_INT(h[i].counts.completion, 100 + i);
        CHECK_INT(h[i].error, -1);
        heard_done(&h[i]);
    }
    wire_client_close(&c);
}

static void test_refusals(struct rig *r)
{
    struct wire_client c;
    struct heard h;
    wire_client_open(&c, r->address, GATEWAY_A);
    struct wire_client_request q = {
        .id = new_id(), .stream = 1, .credit = 1 << 20, .model = "other"};
    wire_client_request(&c, &q);
    hear_stream(&c, 1, &h);
    CHECK_INT(h.error, WIRE__ERROR_CODE__ERROR_MODEL_NOT_FOUND);
    CHECK_STR(table_line(r, &q.id), ""); /* nothing was done */
    q.model = NULL;
    q.stream = 2;
    wire_client_request(&c, &q);
    hear_stream(&c, 2, &h);
    CHECK_INT(h.reason, WIRE__FINISH_REASON__STOP);
    heard_done(&h);
    q.stream = 3; /* the same attempt again: never run twice */
    wire_client_request(&c, &q);
    hear_stream(&c, 3, &h);
    CHECK_INT(h.error, WIRE__ERROR_CODE__ERROR_INVALID);
    q.stream = 4;
    q.attempt = 2;
    wire_client_request(&c, &q);
    hear_stream(&c, 4, &h);
    CHECK_INT(h.reason, WIRE__FINISH_REASON__STOP);
    heard_done(&h);
    /* A frame of a later version is skipped. */
    wire_client_send(&c, (Wire__FrameType)200, 9, NULL);
    hear_until_pong(&c, &h, NULL);
    wire_client_close(&c);
}

/* Every slot waits for an acknowledgement: no room, until one comes. */
static void test_full_table(bool threaded)
{
    struct rig r;
    rig_init(&r, threaded);
    r.slots = 4;
    rig_start(&r);
    struct wire_client c;
    struct heard h;
    wire_client_open(&c, r.address, GATEWAY_A);
    struct uuid first = new_id();
    for (uint32_t i = 1; i <= 5; i++) {
        struct wire_client_request q = {
            .id = i == 1 ? first : new_id(), .stream = i, .credit = 1 << 20};
        wire_client_request(&c, &q);
        hear_stream(&c, i, &h);
        CHECK_INT(h.error, i < 5 ? -1 : (int)WIRE__ERROR_CODE__ERROR_OVERLOADED);
        heard_done(&h);
    }
    wire_client_ack(&c, &first, 1);
    struct wire_client_request q = {.id = new_id(), .stream = 6, .credit = 1 << 20};
    wire_client_request(&c, &q);
    hear_stream(&c, 6, &h);
    CHECK_INT(h.error, -1);
    CHECK_STR(table_line(&r, &first), ""); /* its slot was the one to be reused */
    heard_done(&h);
    wire_client_close(&c);
    rig_stop(&r);
    rig_done(&r);
}

static void test_drain(bool threaded)
{
    struct rig r;
    rig_init(&r, threaded);
    rig_start(&r);
    struct wire_client c;
    struct heard h = {.reason = -1, .error = -1};
    wire_client_open(&c, r.address, GATEWAY_A);
    struct wire_client_request q = {.id = new_id(), .stream = 1, .max_tokens = 500, .credit = 10};
    wire_client_request(&c, &q);
    hear_until_pong(&c, &h, NULL);
    rig_drain(&r);
    struct wire_frame f;
    CHECK(wire_client_wait(&c, WIRE__FRAME_TYPE__DRAIN, &f));
    struct wire_client_request late = {.id = new_id(), .stream = 2, .credit = 10};
    wire_client_request(&c, &late);
    struct heard refused;
    hear_stream(&c, 2, &refused);
    CHECK_INT(refused.error, WIRE__ERROR_CODE__ERROR_DRAINING);
    wire_client_credit(&c, 1, 1 << 20);
    heard_done(&h); /* text may have come before the pong */
    hear_stream(&c, 1, &h);
    CHECK_INT(h.reason, WIRE__FINISH_REASON__LENGTH);
    CHECK_INT(h.counts.completion, 500);
    struct usage_record u;
    CHECK(hear_usage(&c, &q.id, &u));
    wire_client_ack(&c, &q.id, 1);
    rig_join(&r); /* all done: it ends */
    CHECK_INT(wire_client_next(&c, &f, 10000), CLOSED);
    heard_done(&h);
    wire_client_close(&c);

    /* One that does not finish in time. */
    r.options.drain_ms = 100;
    rig_start(&r);
    wire_client_open(&c, r.address, GATEWAY_A);
    q = (struct wire_client_request){.id = new_id(), .stream = 1, .max_tokens = 500, .credit = 10};
    wire_client_request(&c, &q);
    hear_until_pong(&c, &h, NULL);
    heard_done(&h);
    rig_drain(&r);
    hear_stream(&c, 1, &h);
    CHECK_INT(h.error, WIRE__ERROR_CODE__ERROR_INTERNAL);
    heard_done(&h);
    rig_join(&r);
    CHECK(strstr(table_line(&r, &q.id), "\"outcome\":\"failed\",\"state\":\"final\""));
    wire_client_close(&c);
    rig_done(&r);
}

static void test_tcp(void)
{
    struct rig r;
    rig_init(&r, true);
    snprintf(r.address, sizeof r.address, "127.0.0.1:0");
    rig_start(&r);
    snprintf(r.address, sizeof r.address, "127.0.0.1:%d", server_port(r.server));
    struct wire_client c;
    struct heard h;
    wire_client_open(&c, r.address, GATEWAY_A);
    struct wire_client_request q = {.id = new_id(), .stream = 1, .credit = 1 << 20};
    wire_client_request(&c, &q);
    hear_stream(&c, 1, &h);
    CHECK_INT(h.reason, WIRE__FINISH_REASON__STOP);
    heard_done(&h);
    wire_client_close(&c);
    rig_stop(&r);
    rig_done(&r);
}

/* Choices are told apart, also by a stream that waits for credit, and each says how it ended. */
static void test_choices(struct rig *r)
{
    struct wire_client c;
    wire_client_open(&c, r->address, GATEWAY_A);
    Wire__Request with = WIRE__REQUEST__INIT;
    with.choices = 3;
    for (int slow = 0; slow < 2; slow++) {
        struct wire_client_request q = {.id = new_id(),
                                        .stream = 1,
                                        .max_tokens = 50,
                                        .credit = slow ? 1 : 1 << 20,
                                        .thinking = true,
                                        .with = &with};
        struct heard h = {.reason = -1, .error = -1};
        struct wire_frame f;
        wire_client_request(&c, &q);
        while (h.reason < 0 && wire_client_next(&c, &f, 10000) == OK) {
            if (f.stream != 1)
                continue;
            heard_frame(&h, &f);
            if (slow && f.type == WIRE__FRAME_TYPE__TOKENS)
                wire_client_credit(&c, 1, 400);
        }
        CHECK_INT(h.reason, WIRE__FINISH_REASON__LENGTH);
        CHECK_INT(h.counts.completion, 150);
        CHECK_INT(h.counts.reasoning, 75);
        for (int i = 0; i < 3; i++) {
            CHECK_INT(h.choices[i].finish, WIRE__FINISH_REASON__LENGTH);
            CHECK(strncmp(h.choices[i].text, "lazy dog. The ", 14) == 0);
            CHECK_STR(h.choices[i].text, h.choices[0].text);
        }
        heard_done(&h);
    }
    wire_client_close(&c);
}

static void test_tool_call(struct rig *r)
{
    struct wire_client c;
    wire_client_open(&c, r->address, GATEWAY_A);
    Wire__Tool tool = WIRE__TOOL__INIT, *tools[] = {&tool};
    Wire__ToolChoice choice = WIRE__TOOL_CHOICE__INIT;
    Wire__Request with = WIRE__REQUEST__INIT;
    tool.name = (char *)"get_weather";
    choice.kind = WIRE__TOOL_CHOICE__KIND__REQUIRED;
    with.tools = tools;
    with.n_tools = 1;
    with.tool_choice = &choice;
    struct wire_client_request q = {.id = new_id(), .stream = 1, .credit = 100, .with = &with};
    struct heard h;
    wire_client_request(&c, &q);
    hear_stream(&c, 1, &h);
    CHECK_INT(h.reason, WIRE__FINISH_REASON__TOOL_CALLS);
    CHECK_INT(h.choices[0].finish, WIRE__FINISH_REASON__TOOL_CALLS);
    CHECK_STR(h.choices[0].calls, "get_weather {}");
    CHECK_INT(h.len, 0);
    heard_done(&h);
    with.n_tools = 0; /* required, but there is none */
    q.id = new_id();
    wire_client_request(&c, &q);
    hear_stream(&c, 1, &h);
    CHECK_INT(h.error, WIRE__ERROR_CODE__ERROR_INVALID);
    CHECK(strstr(h.message, "tool_choice needs tools"));
    heard_done(&h);
    wire_client_close(&c);
}

int main(void)
{
    for (int threaded = 0; threaded < 2; threaded++) {
        struct rig r;
        rig_init(&r, threaded);
        rig_start(&r);
        test_stream(&r);
        test_credit(&r);
        test_cancel(&r);
        test_many_streams(&r);
        test_refusals(&r);
        test_choices(&r);
        test_tool_call(&r);
        rig_stop(&r);
        rig_done(&r);
        test_full_table(threaded);
        test_drain(threaded);
    }
    test_tcp();
    return check_done();
}
