#include "base/error.h"

#include <stdarg.h>

static void clean(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

enum status error_set(struct error *err, enum status status, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        clean(err->text);
    }
    return status;
}

enum status error_errno(struct error *err, int errnum, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        size_t used = strlen(err->text);
        char reason[128];
        snprintf(err->text + used, sizeof err->text - used, ": %s",
                 strerror_r(errnum, reason, sizeof reason));
        clean(err->text);
    }
    return IO_FAILED;
}

void error_prefix(struct error *err, const char *format, ...)
{
    if (!err)
        return;
    char old[sizeof err->text];
    memcpy(old, err->text, sizeof old);
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    size_t used = strlen(err->text);
    snprintf(err->text + used, sizeof err->text - used, ": %s", old);
    clean(err->text);
}

const char *status_name(enum status status)
{
    static const char *const names[] = {
        [OK] = "ok",
        [NOMEM] = "out of memory",
        [INVALID] = "invalid",
        [NOT_FOUND] = "not found",
        [CONFLICT] = "conflict",
        [LIMITED] = "limited",
        [DENIED] = "denied",
        [UNAVAILABLE] = "unavailable",
        [TIMED_OUT] = "timed out",
        [CLOSED] = "closed",
        [CORRUPT] = "corrupt",
        [IO_FAILED] = "i/o failed",
    };
    return (size_t)status < sizeof names / sizeof *names ? names[status] : "unknown";
}
