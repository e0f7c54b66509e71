#include "worker/grammar/regex.h"

#include "worker/grammar/nfa.h"

/* The parser: characters to a tree. */
struct parser {
    const char *text;
    size_t at;
    int depth;
    struct tree *tree;
    struct error *err;
    enum status status;
};

enum { GROUPS_DEEP = 32, REPEAT_MAX = 1000 };

static uint32_t fail(struct parser *p, const char *what)
{
    if (p->status == OK)
        p->status = error_set(p->err, INVALID, "%s, at byte %zu", what, p->at + 1);
    return TREE_NONE;
}

static uint32_t keep(struct parser *p, uint32_t node)
{
    if (node == TREE_NONE && p->status == OK)
        p->status = error_set(p->err, LIMITED, "too long");
    return node;
}

static bool take(struct parser *p, const char *word)
{
    size_t n = strlen(word);
    if (strncmp(p->text + p->at, word, n) != 0)
        return false;
    p->at += n;
    return true;
}

static char peek(const struct parser *p)
{
    return p->text[p->at];
}

/* The next character; the text is valid UTF-8. */
static uint32_t next_char(struct parser *p)
{
    size_t len;
    uint32_t c = dfa_decode(p->text + p->at, &len);
    p->at += len;
    return c;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static uint32_t hex_digits(struct parser *p, int count)
{
    uint32_t value = 0;
    for (int i = 0; i < count; i++) {
        int digit = hex_digit(peek(p));
        if (digit < 0) {
            fail(p, "a hexadecimal digit is missing");
            return 0;
        }
        value = value * 16 + (uint32_t)digit;
        p->at++;
    }
    return value;
}

/* Behind \u: four digits, two such for a pair of surrogates, or any number in braces. */
static uint32_t unicode_escape(struct parser *p)
{
    if (take(p, "{")) {
        uint32_t value = 0;
        do
            value = value * 16 + hex_digits(p, 1);
        while (p->status == OK && peek(p) != '}' && value <= 0x10ffff);
        if (p->status == OK && (value > 0x10ffff || !take(p, "}")))
            fail(p, "there is no such character");
        return value;
    }
    uint32_t high = hex_digits(p, 4);
    if (high < 0xd800 || high > 0xdbff || !take(p, "\\u"))
        return high;
    uint32_t low = hex_digits(p, 4);
    if (low < 0xdc00 || low > 0xdfff) {
        fail(p, "half a pair of surrogates");
        return 0;
    }
    return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
}

/* Behind a backslash: one character. */
static uint32_t escaped_char(struct parser *p, bool in_class)
{
    static const char names[] = "tnvfr", values[] = "\t\n\v\f\r";
    char c = peek(p);
    const char *name = c ? strchr(names, c) : NULL;
    if (c && strchr("^$\\.*+?()[]{}|/-", c)) {
        p->at++;
        return (uint32_t)c;
    }
    if (name) {
        p->at++;
        return (uint32_t)values[name - names];
    }
    if (take(p, "x"))
        return hex_digits(p, 2);
    if (take(p, "u"))
        return unicode_escape(p);
    if (c == 'b' && in_class) {
        p->at++;
        return '\b';
    }
    if (c == '0' && (p->text[p->at + 1] < '0' || p->text[p->at + 1] > '9')) {
        p->at++;
        return 0;
    }
    if (c == 'c' && ((p->text[p->at + 1] | 32) >= 'a' && (p->text[p->at + 1] | 32) <= 'z')) {
        p->at += 2;
        return (uint32_t)p->text[p->at - 1] & 31;
    }
    bool known = c && strchr("bBpPk123456789", c);
    fail(p, known ? "not supported: \\b, \\p and references to groups" : "unknown escape");
    return 0;
}

/* \d and its kin, if one is here: its ranges, or those of all else. */
static bool class_escape(struct parser *p, struct tree_set *set)
{
    static const struct {
        const char *name;
        struct tree_range ranges[10];
        int count;
    } kinds[] = {
        {"\\d", {{'0', '9'}}, 1},
        {"\\w", {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}, 4},
        {"\\s",
         {{9, 13},
          {32, 32},
          {0xa0, 0xa0},
          {0x1680, 0x1680},
          {0x2000, 0x200a},
          {0x2028, 0x2029},
          {0x202f, 0x202f},
          {0x205f, 0x205f},
          {0x3000, 0x3000},
          {0xfeff, 0xfeff}},
         10},
    };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        char negated[3] = {'\\', (char)(kinds[k].name[1] - 32), 0};
        bool all_else = take(p, negated);
        if (!all_else && !take(p, kinds[k].name))
            continue;
        struct tree_set own = {0};
        for (int i = 0; i < kinds[k].count; i++)
            tree_set_add(&own, kinds[k].ranges[i].lo, kinds[k].ranges[i].hi);
        if (all_else)
            tree_set_negate(&own);
        for (uint32_t i = 0; i < own.count; i++)
            tree_set_add(set, own.ranges[i].lo, own.ranges[i].hi);
        return true;
    }
    return false;
}

static uint32_t class_char(struct parser *p)
{
    return take(p, "\\") ? escaped_char(p, true) : next_char(p);
}

static uint32_t parse_class(struct parser *p)
{
    struct tree_set set = {0};
    bool negated = take(p, "^");
    while (p->status == OK && !take(p, "]")) {
        if (!peek(p))
            return fail(p, "[ without ]");
        if (class_escape(p, &set)) {
            if (peek(p) == '-' && p->text[p->at + 1] != ']')
                return fail(p, "a class is no end of a range");
            continue;
        }
        uint32_t lo = class_char(p), hi = lo;
        if (peek(p) == '-' && p->text[p->at + 1] && p->text[p->at + 1] != ']') {
            p->at++;
            hi = class_char(p);
        }
        if (lo > hi)
            return fail(p, "the range's ends are in the wrong order");
        tree_set_add(&set, lo, hi);
    }
    if (negated)
        tree_set_negate(&set);
    if (set.full)
        return fail(p, "too many ranges");
    return p->status == OK ? keep(p, tree_set_node(p->tree, &set)) : TREE_NONE;
}

static uint32_t one_char(struct parser *p, uint32_t c)
{
    struct tree_set set = {0};
    tree_set_add(&set, c, c);
    return keep(p, tree_set_node(p->tree, &set));
}

static uint32_t parse_choice(struct parser *p);

static uint32_t parse_group(struct parser *p)
{
    if (take(p, "?") && !take(p, ":")) {
        if (peek(p) != '<' || p->text[p->at + 1] == '=' || p->text[p->at + 1] == '!')
            return fail(p, "not supported: look-around and flags");
        while (peek(p) && !take(p, ">"))
            p->at++;
    }
    if (++p->depth > GROUPS_DEEP)
        return fail(p, "groups nest too deep");
    uint32_t inner = parse_choice(p);
    p->depth--;
    if (p->status == OK && !take(p, ")"))
        return fail(p, "( without )");
    return inner;
}

static uint32_t parse_atom(struct parser *p)
{
    struct tree_set set = {0};
    if (take(p, "("))
        return parse_group(p);
    if (take(p, "["))
        return parse_class(p);
    if (take(p, ".")) {
        tree_set_add(&set, '\n', '\n');
        tree_set_add(&set, '\r', '\r');
        tree_set_add(&set, 0x2028, 0x2029);
        tree_set_negate(&set);
        return keep(p, tree_set_node(p->tree, &set));
    }
    if (class_escape(p, &set))
        return keep(p, tree_set_node(p->tree, &set));
    if (take(p, "\\"))
        return one_char(p, escaped_char(p, false));
    if (strchr("*+?{}]", peek(p)))
        return fail(p, "nothing to repeat, or a lone bracket");
    return one_char(p, next_char(p));
}

/* Digits; a number past the limit is as good as the limit plus one. */
static uint32_t parse_count(struct parser *p)
{
    uint32_t n = 0;
    if (peek(p) < '0' || peek(p) > '9')
        fail(p, "a number is missing");
    for (; peek(p) >= '0' && peek(p) <= '9'; p->at++)
        n = n > REPEAT_MAX ? n : n * 10 + (uint32_t)(peek(p) - '0');
    return n;
}

static bool parse_repeat(struct parser *p, uint32_t *least, uint32_t *most)
{
    *least = 0;
    *most = TREE_NONE;
    if (take(p, "+")) {
        *least = 1;
    } else if (take(p, "?")) {
        *most = 1;
    } else if (take(p, "{")) {
        *least = *most = parse_count(p);
        if (take(p, ","))
            *most = peek(p) == '}' ? TREE_NONE : parse_count(p);
        if (p->status == OK && !take(p, "}"))
            fail(p, "{ without }");
        if (*most < *least)
            fail(p, "the repetition's ends are in the wrong order");
        if (*least > REPEAT_MAX || (*most != TREE_NONE && *most > REPEAT_MAX))
            fail(p, "not supported: more than 1000 repetitions");
    } else if (!take(p, "*")) {
        return false;
    }
    take(p, "?"); /* lazy or not, the language is the same */
    return true;
}

static uint32_t parse_term(struct parser *p)
{
    if (take(p, "^"))
        return keep(p, tree_node(p->tree, TREE_BEGIN));
    if (take(p, "$"))
        return keep(p, tree_node(p->tree, TREE_END));
    uint32_t atom = parse_atom(p), least, most;
    if (p->status == OK && parse_repeat(p, &least, &most))
        atom = keep(p, tree_repeat(p->tree, atom, least, most));
    return atom;
}

static uint32_t parse_sequence(struct parser *p)
{
    uint32_t sequence = keep(p, tree_node(p->tree, TREE_SEQUENCE));
    while (p->status == OK && peek(p) && peek(p) != '|' && peek(p) != ')') {
        uint32_t term = parse_term(p);
        if (p->status == OK)
            tree_append(p->tree, sequence, term);
    }
    return sequence;
}

static uint32_t parse_choice(struct parser *p)
{
    uint32_t choice = keep(p, tree_node(p->tree, TREE_CHOICE));
    do {
        uint32_t sequence = parse_sequence(p);
        if (p->status == OK)
            tree_append(p->tree, choice, sequence);
    } while (p->status == OK && take(p, "|"));
    return choice;
}

enum status regex_compile(const char *pattern, struct automaton *budget, struct dfa *out,
                          struct error *err)
{
    struct tree tree;
    if (!tree_init(&tree))
        return error_set(err, NOMEM, "out of memory");
    struct parser p = {.text = pattern, .tree = &tree, .err = err};
    uint32_t root = parse_choice(&p);
    if (p.status == OK && peek(&p))
        fail(&p, ") without (");
    if (p.status == OK)
        p.status = nfa_determine(&tree, root, budget, out, err);
    tree_done(&tree);
    return p.status;
}
