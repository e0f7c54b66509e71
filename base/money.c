#include "base/money.h"

#include "base/error.h"

static const money_pico PICO = 1000000000000;

int64_t money_nano_down(money_pico pico)
{
    money_pico nano = pico / 1000;
    if (pico < 0 && pico % 1000)
        nano--;
    if (nano > INT64_MAX)
        return INT64_MAX;
    return nano < INT64_MIN ? INT64_MIN : (int64_t)nano;
}

int64_t money_nano_up(money_pico pico)
{
    money_pico nano = pico / 1000;
    if (pico > 0 && pico % 1000)
        nano++;
    if (nano > INT64_MAX)
        return INT64_MAX;
    return nano < INT64_MIN ? INT64_MIN : (int64_t)nano;
}

/* Returns the NUL's place. */
static char *put_number(money_pico pico, char *out)
{
    char digits[MONEY_TEXT_SIZE];
    int n = 0;
    unsigned __int128 rest = pico < 0 ? -(unsigned __int128)pico : (unsigned __int128)pico;
    do {
        digits[n++] = (char)('0' + (int)(rest % 10));
        rest /= 10;
    } while (rest);
    char *p = out;
    if (pico < 0)
        *p++ = '-';
    while (n)
        *p++ = digits[--n];
    *p = 0;
    return p;
}

void money_format_pico(money_pico pico, char out[MONEY_TEXT_SIZE])
{
    put_number(pico, out);
}

void money_format(money_pico pico, char out[MONEY_TEXT_SIZE])
{
    char *p = out;
    money_pico size = pico < 0 ? -pico : pico;
    if (pico < 0)
        *p++ = '-';
    p = put_number(size / PICO, p);
    char part[13];
    snprintf(part, sizeof part, "%012lld", (long long)(size % PICO));
    int keep = 12;
    while (keep > 2 && part[keep - 1] == '0')
        keep--;
    *p++ = '.';
    memcpy(p, part, (size_t)keep);
    p[keep] = 0;
}

bool money_parse(const char *text, money_pico *out)
{
    bool negative = *text == '-';
    if (negative)
        text++;
    money_pico value = 0;
    int whole = 0, decimals = 0;
    for (; *text >= '0' && *text <= '9'; text++, whole++)
        if (whole < 18)
            value = value * 10 + (*text - '0');
    if (whole == 0 || whole > 18)
        return false;
    if (*text == '.') {
        for (text++; *text >= '0' && *text <= '9' && decimals < 12; text++, decimals++)
            value = value * 10 + (*text - '0');
        if (decimals == 0)
            return false;
    }
    if (*text)
        return false;
    for (; decimals < 12; decimals++)
        value *= 10;
    *out = negative ? -value : value;
    return true;
}

bool money_parse_pico(const char *text, money_pico *out)
{
    bool negative = *text == '-';
    if (negative)
        text++;
    money_pico value = 0;
    int digits = 0;
    for (; *text >= '0' && *text <= '9' && digits < 38; text++, digits++)
        value = value * 10 + (*text - '0');
    if (digits == 0 || *text)
        return false;
    *out = negative ? -value : value;
    return true;
}

int64_t money_round_minor(money_pico pico, int decimals)
{
    money_pico unit = PICO;
    for (int i = 0; i < decimals; i++)
        unit /= 10;
    money_pico size = pico < 0 ? -pico : pico;
    money_pico minor = (size + unit / 2) / unit;
    return (int64_t)(pico < 0 ? -minor : minor);
}
