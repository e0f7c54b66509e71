/* Sample records for the tests of billing, and a folder of their own. */
#ifndef TESTS_UNIT_BILLING_SAMPLES_H
#define TESTS_UNIT_BILLING_SAMPLES_H

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "billing/journal_segment.h"
#include "tests/unit/check.h"

static inline struct meter_context sample_context(int64_t wall_ms)
{
    struct meter_context c = {
        .request_id = uuid_v7(wall_ms),
        .tenant_id = {{1}},
        .project_id = {{2}},
        .key_id = {{3}},
        .admitted_wall_ms = wall_ms,
        .price = {7, 280000, 28000, 420000},
        .currency = "USD",
        .model = "tollgate-demo",
        .prepaid = true,
        .hold_nano = 123456,
        .hold_tokens = 900,
    };
    return c;
}

static inline struct meter_settle sample_settle(const struct meter_context *c)
{
    struct meter_settle s = {
        .context = *c,
        .counts = {100, 40, 55, 21},
        .outcome = METER_FINISHED,
        .attempt = 1,
        .settled_wall_ms = c->admitted_wall_ms + 1500,
    };
    s.cost_pico = price_rate(&c->price, &s.counts);
    return s;
}

static inline void sample_folder(char out[64])
{
    snprintf(out, 64, "/tmp/tollgate-journal-XXXXXX");
    CHECK_FATAL(mkdtemp(out) != NULL);
}

static inline void sample_folder_remove(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    while (d && (e = readdir(d)))
        if (e->d_name[0] != '.')
            unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
    rmdir(dir);
}

/* The path of the newest (or, with first, the oldest) segment of shard 0. */
static inline void sample_segment(const char *dir, bool first, char out[SEGMENT_PATH_MAX])
{
    struct segment_list list;
    CHECK_FATAL(segment_list(dir, &list, NULL) == OK && list.count > 0);
    segment_path(dir, list.items[first ? 0 : list.count - 1], out, NULL);
    segment_list_done(&list);
}

#endif
