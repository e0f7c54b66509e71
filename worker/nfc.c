#include "worker/nfc.h"

#include <stdint.h>
#include <stdlib.h>

struct nfc_parts {
    uint32_t whole, first, second; /* second 0: only one part */
};

struct nfc_class {
    uint32_t from, to;
    uint8_t class;
};

#include "worker/nfc_table.inc.h"

enum {
    SYLLABLES = 0xac00, /* Korean ones are computed: leading, vowel and trailing letters */
    LEADS = 0x1100,
    VOWELS = 0x1161,
    TRAILS = 0x11a7,
    LEAD_COUNT = 19,
    VOWEL_COUNT = 21,
    TRAIL_COUNT = 28,
    SYLLABLE_COUNT = LEAD_COUNT * VOWEL_COUNT * TRAIL_COUNT,
    RUN_MAX = 256, /* code points of a run; what goes on longer is composed in pieces */
};

/* A character and what combines with it, decomposed. */
struct run {
    uint32_t code[RUN_MAX];
    uint8_t class[RUN_MAX];
    size_t count;
};

/* ---- tables ---- */

static uint8_t class_of(uint32_t c)
{
    size_t lo = 0, hi = sizeof classes / sizeof *classes;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (c > classes[mid].to)
            lo = mid + 1;
        else
            hi = mid;
    }
    bool in = lo < sizeof classes / sizeof *classes && c >= classes[lo].from;
    return in ? classes[lo].class : 0;
}

static const struct nfc_parts *parts_of(uint32_t c)
{
    size_t lo = 0, hi = sizeof parts / sizeof *parts;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (parts[mid].whole < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < sizeof parts / sizeof *parts && parts[lo].whole == c ? &parts[lo] : NULL;
}

static uint32_t join_letters(uint32_t a, uint32_t b)
{
    if (a >= LEADS && a < LEADS + LEAD_COUNT && b >= VOWELS && b < VOWELS + VOWEL_COUNT)
        return SYLLABLES + ((a - LEADS) * VOWEL_COUNT + (b - VOWELS)) * TRAIL_COUNT;
    bool open =
        a >= SYLLABLES && a < SYLLABLES + SYLLABLE_COUNT && (a - SYLLABLES) % TRAIL_COUNT == 0;
    return open && b > TRAILS && b < TRAILS + TRAIL_COUNT ? a + (b - TRAILS) : 0;
}

/* The one that both make; 0: none. */
static uint32_t join(uint32_t a, uint32_t b)
{
    size_t lo = 0, hi = sizeof joined / sizeof *joined;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        const struct nfc_parts *p = &parts[joined[mid]];
        if (p->first < a || (p->first == a && p->second < b))
            lo = mid + 1;
        else
            hi = mid;
    }
    const struct nfc_parts *p = lo < sizeof joined / sizeof *joined ? &parts[joined[lo]] : NULL;
    return p && p->first == a && p->second == b ? p->whole : join_letters(a, b);
}

/* ---- runs ---- */

static enum status put(struct buf *out, uint32_t c)
{
    char text[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n; i-- > 1; c >>= 6)
        text[i] = (char)(0x80 | (c & 63));
    text[0] = (char)(lead[n] | c);
    return buf_add(out, text, n);
}

/* Joins what can be joined with the first, or with a later character of class 0. */
static enum status end_run(struct run *r, struct buf *out)
{
    size_t starter = 0, kept = 0;
    uint8_t last = 0;
    for (size_t i = 0; i < r->count; i++) {
        bool blocked = kept > starter + 1 && (last == 0 || last >= r->class[i]);
        uint32_t one = kept > starter && r->class[starter] == 0 && !blocked
                           ? join(r->code[starter], r->code[i])
                           : 0;
        if (one) {
            r->code[starter] = one;
            continue;
        }
        if (r->class[i] == 0)
            starter = kept;
        last = r->class[i];
        r->code[kept] = r->code[i];
        r->class[kept++] = last;
    }
    enum status st = OK;
    for (size_t i = 0; i < kept && st == OK; i++)
        st = put(out, r->code[i]);
    r->count = 0;
    return st;
}

/* Nothing in front of such a character can join with it or what follows. */
static bool begins_anew(uint32_t c, uint8_t class)
{
    if (class || (c >= VOWELS && c < VOWELS + VOWEL_COUNT) ||
        (c > TRAILS && c < TRAILS + TRAIL_COUNT))
        return false;
    for (size_t i = 0; i < sizeof seconds / sizeof *seconds; i++)
        if (seconds[i] == c)
            return false;
    return true;
}

static enum status add(struct run *r, uint32_t c, struct buf *out)
{
    uint8_t class = class_of(c);
    if (r->count && (r->count == RUN_MAX || begins_anew(c, class))) {
        enum status st = end_run(r, out);
        if (st != OK)
            return st;
    }
    size_t at = r->count++;
    for (; class && at > 0 && r->class[at - 1] > class; at--) {
        r->code[at] = r->code[at - 1];
        r->class[at] = r->class[at - 1];
    }
    r->code[at] = c;
    r->class[at] = class;
    return OK;
}

static enum status decompose(struct run *r, uint32_t c, struct buf *out)
{
    if (c >= SYLLABLES && c < SYLLABLES + SYLLABLE_COUNT) {
        uint32_t s = c - SYLLABLES, trail = s % TRAIL_COUNT;
        enum status st = add(r, LEADS + s / (VOWEL_COUNT * TRAIL_COUNT), out);
        if (st == OK)
            st = add(r, VOWELS + s / TRAIL_COUNT % VOWEL_COUNT, out);
        return st == OK && trail ? add(r, TRAILS + trail, out) : st;
    }
    const struct nfc_parts *p = parts_of(c);
    if (!p)
        return add(r, c, out);
    enum status st = decompose(r, p->first, out);
    return st == OK && p->second ? decompose(r, p->second, out) : st;
}

/* ---- texts ---- */

bool nfc_may_change(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] >= 0xcc) /* U+0300 on */
            return true;
    return false;
}

static size_t take(const uint8_t *u, uint32_t *c)
{
    size_t more = *u < 0x80 ? 0 : *u < 0xe0 ? 1 : *u < 0xf0 ? 2 : 3;
    *c = more ? *u & (0x3fu >> more) : *u;
    for (size_t i = 1; i <= more; i++)
        *c = *c << 6 | (u[i] & 63u);
    return 1 + more;
}

enum status nfc_compose(const char *text, size_t len, struct buf *out)
{
    struct run *r = calloc(1, sizeof *r);
    enum status st = r ? OK : NOMEM;
    for (size_t i = 0; i < len && st == OK;) {
        uint32_t c;
        i += take((const uint8_t *)text + i, &c);
        st = decompose(r, c, out);
    }
    if (st == OK)
        st = end_run(r, out);
    free(r);
    return st;
}
