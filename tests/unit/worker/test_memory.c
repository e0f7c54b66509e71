#include "worker/memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/check.h"

enum { BYTES = 24 << 20 };

static int64_t sum(const volatile uint8_t *p)
{
    int64_t total = 0;
    for (size_t i = 0; i < BYTES; i += 4096)
        total += p[i];
    return total;
}

int main(void)
{
    struct memory before, own, mapped;
    struct error err = {""};
    CHECK_FATAL(memory_read(&before, &err) == OK);
    uint8_t *data = malloc(BYTES);
    CHECK_FATAL(data != NULL);
    memset(data, 1, BYTES);
    CHECK_FATAL(memory_read(&own, &err) == OK);
    CHECK(own.own_bytes - before.own_bytes >= BYTES - (1 << 20));
    CHECK(own.mapped_bytes - before.mapped_bytes < 8 << 20);
    CHECK(own.peak_bytes >= own.own_bytes);

    char path[] = "/tmp/test_memory.XXXXXX";
    int fd = mkstemp(path);
    CHECK_FATAL(fd >= 0 && write(fd, data, BYTES) == BYTES);
    uint8_t *file = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0);
    CHECK_FATAL(file != MAP_FAILED);
    CHECK_INT(sum(file), BYTES / 4096);
    CHECK_FATAL(memory_read(&mapped, &err) == OK);
    CHECK(mapped.mapped_bytes - own.mapped_bytes >= BYTES - (1 << 20));
    CHECK(mapped.own_bytes - own.own_bytes < 8 << 20);
    munmap(file, BYTES);
    close(fd);
    unlink(path);
    free(data);
    return check_done();
}
