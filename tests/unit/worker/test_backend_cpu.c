/* runs: thread */
/* The demo model behind the server: answers, limits, cancels, many at once. */
#include "tests/unit/worker/demo_rig.h"

static void test_answer(struct rig *r, struct wire_client *c)
{
    struct wire_client_request q = demo_ask(1, "What is 12 + 30?", 60);
    struct heard h;
    wire_client_request(c, &q);
    hear_stream(c, 1, &h);
    CHECK_INT(h.reason, WIRE__FINISH_REASON__STOP);
    CHECK_STR(h.text, "12 + 30 = 42");
    CHECK(h.counts.prompt > 3 && h.counts.completion > 3);
    CHECK_INT(h.counts.reasoning, 0);
    CHECK_INT(h.reasoning_len, 0);
    struct usage_record u = {.attempt = 0};
    CHECK(hear_usage(c, &q.id, &u));
    CHECK_INT(u.counts.prompt, h.counts.prompt);
    CHECK_INT(u.counts.completion, h.counts.completion);
    wire_client_ack(c, &q.id, 1);
    heard_done(&h);
    q = demo_ask(2, "What is 12 + 30?", 200);
    q.thinking = true;
    wire_client_request(c, &q);
    hear_stream(c, 2, &h);
    CHECK_STR(h.text, "12 + 30 = 42");
    CHECK(h.reasoning_len > 5 && h.counts.reasoning > 5);
    CHECK(h.counts.reasoning < h.counts.completion);
    heard_done(&h);
    q = demo_ask(3, "What is 12 + 30?", 3);
    wire_client_request(c, &q);
    hear_stream(c, 3, &h);
    CHECK_INT(h.reason, WIRE__FINISH_REASON__LENGTH);
    CHECK_INT(h.counts.completion, 3);
    heard_done(&h);
}

static void test_refusals(struct rig *r, struct wire_client *c)
{
    static char large[40000];
    memset(large, 'x', sizeof large - 1);
    struct heard h;
    struct wire_client_request q = demo_ask(1, large, 5);
    wire_client_request(c, &q);
    hear_stream(c, 1, &h);
    CHECK_INT(h.error, WIRE__ERROR_CODE__ERROR_CONTEXT_LENGTH);
    CHECK(strstr(h.message, "maximum context length is 2048 tokens"));
    q = demo_ask(2, "Hello!", 2047);
    wire_client_request(c, &q);
    hear_stream(c, 2, &h);
    CHECK_INT(h.error, WIRE__ERROR_CODE__ERROR_CONTEXT_LENGTH);
    CHECK(strstr(h.message, "2047 in the completion"));
    CHECK(strstr(table_line(r, &q.id), "\"prompt\":0"));
    Wire__Request m = WIRE__REQUEST__INIT; /* no messages */
    struct uuid id = uuid_v7(clock_wall_ms());
    m.request_id = (ProtobufCBinaryData){16, id.bytes};
    m.attempt = 1;
    m.model = (char *)"tollgate-demo";
    wire_client_send(c, WIRE__FRAME_TYPE__REQUEST, 3, &m.base);
    hear_stream(c, 3, &h);
    CHECK_INT(h.error, WIRE__ERROR_CODE__ERROR_INVALID);
}

/* Four answers to one prompt, each with its own draws, repeatable; what greedy choices make is
 * the same. The log probabilities are of the content's tokens. */
static void test_choices(struct wire_client *c)
{
    Wire__Request with = WIRE__REQUEST__INIT;
    Wire__Sampling sampling = WIRE__SAMPLING__INIT;
    with.choices = 4;
    with.sampling = &sampling;
    sampling.top_p = 1;
    sampling.has_seed = true;
    sampling.seed = 5;
    sampling.logprobs = true;
    sampling.top_logprobs = 3;
    struct heard h[3];
    for (int i = 0; i < 3; i++) {
        struct wire_client_request q = demo_ask(1, "What is 12 + 30?", 60);
        q.with = &with;
        sampling.temperature = i == 0 ? 0 : 1.5f;
        wire_client_request(c, &q);
        hear_stream(c, 1, &h[i]);
        CHECK_INT(h[i].error, -1);
        for (int k = 0; k < 4; k++)
            CHECK(h[i].choices[k].finish == WIRE__FINISH_REASON__STOP ||
                  h[i].choices[k].finish == WIRE__FINISH_REASON__LENGTH);
    }
    int other = 0;
    for (int k = 0; k < 4; k++) {
        CHECK_STR(h[0].choices[k].text, "12 + 30 = 42");
        CHECK_STR(h[1].choices[k].text, h[2].choices[k].text);
        other += strcmp(h[1].choices[k].text, h[1].choices[0].text) != 0;
        CHECK(h[0].choices[k].logprobs > 3);
    }
    CHECK(other > 0);
    CHECK_INT(h[0].choices[0].logprobs * 4 + 4, h[0].counts.completion); /* all but the ends */
    for (int i = 0; i < 3; i++)
        heard_done(&h[i]);
}

/* More than run at once; the answers are those of each alone. */
static void test_many(struct wire_client *c)
{
    enum { STREAMS = 24 };
    struct heard h[STREAMS + 1];
    char question[64], answer[64];
    for (uint32_t i = 1; i <= STREAMS; i++) {
        h[i] = (struct heard){.reason = -1, .error = -1};
        snprintf(question, sizeof question, "What is %u + 30?", i);
        struct wire_client_request q = demo_ask(i, question, 40);
        q.credit = i % 2 ? 1 << 20 : 2; /* every other one is paused again and again */
        wire_client_request(c, &q);
    }
    struct wire_frame f;
    for (int open = STREAMS; open > 0;) {
        CHECK_FATAL(wire_client_next(c, &f, 60000) == OK);
        if (f.stream == 0)
            continue;
        heard_frame(&h[f.stream], &f);
        if (f.type == WIRE__FRAME_TYPE__TOKENS && f.stream % 2 == 0)
            wire_client_credit(c, f.stream, 3);
        open -= f.type == WIRE__FRAME_TYPE__FINISH || f.type == WIRE__FRAME_TYPE__ERROR;
    }
    int right = 0;
    for (uint32_t i = 1; i <= STREAMS; i++) {
        snprintf(answer, sizeof answer, "%u + 30 = %u", i, i + 30);
        CHECK_INT(h[i].reason, WIRE__FINISH_REASON__STOP);
        right += h[i].text && strcmp(h[i].text, answer) == 0;
        heard_done(&h[i]);
    }
    CHECK(right >= STREAMS * 3 / 4); /* a small model: now and then it is wrong */
}

static void test_cancel(struct wire_client *c)
{
    enum { STREAMS = 20 }; /* four of them wait */
    struct heard h[STREAMS + 1];
    for (uint32_t i = 1; i <= STREAMS; i++) {
        struct wire_client_request q = demo_ask(i, "Count from 1 to 100.", 1000);
        q.credit = 20;
        wire_client_request(c, &q);
        h[i] = (struct heard){.reason = -1, .error = -1};
    }
    struct wire_frame f;
    CHECK(wire_client_wait(c, WIRE__FRAME_TYPE__TOKENS, &f));
    for (uint32_t i = 1; i <= STREAMS; i++)
        wire_client_send(c, WIRE__FRAME_TYPE__CANCEL, i, NULL);
    for (int open = STREAMS; open > 0;) {
        CHECK_FATAL(wire_client_next(c, &f, 60000) == OK);
        if (f.stream == 0)
            continue;
        heard_frame(&h[f.stream], &f);
        open -= f.type == WIRE__FRAME_TYPE__FINISH;
    }
    for (uint32_t i = 1; i <= STREAMS; i++) {
        CHECK(h[i].reason == WIRE__FINISH_REASON__CANCELLED ||
              h[i].reason == WIRE__FINISH_REASON__STOP);
        heard_done(&h[i]);
    }
    Wire__Pong pong;
    struct heard none = {.reason = -1, .error = -1};
    do
        hear_until_pong(c, &none, &pong);
    while (pong.running_sequences + pong.waiting_sequences > 0);
    CHECK_INT(pong.outstanding_tokens, 0);
}

/* What has not begun by its deadline is refused as if there were no room: nothing was done. That
 * is so when all that runs has long been waiting for credit (`idle`), and nobody asks anything. */
static void test_deadline(struct wire_client *c, bool idle)
{
    enum { BUSY = 16 };
    struct wire_frame f;
    int open = BUSY + 1;
    for (uint32_t i = 1; i <= BUSY; i++) {
        struct wire_client_request q = demo_ask(i, "Count from 1 to 100.", 500);
        q.credit = 1; /* they stay until they are cancelled */
        wire_client_request(c, &q);
    }
    for (int begun = 0; idle && begun < BUSY;) {
        CHECK_FATAL(wire_client_next(c, &f, 60000) == OK);
        begun += f.type == WIRE__FRAME_TYPE__TOKENS;
    }
    Wire__Request with = WIRE__REQUEST__INIT;
    with.deadline_ms = idle ? 200 : 1;
    struct wire_client_request late = demo_ask(BUSY + 1, "Hello!", 5);
    late.with = &with;
    wire_client_request(c, &late);
    struct heard h = {.reason = -1, .error = -1};
    while (open > 0) {
        CHECK_FATAL(wire_client_next(c, &f, 60000) == OK);
        if (f.stream == BUSY + 1) {
            heard_frame(&h, &f);
            CHECK_INT(f.type, WIRE__FRAME_TYPE__ERROR);
            for (uint32_t i = 1; i <= BUSY; i++)
                wire_client_send(c, WIRE__FRAME_TYPE__CANCEL, i, NULL);
        }
        open -=
            f.stream && (f.type == WIRE__FRAME_TYPE__FINISH || f.type == WIRE__FRAME_TYPE__ERROR);
    }
    CHECK_INT(h.error, WIRE__ERROR_CODE__ERROR_OVERLOADED);
    CHECK(strstr(h.message, "deadline"));
}

static void test_bad_folder(void)
{
    struct error err = {""};
    struct sink sink = {0};
    CHECK(demo_load("/nonexistent", &sink, &err) == NULL);
    CHECK(strstr(err.text, "/nonexistent"));
}

int main(void)
{
    struct rig r;
    struct wire_client c;
    demo_start(&r, &c);
    test_answer(&r, &c);
    test_refusals(&r, &c);
    test_choices(&c);
    test_many(&c);
    test_cancel(&c);
    test_deadline(&c, false);
    test_deadline(&c, true);
    demo_stop(&r, &c);
    test_bad_folder();
    return check_done();
}
