#include "worker/textout.h"

#include <assert.h>

#include "worker/utf8.h"

enum {
    CUT_MAX = 4,         /* bytes of a character that is not whole yet */
    HELD_MAX = 16 << 20, /* bytes of one token and of the longest stop string */
};

struct stop {
    char *text;
    size_t len;
};

struct textout {
    const struct tokenizer *t;
    struct chat_markers markers;
    bool in_reasoning, stopped;
    uint8_t cut[CUT_MAX];
    size_t cut_len;
    struct buf held; /* whole characters of the content in which a stop string may have begun */
    struct stop *stops;
    int stop_count;
};

struct textout *textout_new(const struct tokenizer *t, const struct chat_markers *markers,
                            bool starts_in_reasoning, const char *const *stop, int stop_count)
{
    struct textout *o = calloc(1, sizeof *o);
    if (!o)
        return NULL;
    o->t = t;
    o->markers = *markers;
    o->in_reasoning = starts_in_reasoning;
    buf_init(&o->held, HELD_MAX);
    o->stops = calloc((size_t)stop_count + 1, sizeof *o->stops);
    for (int i = 0; o->stops && i < stop_count; i++) {
        assert(*stop[i]);
        struct stop *s = &o->stops[o->stop_count++];
        s->len = strlen(stop[i]);
        s->text = strdup(stop[i]);
        if (!s->text) {
            textout_free(o);
            return NULL;
        }
    }
    if (!o->stops) {
        textout_free(o);
        return NULL;
    }
    return o;
}

void textout_free(struct textout *o)
{
    if (!o)
        return;
    for (int i = 0; i < o->stop_count; i++)
        free(o->stops[i].text);
    free(o->stops);
    buf_done(&o->held);
    free(o);
}

/* Whole characters of cut + data go to out, bytes that are none as U+FFFD; the rest is the new
 * cut. */
static enum status add_characters(struct textout *o, const uint8_t *data, size_t len,
                                  struct buf *out)
{
    enum status st = OK;
    size_t at = 0, used;
    while (st == OK && (o->cut_len > 0 || at < len)) {
        /* The first characters are pieced together from the cut. */
        uint8_t joined[2 * CUT_MAX];
        const uint8_t *p = data + at;
        size_t n = len - at, from_cut = o->cut_len;
        if (from_cut) {
            n = n < CUT_MAX ? n : CUT_MAX;
            memcpy(joined, o->cut, from_cut);
            if (n)
                memcpy(joined + from_cut, p, n);
            p = joined;
            n += from_cut;
        }
        enum utf8_state state = utf8_next(p, n, &used);
        if (state == UTF8_CUT) {
            assert(n < CUT_MAX);
            memmove(o->cut, p, n);
            o->cut_len = n;
            return OK;
        }
        st = state == UTF8_WHOLE ? buf_add(out, p, used) : buf_adds(out, "\xef\xbf\xbd");
        size_t eaten = used < from_cut ? used : from_cut;
        memmove(o->cut, o->cut + eaten, from_cut - eaten);
        o->cut_len = from_cut - eaten;
        at += used - eaten;
    }
    return st;
}

/* Nothing more comes for the cut character. */
static enum status end_cut(struct textout *o, struct buf *out)
{
    enum status st = o->cut_len ? buf_adds(out, "\xef\xbf\xbd") : OK;
    o->cut_len = 0;
    return st;
}

/* The stop string that ends first in the held text (of those the longest), so that where a text
 * is cut does not depend on how it came in tokens. *at: where it begins. */
static bool find_stop(const struct textout *o, size_t *at)
{
    const char *text = (const char *)buf_head(&o->held);
    size_t len = buf_len(&o->held), best_end = SIZE_MAX;
    for (int i = 0; i < o->stop_count; i++) {
        const struct stop *s = &o->stops[i];
        const char *hit = memmem(text, len, s->text, s->len);
        size_t begin = hit ? (size_t)(hit - text) : 0, end = begin + s->len;
        if (hit && (end < best_end || (end == best_end && begin < *at))) {
            best_end = end;
            *at = begin;
        }
    }
    return best_end != SIZE_MAX;
}

/* Bytes at the end of the held text with which a stop string begins. */
static size_t begun_bytes(const struct textout *o)
{
    size_t len = buf_len(&o->held), most = 0;
    const char *end = (const char *)buf_head(&o->held) + len;
    for (int i = 0; i < o->stop_count; i++) {
        const struct stop *s = &o->stops[i];
        size_t n = s->len - 1 < len ? s->len - 1 : len;
        for (; n > most; n--)
            if (memcmp(end - n, s->text, n) == 0)
                most = n;
    }
    return most;
}

static enum status show(struct textout *o, size_t bytes, struct buf *content)
{
    if (!bytes)
        return OK;
    enum status st = buf_add(content, buf_head(&o->held), bytes);
    if (st == OK)
        buf_eat(&o->held, bytes);
    return st;
}

static enum status show_held(struct textout *o, struct buf *content)
{
    size_t at = 0;
    if (buf_len(&o->held) && find_stop(o, &at)) {
        o->stopped = true;
        enum status st = show(o, at, content);
        buf_clear(&o->held);
        return st;
    }
    return show(o, buf_len(&o->held) - begun_bytes(o), content);
}

static enum status set_reasoning(struct textout *o, bool reasoning, struct buf *content,
                                 struct buf *reasoning_out)
{
    enum status st = OK;
    if (reasoning != o->in_reasoning)
        st = textout_flush(o, content, reasoning_out);
    o->in_reasoning = reasoning;
    return st;
}

bool textout_ends(const struct textout *o, int32_t id)
{
    for (int i = 0; i < o->markers.stop_count; i++)
        if (o->markers.stop_ids[i] == id)
            return true;
    return false;
}

static enum status push_text(struct textout *o, int32_t id, struct buf *content,
                             struct buf *reasoning)
{
    size_t len = 0;
    const uint8_t *data = tokenizer_bytes(o->t, id, &len);
    if (!data || len == 0 || tokenizer_is_special(o->t, id))
        return OK; /* a model may have more ids than its tokenizer */
    if (o->in_reasoning)
        return add_characters(o, data, len, reasoning);
    enum status st = add_characters(o, data, len, &o->held);
    return st == OK ? show_held(o, content) : st;
}

enum status textout_push(struct textout *o, int32_t id, struct buf *content, struct buf *reasoning,
                         bool *is_reasoning, bool *stopped)
{
    assert(!o->stopped);
    enum status st = OK;
    *is_reasoning = o->in_reasoning; /* the mark that ends it belongs to it */
    if (textout_ends(o, id)) {
        st = textout_flush(o, content, reasoning);
        o->stopped = true;
    } else if (id == o->markers.think_begin && id >= 0) {
        st = set_reasoning(o, true, content, reasoning);
        *is_reasoning = true;
    } else if (id == o->markers.think_end && id >= 0) {
        st = set_reasoning(o, false, content, reasoning);
    } else {
        st = push_text(o, id, content, reasoning);
    }
    *stopped = o->stopped;
    return st;
}

enum status textout_flush(struct textout *o, struct buf *content, struct buf *reasoning)
{
    if (o->stopped)
        return OK;
    if (o->in_reasoning)
        return end_cut(o, reasoning);
    enum status st = end_cut(o, &o->held);
    if (st == OK)
        st = show_held(o, content);
    return st == OK && !o->stopped ? show(o, buf_len(&o->held), content) : st;
}
