#include <endian.h>

#include "base/json_guard.h"

#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

/* The high bit of each byte of w that is zero; bits above the first such byte may lie. */
static inline uint64_t zero_bytes(uint64_t w)
{
    return (w - EACH(1)) & ~w & EACH(0x80);
}

/* Eight bytes a turn: most of a request is text in strings. */
const uint8_t *json_skip_plain(const uint8_t *at, const uint8_t *end)
{
    while (end - at >= 8) {
        uint64_t w;
        memcpy(&w, at, sizeof w);
        w = le64toh(w);
        uint64_t control = (w - EACH(0x20)) & ~w & EACH(0x80);
        uint64_t hit =
            control | zero_bytes(w ^ EACH('"')) | zero_bytes(w ^ EACH('\\')) | (w & EACH(0x80));
        if (hit)
            return at + __builtin_ctzll(hit) / 8;
        at += 8;
    }
    while (at < end && *at >= 0x20 && *at < 0x80 && *at != '"' && *at != '\\')
        at++;
    return at;
}

static bool digit(const uint8_t *at, const uint8_t *end)
{
    return at < end && *at >= '0' && *at <= '9';
}

static const uint8_t *skip_digits(const uint8_t *at, const uint8_t *end)
{
    while (digit(at, end))
        at++;
    return at;
}

/* A whole number of more than 15 digits survives in a double if it has few significant bits. */
static bool integer_fits(const uint8_t *at, const uint8_t *stop)
{
    if (stop - at > 19)
        return false;
    uint64_t value = 0;
    for (; at < stop; at++)
        value = value * 10 + (uint64_t)(*at - '0');
    return value >> __builtin_ctzll(value) <= UINT64_C(1) << 53;
}

/* Digits of the number, the point left out, against the largest double. */
static bool below_largest(const uint8_t *at, const uint8_t *stop)
{
    static const char largest[] = "17976931348623157";
    for (size_t i = 0; largest[i];) {
        char c = at < stop ? (char)*at++ : '0';
        if (c == '.')
            continue;
        if (c != largest[i])
            return c < largest[i];
        i++;
    }
    return true;
}

/* A number with a point or an exponent: digits [at, stop), of them `whole` before the point. */
static bool real_fits(const uint8_t *at, const uint8_t *stop, ptrdiff_t whole, int64_t exponent)
{
    const uint8_t *first = at;
    while (first < stop && (*first == '0' || *first == '.'))
        first++;
    if (first == stop)
        return true; /* zero */
    ptrdiff_t place = first - at;
    int64_t power = exponent + (place < whole ? whole - place - 1 : whole - place);
    return power < 308 || (power == 308 && below_largest(first, stop));
}

static int64_t read_exponent(const uint8_t *at, const uint8_t *stop)
{
    enum { MOST = 1000000000 }; /* far from any double, and from any text's length */
    bool negative = *at == '-';
    if (*at == '-' || *at == '+')
        at++;
    int64_t value = 0;
    for (; at < stop && value < MOST; at++)
        value = value * 10 + (*at - '0');
    return negative ? -value : value;
}

const char *json_number_problem(const uint8_t *at, const uint8_t *end, const uint8_t **stop)
{
    if (at < end && *at == '-')
        at++;
    *stop = at;
    if (!digit(at, end))
        return "a digit must follow the minus sign";
    const uint8_t *s = *at == '0' ? at + 1 : skip_digits(at, end);
    *stop = s;
    if (digit(s, end))
        return "a number must not start with 0";
    ptrdiff_t whole = s - at;
    if (s == end || (*s != '.' && (*s | 0x20) != 'e')) {
        if (whole > 15 && !integer_fits(at, s)) {
            *stop = at;
            return "a whole number beyond 2^53 that a double cannot hold exactly";
        }
        return NULL;
    }
    if (*s == '.') {
        const uint8_t *fraction = s + 1;
        s = *stop = skip_digits(fraction, end);
        if (s == fraction)
            return "a digit must follow the decimal point";
    }
    const uint8_t *digits_end = s;
    int64_t exponent = 0;
    if (s < end && (*s | 0x20) == 'e') {
        const uint8_t *sign = s + 1;
        const uint8_t *first = sign + (sign < end && (*sign == '+' || *sign == '-'));
        s = *stop = skip_digits(first, end);
        if (s == first)
            return "a digit must follow the exponent's e";
        exponent = read_exponent(sign, s);
    }
    if (!real_fits(at, digits_end, whole, exponent)) {
        *stop = at;
        return "a number too large for a double";
    }
    return NULL;
}
