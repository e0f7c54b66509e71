/* Times as people write them. */
#include <time.h>

#include "admin/cli/cli.h"
#include "base/clock.h"

static bool digits(const char *text, int count, int *out)
{
    *out = 0;
    for (int i = 0; i < count; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        *out = *out * 10 + (text[i] - '0');
    }
    return true;
}

static bool date_exists(int year, int month, int day)
{
    struct tm tm = {.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day, .tm_hour = 12};
    return timegm(&tm) != -1 && tm.tm_mon == month - 1 && tm.tm_mday == day;
}

/* YYYY-MM-DD, maybe with THH:MM[:SS] and Z behind it. */
static bool calendar_time(const char *text, int64_t *wall_ms)
{
    int year, month, day, hour = 0, minute = 0, second = 0;
    size_t len = strlen(text);
    if (len < 10 || !digits(text, 4, &year) || text[4] != '-' || !digits(text + 5, 2, &month) ||
        text[7] != '-' || !digits(text + 8, 2, &day))
        return false;
    if (len > 10) {
        if (len < 16 || (text[10] != 'T' && text[10] != ' ') || !digits(text + 11, 2, &hour) ||
            text[13] != ':' || !digits(text + 14, 2, &minute))
            return false;
        const char *rest = text + 16;
        if (*rest == ':') {
            if (len < 19 || !digits(rest + 1, 2, &second))
                return false;
            rest += 3;
        }
        if (*rest && strcmp(rest, "Z") != 0)
            return false;
    }
    if (year < 1970 || hour > 23 || minute > 59 || second > 59 || !date_exists(year, month, day))
        return false;
    struct tm tm = {.tm_year = year - 1900,
                    .tm_mon = month - 1,
                    .tm_mday = day,
                    .tm_hour = hour,
                    .tm_min = minute,
                    .tm_sec = second};
    *wall_ms = (int64_t)timegm(&tm) * 1000;
    return true;
}

/* "30d", "12h", "15m". */
static bool span_ms(const char *text, int64_t *out)
{
    static const struct {
        char unit;
        int64_t ms;
    } units[] = {{'d', 86400000}, {'h', 3600000}, {'m', 60000}};
    size_t n = strspn(text, "0123456789");
    int value;
    if (n == 0 || n > 5 || strlen(text) != n + 1 || !digits(text, (int)n, &value))
        return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (units[i].unit == text[n]) {
            *out = value * units[i].ms;
            return true;
        }
    return false;
}

enum status cli_value_wall_ms(struct cli *c, const char *option, int sign, int64_t *out)
{
    const char *text = cli_value(c, option);
    int64_t span = 0;
    if (!text || calendar_time(text, out))
        return OK;
    if (strcmp(text, "now") != 0 && !span_ms(text, &span))
        return cli_bad_call(c,
                            "--%s \"%.40s\" is no time: 2026-11-01, 2026-11-01T10:20:30Z, now, "
                            "30d, 12h",
                            option, text);
    *out = clock_wall_ms() + sign * span;
    return OK;
}

enum status cli_value_time(struct cli *c, const char *option, int sign, char out[CLI_TIME_SIZE])
{
    int64_t wall_ms = 0;
    enum status st = cli_value_wall_ms(c, option, sign, &wall_ms);
    if (st == OK && cli_value(c, option))
        clock_format_utc(wall_ms, out, CLI_TIME_SIZE);
    return st;
}
