#include "worker/grammar/core.h"

#include <assert.h>

enum {
    INDENT_SPACES_MAX = 32,
    INDENT_TABS_MAX = 8,
    INTEGER_DIGITS = 18,  /* fits int64_t */
    NUMBER_DIGITS = 21,   /* what JavaScript writes without an exponent */
    FRACTION_DIGITS = 20, /* with the exponents below, finite as a double */
};

static void edge(struct automaton *a, uint32_t from, char byte, uint32_t to)
{
    automaton_edge(a, from, (uint8_t)byte, (uint8_t)byte, to);
}

static void range(struct automaton *a, uint32_t from, int lo, int hi, uint32_t to)
{
    automaton_edge(a, from, (uint8_t)lo, (uint8_t)hi, to);
}

static void hex(struct automaton *a, uint32_t from, uint32_t to)
{
    range(a, from, '0', '9', to);
    range(a, from, 'a', 'f', to);
    range(a, from, 'A', 'F', to);
}

static uint32_t begin(struct automaton *a)
{
    return automaton_start(a, automaton_rule(a, NULL));
}

static uint32_t accepting(struct automaton *a)
{
    uint32_t node = automaton_node(a);
    automaton_flag(a, node, NODE_ACCEPT);
    return node;
}

static void build_gap(struct automaton *a)
{
    uint32_t start = begin(a);
    automaton_flag(a, start, NODE_ACCEPT);
    edge(a, start, ' ', accepting(a));
    uint32_t line = accepting(a), at = line;
    edge(a, start, '\n', line);
    for (int i = 0; i < INDENT_SPACES_MAX; i++) {
        uint32_t next = accepting(a);
        edge(a, at, ' ', next);
        at = next;
    }
    at = line;
    for (int i = 0; i < INDENT_TABS_MAX; i++) {
        uint32_t next = accepting(a);
        edge(a, at, '\t', next);
        at = next;
    }
}

/* Behind a backslash and u: no \u0000, and surrogates only in pairs. */
static void build_unicode(struct automaton *a, uint32_t from, uint32_t body)
{
    uint32_t one = automaton_node(a), two = automaton_node(a), three = automaton_node(a);
    hex(a, three, two);
    hex(a, two, one);
    hex(a, one, body);
    range(a, from, '1', '9', three);
    range(a, from, 'a', 'c', three);
    range(a, from, 'A', 'C', three);
    range(a, from, 'e', 'f', three);
    range(a, from, 'E', 'F', three);
    uint32_t zero[3] = {automaton_node(a), automaton_node(a), automaton_node(a)};
    const uint32_t after[3] = {two, one, body};
    edge(a, from, '0', zero[0]);
    for (int i = 0; i < 3; i++) {
        range(a, zero[i], '1', '9', after[i]);
        range(a, zero[i], 'a', 'f', after[i]);
        range(a, zero[i], 'A', 'F', after[i]);
        if (i < 2)
            edge(a, zero[i], '0', zero[i + 1]);
    }
    uint32_t d = automaton_node(a), high2 = automaton_node(a), high1 = automaton_node(a);
    edge(a, from, 'd', d);
    edge(a, from, 'D', d);
    range(a, d, '0', '7', two);
    range(a, d, '8', '9', high2);
    range(a, d, 'a', 'b', high2);
    range(a, d, 'A', 'B', high2);
    uint32_t high = automaton_node(a), slash = automaton_node(a), u = automaton_node(a);
    uint32_t low = automaton_node(a);
    hex(a, high2, high1);
    hex(a, high1, high);
    edge(a, high, '\\', slash);
    edge(a, slash, 'u', u);
    edge(a, u, 'd', low);
    edge(a, u, 'D', low);
    range(a, low, 'c', 'f', two);
    range(a, low, 'C', 'F', two);
}

void core_characters(struct automaton *a, uint32_t from, uint32_t to)
{
    uint32_t one = automaton_node(a), two = automaton_node(a), three = automaton_node(a);
    range(a, one, 0x80, 0xbf, to);
    range(a, two, 0x80, 0xbf, one);
    range(a, three, 0x80, 0xbf, two);
    uint32_t e0 = automaton_node(a), ed = automaton_node(a);
    uint32_t f0 = automaton_node(a), f4 = automaton_node(a);
    range(a, e0, 0xa0, 0xbf, one);
    range(a, ed, 0x80, 0x9f, one);
    range(a, f0, 0x90, 0xbf, two);
    range(a, f4, 0x80, 0x8f, two);
    range(a, from, 0xc2, 0xdf, one);
    range(a, from, 0xe0, 0xe0, e0);
    range(a, from, 0xe1, 0xec, two);
    range(a, from, 0xed, 0xed, ed);
    range(a, from, 0xee, 0xef, two);
    range(a, from, 0xf0, 0xf0, f0);
    range(a, from, 0xf1, 0xf3, three);
    range(a, from, 0xf4, 0xf4, f4);
}

static void build_string(struct automaton *a)
{
    uint32_t start = begin(a), body = automaton_node(a), end = accepting(a);
    edge(a, start, '"', body);
    edge(a, body, '"', end);
    range(a, body, 0x20, 0x21, body);
    range(a, body, 0x23, 0x5b, body);
    range(a, body, 0x5d, 0x7f, body);
    core_characters(a, body, body);
    uint32_t escape = automaton_node(a), unicode = automaton_node(a);
    edge(a, body, '\\', escape);
    for (const char *c = "\"\\/bfnrt"; *c; c++)
        edge(a, escape, *c, body);
    edge(a, escape, 'u', unicode);
    build_unicode(a, unicode, body);
    for (uint32_t i = start; a->status == OK && i < a->node_count; i++)
        automaton_flag(a, i, NODE_STRING);
    automaton_flag(a, body, NODE_CHAR);
}

/* A zero, or digits of which the first is none. Returns with at[0..max] the nodes. */
static void build_digits(struct automaton *a, uint32_t from, int max, uint32_t *at)
{
    at[0] = accepting(a);
    edge(a, from, '0', at[0]);
    for (int i = 1; i <= max; i++) {
        at[i] = accepting(a);
        range(a, i == 1 ? from : at[i - 1], i == 1 ? '1' : '0', '9', at[i]);
    }
}

static void build_exponent(struct automaton *a, uint32_t from)
{
    uint32_t sign = automaton_node(a), one = accepting(a), last = accepting(a);
    uint32_t tens = accepting(a), hundreds = accepting(a), two = accepting(a);
    edge(a, from, '+', sign);
    edge(a, from, '-', sign);
    for (int i = 0; i < 2; i++) {
        uint32_t at = i ? sign : from;
        edge(a, at, '0', one);
        range(a, at, '3', '9', one);
        edge(a, at, '1', tens);
        edge(a, at, '2', two);
    }
    range(a, one, '0', '9', last);
    range(a, tens, '0', '9', hundreds);
    range(a, two, '0', '7', hundreds);
    range(a, two, '8', '9', last);
    range(a, hundreds, '0', '9', last);
}

static void build_number(struct automaton *a)
{
    uint32_t start = begin(a), minus = automaton_node(a), digits[NUMBER_DIGITS + 1];
    edge(a, start, '-', minus);
    automaton_jump(a, start, minus);
    build_digits(a, minus, NUMBER_DIGITS, digits);
    uint32_t point = automaton_node(a), exponent = automaton_node(a), at = point;
    for (int i = 0; i <= NUMBER_DIGITS; i++) {
        edge(a, digits[i], '.', point);
        edge(a, digits[i], 'e', exponent);
        edge(a, digits[i], 'E', exponent);
    }
    for (int i = 0; i < FRACTION_DIGITS; i++) {
        uint32_t next = accepting(a);
        range(a, at, '0', '9', next);
        edge(a, next, 'e', exponent);
        edge(a, next, 'E', exponent);
        at = next;
    }
    build_exponent(a, exponent);
}

static void build_integer(struct automaton *a)
{
    uint32_t start = begin(a), minus = automaton_node(a), end = accepting(a);
    edge(a, start, '-', minus);
    edge(a, start, '0', end);
    uint32_t at = accepting(a);
    range(a, start, '1', '9', at);
    range(a, minus, '1', '9', at);
    for (int i = 1; i < INTEGER_DIGITS; i++) {
        uint32_t next = accepting(a);
        range(a, at, '0', '9', next);
        at = next;
    }
}

static void build_words(struct automaton *a, const char *const *words)
{
    uint32_t start = begin(a);
    for (; *words; words++)
        automaton_flag(a, automaton_branch(a, start, *words, strlen(*words)), NODE_ACCEPT);
}

static void build_value(struct automaton *a)
{
    uint32_t start = begin(a), end = accepting(a);
    static const int kinds[] = {RULE_STRING, RULE_NUMBER, RULE_BOOLEAN,
                                RULE_NULL,   RULE_OBJECT, RULE_ARRAY};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        automaton_call(a, start, (uint32_t)kinds[i], end);
}

uint32_t core_after_colon(struct automaton *a, uint32_t from)
{
    uint32_t value = automaton_node(a);
    edge(a, from, ' ', value);
    automaton_jump(a, from, value);
    return value;
}

static void build_container(struct automaton *a, char open, char close)
{
    uint32_t start = begin(a), opened = automaton_node(a), first = automaton_node(a);
    uint32_t item = automaton_node(a), value = automaton_node(a), after = automaton_node(a);
    uint32_t comma = automaton_node(a), closing = automaton_node(a), end = accepting(a);
    edge(a, start, open, opened);
    automaton_call(a, opened, RULE_GAP, first);
    edge(a, first, close, end);
    automaton_jump(a, first, item);
    if (open == '{') {
        uint32_t key = automaton_node(a), colon = automaton_node(a);
        automaton_call(a, item, RULE_STRING, key);
        edge(a, key, ':', colon);
        automaton_jump(a, core_after_colon(a, colon), value);
    } else {
        automaton_jump(a, item, value);
    }
    automaton_call(a, value, RULE_VALUE, after);
    edge(a, after, ',', comma);
    automaton_call(a, comma, RULE_GAP, item);
    automaton_call(a, after, RULE_GAP, closing);
    edge(a, closing, close, end);
}

void core_build(struct automaton *a)
{
    static const char *const booleans[] = {"true", "false", NULL};
    static const char *const null[] = {"null", NULL};
    assert(a->rule_count == 0 && a->node_count == 0);
    build_gap(a);
    build_string(a);
    build_number(a);
    build_integer(a);
    build_words(a, booleans);
    build_words(a, null);
    build_value(a);
    build_container(a, '{', '}');
    build_container(a, '[', ']');
    assert(a->status != OK || a->rule_count == CORE_RULES);
}
