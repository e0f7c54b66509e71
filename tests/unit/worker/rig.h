/* A worker's server with the echo backend, on a Unix socket in a temporary folder, run by a thread
 * of its own (or a process, to be killed). */
#ifndef TESTS_UNIT_WORKER_RIG_H
#define TESTS_UNIT_WORKER_RIG_H

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "tests/lib/wire_client.h"
#include "tests/unit/check.h"
#include "worker/server.h"

#define GATEWAY_A "01936f2e-1111-7222-8333-44445555666a"
#define GATEWAY_B "01936f2e-1111-7222-8333-44445555666b"
#define WORKER_ID "01936f2e-1111-7222-8333-444455556660"

struct rig {
    char folder[64], address[96], table_path[96];
    bool threaded; /* the echo backend on the engine's own thread */
    struct backend *(*backend)(const struct sink *sink, struct error *err); /* NULL: echo */
    uint32_t slots;
    struct server_options options;
    struct loop *loop;
    struct engine *engine;
    struct usage_table *table;
    struct server *server;
    pthread_t thread;
    pid_t child;
};

static void rig_stop_loop(void *arg)
{
    struct rig *r = arg;
    loop_stop(r->loop);
}

static void rig_init(struct rig *r, bool threaded)
{
    log_init("worker", LOG_LEVEL_ERROR);
    *r = (struct rig){.threaded = threaded, .slots = 256};
    snprintf(r->folder, sizeof r->folder, "/tmp/tg-worker-XXXXXX");
    CHECK_FATAL(mkdtemp(r->folder));
    snprintf(r->address, sizeof r->address, "unix:%s/sock", r->folder);
    snprintf(r->table_path, sizeof r->table_path, "%s/usage.table", r->folder);
    r->options = (struct server_options){.node_id = WORKER_ID,
                                         .hello_ms = 5000,
                                         .stall_ms = 30000,
                                         .offer_ms = 200,
                                         .foreign_offer_ms = 600000,
                                         .drain_ms = 30000,
                                         .links_max = 16,
                                         .streams_max = 128,
                                         .link_output_bytes = 8 << 20,
                                         .on_drained = rig_stop_loop,
                                         .arg = r};
}

/* The echo backend as an engine would be: a step takes a while. */
static const struct backend_ops *rig_echo_ops;

static bool rig_slow_step(struct backend *b)
{
    usleep(500);
    return rig_echo_ops->step(b);
}

static void rig_slow_down(struct backend *b)
{
    static struct backend_ops slow;
    rig_echo_ops = b->ops;
    slow = *b->ops;
    slow.step = rig_slow_step;
    b->ops = &slow;
    b->immediate = false;
}

static void rig_build(struct rig *r)
{
    struct error err = {""};
    CHECK_FATAL(address_parse(r->address, &r->options.listen, &err) == OK);
    enum status st = usage_open(r->table_path, r->slots, clock_wall_ms(), &r->table, &err);
    for (int i = 0; st == CONFLICT && i < 500; i++) { /* a killed worker's lock goes with it */
        usleep(10000);
        st = usage_open(r->table_path, r->slots, clock_wall_ms(), &r->table, &err);
    }
    if (st != OK)
        fprintf(stderr, "%s\n", err.text);
    CHECK_FATAL(st == OK);
    r->loop = loop_new(&err);
    r->engine = engine_new(r->loop, &err);
    CHECK_FATAL(r->loop && r->engine);
    struct backend *b = r->backend
                            ? r->backend(engine_sink(r->engine), &err)
                            : backend_echo_new("tollgate-demo", engine_sink(r->engine), &err);
    if (!b)
        fprintf(stderr, "%s\n", err.text);
    CHECK_FATAL(b);
    if (r->threaded)
        rig_slow_down(b);
    engine_adopt(r->engine, b);
    st = server_new(r->loop, r->engine, r->table, &r->options, &r->server, &err);
    if (st != OK)
        fprintf(stderr, "%s\n", err.text);
    CHECK_FATAL(st == OK);
}

static void rig_free_parts(struct rig *r)
{
    server_free(r->server);
    engine_free(r->engine);
    usage_close(r->table);
    loop_free(r->loop);
}

static void *rig_run(void *arg)
{
    struct rig *r = arg;
    loop_run(r->loop);
    return NULL;
}

static inline void rig_start(struct rig *r)
{
    rig_build(r);
    CHECK_FATAL(pthread_create(&r->thread, NULL, rig_run, r) == 0);
}

/* Waits until the loop has ended (by a drain, or rig_stop). */
static inline void rig_join(struct rig *r)
{
    pthread_join(r->thread, NULL);
    rig_free_parts(r);
}

static inline void rig_stop(struct rig *r)
{
    loop_stop(r->loop);
    rig_join(r);
}

static void rig_drain_now(void *arg)
{
    struct rig *r = arg;
    server_drain(r->server);
}

static inline void rig_drain(struct rig *r)
{
    CHECK_INT(loop_post(r->loop, rig_drain_now, r), OK);
}

static inline void rig_fork(struct rig *r)
{
    r->child = fork();
    CHECK_FATAL(r->child >= 0);
    if (r->child == 0) {
        rig_build(r);
        loop_run(r->loop);
        _exit(0);
    }
}

static inline void rig_kill(struct rig *r)
{
    kill(r->child, SIGKILL);
    waitpid(r->child, NULL, 0);
}

static inline void rig_done(struct rig *r)
{
    char path[128];
    unlink(r->table_path);
    snprintf(path, sizeof path, "%s/sock", r->folder);
    unlink(path);
    CHECK_INT(rmdir(r->folder), 0);
}

/* ---- what a test expects of the next frames ---- */

/* One choice as it came: "name arguments;" of each call. */
struct heard_choice {
    char text[2048], calls[2048];
    int finish, logprobs;
};

/* Text and counts of a stream as they came. */
struct heard {
    struct heard_choice choices[8];
    char *text;
    size_t len, size, reasoning_len;
    int frames;
    struct counts counts;
    int reason, error; /* -1: none */
    char message[256];
};

static void heard_done(struct heard *h)
{
    free(h->text);
    *h = (struct heard){.reason = -1, .error = -1};
}

static void heard_counts(struct heard *h, const Wire__Counts *c)
{
    if (!c)
        return;
    CHECK(c->completion >= h->counts.completion && c->reasoning >= h->counts.reasoning);
    h->counts = (struct counts){c->prompt, c->cached, c->completion, c->reasoning};
}

static void heard_choice(struct heard_choice *h, const Wire__Tokens *m)
{
    size_t used = strlen(h->text);
    snprintf(h->text + used, sizeof h->text - used, "%s", m->content);
    for (size_t i = 0; i < m->n_tool_calls; i++) {
        const Wire__ToolCallDelta *d = m->tool_calls[i];
        used = strlen(h->calls);
        snprintf(h->calls + used, sizeof h->calls - used, "%s%s%s%s", *d->name && used ? ";" : "",
                 d->name, *d->name ? " " : "", d->arguments);
        CHECK_INT(!*d->id, !*d->name);
    }
    h->logprobs += (int)m->n_logprobs;
    CHECK_INT(h->finish, 0); /* nothing follows it */
    h->finish = (int)m->finish;
}

static inline void heard_frame(struct heard *h, const struct wire_frame *f)
{
    if (f->type == WIRE__FRAME_TYPE__TOKENS) {
        Wire__Tokens *m = wire_unpack(tokens, f);
        CHECK_FATAL(m);
        size_t len = strlen(m->content);
        if (h->len + len + 1 > h->size) {
            h->size = 2 * (h->len + len + 1);
            h->text = realloc(h->text, h->size);
            CHECK_FATAL(h->text);
        }
        memcpy(h->text + h->len, m->content, len + 1);
        h->len += len;
        h->reasoning_len += strlen(m->reasoning);
        h->frames++;
        CHECK_FATAL(m->choice < 8);
        heard_choice(&h->choices[m->choice], m);
        heard_counts(h, m->counts);
        wire__tokens__free_unpacked(m, NULL);
    } else if (f->type == WIRE__FRAME_TYPE__FINISH) {
        Wire__Finish *m = wire_unpack(finish, f);
        CHECK_FATAL(m);
        h->reason = (int)m->reason;
        heard_counts(h, m->counts);
        wire__finish__free_unpacked(m, NULL);
    } else if (f->type == WIRE__FRAME_TYPE__ERROR) {
        Wire__Error *m = wire_unpack(error, f);
        CHECK_FATAL(m);
        h->error = (int)m->code;
        snprintf(h->message, sizeof h->message, "%s", m->message);
        wire__error__free_unpacked(m, NULL);
    }
}

/* Takes frames until the stream ends. */
static inline void hear_stream(struct wire_client *c, uint32_t stream, struct heard *h)
{
    struct wire_frame f;
    *h = (struct heard){.reason = -1, .error = -1};
    while (h->reason < 0 && h->error < 0) {
        enum status st = wire_client_next(c, &f, 10000);
        CHECK_INT(st, OK);
        if (st != OK)
            return;
        if (f.stream == stream)
            heard_frame(h, &f);
    }
}

/* The worker has handled what was sent before, and what it answered is heard. */
static inline void hear_until_pong(struct wire_client *c, struct heard *h, Wire__Pong *pong)
{
    static uint64_t nonce = 1000;
    Wire__Ping ping = WIRE__PING__INIT;
    ping.nonce = ++nonce;
    wire_client_send(c, WIRE__FRAME_TYPE__PING, 0, &ping.base);
    struct wire_frame f;
    for (;;) {
        enum status st = wire_client_next(c, &f, 10000);
        CHECK_FATAL(st == OK);
        if (f.type == WIRE__FRAME_TYPE__PONG)
            break;
        if (f.stream != 0)
            heard_frame(h, &f);
    }
    Wire__Pong *m = wire_unpack(pong, &f);
    CHECK_FATAL(m);
    CHECK_INT(m->nonce, nonce);
    if (pong)
        *pong = *m;
    wire__pong__free_unpacked(m, NULL);
}

/* Waits for the usage of a request; false: it did not come. */
static inline bool hear_usage(struct wire_client *c, const struct uuid *id,
                              struct usage_record *out)
{
    struct wire_frame f;
    while (wire_client_wait(c, WIRE__FRAME_TYPE__USAGE, &f)) {
        Wire__UsageList *m = wire_unpack(usage_list, &f);
        CHECK_FATAL(m);
        struct error err;
        CHECK_INT(wire_check_usage(m, &err), OK);
        bool found = false;
        for (size_t i = 0; i < m->n_usage && !found; i++) {
            Wire__Usage *u = m->usage[i];
            if (memcmp(u->request_id.data, id->bytes, 16) != 0)
                continue;
            found = true;
            *out = (struct usage_record){.attempt = u->attempt, .outcome = u->outcome};
            out->counts = (struct counts){u->counts->prompt, u->counts->cached,
                                          u->counts->completion, u->counts->reasoning};
            snprintf(out->gateway_id, sizeof out->gateway_id, "%s", u->gateway_id);
            out->billing_len = u->billing.len;
            if (u->billing.len)
                memcpy(out->billing, u->billing.data, u->billing.len);
        }
        wire__usage_list__free_unpacked(m, NULL);
        if (found)
            return true;
    }
    return false;
}

/* The request's line in the usage table's print, as it is now. */
static inline const char *table_line(struct rig *r, const struct uuid *id)
{
    static char line[1024];
    char text[UUID_TEXT_SIZE], *print = NULL;
    size_t size = 0;
    uuid_format(id, text);
    FILE *f = open_memstream(&print, &size);
    CHECK_FATAL(f);
    struct error err = {""};
    CHECK_INT(usage_print(r->table_path, f, &err), OK);
    fclose(f);
    line[0] = 0;
    const char *at = strstr(print, text);
    if (at)
        snprintf(line, sizeof line, "%.*s", (int)strcspn(at, "\n"), at);
    free(print);
    return line;
}

#endif
