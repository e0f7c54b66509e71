/* runs: thread */
/* Schemas that the worker has not seen, through the server: many at once, cancelled while they are
 * compiled, refused before anything is counted, and a drain meanwhile. */
#include "base/json.h"
#include "tests/unit/worker/rig.h"
#include "tests/unit/worker/text_fixture.h"

static const char *model_dir;

static struct backend *make(const struct sink *sink, struct error *err)
{
    struct cpu_options o = {.model_dir = model_dir,
                            .model_name = "tollgate-demo",
                            .threads = 2,
                            .sequences_max = 16,
                            .kv_bytes = 64 << 20,
                            .step_tokens = 128,
                            .default_output_tokens = 100};
    return backend_cpu_new(&o, sink, err);
}

static uint64_t serial; /* no schema comes twice */

/* Takes some milliseconds to compile; a few letters satisfy it. */
static void ask(struct wire_client *c, uint32_t stream, bool wrong, struct uuid *id)
{
    char schema[256];
    Wire__Request m = WIRE__REQUEST__INIT;
    Wire__Format format = WIRE__FORMAT__INIT;
    snprintf(schema, sizeof schema,
             "{\"type\": \"object\", \"properties\": {\"n%llu\": {\"pattern\": "
             "\"^[ab]{1,9}a[ab]{8}$\"}}, \"required\": [\"n%llu\"]%s}",
             (unsigned long long)serial, (unsigned long long)serial, wrong ? ", \"not\": {}" : "");
    serial++;
    format.kind = WIRE__FORMAT__KIND__JSON_SCHEMA;
    format.schema = schema;
    m.format = &format;
    struct wire_client_request q = {.id = uuid_v7(clock_wall_ms()),
                                    .stream = stream,
                                    .text = "Hello!",
                                    .credit = 1 << 20,
                                    .max_tokens = 100,
                                    .with = &m};
    wire_client_request(c, &q);
    *id = q.id;
}

static void check_answer(const struct heard *h)
{
    struct json *v = NULL;
    CHECK_INT(h->error, -1);
    CHECK_INT(h->reason, WIRE__FINISH_REASON__STOP);
    CHECK_FATAL(h->text && json_parse(h->text, h->len, NULL, &v, NULL) == OK);
    const char *value = json_string(json_first(v));
    CHECK(json_count(v) == 1 && value && strspn(value, "ab") == strlen(value));
    CHECK(value && strlen(value) >= 10 && value[strlen(value) - 9] == 'a');
    json_free(v);
}

/* Takes frames until `open` streams have ended. */
static void hear_all(struct wire_client *c, struct heard *h, uint32_t streams, int open)
{
    struct wire_frame f;
    while (open > 0) {
        enum status st = wire_client_next(c, &f, 30000);
        CHECK_FATAL(st == OK);
        if (!f.stream || f.stream > streams)
            continue;
        struct heard *one = &h[f.stream];
        bool before = one->reason >= 0 || one->error >= 0;
        heard_frame(one, &f);
        open -= !before && (one->reason >= 0 || one->error >= 0);
    }
}

static void test_many(struct rig *r, struct wire_client *c)
{
    enum { STREAMS = 24 };
    struct heard h[STREAMS + 1];
    struct uuid id[STREAMS + 1];
    for (uint32_t i = 1; i <= STREAMS; i++) {
        h[i] = (struct heard){.reason = -1, .error = -1};
        ask(c, i, i % 4 == 0, &id[i]);
    }
    hear_all(c, h, STREAMS, STREAMS);
    for (uint32_t i = 1; i <= STREAMS; i++) {
        if (i % 4) {
            check_answer(&h[i]);
        } else {
            CHECK_INT(h[i].error, WIRE__ERROR_CODE__ERROR_INVALID);
            CHECK(strstr(h[i].message, "schema.not: not supported"));
            CHECK(strstr(table_line(r, &id[i]), "\"prompt\":0"));
        }
        heard_done(&h[i]);
    }
}

/* Before, while and after they are compiled; others go on. */
static void test_cancels(struct wire_client *c)
{
    enum { STREAMS = 12 };
    for (int round = 0; round < 6; round++) {
        struct heard h[STREAMS + 1];
        struct uuid id;
        for (uint32_t i = 1; i <= STREAMS; i++) {
            h[i] = (struct heard){.reason = -1, .error = -1};
            ask(c, i, false, &id);
        }
        usleep((useconds_t)round * 4000);
        for (uint32_t i = 1; i <= STREAMS; i++)
            if (i % 3)
                wire_client_send(c, WIRE__FRAME_TYPE__CANCEL, i, NULL);
        hear_all(c, h, STREAMS, STREAMS);
        for (uint32_t i = 1; i <= STREAMS; i++) {
            CHECK_INT(h[i].error, -1);
            CHECK(i % 3 == 0 || h[i].reason == WIRE__FINISH_REASON__CANCELLED ||
                  h[i].reason == WIRE__FINISH_REASON__STOP);
            if (i % 3 == 0)
                check_answer(&h[i]);
            heard_done(&h[i]);
        }
    }
}

/* What was asked before a drain is answered. */
static void test_drain(struct rig *r, struct wire_client *c)
{
    enum { STREAMS = 8 };
    struct heard h[STREAMS + 1];
    struct uuid id[STREAMS + 1];
    for (uint32_t i = 1; i <= STREAMS; i++) {
        h[i] = (struct heard){.reason = -1, .error = -1};
        ask(c, i, false, &id[i]);
    }
    rig_drain(r);
    hear_all(c, h, STREAMS, STREAMS);
    for (uint32_t i = 1; i <= STREAMS; i++) {
        CHECK(h[i].error == -1 || h[i].error == WIRE__ERROR_CODE__ERROR_DRAINING);
        if (h[i].error == -1)
            check_answer(&h[i]);
        heard_done(&h[i]);
    }
}

int main(void)
{
    struct rig r;
    model_dir = fixture_demo();
    rig_init(&r, false);
    r.backend = make;
    rig_start(&r);
    struct wire_client c;
    wire_client_open(&c, r.address, GATEWAY_A);
    test_many(&r, &c);
    test_cancels(&c);
    test_drain(&r, &c);
    wire_client_close(&c);
    rig_stop(&r);
    rig_start(&r); /* and an end while some are being compiled */
    struct uuid id;
    wire_client_open(&c, r.address, GATEWAY_B);
    for (uint32_t i = 1; i <= 8; i++)
        ask(&c, i, false, &id);
    struct heard h = {.reason = -1, .error = -1};
    hear_until_pong(&c, &h, NULL);
    rig_stop(&r);
    wire_client_close(&c);
    heard_done(&h);
    rig_done(&r);
    return check_done();
}
