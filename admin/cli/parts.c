#include "admin/cli/parts.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "base/config_peek.h"
#include "base/config_value.h"

enum { DRAIN_DEFAULT_MS = 30000 };

enum status parts_program(const char *name, char *out, size_t size, struct error *err)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return error_errno(err, errno, "/proc/self/exe");
    self[n] = 0;
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = 0;
    if ((size_t)snprintf(out, size, "%s/tollgate-%s", self, name) >= size)
        return error_set(err, INVALID, "the path of tollgate-%s is too long", name);
    return OK;
}

/* The defaults of the daemons; a worker listens nowhere unless it is told to. */
static const char *default_listen(const char *name)
{
    static const char *const defaults[][2] = {
        {"gateway", "127.0.0.1:9464"}, {"billing", "127.0.0.1:9466"}, {"admin", "127.0.0.1:9404"}};
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++)
        if (strcmp(defaults[i][0], name) == 0)
            return defaults[i][1];
    return "";
}

enum status parts_probe_address(const char *config, const char *name, struct address *out,
                                struct error *err)
{
    char text[256];
    enum status st = config_peek(config, name, "admin_listen", text, sizeof text, err);
    if (st == NOT_FOUND) {
        snprintf(text, sizeof text, "%s", default_listen(name));
        st = OK;
    }
    if (st == OK && !*text)
        return error_set(err, INVALID,
                         "%s: [%s] admin_listen must be set, so that its readiness can be seen",
                         config, name);
    if (st == OK)
        st = address_parse(text, out, err);
    if (st != OK)
        error_prefix(err, "[%s] admin_listen", name);
    return st;
}

int64_t parts_drain_ms(const char *config, const char *name)
{
    struct {
        int64_t ms;
    } value = {DRAIN_DEFAULT_MS};
    const struct setting setting = {.section = name,
                                    .name = "drain_ms",
                                    .type = SETTING_MS,
                                    .offset = offsetof(typeof(value), ms),
                                    .most = INT64_MAX};
    char text[64];
    if (config_peek(config, name, "drain_ms", text, sizeof text, NULL) != OK ||
        config_value_set(&setting, text, strlen(text), &value, NULL) != OK)
        return DRAIN_DEFAULT_MS;
    return value.ms;
}
