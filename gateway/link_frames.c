/* What a worker says over a link. */
#include "base/clock.h"
#include "gateway/link_private.h"

static void *scratch_alloc(void *arena, size_t size)
{
    return arena_alloc(arena, size);
}

static void scratch_free(void *arena, void *data)
{
    (void)arena; /* all goes with the frame */
    (void)data;
}

#define UNPACK(l, kind, frame)                                                                     \
    wire__##kind##__unpack(&(ProtobufCAllocator){scratch_alloc, scratch_free, (l)->scratch},       \
                           (frame)->payload_len, (frame)->payload)

static void on_hello(struct link *l, const struct wire_frame *f)
{
    struct error err;
    const Wire__Hello *m = UNPACK(l, hello, f);
    if (!m || wire_check_hello(m, &err) != OK) {
        link_break(l, "a bad HELLO%s%s", m ? ": " : "", m ? err.text : "");
        return;
    }
    uint32_t version = m->version < WIRE_VERSION ? m->version : WIRE_VERSION;
    if (version < WIRE_OLDEST || version < m->oldest_version) {
        link_break(l, "no common protocol version: the worker speaks %u to %u", m->oldest_version,
                   m->version);
        return;
    }
    l->model_count = 0;
    for (size_t i = 0; i < m->n_models && i < LINK_MODELS_MAX; i++) {
        const Wire__Model *from = m->models[i];
        struct link_model *to = &l->models[l->model_count++];
        snprintf(to->name, sizeof to->name, "%s", from->name);
        to->context_tokens = from->context_tokens;
        to->max_output_tokens = from->max_output_tokens;
        to->prompt_overhead_tokens = from->prompt_overhead_tokens;
        to->message_overhead_tokens = from->message_overhead_tokens;
        to->tools_overhead_tokens = from->tools_overhead_tokens;
        to->tool_overhead_tokens = from->tool_overhead_tokens;
    }
    snprintf(l->worker_id, sizeof l->worker_id, "%s", m->node_id);
    l->capacity = m->capacity_sequences ? m->capacity_sequences : 1;
    l->state = LINK_UP;
    l->backoff_ms = 50;
    l->full_until_ms = 0;
    l->pong_ms = clock_mono_ms();
    l->pinged_ms = 0;
    l->options.handlers->changed(l, "up", l->options.handlers->arg);
}

static void on_tokens(struct link *l, const struct wire_frame *f)
{
    struct stream *s = link_stream(l, f->stream);
    if (!s)
        return; /* finished or forgotten here; the frame was on its way */
    const Wire__Tokens *m = UNPACK(l, tokens, f);
    if (!m || !l->options.handlers->tokens(s->user, m))
        link_break(l, "bad TOKENS");
}

static void on_finish(struct link *l, const struct wire_frame *f)
{
    struct stream *s = link_stream(l, f->stream);
    if (!s)
        return;
    const Wire__Finish *m = UNPACK(l, finish, f);
    if (!m || m->reason < WIRE__FINISH_REASON__STOP ||
        m->reason > WIRE__FINISH_REASON__TOOL_CALLS) {
        link_break(l, "a bad FINISH");
        return;
    }
    void *user = s->user;
    link_close_stream(l, f->stream);
    l->options.handlers->finish(user, m);
}

static void on_error(struct link *l, const struct wire_frame *f)
{
    const Wire__Error *m = UNPACK(l, error, f);
    if (!m) {
        link_break(l, "a bad ERROR");
        return;
    }
    if (f->stream == 0) {
        link_break(l, "the worker says: %.200s", m->message);
        return;
    }
    struct stream *s = link_stream(l, f->stream);
    if (!s)
        return;
    void *user = s->user;
    link_close_stream(l, f->stream);
    l->options.handlers->error(user, m);
}

static void on_pong(struct link *l, const struct wire_frame *f)
{
    const Wire__Pong *m = UNPACK(l, pong, f);
    if (!m) {
        link_break(l, "a bad PONG");
        return;
    }
    l->pong_ms = clock_mono_ms();
    l->step_age_ms = m->step_age_ms;
    l->outstanding_tokens = m->outstanding_tokens;
    l->sent_tokens = 0; /* the worker has seen what was sent up to the ping, give or take */
}

static void on_usage(struct link *l, const struct wire_frame *f)
{
    struct error err;
    const Wire__UsageList *m = UNPACK(l, usage_list, f);
    if (!m || wire_check_usage(m, &err) != OK) {
        link_break(l, "a bad USAGE%s%s", m ? ": " : "", m ? err.text : "");
        return;
    }
    l->options.handlers->usage(l, m, l->options.handlers->arg);
}

static void on_frame(struct link *l, const struct wire_frame *f)
{
    if (l->state != LINK_UP && f->type != WIRE__FRAME_TYPE__HELLO &&
        f->type != WIRE__FRAME_TYPE__ERROR) {
        link_break(l, "a frame in front of HELLO");
        return;
    }
    switch (f->type) {
    case WIRE__FRAME_TYPE__HELLO:
        if (l->state == LINK_UP)
            link_break(l, "a second HELLO");
        else
            on_hello(l, f);
        break;
    case WIRE__FRAME_TYPE__TOKENS:
        on_tokens(l, f);
        break;
    case WIRE__FRAME_TYPE__FINISH:
        on_finish(l, f);
        break;
    case WIRE__FRAME_TYPE__ERROR:
        on_error(l, f);
        break;
    case WIRE__FRAME_TYPE__PONG:
        on_pong(l, f);
        break;
    case WIRE__FRAME_TYPE__DRAIN:
        l->draining = true;
        break;
    case WIRE__FRAME_TYPE__USAGE:
        on_usage(l, f);
        break;
    default: /* of a later version */
        break;
    }
}

void link_frames(struct link *l)
{
    struct wire_frame frame;
    struct error err;
    size_t used;
    while (!l->broken) {
        enum status st = wire_next(&l->in, &frame, &used, &err);
        if (st == NOT_FOUND)
            return;
        if (st != OK) {
            link_break(l, "%s", err.text);
            return;
        }
        on_frame(l, &frame);
        arena_reset(l->scratch);
        buf_eat(&l->in, used);
    }
}
