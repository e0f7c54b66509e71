#include "worker/textout.h"

#include <assert.h>

#include "worker/toolout.h"
#include "worker/utf8.h"

enum {
    CUT_MAX = 4,         /* bytes of a character that is not whole yet */
    HELD_MAX = 16 << 20, /* bytes of one token and of the longest stop string */
};

#define REPLACED "\xef\xbf\xbd" /* U+FFFD */

struct stop {
    char *text;
    size_t len;
};

struct textout {
    const struct tokenizer *t;
    struct chat_markers markers;
    bool in_reasoning, stopped;
    bool leading; /* newlines are dropped until there is other text */
    bool drop_space;
    uint8_t cut[CUT_MAX];
    size_t cut_len;
    struct buf whole; /* characters of the token at hand */
    struct buf held;  /* whole characters of the content in which a stop string may have begun */
    struct stop *stops;
    int stop_count;
    struct toolout *calls; /* NULL: there are no tools */
    bool one_call;
};

static bool copy_stops(struct textout *o, const struct textout_options *options)
{
    o->stops = calloc((size_t)options->stop_count + 1, sizeof *o->stops);
    if (!o->stops)
        return false;
    for (int i = 0; i < options->stop_count; i++) {
        assert(*options->stop[i]);
        struct stop *s = &o->stops[o->stop_count++];
        s->len = strlen(options->stop[i]);
        s->text = strdup(options->stop[i]);
        if (!s->text)
            return false;
    }
    return true;
}

struct textout *textout_new(const struct textout_options *options)
{
    struct textout *o = calloc(1, sizeof *o);
    if (!o)
        return NULL;
    o->t = options->tokenizer;
    o->markers = *options->markers;
    if (options->plain)
        o->markers.think_begin = o->markers.think_end = -1;
    o->in_reasoning = o->leading = options->starts_in_reasoning;
    o->one_call = options->one_call;
    o->drop_space = options->drop_space;
    buf_init(&o->whole, HELD_MAX);
    buf_init(&o->held, HELD_MAX);
    bool made = copy_stops(o, options);
    if (made && options->tool_count && o->markers.tools != TOOLS_NONE) {
        struct toolout_options calls = {o->markers.tools, options->tools, options->tool_count,
                                        options->id_seed};
        o->calls = toolout_new(&calls);
        made = o->calls;
    }
    if (!made) {
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
    toolout_free(o->calls);
    buf_done(&o->whole);
    buf_done(&o->held);
    free(o);
}

int textout_calls(const struct textout *o)
{
    return o->calls ? toolout_calls(o->calls) : 0;
}

/* Whole characters of cut + data go to `whole`, bytes that are none as U+FFFD; the rest is the new
 * cut. */
static enum status add_characters(struct textout *o, const uint8_t *data, size_t len)
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
        st =
            state == UTF8_WHOLE && *p ? buf_add(&o->whole, p, used) : buf_adds(&o->whole, REPLACED);
        size_t eaten = used < from_cut ? used : from_cut;
        memmove(o->cut, o->cut + eaten, from_cut - eaten);
        o->cut_len = from_cut - eaten;
        at += used - eaten;
    }
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

static enum status show(struct textout *o, size_t bytes, struct delta *out)
{
    if (!bytes)
        return OK;
    enum status st = buf_add(&out->parts[DELTA_CONTENT], buf_head(&o->held), bytes);
    if (st == OK)
        buf_eat(&o->held, bytes);
    return st;
}

static enum status show_held(struct textout *o, struct delta *out)
{
    size_t at = 0;
    if (buf_len(&o->held) && find_stop(o, &at)) {
        o->stopped = true;
        enum status st = show(o, at, out);
        buf_clear(&o->held);
        return st;
    }
    return show(o, buf_len(&o->held) - begun_bytes(o), out);
}

/* The characters that are whole go where they belong. */
static enum status place_whole(struct textout *o, struct delta *out)
{
    const char *text = (const char *)buf_head(&o->whole);
    size_t len = buf_len(&o->whole), skip = 0;
    if (o->drop_space && len) {
        skip = *text == ' ';
        o->drop_space = false;
    }
    while (o->leading && skip < len && text[skip] == '\n')
        skip++;
    if (skip == len) {
        buf_clear(&o->whole);
        return OK;
    }
    o->leading = false;
    enum status st;
    if (o->in_reasoning)
        st = buf_add(&out->parts[DELTA_REASONING], text + skip, len - skip);
    else if (o->calls)
        st = toolout_text(o->calls, text + skip, len - skip, out, &o->held);
    else
        st = buf_add(&o->held, text + skip, len - skip);
    buf_clear(&o->whole);
    return st == OK ? show_held(o, out) : st;
}

/* Nothing more comes for the cut character. */
static enum status end_cut(struct textout *o, struct delta *out)
{
    if (!o->cut_len)
        return OK;
    o->cut_len = 0;
    enum status st = buf_adds(&o->whole, REPLACED);
    return st == OK ? place_whole(o, out) : st;
}

/* What was held back for a stop string is none. */
static enum status show_all(struct textout *o, struct delta *out)
{
    enum status st = end_cut(o, out);
    return st == OK && !o->stopped ? show(o, buf_len(&o->held), out) : st;
}

static enum status set_reasoning(struct textout *o, bool reasoning, struct delta *out)
{
    enum status st = OK;
    if (reasoning != o->in_reasoning) {
        st = show_all(o, out);
        o->leading = true;
    }
    o->in_reasoning = reasoning;
    return st;
}

static bool is_end(const struct textout *o, int32_t id)
{
    for (int i = 0; i < o->markers.stop_count; i++)
        if (o->markers.stop_ids[i] == id)
            return true;
    return false;
}

/* Whether the id is a mark of calls. */
static bool find_mark(const struct textout *o, int32_t id, enum tool_mark *mark)
{
    const struct chat_markers *m = &o->markers;
    const int32_t ids[] = {[MARK_CALLS_BEGIN] = m->calls_begin,
                           [MARK_CALL_BEGIN] = m->call_begin,
                           [MARK_CALL_SEP] = m->call_sep,
                           [MARK_CALL_END] = m->call_end,
                           [MARK_CALLS_END] = m->calls_end};
    for (int i = 0; o->calls && !o->in_reasoning && id >= 0 && i <= MARK_CALLS_END; i++)
        if (ids[i] == id) {
            *mark = (enum tool_mark)i;
            return true;
        }
    return false;
}

static enum status push_mark(struct textout *o, int32_t id, enum tool_mark mark, struct delta *out)
{
    char text[128];
    size_t len = 0;
    const uint8_t *bytes = tokenizer_bytes(o->t, id, &len);
    snprintf(text, sizeof text, "%.*s", (int)len, (const char *)bytes);
    enum status st = show_all(o, out);
    o->leading = false;
    if (st == OK && !o->stopped)
        st = toolout_mark(o->calls, mark, text, out, &o->held);
    return st == OK && !o->stopped ? show_held(o, out) : st;
}

static enum status push_text(struct textout *o, int32_t id, struct delta *out)
{
    size_t len = 0;
    const uint8_t *data = tokenizer_bytes(o->t, id, &len);
    if (!data || len == 0 || tokenizer_is_special(o->t, id))
        return OK; /* a model may have more ids than its tokenizer */
    enum status st = add_characters(o, data, len);
    return st == OK ? place_whole(o, out) : st;
}

/* The first call has been told and is over. */
static bool has_its_call(const struct textout *o)
{
    return o->one_call && o->calls && toolout_calls(o->calls) && !toolout_within_call(o->calls);
}

enum status textout_push(struct textout *o, int32_t id, struct delta *out,
                         struct textout_said *said)
{
    assert(!o->stopped);
    enum status st = OK;
    enum tool_mark mark;
    *said = (struct textout_said){.is_reasoning = o->in_reasoning}; /* with the mark that ends it */
    if (is_end(o, id)) {
        st = textout_flush(o, out);
        o->stopped = true;
    } else if (id == o->markers.think_begin && id >= 0) {
        st = set_reasoning(o, true, out);
        said->is_reasoning = true;
    } else if (id == o->markers.think_end && id >= 0) {
        st = set_reasoning(o, false, out);
    } else if (find_mark(o, id, &mark)) {
        st = push_mark(o, id, mark, out);
    } else {
        st = push_text(o, id, out);
        said->is_content = !o->in_reasoning && !(o->calls && toolout_within(o->calls));
    }
    if (st == OK && !o->stopped && has_its_call(o)) {
        st = textout_flush(o, out);
        o->stopped = true;
    }
    said->stopped = o->stopped;
    return st;
}

enum status textout_flush(struct textout *o, struct delta *out)
{
    if (o->stopped)
        return OK;
    enum status st = end_cut(o, out);
    if (st == OK && o->calls && !o->stopped)
        st = toolout_end(o->calls, out, &o->held);
    if (st == OK && !o->stopped)
        st = show_held(o, out);
    return st == OK && !o->stopped ? show(o, buf_len(&o->held), out) : st;
}
