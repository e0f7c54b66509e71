#include <assert.h>

#include "base/clock.h"
#include "base/log.h"
#include "worker/job_wire.h"
#include "worker/server_internal.h"

enum {
    CANCELS_MAX_BYTES = 1 << 20,
    FRAME_BYTES_MAX = 256 << 20, /* a held frame's log probabilities, unpacked */
};

void counts_to_wire(const struct counts *c, Wire__Counts *out)
{
    wire__counts__init(out);
    out->prompt = c->prompt;
    out->cached = c->cached;
    out->completion = c->completion;
    out->reasoning = c->reasoning;
}

enum status streams_init(struct server *s)
{
    uint32_t heads = 64;
    int max = s->options.streams_max;
    while (heads < (uint32_t)max * 2)
        heads *= 2;
    s->head_mask = heads - 1;
    s->streams = calloc((size_t)max, sizeof *s->streams);
    s->stream_heads = calloc(heads, sizeof *s->stream_heads);
    if (!s->streams || !s->stream_heads)
        return NOMEM;
    for (int i = max - 1; i >= 0; i--) {
        s->streams[i].next = s->free_streams;
        s->free_streams = &s->streams[i];
    }
    buf_init(&s->cancels, CANCELS_MAX_BYTES);
    s->scratch = arena_new(FRAME_BYTES_MAX);
    return s->scratch ? OK : NOMEM;
}

static void held_free(struct stream *st)
{
    for (uint32_t i = 0; st->held && i < st->choices; i++)
        delta_done(&st->held[i]);
    free(st->held);
    st->held = NULL;
}

void streams_done(struct server *s)
{
    for (int i = 0; s->streams && i < s->options.streams_max; i++)
        held_free(&s->streams[i]);
    free(s->streams);
    free(s->stream_heads);
    buf_done(&s->cancels);
    arena_free(s->scratch);
}

static struct stream **head_of(struct server *s, const struct link *l, uint32_t id)
{
    uint64_t h = (l->serial << 32 ^ id) * 0x9e3779b97f4a7c15u;
    return &s->stream_heads[h >> 32 & s->head_mask];
}

static struct stream *find_stream(struct link *l, uint32_t id)
{
    struct stream *st = *head_of(l->server, l, id);
    while (st && (st->id != id || st->link != l))
        st = st->hash_next;
    return st;
}

static struct stream *find_job(struct server *s, uint64_t job)
{
    uint32_t index = (uint32_t)job;
    assert(index < (uint32_t)s->options.streams_max);
    return s->streams[index].job == job ? &s->streams[index] : NULL;
}

/* NULL: out of memory. */
static struct stream *stream_new(struct link *l, uint32_t id, uint32_t slot, const Wire__Request *m)
{
    struct server *s = l->server;
    struct stream *st = s->free_streams;
    uint64_t credit = m->credit_bytes;
    /* More choices than a request may have are refused where its fields are looked at. */
    uint32_t choices = m->choices > 1 && m->choices <= JOB_CHOICES_MAX ? m->choices : 1;
    struct delta *held = calloc(choices, sizeof *held);
    if (!held)
        return NULL;
    s->free_streams = st->next;
    uint32_t generation = st->generation + 1;
    *st = (struct stream){.generation = generation ? generation : 1, .id = id, .slot = slot};
    st->job = (uint64_t)st->generation << 32 | (uint64_t)(st - s->streams);
    st->link = l;
    st->credit = credit > INT64_MAX / 2 ? INT64_MAX / 2 : (int64_t)credit;
    st->choices = choices;
    st->held = held;
    for (uint32_t i = 0; i < choices; i++)
        delta_init(&held[i], STREAM_HELD_MAX);
    st->next = l->streams;
    if (st->next)
        st->next->prev = st;
    l->streams = st;
    l->stream_count++;
    struct stream **head = head_of(s, l, id);
    st->hash_next = *head;
    *head = st;
    s->stream_count++;
    return st;
}

static void stream_free(struct stream *st)
{
    struct link *l = st->link;
    struct server *s = l->server;
    struct stream **at = head_of(s, l, st->id);
    while (*at != st)
        at = &(*at)->hash_next;
    *at = st->hash_next;
    if (st->prev)
        st->prev->next = st->next;
    else
        l->streams = st->next;
    if (st->next)
        st->next->prev = st->prev;
    l->stream_count--;
    s->stream_count--;
    held_free(st);
    st->job = 0;
    st->next = s->free_streams;
    s->free_streams = st;
}

static void put_error(struct link *l, uint32_t id, Wire__ErrorCode code, const char *message,
                      const char *param, const struct counts *counts)
{
    Wire__Counts c;
    counts_to_wire(counts, &c);
    Wire__Error m = WIRE__ERROR__INIT;
    m.code = code;
    m.message = (char *)message;
    m.param = (char *)(param ? param : "");
    m.counts = &c;
    link_put(l, WIRE__FRAME_TYPE__ERROR, id, &m.base);
}

static void refuse(struct link *l, uint32_t id, Wire__ErrorCode code, const char *message,
                   const char *param)
{
    static const struct counts zero;
    l->server->stats.refused++;
    put_error(l, id, code, message, param, &zero);
}

static void cancel_job(struct server *s, uint64_t job)
{
    if (engine_cancel(s->engine, job) == OK)
        return;
    if (buf_add(&s->cancels, &job, sizeof job) != OK)
        log_error("a job could not be cancelled: it runs to its end");
}

static void set_paused(struct stream *st, bool paused)
{
    struct server *s = st->link->server;
    st->paused = paused;
    if (st->told_paused == paused)
        return;
    if (engine_set_paused(s->engine, st->job, paused) == OK)
        st->told_paused = paused;
    else
        s->retry_pauses = true;
}

void streams_retry(struct server *s)
{
    while (buf_len(&s->cancels) > 0) {
        uint64_t job;
        memcpy(&job, buf_head(&s->cancels), sizeof job);
        if (engine_cancel(s->engine, job) != OK)
            return;
        buf_eat(&s->cancels, sizeof job);
    }
    if (!s->retry_pauses)
        return;
    s->retry_pauses = false;
    for (int i = 0; i < s->options.streams_max; i++)
        if (s->streams[i].job && !s->streams[i].ended)
            set_paused(&s->streams[i], s->streams[i].paused);
}

/* ---- endings: each gives the slot its final state, sends the last frame, frees the stream ---- */

static void end_slot(struct stream *st, Wire__Outcome outcome)
{
    struct server *s = st->link->server;
    usage_finish(s->usage, st->slot, outcome, clock_wall_ms());
    s->stats.prompt_tokens += st->counts.prompt;
    s->stats.completion_tokens += st->counts.completion;
    switch (outcome) {
    case WIRE__OUTCOME__OUTCOME_FINISHED:
        s->stats.finished++;
        break;
    case WIRE__OUTCOME__OUTCOME_CANCELLED:
        s->stats.cancelled++;
        break;
    case WIRE__OUTCOME__OUTCOME_LINK_LOST:
        s->stats.link_lost++;
        break;
    default:
        s->stats.failed++;
        break;
    }
}

static void end_finish(struct stream *st, enum job_end end)
{
    struct link *l = st->link;
    struct counts counts = st->counts;
    uint32_t id = st->id, slot = st->slot;
    end_slot(st, end == JOB_CANCELLED ? WIRE__OUTCOME__OUTCOME_CANCELLED
                                      : WIRE__OUTCOME__OUTCOME_FINISHED);
    stream_free(st);
    Wire__Counts c;
    counts_to_wire(&counts, &c);
    Wire__Finish m = WIRE__FINISH__INIT;
    m.reason = reason_to_wire(end);
    m.counts = &c;
    link_put(l, WIRE__FRAME_TYPE__FINISH, id, &m.base);
    offer_final(l->server, l, slot);
}

static void end_error(struct stream *st, Wire__ErrorCode code, const char *message,
                      const char *param)
{
    struct link *l = st->link;
    struct server *s = l->server;
    struct counts counts = st->counts;
    uint32_t id = st->id, slot = st->slot;
    /* "Nothing was done": the request may be tried elsewhere as if it had never come here. */
    bool undo = code == WIRE__ERROR_CODE__ERROR_OVERLOADED && counts.completion == 0;
    if (undo) {
        usage_undo(s->usage, slot);
        counts = (struct counts){0};
        s->stats.refused++;
    } else {
        end_slot(st, WIRE__OUTCOME__OUTCOME_FAILED);
    }
    stream_free(st);
    put_error(l, id, code, message, param, &counts);
    if (!undo)
        offer_final(s, l, slot);
}

void streams_lost(struct link *l)
{
    struct server *s = l->server;
    while (l->streams) {
        struct stream *st = l->streams;
        uint64_t job = st->job;
        uint32_t slot = st->slot;
        bool ended = st->ended;
        end_slot(st, WIRE__OUTCOME__OUTCOME_LINK_LOST);
        stream_free(st);
        offer_final(s, l, slot);
        if (!ended)
            cancel_job(s, job);
    }
}

void streams_fail_all(struct server *s, const char *message)
{
    for (int i = 0; i < s->options.streams_max; i++) {
        struct stream *st = &s->streams[i];
        if (!st->job)
            continue;
        uint64_t job = st->job;
        bool ended = st->ended;
        end_error(st, WIRE__ERROR_CODE__ERROR_INTERNAL, message, NULL);
        if (!ended)
            cancel_job(s, job);
    }
}

/* ---- what the engine says ---- */

static bool may_send(const struct stream *st)
{
    return st->credit > 0 && !st->link->choked;
}

static void give_up(struct stream *st, const char *message)
{
    struct server *s = st->link->server;
    uint64_t job = st->job;
    bool ended = st->ended;
    end_error(st, WIRE__ERROR_CODE__ERROR_INTERNAL, message, NULL);
    if (!ended)
        cancel_job(s, job);
}

/* What holds no text, such as a choice's end, takes no credit and waits for none. */
static bool may_release(const struct stream *st)
{
    return may_send(st) || (st->held_text == 0 && !st->link->choked);
}

/* Sends what is held, if it may be sent. false: the stream is gone (or its link). */
static bool release(struct stream *st)
{
    if (!st->waiting || !may_release(st))
        return true;
    uint64_t job = st->job;
    struct server *s = st->link->server;
    st->waiting = false;
    st->held_text = 0;
    /* All that is held goes out at once: one choice does not wait for another's credit. */
    for (uint32_t i = 0; i < st->choices; i++) {
        struct delta_view v;
        delta_see(&st->held[i], &v);
        if (delta_is_empty(&v))
            continue;
        if (!put_tokens(st, i, &st->held[i])) {
            give_up(st, "the worker is out of memory");
            return false;
        }
        st = find_job(s, job);
        if (!st)
            return false;
        delta_clear(&st->held[i]);
    }
    return true;
}

static void on_tokens(void *arg, uint64_t job, uint32_t choice, const struct delta_view *made,
                      const struct counts *counts)
{
    struct server *s = arg;
    struct stream *st = find_job(s, job);
    if (!st || st->ended)
        return;
    assert(choice < st->choices);
    st->counts = *counts;
    usage_count(s->usage, st->slot, counts);
    if (st->cancelled || delta_is_empty(made))
        return;
    st->waiting = true;
    st->held_text += delta_text_bytes(made);
    if (delta_merge(&st->held[choice], made) != OK) {
        give_up(st, "too much text waits for credit");
        return;
    }
    if (release(st) && !may_send(st))
        set_paused(st, true);
}

static void on_finish(void *arg, uint64_t job, enum job_end end, const struct counts *counts)
{
    struct server *s = arg;
    struct stream *st = find_job(s, job);
    if (!st || st->ended)
        return;
    st->counts = *counts;
    usage_count(s->usage, st->slot, counts);
    if (st->cancelled) {
        end_finish(st, JOB_CANCELLED);
    } else if (end == JOB_CANCELLED) {
        end_error(st, WIRE__ERROR_CODE__ERROR_INTERNAL, "the engine gave the request up", NULL);
    } else if (st->waiting) {
        st->ended = true;
        st->end = end;
    } else {
        end_finish(st, end);
    }
}

static void on_fail(void *arg, uint64_t job, enum job_error code, const char *message,
                    const char *param, const struct counts *counts)
{
    static const Wire__ErrorCode codes[] = {
        [JOB_INTERNAL] = WIRE__ERROR_CODE__ERROR_INTERNAL,
        [JOB_INVALID] = WIRE__ERROR_CODE__ERROR_INVALID,
        [JOB_CONTEXT_LENGTH] = WIRE__ERROR_CODE__ERROR_CONTEXT_LENGTH,
        [JOB_OVERLOADED] = WIRE__ERROR_CODE__ERROR_OVERLOADED,
    };
    struct server *s = arg;
    struct stream *st = find_job(s, job);
    if (!st || st->ended)
        return;
    st->counts = *counts;
    usage_count(s->usage, st->slot, counts);
    end_error(st, codes[code], message, param);
}

const struct engine_events stream_events = {on_tokens, on_finish, on_fail, NULL};

/* ---- what the gateway says ---- */

void stream_resume(struct stream *st)
{
    struct server *s = st->link->server;
    uint64_t job = st->job;
    if (!release(st))
        return;
    st = find_job(s, job);
    if (!st)
        return;
    if (st->ended && !st->waiting)
        end_finish(st, st->end);
    else if (!st->ended && may_send(st))
        set_paused(st, false);
}

void stream_credit(struct link *l, uint32_t id, uint64_t bytes)
{
    struct stream *st = find_stream(l, id);
    if (!st)
        return; /* it has just ended */
    int64_t room = INT64_MAX / 2 - (st->credit > 0 ? st->credit : 0);
    st->credit += bytes > (uint64_t)room ? room : (int64_t)bytes;
    stream_resume(st);
}

void stream_cancel(struct link *l, uint32_t id)
{
    struct stream *st = find_stream(l, id);
    if (!st || st->cancelled)
        return;
    st->cancelled = true;
    if (st->ended)
        end_finish(st, JOB_CANCELLED);
    else
        cancel_job(l->server, st->job);
}

static bool accept_request(struct link *l, uint32_t id, const Wire__Request *m, uint32_t *slot)
{
    struct server *s = l->server;
    struct error err;
    if (wire_check_request(m, &err) != OK) {
        refuse(l, id, WIRE__ERROR_CODE__ERROR_INVALID, err.text, NULL);
        return false;
    }
    if (s->draining) {
        refuse(l, id, WIRE__ERROR_CODE__ERROR_DRAINING, "this worker is stopping", NULL);
        return false;
    }
    if (strcmp(m->model, engine_backend(s->engine)->model.name) != 0) {
        refuse(l, id, WIRE__ERROR_CODE__ERROR_MODEL_NOT_FOUND, "this worker has no such model",
               "model");
        return false;
    }
    if (!s->free_streams) {
        refuse(l, id, WIRE__ERROR_CODE__ERROR_OVERLOADED, "too many requests at once", NULL);
        return false;
    }
    struct usage_begin begin = {m->request_id.data, m->attempt,     m->model,       l->node_id,
                                m->billing.data,    m->billing.len, clock_wall_ms()};
    enum status st = usage_begin(s->usage, &begin, slot);
    if (st == CONFLICT)
        refuse(l, id, WIRE__ERROR_CODE__ERROR_INVALID,
               "this attempt of this request was given to this worker before", "request_id");
    else if (st != OK)
        refuse(l, id, WIRE__ERROR_CODE__ERROR_OVERLOADED,
               "too much usage has not been acknowledged", NULL);
    return st == OK;
}

void stream_request(struct link *l, const struct wire_frame *f)
{
    struct server *s = l->server;
    uint32_t slot;
    if (f->stream == 0 || find_stream(l, f->stream)) {
        link_close(l, WIRE__ERROR_CODE__ERROR_PROTOCOL,
                   f->stream ? "a REQUEST on a stream that is in use" : "a REQUEST on stream 0");
        return;
    }
    Wire__Request *m = wire_unpack(request, f);
    if (!m) {
        link_close(l, WIRE__ERROR_CODE__ERROR_PROTOCOL, "a malformed REQUEST");
        return;
    }
    if (!accept_request(l, f->stream, m, &slot)) {
        wire__request__free_unpacked(m, NULL);
        return;
    }
    s->stats.requests++;
    struct stream *st = stream_new(l, f->stream, slot, m);
    if (!st) {
        usage_undo(s->usage, slot);
        refuse(l, f->stream, WIRE__ERROR_CODE__ERROR_OVERLOADED, "the worker is out of memory",
               NULL);
        wire__request__free_unpacked(m, NULL);
        return;
    }
    uint64_t job = st->job;
    if (engine_submit(s->engine, job, m) == OK)
        return;
    st = find_job(s, job);
    if (st)
        end_error(st, WIRE__ERROR_CODE__ERROR_OVERLOADED, "the worker's queue is full", NULL);
}
