#include "base/config_peek.h"

#include <unistd.h>

#include "tests/unit/check.h"

static const char file[] = "# [worker]\n"
                           "[common]\n"
                           "listen = wrong\n"
                           "[ worker ]\r\n"
                           "  # listen = wrong\n"
                           "listen_more = wrong\n"
                           "  listen =  unix:/a=b  \r\n"
                           "empty =\n"
                           "[gateway]\n"
                           "other = wrong";

int main(void)
{
    char path[] = "/tmp/test_peek.XXXXXX", out[64] = "untouched";
    struct error err = {0};
    int fd = mkstemp(path);
    CHECK_FATAL(fd >= 0 && write(fd, file, sizeof file - 1) == sizeof file - 1);
    close(fd);
    CHECK_INT(config_peek(path, "admin", "listen", out, sizeof out, &err), NOT_FOUND);
    CHECK_INT(config_peek(path, "worker", "other", out, sizeof out, &err), NOT_FOUND);
    CHECK_STR(out, "untouched");
    CHECK_STR(err.text, "");
    CHECK_INT(config_peek(path, "worker", "listen", out, sizeof out, &err), OK);
    CHECK_STR(out, "unix:/a=b");
    CHECK_INT(config_peek(path, "worker", "empty", out, sizeof out, &err), OK);
    CHECK_STR(out, "");
    CHECK_INT(config_peek(path, "worker", "listen", out, 5, &err), LIMITED);
    unlink(path);
    CHECK_INT(config_peek(path, "worker", "listen", out, sizeof out, &err), IO_FAILED);
    CHECK(strstr(err.text, path) != NULL);
    return check_done();
}
