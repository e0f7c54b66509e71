/*
 * Weights are read where the files are mapped: two processes that have loaded a model share its
 * pages, and none of them is a copy of one's own.
 */
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/worker/golden.h"

#define DEMO "models/demo"

struct mapping {
    long resident, shared, own; /* kilobytes */
};

/* Of the files of weights, in this process. */
static struct mapping read_mappings(void)
{
    struct mapping sum = {0};
    char line[4096];
    bool ours = false;
    FILE *f = fopen("/proc/self/smaps", "re");
    CHECK_FATAL(f != NULL);
    while (fgets(line, sizeof line, f)) {
        long value = 0;
        char name[64] = "";
        if (strstr(line, "model.safetensors"))
            ours = true;
        else if (sscanf(line, "%63s %ld kB", name, &value) != 2)
            ours = false;
        else if (ours && strcmp(name, "Rss:") == 0)
            sum.resident += value;
        else if (ours && strncmp(name, "Shared_", 7) == 0)
            sum.shared += value;
        else if (ours && strncmp(name, "Private_", 8) == 0)
            sum.own += value;
    }
    fclose(f);
    return sum;
}

static void run_second(int ready, int end)
{
    struct model_options options = {.threads = 1};
    struct model *m = golden_model(DEMO, &options);
    char c = 1;
    if (write(ready, &c, 1) != 1 || read(end, &c, 1) != 0)
        _exit(1);
    model_free(m);
    _exit(0);
}

int main(void)
{
    int ready[2], end[2], status = 1;
    CHECK_FATAL(pipe(ready) == 0 && pipe(end) == 0);
    pid_t second = fork();
    CHECK_FATAL(second >= 0);
    if (second == 0) {
        close(end[1]);
        run_second(ready[1], end[0]);
    }
    char c = 0;
    CHECK_FATAL(read(ready[0], &c, 1) == 1);
    struct model_options options = {.threads = 1};
    struct model *m = golden_model(DEMO, &options);
    struct mapping both = read_mappings();
    CHECK(both.resident > 1000);
    CHECK(both.shared >= both.resident * 9 / 10); /* this one alone has looked at a header's rest */
    CHECK(both.own <= both.resident / 10);
    close(end[1]);
    CHECK(waitpid(second, &status, 0) == second && status == 0);
    model_free(m);
    return check_done();
}
