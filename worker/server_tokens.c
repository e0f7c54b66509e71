/* TOKENS frames: what a choice has made, in the words of the worker protocol. */
#include "worker/server_internal.h"

static size_t count_calls(const struct delta_view *v)
{
    struct delta_call call;
    size_t n = 0;
    for (size_t at = 0; delta_next_call(v, &at, &call);)
        n++;
    return n;
}

static bool put_calls(struct arena *a, const struct delta_view *v, Wire__Tokens *m)
{
    size_t n = count_calls(v), i = 0;
    Wire__ToolCallDelta *calls = arena_alloc(a, n * sizeof *calls + 1);
    m->tool_calls = arena_alloc(a, n * sizeof(Wire__ToolCallDelta *) + 1);
    if (!calls || !m->tool_calls)
        return false;
    struct delta_call call;
    for (size_t at = 0; delta_next_call(v, &at, &call); i++) {
        wire__tool_call_delta__init(&calls[i]);
        calls[i].index = call.index;
        calls[i].id = (char *)call.id;
        calls[i].name = (char *)call.name;
        calls[i].arguments = (char *)call.arguments;
        m->tool_calls[i] = &calls[i];
    }
    m->n_tool_calls = n;
    return true;
}

static Wire__TokenLogprob *make_logprob(struct arena *a, const struct delta_logprob *l)
{
    size_t n = (size_t)l->top_count;
    Wire__TokenLogprob *out = arena_alloc(a, sizeof *out);
    Wire__TokenLogprob__Candidate *top = arena_alloc(a, n * sizeof *top + 1);
    if (!out || !top)
        return NULL;
    wire__token_logprob__init(out);
    out->token = (ProtobufCBinaryData){l->token.len, (uint8_t *)l->token.bytes};
    out->logprob = l->token.logprob;
    out->top = arena_alloc(a, n * sizeof(Wire__TokenLogprob__Candidate *) + 1);
    if (!out->top)
        return NULL;
    out->n_top = n;
    for (size_t i = 0; i < n; i++) {
        wire__token_logprob__candidate__init(&top[i]);
        top[i].token = (ProtobufCBinaryData){l->top[i].len, (uint8_t *)l->top[i].bytes};
        top[i].logprob = l->top[i].logprob;
        out->top[i] = &top[i];
    }
    return out;
}

static bool put_logprobs(struct arena *a, const struct delta_view *v, Wire__Tokens *m)
{
    struct delta_logprob l;
    size_t n = 0;
    for (size_t at = 0; delta_next_logprob(v, &at, &l);)
        n++;
    m->logprobs = arena_alloc(a, n * sizeof(Wire__TokenLogprob *) + 1);
    if (!m->logprobs)
        return false;
    for (size_t at = 0; delta_next_logprob(v, &at, &l); m->n_logprobs++) {
        m->logprobs[m->n_logprobs] = make_logprob(a, &l);
        if (!m->logprobs[m->n_logprobs])
            return false;
    }
    return true;
}

Wire__FinishReason reason_to_wire(enum job_end end)
{
    static const Wire__FinishReason reasons[] = {[JOB_GOES_ON] = WIRE__FINISH_REASON__FINISH_NONE,
                                                 [JOB_STOP] = WIRE__FINISH_REASON__STOP,
                                                 [JOB_LENGTH] = WIRE__FINISH_REASON__LENGTH,
                                                 [JOB_CANCELLED] = WIRE__FINISH_REASON__CANCELLED,
                                                 [JOB_TOOL_CALLS] =
                                                     WIRE__FINISH_REASON__TOOL_CALLS};
    return reasons[end];
}

bool put_tokens(struct stream *st, uint32_t choice, struct delta *made)
{
    struct server *s = st->link->server;
    struct delta_view v;
    delta_see(made, &v);
    Wire__Counts c;
    counts_to_wire(&st->counts, &c);
    Wire__Tokens m = WIRE__TOKENS__INIT;
    m.content = (char *)buf_cstr(&made->parts[DELTA_CONTENT]);
    m.reasoning = (char *)buf_cstr(&made->parts[DELTA_REASONING]);
    m.counts = &c;
    m.choice = choice;
    m.finish = reason_to_wire(v.end);
    arena_reset(s->scratch);
    if (!m.content || !m.reasoning || !put_calls(s->scratch, &v, &m) ||
        !put_logprobs(s->scratch, &v, &m))
        return false;
    st->credit -= (int64_t)delta_text_bytes(&v);
    link_put(st->link, WIRE__FRAME_TYPE__TOKENS, st->id, &m.base);
    return true;
}
