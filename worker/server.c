#include "worker/server.h"

#include <assert.h>
#include <errno.h>
#include <unistd.h>

#include "base/log.h"
#include "worker/server_internal.h"

enum { LINGER_MS = 1000 };

static void listener_ready(int fd, int ready, void *arg)
{
    struct server *s = arg;
    for (int i = 0; i < 16; i++) {
        int link = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (link >= 0) {
            link_accept(s, link);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            log_error("cannot accept a gateway: %s", strerror(errno));
            s->accept_paused = true; /* the listener stays readable: do not spin on it */
            loop_io_want(s->listener_io, 0);
        }
        return;
    }
}

static void close_listener(struct server *s)
{
    if (s->listener < 0)
        return;
    loop_io_free(s->listener_io);
    s->listener_io = NULL;
    close(s->listener);
    s->listener = -1;
    address_unlink(&s->options.listen);
}

static bool output_waits(const struct server *s)
{
    for (const struct link *l = s->links; l; l = l->next)
        if (l->state != LINK_DEAD && buf_len(&l->out) > 0)
            return true;
    return false;
}

/* Draining: all is done when nothing runs, all is sent, and the last usage is acknowledged (or
 * has had its time: it is offered again by the next worker on this table). */
static void check_drained(struct server *s)
{
    if (!s->draining || s->drained || s->stream_count > 0)
        return;
    int64_t now = loop_now_ms(s->loop);
    if (s->linger_by_ms == 0)
        s->linger_by_ms = now + LINGER_MS;
    bool waits = s->link_count > 0 && (output_waits(s) || usage_unacked_count(s->usage) > 0);
    if (waits && now < s->linger_by_ms)
        return;
    s->drained = true;
    if (s->options.on_drained)
        s->options.on_drained(s->options.arg);
}

static void tick(void *arg)
{
    struct server *s = arg;
    int64_t now = loop_now_ms(s->loop);
    if (s->accept_paused && s->listener_io) {
        s->accept_paused = false;
        loop_io_want(s->listener_io, LOOP_READ);
    }
    for (struct link *l = s->links; l; l = l->next)
        link_tick(l, now);
    streams_retry(s);
    if (s->draining && s->stream_count > 0 && now >= s->drain_by_ms)
        streams_fail_all(s, "the worker stopped before the answer was complete");
    offer_all(s);
    loop_timer_start(s->tick, TICK_MS);
}

static void end_of_turn(void *arg)
{
    struct server *s = arg;
    engine_turn(s->engine);
    if (s->offer_now)
        offer_all(s);
    for (struct link *l = s->links; l; l = l->next) {
        offer_flush(l);
        link_flush(l);
    }
    check_drained(s);
}

static void reap(void *arg)
{
    struct server *s = arg;
    for (struct link **at = &s->links; *at;) {
        struct link *l = *at;
        if (l->state == LINK_DEAD) {
            *at = l->next;
            link_free(l);
        } else {
            at = &l->next;
        }
    }
}

static enum status allocate(struct server *s, struct error *err)
{
    s->notes = calloc(usage_slots(s->usage), sizeof *s->notes);
    s->link_table = calloc((size_t)s->options.links_max, sizeof(struct link *));
    s->tick = loop_timer_new(s->loop, tick, s);
    if (streams_init(s) != OK || !s->notes || !s->link_table || !s->tick)
        return error_set(err, NOMEM, "out of memory for the server");
    return OK;
}

static enum status start(struct server *s, struct error *err)
{
    enum status st = address_listen(&s->options.listen, NULL, &s->listener, err);
    if (st != OK)
        return st;
    s->listener_io = loop_io_new(s->loop, s->listener, listener_ready, s);
    if (!s->listener_io)
        return error_set(err, NOMEM, "out of memory for the listener");
    struct engine_events events = stream_events;
    events.arg = s;
    return engine_start(s->engine, &events, err);
}

enum status server_new(struct loop *loop, struct engine *engine, struct usage_table *usage,
                       const struct server_options *options, struct server **out, struct error *err)
{
    assert(options->links_max <= 0xffff && strlen(options->node_id) == 36);
    struct server *s = calloc(1, sizeof *s);
    if (!s)
        return error_set(err, NOMEM, "out of memory for the server");
    s->loop = loop;
    s->engine = engine;
    s->usage = usage;
    s->options = *options;
    memcpy(s->node_id, options->node_id, sizeof s->node_id);
    s->listener = -1;
    enum status st = allocate(s, err);
    if (st == OK)
        st = start(s, err);
    if (st != OK) {
        server_free(s);
        return st;
    }
    loop_io_want(s->listener_io, LOOP_READ);
    loop_hook(loop, LOOP_PHASE_LINKS, end_of_turn, s);
    loop_hook(loop, LOOP_PHASE_REAP, reap, s);
    loop_timer_start(s->tick, TICK_MS);
    *out = s;
    return OK;
}

void server_free(struct server *s)
{
    if (!s)
        return;
    close_listener(s);
    for (struct link *l = s->links; l;) {
        struct link *next = l->next;
        link_free(l);
        l = next;
    }
    loop_timer_free(s->tick);
    streams_done(s);
    free(s->link_table);
    free(s->notes);
    free(s);
}

void server_drain(struct server *s)
{
    if (s->draining)
        return;
    s->draining = true;
    s->drain_by_ms = loop_now_ms(s->loop) + s->options.drain_ms;
    close_listener(s);
    for (struct link *l = s->links; l; l = l->next)
        if (l->state == LINK_OPEN)
            link_put(l, WIRE__FRAME_TYPE__DRAIN, 0, NULL);
    loop_again(s->loop);
}

void server_stats(const struct server *s, struct server_stats *out)
{
    *out = s->stats;
    out->links = s->link_count;
    out->streams = s->stream_count;
    out->unacked = usage_unacked_count(s->usage);
    out->draining = s->draining;
}

int server_port(const struct server *s)
{
    return s->listener >= 0 ? address_port(s->listener) : 0;
}
