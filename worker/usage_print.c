#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/id.h"
#include "worker/usage_file.h"

static const char *const state_names[] = {"free", "running", "final", "acked"};
static const char *const outcome_names[] = {"none", "finished", "cancelled", "failed", "link_lost"};

static void print_text(FILE *out, const char *text)
{
    fputc('"', out);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\')
            fprintf(out, "\\%c", *p);
        else if (*p < 0x20 || *p >= 0x7f)
            fprintf(out, "\\u%04x", *p); /* names are ASCII; anything else is not worth more */
        else
            fputc(*p, out);
    }
    fputc('"', out);
}

static void print_slot(const struct usage_slot *s, FILE *out)
{
    enum usage_state state = usage_slot_state(s);
    struct usage_record r;
    usage_slot_copy(s, &r);
    struct uuid id;
    memcpy(id.bytes, r.request_id, 16);
    char text[UUID_TEXT_SIZE];
    uuid_format(&id, text);
    fprintf(out, "{\"request_id\":\"%s\",\"attempt\":%u,\"model\":", text, r.attempt);
    print_text(out, r.model);
    fprintf(out,
            ",\"counts\":{\"prompt\":%u,\"cached\":%u,\"completion\":%u,\"reasoning\":%u},"
            "\"outcome\":\"%s\",\"state\":\"%s\",\"gateway_id\":",
            r.counts.prompt, r.counts.cached, r.counts.completion, r.counts.reasoning,
            state == USAGE_RUNNING ? "none" : outcome_names[r.outcome <= 4 ? r.outcome : 0],
            state_names[state]);
    print_text(out, r.gateway_id);
    fprintf(out, ",\"begun_wall_ms\":%lld,\"finished_wall_ms\":%lld}\n", (long long)r.begun_wall_ms,
            (long long)r.finished_wall_ms);
}

struct entry {
    int64_t begun_wall_ms;
    uint32_t slot;
};

static int by_begin(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->begun_wall_ms != y->begun_wall_ms)
        return x->begun_wall_ms < y->begun_wall_ms ? -1 : 1;
    return x->slot < y->slot ? -1 : x->slot > y->slot;
}

static enum status print_map(const uint8_t *map, FILE *out, struct error *err)
{
    const struct usage_header *h = (const struct usage_header *)map;
    const struct usage_slot *slots = (const struct usage_slot *)(map + USAGE_HEADER_BYTES);
    uint32_t count = atomic_load(&((struct usage_header *)h)->slot_count), n = 0;
    struct entry *list = calloc(count, sizeof *list);
    if (!list)
        return error_set(err, NOMEM, "out of memory");
    for (uint32_t i = 0; i < count; i++)
        if (usage_slot_state(&slots[i]) != USAGE_FREE && usage_slot_state(&slots[i]) <= USAGE_ACKED)
            list[n++] = (struct entry){slots[i].begun_wall_ms, i};
    qsort(list, n, sizeof *list, by_begin);
    for (uint32_t i = 0; i < n; i++)
        print_slot(&slots[list[i].slot], out);
    free(list);
    return fflush(out) == 0 ? OK : error_errno(err, errno, "cannot write");
}

enum status usage_print(const char *path, FILE *out, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "cannot open %s", path);
    struct stat s;
    enum status st = OK;
    if (fstat(fd, &s) != 0)
        st = error_errno(err, errno, "cannot read %s", path);
    else if (!S_ISREG(s.st_mode) || s.st_size < USAGE_HEADER_BYTES)
        st = error_set(err, CORRUPT, "%s is not a usage table", path);
    if (st == OK) {
        uint8_t *map = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) {
            st = error_errno(err, errno, "cannot map %s", path);
        } else {
            st = usage_check_header((const struct usage_header *)map, s.st_size, path, err);
            if (st == OK)
                st = print_map(map, out, err);
            munmap(map, (size_t)s.st_size);
        }
    }
    close(fd);
    return st;
}
