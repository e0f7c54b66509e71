#include "admin/cli/parts.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "base/config_peek.h"

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

enum status parts_probe_address(const char *config, const char *state_dir, const char *name,
                                struct address *out, struct error *err)
{
    char text[256];
    enum status st = config_peek(config, name, "admin_listen", text, sizeof text, err);
    (void)state_dir;
    if (st == NOT_FOUND)
        return error_set(err, INVALID,
                         "%s: [%s] admin_listen must be set, so that its readiness can be seen",
                         config, name);
    if (st == OK)
        st = address_parse(text, out, err);
    if (st != OK)
        error_prefix(err, "[%s] admin_listen", name);
    return st;
}
