#include "base/http1_chars.h"

#include "base/error.h"

/* clang-format off */
const uint8_t http1_token_lower[256] = {
    ['!'] = '!', ['#'] = '#', ['$'] = '$', ['%'] = '%', ['&'] = '&', ['\''] = '\'', ['*'] = '*',
    ['+'] = '+', ['-'] = '-', ['.'] = '.', ['^'] = '^', ['_'] = '_', ['`'] = '`', ['|'] = '|',
    ['~'] = '~',
    ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4', ['5'] = '5', ['6'] = '6',
    ['7'] = '7', ['8'] = '8', ['9'] = '9',
    ['A'] = 'a', ['B'] = 'b', ['C'] = 'c', ['D'] = 'd', ['E'] = 'e', ['F'] = 'f', ['G'] = 'g',
    ['H'] = 'h', ['I'] = 'i', ['J'] = 'j', ['K'] = 'k', ['L'] = 'l', ['M'] = 'm', ['N'] = 'n',
    ['O'] = 'o', ['P'] = 'p', ['Q'] = 'q', ['R'] = 'r', ['S'] = 's', ['T'] = 't', ['U'] = 'u',
    ['V'] = 'v', ['W'] = 'w', ['X'] = 'x', ['Y'] = 'y', ['Z'] = 'z',
    ['a'] = 'a', ['b'] = 'b', ['c'] = 'c', ['d'] = 'd', ['e'] = 'e', ['f'] = 'f', ['g'] = 'g',
    ['h'] = 'h', ['i'] = 'i', ['j'] = 'j', ['k'] = 'k', ['l'] = 'l', ['m'] = 'm', ['n'] = 'n',
    ['o'] = 'o', ['p'] = 'p', ['q'] = 'q', ['r'] = 'r', ['s'] = 's', ['t'] = 't', ['u'] = 'u',
    ['v'] = 'v', ['w'] = 'w', ['x'] = 'x', ['y'] = 'y', ['z'] = 'z',
};
/* clang-format on */

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool hex(char c)
{
    return digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

bool http1_equals(const char *text, size_t len, const char *word)
{
    for (size_t i = 0; i < len; i++)
        if (!word[i] || http1_token_lower[(uint8_t)text[i]] != (uint8_t)word[i])
            return false;
    return word[len] == 0;
}

static bool value_char_ok(uint8_t c)
{
    return (c >= 0x20 && c != 0x7f) || c == '\t';
}

bool http1_value_ok(const char *text, size_t len)
{
    const uint64_t ones = 0x0101010101010101;
    size_t i = 0;
    for (; len - i >= 8; i += 8) {
        uint64_t w, del;
        memcpy(&w, text + i, 8);
        del = w ^ (ones * 0x7f);
        /* A byte under 0x20 or of 0x7f sets its high bit, or one above it. */
        if ((((w - ones * 0x20) & ~w) | ((del - ones) & ~del)) & (ones * 0x80))
            break;
    }
    for (; i < len; i++)
        if (!value_char_ok((uint8_t)text[i]))
            return false;
    return true;
}

static bool target_char_ok(char c, bool query)
{
    if (alpha(c) || digit(c) || c == '/' || c == '-' || c == '_')
        return true;
    if (c <= 0x20 || c >= 0x7f || strchr("\"#<>\\`", c))
        return false;
    /* Brackets and the like are common in queries and mean nothing in our paths. */
    return query || !strchr("[]^{|}", c);
}

bool http1_target_ok(const char *text, size_t len)
{
    bool query = false;
    for (size_t i = 0; i < len; i++) {
        if (!target_char_ok(text[i], query))
            return false;
        if (text[i] == '%' && (len - i < 3 || !hex(text[i + 1]) || !hex(text[i + 2])))
            return false;
        query |= text[i] == '?';
    }
    return true;
}

static bool port_ok(const char *text, size_t len)
{
    unsigned port = 0;
    for (size_t i = 0; i < len; i++) {
        if (!digit(text[i]))
            return false;
        port = port * 10 + (unsigned)(text[i] - '0');
        if (port > 65535)
            return false;
    }
    return len > 0 && len <= 5;
}

bool http1_host_ok(const char *text, size_t len)
{
    size_t at = 0;
    if (len > 0 && text[0] == '[') {
        for (at = 1; at < len && (hex(text[at]) || text[at] == ':' || text[at] == '.'); at++)
            ;
        if (at < 3 || at == len || text[at] != ']')
            return false;
        at++;
    } else {
        while (at < len && (alpha(text[at]) || digit(text[at]) || memchr("-._~", text[at], 4)))
            at++;
        if (at == 0)
            return false;
    }
    if (at == len)
        return true;
    return text[at] == ':' && port_ok(text + at + 1, len - at - 1);
}
