#include "base/log.h"

#include <stdarg.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"

static const char *log_part = "tollgate";
static enum log_level log_least = LOG_LEVEL_INFO;
static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_init(const char *part, enum log_level least)
{
    log_part = part;
    log_least = least;
}

int log_level_parse(const char *name)
{
    for (int i = 0; i < 4; i++)
        if (strcmp(name, level_names[i]) == 0)
            return i;
    return -1;
}

static size_t append_escaped(char *out, size_t used, size_t cap, const char *text)
{
    for (; *text && used + 5 < cap; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7f)
            used += (size_t)snprintf(out + used, cap - used, "\\x%02x", c);
        else
            out[used++] = (char)c;
    }
    return used;
}

void log_line(enum log_level level, const char *format, ...)
{
    if (level < log_least)
        return;
    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);

    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm utc;
    gmtime_r(&now.tv_sec, &utc);
    char line[4096];
    size_t used = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &utc);
    used += (size_t)snprintf(line + used, sizeof line - used, ".%03ldZ %-5s %s[%d] ",
                             now.tv_nsec / 1000000, level_names[level], log_part, (int)getpid());
    used = append_escaped(line, used, sizeof line - 1, text);
    line[used++] = '\n';
    if (write(STDERR_FILENO, line, used) < 0)
        return; /* nowhere left to say it */
}
