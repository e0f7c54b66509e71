#include "worker/memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum status memory_read(struct memory *out, struct error *err)
{
    static const char path[] = "/proc/self/status";
    static const char *const names[] = {"RssAnon:", "RssFile:", "RssShmem:", "VmHWM:"};
    int64_t bytes[4] = {0};
    char line[256];
    FILE *f = fopen(path, "re");
    if (!f)
        return error_errno(err, errno, "%s", path);
    while (fgets(line, sizeof line, f))
        for (int i = 0; i < 4; i++)
            if (strncmp(line, names[i], strlen(names[i])) == 0)
                bytes[i] = strtoll(line + strlen(names[i]), NULL, 10) << 10;
    fclose(f);
    *out = (struct memory){bytes[0], bytes[1] + bytes[2], bytes[3]};
    return OK;
}
