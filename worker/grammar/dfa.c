#include <assert.h>

#include "worker/grammar/regex.h"

enum { DFA_ENTRIES_MAX = 1 << 20 };

void dfa_done(struct dfa *d)
{
    free(d->classes);
    free(d->next);
    free(d->accept);
    *d = (struct dfa){0};
}

static int by_number(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    return a < b ? -1 : a > b;
}

bool dfa_init(struct dfa *d, uint32_t *bounds, uint32_t count)
{
    static const uint32_t always[] = {0, 1, 0xd800, 0xe000};
    *d = (struct dfa){.classes = malloc((count + 5) * sizeof *d->classes)};
    if (!d->classes)
        return false;
    if (count)
        memcpy(d->classes, bounds, count * sizeof *bounds);
    memcpy(d->classes + count, always, sizeof always);
    count += 4;
    qsort(d->classes, count, sizeof *d->classes, by_number);
    for (uint32_t i = 0; i < count; i++)
        if (d->classes[i] <= 0x10ffff && (!i || d->classes[i] != d->classes[d->class_count - 1]))
            d->classes[d->class_count++] = d->classes[i];
    d->classes[d->class_count] = 0x110000;
    return true;
}

bool dfa_full(const struct dfa *d)
{
    return (uint64_t)(d->count + 1) * d->class_count > DFA_ENTRIES_MAX;
}

uint32_t dfa_add(struct dfa *d)
{
    if (d->count == d->size) {
        uint32_t size = d->size ? 2 * d->size : 16;
        uint32_t *next = realloc(d->next, (size_t)size * d->class_count * sizeof *next);
        if (!next)
            return DFA_DEAD;
        d->next = next;
        bool *accept = realloc(d->accept, size * sizeof *accept);
        if (!accept)
            return DFA_DEAD;
        d->accept = accept;
        d->size = size;
    }
    d->accept[d->count] = false;
    for (uint32_t c = 0; c < d->class_count; c++)
        d->next[(size_t)d->count * d->class_count + c] = DFA_DEAD;
    return d->count++;
}

uint32_t dfa_class(const struct dfa *d, uint32_t code_point)
{
    uint32_t lo = 0, hi = d->class_count;
    while (hi - lo > 1) {
        uint32_t mid = (lo + hi) / 2;
        if (d->classes[mid] <= code_point)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

bool dfa_never(const struct dfa *d, uint32_t class)
{
    return d->classes[class] == 0 || (d->classes[class] >= 0xd800 && d->classes[class] < 0xe000);
}

uint32_t dfa_decode(const char *text, size_t *len)
{
    const uint8_t *c = (const uint8_t *)text;
    uint32_t more = c[0] < 0x80 ? 0 : c[0] < 0xe0 ? 1 : c[0] < 0xf0 ? 2 : 3;
    uint32_t value = more == 0 ? c[0] : c[0] & (0x3fu >> more);
    for (uint32_t i = 1; i <= more; i++)
        value = value << 6 | (c[i] & 0x3f);
    *len = 1 + more;
    return value;
}

bool dfa_matches(const struct dfa *d, const char *text)
{
    uint32_t at = 0;
    size_t len;
    for (; at != DFA_DEAD && *text; text += len)
        at = d->next[(size_t)at * d->class_count + dfa_class(d, dfa_decode(text, &len))];
    return at != DFA_DEAD && d->accept[at];
}

/* Characters that a state still needs, or DFA_DEAD; NULL: out of memory or work. */
static uint32_t *shortest(const struct dfa *d, struct automaton *budget)
{
    uint32_t *need = malloc((d->count + 1) * sizeof *need);
    if (!need)
        budget->status = NOMEM;
    for (uint32_t i = 0; need && i < d->count; i++)
        need[i] = d->accept[i] ? 0 : DFA_DEAD;
    bool changed = need != NULL;
    for (bool back = true; changed; back = !back) {
        changed = false;
        if (!automaton_work(budget, (uint64_t)d->count * d->class_count / 8)) {
            free(need);
            return NULL;
        }
        for (uint32_t k = 0; k < d->count; k++) {
            uint32_t i = back ? d->count - 1 - k : k;
            for (uint32_t c = 0; c < d->class_count; c++) {
                uint32_t to = d->next[(size_t)i * d->class_count + c];
                if (to == DFA_DEAD || need[to] == DFA_DEAD || need[to] + 1 >= need[i])
                    continue;
                need[i] = need[to] + 1;
                changed = true;
            }
        }
    }
    return need;
}

bool dfa_trim(struct dfa *d, struct automaton *budget)
{
    uint32_t *need = shortest(d, budget);
    if (!need)
        return true; /* the budget has the failure */
    for (size_t i = 0; i < (size_t)d->count * d->class_count; i++)
        if (d->next[i] != DFA_DEAD && need[d->next[i]] == DFA_DEAD)
            d->next[i] = DFA_DEAD;
    bool any = need[0] != DFA_DEAD;
    free(need);
    return any;
}

/* Whether every accepted text can be lengthened by a character: then a state that needs n more may
 * take any number from n on, for the shortest way leads to a state that accepts. */
static bool can_lengthen(const struct dfa *d)
{
    for (uint32_t i = 0; i < d->count; i++) {
        bool longer = !d->accept[i];
        for (uint32_t c = 0; c < d->class_count && !longer; c++) {
            uint32_t to = d->next[(size_t)i * d->class_count + c];
            longer = to != DFA_DEAD && d->accept[to];
        }
        if (!longer)
            return false;
    }
    return true;
}

/* The longest text of a trimmed automaton, by the number of characters after which no state is
 * left; DFA_ENDLESS if some always is. */
static uint32_t longest(const struct dfa *d, uint32_t enough, struct automaton *budget)
{
    bool *here = calloc(d->count, 1), *next = calloc(d->count, 1);
    uint32_t length = 0;
    bool any = here && next;
    if (!any)
        budget->status = NOMEM;
    else
        here[0] = true;
    /* A text as long as there are states goes through one of them twice. */
    for (; any && length <= d->count && length <= enough; length++) {
        any = false;
        memset(next, 0, d->count);
        if (!automaton_work(budget, (uint64_t)d->count * d->class_count / 8))
            break;
        for (uint32_t i = 0; i < d->count; i++) {
            for (uint32_t c = 0; here[i] && c < d->class_count; c++) {
                uint32_t to = d->next[(size_t)i * d->class_count + c];
                if (to != DFA_DEAD)
                    any = next[to] = true;
            }
        }
        bool *swap = here;
        here = next;
        next = swap;
    }
    free(here);
    free(next);
    return any ? DFA_ENDLESS : length ? length - 1 : 0;
}

/* The states with the number of characters read, up to `cap`; without `most`, cap means "cap or
 * more". */
static enum status product(const struct dfa *d, uint32_t least, uint32_t most,
                           struct automaton *budget, struct dfa *out)
{
    uint32_t cap = most != DFA_ENDLESS ? most : least;
    size_t pairs = (size_t)d->count * (cap + 1);
    if (pairs * d->class_count > 4u * DFA_ENTRIES_MAX)
        return LIMITED;
    uint32_t *number = malloc(pairs * sizeof *number), *pair = malloc(pairs * sizeof *pair);
    enum status st = number && pair && dfa_init(out, d->classes, d->class_count) ? OK : NOMEM;
    if (st == OK) {
        memset(number, 0xff, pairs * sizeof *number);
        number[0] = dfa_add(out);
        pair[0] = 0;
        st = number[0] == 0 ? OK : NOMEM;
    }
    for (uint32_t i = 0; st == OK && i < out->count; i++) {
        uint32_t at = pair[i] / (cap + 1), read = pair[i] % (cap + 1);
        uint32_t then = read < cap ? read + 1 : cap;
        out->accept[i] = d->accept[at] && read >= least;
        if (!automaton_work(budget, d->class_count / 8 + 1))
            st = budget->status;
        for (uint32_t c = 0; st == OK && c < d->class_count; c++) {
            uint32_t to = d->next[(size_t)at * d->class_count + c];
            if (to == DFA_DEAD || (read == cap && most != DFA_ENDLESS))
                continue;
            size_t key = (size_t)to * (cap + 1) + then;
            if (number[key] == DFA_DEAD) {
                number[key] = dfa_add(out);
                st = number[key] == DFA_DEAD ? NOMEM : OK;
                if (st == OK)
                    pair[number[key]] = (uint32_t)key;
            }
            out->next[(size_t)i * d->class_count + c] = number[key];
        }
    }
    free(number);
    free(pair);
    return st;
}

enum status dfa_bound(struct dfa *d, uint32_t least, uint32_t most, struct automaton *budget,
                      bool *counted)
{
    if (!dfa_trim(d, budget))
        return INVALID;
    uint32_t *need = shortest(d, budget);
    bool enough = need && need[0] >= least, above = need && need[0] > most;
    free(need);
    if (above)
        return INVALID;
    *counted = budget->status == OK && can_lengthen(d);
    if (budget->status != OK || *counted)
        return budget->status;
    bool below = most == DFA_ENDLESS || longest(d, most, budget) <= most;
    if (budget->status != OK || (enough && below))
        return budget->status;
    struct dfa bounded = {0};
    enum status st = product(d, least, below ? DFA_ENDLESS : most, budget, &bounded);
    if (st == OK && !dfa_trim(&bounded, budget))
        st = INVALID;
    if (st != OK) {
        dfa_done(&bounded);
        return st;
    }
    dfa_done(d);
    *d = bounded;
    return budget->status;
}
