#include "worker/grammar/decimal.h"

#include <assert.h>
#include <math.h>

enum {
    DIGITS = 15,         /* of a number whose double is its own */
    INTEGER_DIGITS = 18, /* of an integer without a bound */
    INT_MAX_DIGITS = 330,
    FRACTION_MAX = 24,
};

enum order { BELOW, EQUAL, ABOVE };

struct side { /* a bound, not negative */
    bool set, excluded;
    char text[DECIMAL_MAX];
    const char *fraction;
    int int_len, fraction_len;
};

struct search {
    struct automaton *a;
    struct side low, high;
    bool integer;
    int int_max, digits; /* before the point; in all, when there is a point */
    uint32_t whole[INT_MAX_DIGITS + 1][9];
    uint32_t zero[9];
    uint32_t fraction[FRACTION_MAX + 1][FRACTION_MAX + 2][2][9];
};

enum { UNKNOWN = UINT32_MAX - 1 };

void decimal_text(double value, char *out)
{
    char digits[40];
    int precision = 1;
    do
        snprintf(digits, sizeof digits, "%.*e", precision - 1, fabs(value));
    while (strtod(digits, NULL) != fabs(value) && ++precision <= 17);
    int exponent = (int)strtol(strchr(digits, 'e') + 1, NULL, 10), at = 0;
    char plain[20];
    for (const char *c = digits; *c != 'e'; c++)
        if (*c != '.')
            plain[at++] = *c;
    plain[at] = 0;
    if (value < 0)
        *out++ = '-';
    if (exponent >= 0 && fabs(value) == floor(fabs(value))) {
        snprintf(out, DECIMAL_MAX - 1, "%.0f", fabs(value));
        return;
    }
    for (int i = exponent; i < 0; i++) {
        *out++ = '0';
        if (i == exponent)
            *out++ = '.';
    }
    for (int i = 0; i < at; i++) {
        *out++ = plain[i];
        if (i == exponent && i + 1 < at)
            *out++ = '.';
    }
    *out = 0;
}

static void side_init(struct side *s, double value, bool excluded)
{
    *s = (struct side){.set = isfinite(value), .excluded = excluded};
    if (!s->set)
        return;
    decimal_text(fabs(value), s->text);
    char *point = strchr(s->text, '.');
    s->int_len = (int)(point ? (size_t)(point - s->text) : strlen(s->text));
    s->fraction = point ? point + 1 : "";
    s->fraction_len = (int)strlen(s->fraction);
}

static enum order compare(enum order so_far, int digit, char other)
{
    if (so_far != EQUAL)
        return so_far;
    return digit < other - '0' ? BELOW : digit > other - '0' ? ABOVE : EQUAL;
}

/* Against a bound, with `at` digits of the fraction read. */
static bool inside(const struct search *s, enum order low, enum order high, int at)
{
    bool above = low == ABOVE || (low == EQUAL && at >= s->low.fraction_len && !s->low.excluded);
    bool below =
        high == BELOW || (high == EQUAL && (at < s->high.fraction_len || !s->high.excluded));
    return above && below;
}

/* A node with edges over digits, or none if nothing can be accepted from it. */
static uint32_t finish(struct search *s, bool accept, const uint32_t to[10], uint32_t point)
{
    bool alive = accept || point != GRAMMAR_NONE;
    for (int d = 0; d < 10; d++)
        alive |= to[d] != GRAMMAR_NONE;
    if (!alive)
        return GRAMMAR_NONE;
    uint32_t node = automaton_node(s->a);
    if (accept)
        automaton_flag(s->a, node, NODE_ACCEPT);
    for (int d = 0, end; d < 10; d = end) {
        for (end = d + 1; end < 10 && to[end] == to[d]; end++)
            ;
        if (to[d] != GRAMMAR_NONE)
            automaton_edge(s->a, node, (uint8_t)('0' + d), (uint8_t)('0' + end - 1), to[d]);
    }
    if (point != GRAMMAR_NONE)
        automaton_edge(s->a, node, '.', '.', point);
    return node;
}

static uint32_t fraction(struct search *s, int left, int at, enum order low, enum order high)
{
    if (low == BELOW || high == ABOVE)
        return GRAMMAR_NONE;
    bool tied = low == EQUAL || high == EQUAL;
    uint32_t *known = &s->fraction[left][tied ? at : 0][at > 0][low * 3 + high];
    if (*known != UNKNOWN)
        return *known;
    uint32_t to[10];
    for (int d = 0; d < 10; d++) {
        char a = at < s->low.fraction_len ? s->low.fraction[at] : '0';
        char b = at < s->high.fraction_len ? s->high.fraction[at] : '0';
        to[d] = left ? fraction(s, left - 1, at + 1, compare(low, d, a), compare(high, d, b))
                     : GRAMMAR_NONE;
    }
    return *known = finish(s, at > 0 && inside(s, low, high, at), to, GRAMMAR_NONE);
}

/* The number's whole part is complete with so many digits. */
static enum order settled(const struct side *side, enum order so_far, int digits)
{
    return digits < side->int_len ? BELOW : so_far;
}

static uint32_t after_digits(struct search *s, int count, enum order low, enum order high,
                             const uint32_t to[10])
{
    low = settled(&s->low, low, count);
    high = s->high.set ? settled(&s->high, high, count) : BELOW;
    int left = s->integer || count >= s->digits ? 0 : s->digits - count;
    uint32_t point = left ? fraction(s, left, 0, low, high) : GRAMMAR_NONE;
    return finish(s, low != BELOW && high != ABOVE && inside(s, low, high, 0), to, point);
}

static enum order next_order(const struct side *side, enum order so_far, int digit, int at,
                             enum order without)
{
    if (!side->set)
        return without;
    return at < side->int_len ? compare(so_far, digit, side->text[at]) : ABOVE;
}

static uint32_t whole(struct search *s, int count, enum order low, enum order high)
{
    if (count > s->int_max || (s->high.set && count > s->high.int_len))
        return GRAMMAR_NONE;
    uint32_t *known = &s->whole[count][low * 3 + high];
    if (*known != UNKNOWN)
        return *known;
    uint32_t to[10];
    for (int d = 0; d < 10; d++)
        to[d] = count < s->int_max ? whole(s, count + 1, next_order(&s->low, low, d, count, ABOVE),
                                           next_order(&s->high, high, d, count, BELOW))
                                   : GRAMMAR_NONE;
    return *known = after_digits(s, count, low, high, to);
}

/* Edges from a node over all numbers, none of them negative, between the bounds. */
static bool between(struct search *s, uint32_t from)
{
    static const uint32_t none[10] = {GRAMMAR_NONE, GRAMMAR_NONE, GRAMMAR_NONE, GRAMMAR_NONE,
                                      GRAMMAR_NONE, GRAMMAR_NONE, GRAMMAR_NONE, GRAMMAR_NONE,
                                      GRAMMAR_NONE, GRAMMAR_NONE};
    int longest = s->low.int_len + 1 > INTEGER_DIGITS ? s->low.int_len + 1 : INTEGER_DIGITS;
    s->int_max = s->high.set ? s->high.int_len : s->integer ? longest : longest - 3;
    int digits = s->low.int_len + s->low.fraction_len;
    int other = s->high.set ? s->high.int_len + s->high.fraction_len : 0;
    digits = other > digits ? other : digits;
    bool exact = s->low.excluded || s->high.excluded;
    s->digits = digits > DIGITS && !exact ? digits : DIGITS;
    s->digits = s->digits > FRACTION_MAX ? FRACTION_MAX : s->digits;
    for (size_t i = 0; i < sizeof s->whole / sizeof(uint32_t); i++)
        (&s->whole[0][0])[i] = UNKNOWN;
    for (size_t i = 0; i < sizeof s->fraction / sizeof(uint32_t); i++)
        (&s->fraction[0][0][0][0])[i] = UNKNOWN;
    bool any = false;
    for (int d = 0; d < 10; d++) {
        enum order low = next_order(&s->low, EQUAL, d, 0, ABOVE);
        enum order high = next_order(&s->high, EQUAL, d, 0, BELOW);
        uint32_t to = d ? whole(s, 1, low, high) : after_digits(s, 1, low, high, none);
        if (to == GRAMMAR_NONE)
            continue;
        automaton_edge(s->a, from, (uint8_t)('0' + d), (uint8_t)('0' + d), to);
        any = true;
    }
    return any;
}

/* Whole bounds for integers; past 2^53 an excluded bound gives way to its neighbour, since the
 * numbers between the two may read back as the bound itself. */
static struct decimal_range normalise(struct decimal_range r)
{
    const double exact = 9007199254740992.0;
    if (r.integer && isfinite(r.low) && r.low != ceil(r.low)) {
        r.low = ceil(r.low);
        r.above = false;
    }
    if (r.integer && isfinite(r.high) && r.high != floor(r.high)) {
        r.high = floor(r.high);
        r.below = false;
    }
    if (r.above && fabs(r.low) >= exact) {
        r.low = nextafter(r.low, INFINITY);
        r.above = false;
    }
    if (r.below && fabs(r.high) >= exact) {
        r.high = nextafter(r.high, -INFINITY);
        r.below = false;
    }
    return r;
}

uint32_t decimal_rule(struct automaton *a, struct decimal_range r, const char *place)
{
    r = normalise(r);
    struct search *s = malloc(sizeof *s);
    if (!s) {
        a->status = a->status == OK ? NOMEM : a->status;
        return GRAMMAR_NONE;
    }
    uint32_t rule = automaton_rule(a, place);
    bool any = false;
    if (a->status == OK && (r.high > 0 || (r.high == 0 && !r.below))) {
        s->a = a;
        s->integer = r.integer;
        side_init(&s->low, r.low > 0 ? r.low : 0, r.low >= 0 && r.above);
        side_init(&s->high, r.high, r.below);
        any |= between(s, automaton_start(a, rule));
    }
    if (a->status == OK && r.low < 0) {
        uint32_t minus = automaton_node(a);
        s->a = a;
        s->integer = r.integer;
        side_init(&s->low, r.high < 0 ? r.high : 0, r.high >= 0 || r.below);
        side_init(&s->high, r.low, r.above);
        automaton_edge(a, automaton_start(a, rule), '-', '-', minus);
        any |= between(s, minus);
    }
    free(s);
    return any && a->status == OK ? rule : GRAMMAR_NONE;
}
