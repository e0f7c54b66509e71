#include "gateway/api/chat_choice.h"

#include <stdlib.h>
#include <string.h>

void chat_choice_init(struct chat_choice *c, size_t max_bytes)
{
    *c = (struct chat_choice){.call_count = 0};
    buf_init(&c->content, max_bytes);
    buf_init(&c->reasoning, max_bytes);
    for (int i = 0; i < LOGPROBS_ARRAYS; i++)
        buf_init(&c->logprobs[i], LOGPROBS_ROOM * max_bytes);
}

void chat_choice_limit(struct chat_choice *c, size_t max_bytes)
{
    c->content.max = c->reasoning.max = max_bytes;
    for (int i = 0; i < LOGPROBS_ARRAYS; i++)
        c->logprobs[i].max = LOGPROBS_ROOM * max_bytes;
}

static void free_calls(struct chat_choice *c)
{
    for (int i = 0; c->calls && i < c->call_count; i++) {
        free(c->calls[i].id);
        free(c->calls[i].name);
        buf_done(&c->calls[i].arguments);
    }
    free(c->calls);
    c->calls = NULL;
    c->call_count = c->call_size = 0;
}

void chat_choice_done(struct chat_choice *c)
{
    free_calls(c);
    buf_done(&c->content);
    buf_done(&c->reasoning);
    for (int i = 0; i < LOGPROBS_ARRAYS; i++)
        buf_done(&c->logprobs[i]);
}

void chat_choice_reset(struct chat_choice *c)
{
    free_calls(c);
    buf_clear(&c->content);
    buf_clear(&c->reasoning);
    for (int i = 0; i < LOGPROBS_ARRAYS; i++)
        buf_clear(&c->logprobs[i]);
    c->text_chars = 0;
    c->finish = NULL;
    c->role_sent = c->ended = false;
}

size_t chat_choice_bytes(const struct chat_choice *c)
{
    size_t bytes = c->content.size + c->reasoning.size;
    for (int i = 0; i < LOGPROBS_ARRAYS; i++)
        bytes += c->logprobs[i].size;
    return bytes;
}

enum status chat_choice_check(const struct chat_choice *c, const Wire__Tokens *m)
{
    uint32_t count = (uint32_t)c->call_count;
    for (size_t i = 0; i < m->n_tool_calls; i++) {
        const Wire__ToolCallDelta *d = m->tool_calls[i];
        if (d->index < count)
            continue; /* more arguments */
        if (d->index > count || count == CHOICE_CALLS_MAX || !*d->id || !*d->name ||
            strlen(d->id) > CHOICE_CALL_TEXT_MAX || strlen(d->name) > CHOICE_CALL_TEXT_MAX)
            return INVALID;
        count++;
    }
    bool says = *m->content || *m->reasoning || m->n_tool_calls > 0 || m->n_logprobs > 0;
    return c->finish && says ? INVALID : OK; /* it had ended */
}

void chat_choice_pass(struct chat_choice *c, const Wire__Tokens *m)
{
    for (size_t i = 0; i < m->n_tool_calls; i++)
        if (m->tool_calls[i]->index == (uint32_t)c->call_count)
            c->call_count++;
}

static enum status begin_call(struct chat_choice *c, const Wire__ToolCallDelta *d)
{
    if (c->call_count == c->call_size) {
        int size = c->call_size ? 2 * c->call_size : 4;
        struct chat_call *calls = realloc(c->calls, (size_t)size * sizeof *calls);
        if (!calls)
            return NOMEM;
        c->calls = calls;
        c->call_size = size;
    }
    struct chat_call *call = &c->calls[c->call_count];
    call->id = strdup(d->id);
    call->name = strdup(d->name);
    buf_init(&call->arguments, c->content.max);
    c->call_count++;
    return call->id && call->name ? OK : NOMEM;
}

static enum status gather_calls(struct chat_choice *c, const Wire__Tokens *m)
{
    enum status st = OK;
    for (size_t i = 0; st == OK && i < m->n_tool_calls; i++) {
        const Wire__ToolCallDelta *d = m->tool_calls[i];
        if (d->index == (uint32_t)c->call_count)
            st = begin_call(c, d);
        if (st == OK)
            st = buf_adds(&c->calls[d->index].arguments, d->arguments);
    }
    return st;
}

static enum status gather_logprobs(struct chat_choice *c, const Wire__Tokens *m, bool completion)
{
    enum status st = OK;
    int arrays = completion ? LOGPROBS_ARRAYS : 1;
    for (int i = 0; st == OK && i < arrays && m->n_logprobs > 0; i++) {
        struct writer w = {&c->logprobs[i], OK};
        if (buf_len(w.out) > 0)
            writer_text(&w, ",");
        if (completion)
            logprobs_put_array(&w, i, m->logprobs, m->n_logprobs, &c->text_chars);
        else
            logprobs_put(&w, m->logprobs, m->n_logprobs);
        st = w.st;
    }
    return st;
}

enum status chat_choice_gather(struct chat_choice *c, const Wire__Tokens *m, bool completion)
{
    enum status st = buf_adds(&c->content, m->content);
    if (st == OK)
        st = buf_adds(&c->reasoning, m->reasoning);
    if (st == OK)
        st = gather_calls(c, m);
    return st == OK ? gather_logprobs(c, m, completion) : st;
}
