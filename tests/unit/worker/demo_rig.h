/* The demo model behind the server, and a gateway that is linked to it. */
#ifndef TESTS_UNIT_WORKER_DEMO_RIG_H
#define TESTS_UNIT_WORKER_DEMO_RIG_H

#include "tests/unit/worker/rig.h"
#include "tests/unit/worker/text_fixture.h"

static struct backend *demo_load(const char *dir, const struct sink *sink, struct error *err)
{
    struct cpu_options o = {.model_dir = dir,
                            .model_name = "tollgate-demo",
                            .threads = 2,
                            .sequences_max = 16,
                            .kv_bytes = 64 << 20,
                            .step_tokens = 128,
                            .default_output_tokens = 200};
    return backend_cpu_new(&o, sink, err);
}

static struct backend *demo_backend(const struct sink *sink, struct error *err)
{
    return demo_load(fixture_demo(), sink, err);
}

static void demo_start(struct rig *r, struct wire_client *c)
{
    rig_init(r, false);
    r->backend = demo_backend;
    rig_start(r);
    wire_client_open(c, r->address, GATEWAY_A);
}

static void demo_stop(struct rig *r, struct wire_client *c)
{
    wire_client_close(c);
    rig_stop(r);
    rig_done(r);
}

/* With so much credit that it never waits. */
static struct wire_client_request demo_ask(uint32_t stream, const char *text, uint32_t tokens)
{
    return (struct wire_client_request){.id = uuid_v7(clock_wall_ms()),
                                        .stream = stream,
                                        .text = text,
                                        .max_tokens = tokens,
                                        .credit = 1 << 20};
}

#endif
