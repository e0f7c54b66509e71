#include "gateway/api/logprobs.h"

#include <math.h>

#include "base/json_guard.h"

enum { TOKEN_BYTES_MAX = 1024 };
static const double LEAST = -9999.0; /* what clients know as "next to impossible" */

/* The token's text, with \xNN for each byte that is part of no whole character. */
static void put_token(struct writer *w, const ProtobufCBinaryData *token)
{
    static const char hex[] = "0123456789abcdef";
    char text[4 * TOKEN_BYTES_MAX];
    size_t n = 0, len = token->len < TOKEN_BYTES_MAX ? token->len : TOKEN_BYTES_MAX;
    const uint8_t *at = token->data, *end = at + len;
    while (at < end) {
        int bytes = *at < 0x80 ? 1 : json_utf8_len(at, end);
        if (bytes > 0) {
            memcpy(text + n, at, (size_t)bytes);
            n += (size_t)bytes;
            at += bytes;
            continue;
        }
        const char escape[4] = {'\\', 'x', hex[*at >> 4], hex[*at & 15]};
        memcpy(text + n, escape, sizeof escape);
        n += sizeof escape;
        at++;
    }
    writer_quoted(w, text, n);
}

static void put_value(struct writer *w, float logprob)
{
    char text[32];
    double n = (double)logprob;
    snprintf(text, sizeof text, "%.9g", n > LEAST ? fmin(n, 0) : LEAST); /* NaN too */
    writer_text(w, text);
}

static void put_pair(struct writer *w, const ProtobufCBinaryData *token, float logprob)
{
    writer_text(w, "{\"token\":");
    put_token(w, token);
    writer_text(w, ",\"logprob\":");
    put_value(w, logprob);
    writer_text(w, ",\"bytes\":[");
    for (size_t i = 0; i < token->len; i++) {
        if (i > 0)
            writer_text(w, ",");
        writer_number(w, token->data[i]);
    }
    writer_text(w, "]");
}

void logprobs_put(struct writer *w, Wire__TokenLogprob *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const Wire__TokenLogprob *l = list[i];
        if (i > 0)
            writer_text(w, ",");
        put_pair(w, &l->token, l->logprob);
        writer_text(w, ",\"top_logprobs\":[");
        for (size_t k = 0; k < l->n_top; k++) {
            if (k > 0)
                writer_text(w, ",");
            put_pair(w, &l->top[k]->token, l->top[k]->logprob);
            writer_text(w, "}");
        }
        writer_text(w, "]}");
    }
}

/* Characters that begin in these bytes. */
static int64_t characters(const ProtobufCBinaryData *token)
{
    int64_t n = 0;
    for (size_t i = 0; i < token->len; i++)
        n += (token->data[i] & 0xc0) != 0x80;
    return n;
}

static bool same(const ProtobufCBinaryData *a, const ProtobufCBinaryData *b)
{
    return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

/* An object by token text; of two with the same text the likelier one is kept. */
static void put_top(struct writer *w, const Wire__TokenLogprob *l)
{
    writer_text(w, "{");
    for (size_t i = 0; i < l->n_top; i++) {
        bool seen = false;
        for (size_t k = 0; k < i; k++)
            seen = seen || same(&l->top[k]->token, &l->top[i]->token);
        if (seen)
            continue;
        if (i > 0)
            writer_text(w, ",");
        put_token(w, &l->top[i]->token);
        writer_text(w, ":");
        put_value(w, l->top[i]->logprob);
    }
    writer_text(w, "}");
}

void logprobs_put_array(struct writer *w, int array, Wire__TokenLogprob *const *list, size_t count,
                        int64_t *offset)
{
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            writer_text(w, ",");
        switch (array) {
        case LOGPROBS_TOKENS:
            put_token(w, &list[i]->token);
            break;
        case LOGPROBS_VALUES:
            put_value(w, list[i]->logprob);
            break;
        case LOGPROBS_TOP:
            put_top(w, list[i]);
            break;
        default:
            writer_number(w, *offset);
            *offset += characters(&list[i]->token);
            break;
        }
    }
}
