#include "worker/usage.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/id.h"
#include "tests/unit/check.h"

static char folder[] = "/tmp/tg-usage-XXXXXX", path[64];

static struct usage_table *open_table(uint32_t slots)
{
    struct usage_table *t = NULL;
    struct error err = {""};
    enum status st = usage_open(path, slots, 5000, &t, &err);
    if (st != OK)
        fprintf(stderr, "%s\n", err.text);
    CHECK_FATAL(st == OK);
    return t;
}

static enum status begin(struct usage_table *t, int number, uint32_t attempt, uint32_t *slot)
{
    uint8_t id[16] = {0};
    memcpy(id, &number, sizeof number);
    memcpy(id + 8, &number, sizeof number);
    struct usage_begin b = {.request_id = id,
                            .attempt = attempt,
                            .model = "m",
                            .gateway_id = "01936f2e-1111-7222-8333-444455556666",
                            .billing = (const uint8_t *)"ctx",
                            .billing_len = 3,
                            .wall_ms = 1000 + number};
    return usage_begin(t, &b, slot);
}

static enum status ack(struct usage_table *t, int number)
{
    uint8_t id[16] = {0};
    memcpy(id, &number, sizeof number);
    memcpy(id + 8, &number, sizeof number);
    return usage_ack(t, id, 1, NULL);
}

static void test_life(void)
{
    struct usage_table *t = open_table(4), *other;
    struct error err = {""};
    CHECK_INT(usage_open(path, 4, 0, &other, &err), CONFLICT);
    uint32_t a, b;
    CHECK_INT(begin(t, 1, 1, &a), OK);
    CHECK_INT(begin(t, 1, 1, &b), CONFLICT);
    CHECK_INT(begin(t, 1, 2, &b), OK);
    usage_undo(t, b);
    CHECK_INT(begin(t, 1, 2, &b), OK);
    CHECK_INT(ack(t, 1), CONFLICT);
    CHECK_INT(ack(t, 9), NOT_FOUND);
    usage_count(t, a, &(struct counts){7, 3, UINT32_MAX, 2});
    CHECK_INT(usage_unacked_count(t), 0);
    usage_finish(t, a, WIRE__OUTCOME__OUTCOME_FINISHED, 2000);
    CHECK_INT(usage_unacked_count(t), 1);
    CHECK(usage_is_final(t, usage_unacked(t, 0)) && !usage_is_final(t, b));
    struct usage_record r;
    usage_read(t, a, &r);
    CHECK_INT(r.counts.prompt, 7);
    CHECK_INT(r.counts.cached, 3);
    CHECK_INT(r.counts.completion, UINT32_MAX);
    CHECK_INT(r.counts.reasoning, 2);
    CHECK_INT(r.finished_wall_ms, 2000);
    CHECK_INT(r.billing_len, 3);
    CHECK_STR(r.model, "m");
    CHECK_INT(ack(t, 1), OK);
    CHECK_INT(ack(t, 1), OK);
    CHECK_INT(usage_unacked_count(t), 0);
    usage_close(t);
    unlink(path);
}

/* The order of reuse: free slots, then the acknowledged ones, the oldest first, also over a
 * restart. */
static void test_reuse(void)
{
    struct usage_table *t = open_table(4);
    uint32_t slot[8], s;
    for (int i = 0; i < 4; i++)
        CHECK_INT(begin(t, i, 1, &slot[i]), OK);
    CHECK_INT(begin(t, 4, 1, &slot[4]), LIMITED);
    for (int i = 0; i < 4; i++)
        usage_finish(t, slot[i], WIRE__OUTCOME__OUTCOME_CANCELLED, 2000);
    CHECK_INT(begin(t, 4, 1, &slot[4]), LIMITED);
    CHECK_INT(ack(t, 2), OK);
    CHECK_INT(ack(t, 0), OK);
    CHECK_INT(ack(t, 3), OK);
    CHECK_INT(begin(t, 4, 1, &slot[4]), OK);
    CHECK_INT(slot[4], slot[2]);
    usage_close(t);
    t = open_table(4);
    CHECK_INT(usage_unacked_count(t), 2); /* 1, and 4 that was running */
    usage_read(t, slot[4], &(struct usage_record){0});
    CHECK_INT(begin(t, 5, 1, &s), OK);
    CHECK_INT(s, slot[0]);
    CHECK_INT(begin(t, 6, 1, &s), OK);
    CHECK_INT(s, slot[3]);
    CHECK_INT(begin(t, 7, 1, &s), LIMITED);
    usage_close(t);
    /* More slots: it grows, and keeps what it had. Fewer: it stays. */
    t = open_table(6);
    CHECK_INT(usage_slots(t), 6);
    CHECK_INT(usage_unacked_count(t), 4);
    CHECK_INT(begin(t, 7, 1, &s), OK);
    usage_close(t);
    t = open_table(2);
    CHECK_INT(usage_slots(t), 6);
    CHECK_INT(ack(t, 7), OK);
    usage_close(t);
    unlink(path);
}

/* Killed in the middle: what was running is final, failed, with the counts as they stood, pairs of
 * completion and reasoning never torn. */
static void test_kill(void)
{
    for (int round = 0; round < 20; round++) {
        int pipe_fds[2];
        CHECK_FATAL(pipe(pipe_fds) == 0);
        pid_t child = fork();
        CHECK_FATAL(child >= 0);
        if (child == 0) {
            struct usage_table *t = open_table(64);
            uint32_t slot;
            ssize_t told = 0;
            for (int n = 0;; n++) {
                if (begin(t, n, 1, &slot) != OK)
                    _exit(1);
                for (uint32_t i = 1; i <= 50; i++)
                    usage_count(t, slot, &(struct counts){5, 0, 2 * i, i});
                usage_finish(t, slot, WIRE__OUTCOME__OUTCOME_FINISHED, 3000);
                if (n % 3 && ack(t, n) != OK) /* some stay */
                    _exit(1);
                if (n == 20 + round)
                    told = write(pipe_fds[1], "x", 1);
                if (told < 0 || n % 3 == 0)
                    ack(t, n - 60);
            }
        }
        char c;
        close(pipe_fds[1]);
        CHECK_INT(read(pipe_fds[0], &c, 1), 1);
        close(pipe_fds[0]);
        kill(child, SIGKILL);
        int how;
        waitpid(child, &how, 0);
        CHECK(WIFSIGNALED(how));
        struct usage_table *t = open_table(64);
        int failed = 0;
        for (uint32_t i = 0; i < usage_unacked_count(t); i++) {
            struct usage_record r;
            usage_read(t, usage_unacked(t, i), &r);
            CHECK_INT(r.counts.completion, 2 * r.counts.reasoning);
            bool died = r.outcome == WIRE__OUTCOME__OUTCOME_FAILED;
            CHECK(died || r.counts.completion == 100);
            failed += died;
        }
        CHECK(failed <= 1);
        CHECK(usage_unacked_count(t) > 0);
        usage_close(t);
        unlink(path);
    }
}

static void refused(enum status want)
{
    struct usage_table *t;
    struct error err = {""};
    CHECK_INT(usage_open(path, 4, 0, &t, &err), want);
    CHECK(strstr(err.text, path));
    struct error print_err = {""};
    CHECK(usage_print(path, stdout, &print_err) != OK);
    CHECK(strstr(print_err.text, path));
}

static void patch(off_t at, const void *data, size_t len)
{
    int fd = open(path, O_WRONLY);
    CHECK_INT(pwrite(fd, data, len, at), len);
    close(fd);
}

static void test_bad_files(void)
{
    usage_close(open_table(4));
    patch(0, "X", 1);
    refused(CORRUPT);
    unlink(path);
    usage_close(open_table(4));
    uint32_t version = 2, count = 5;
    patch(8, &version, 4);
    refused(CORRUPT);
    unlink(path);
    usage_close(open_table(4));
    patch(16, &count, 4); /* more slots than bytes */
    refused(CORRUPT);
    unlink(path);
    usage_close(open_table(4));
    patch(4096, "\x09", 1); /* no such state */
    struct usage_table *t;
    struct error err = {""};
    CHECK_INT(usage_open(path, 4, 0, &t, &err), CORRUPT);
    unlink(path);
    /* A making that was cut short is made again. */
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    CHECK_INT(ftruncate(fd, 100), 0);
    close(fd);
    usage_close(open_table(4));
    unlink(path);
    mkdir(path, 0700);
    refused(IO_FAILED);
    rmdir(path);
}

static void test_print(void)
{
    struct usage_table *t = open_table(4);
    uint32_t a, b;
    CHECK_INT(begin(t, 2, 1, &a), OK);
    CHECK_INT(begin(t, 1, 3, &b), OK);
    usage_count(t, b, &(struct counts){1, 2, 3, 4});
    usage_finish(t, b, WIRE__OUTCOME__OUTCOME_LINK_LOST, 2000);
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    struct error err = {""};
    CHECK_INT(usage_print(path, f, &err), OK);
    fclose(f);
    CHECK_STR(text, "{\"request_id\":\"01000000-0000-0000-0100-000000000000\",\"attempt\":3,"
                    "\"model\":\"m\",\"counts\":{\"prompt\":1,\"cached\":2,\"completion\":3,"
                    "\"reasoning\":4},\"outcome\":\"link_lost\",\"state\":\"final\",\"gateway_id\":"
                    "\"01936f2e-1111-7222-8333-444455556666\",\"begun_wall_ms\":1001,"
                    "\"finished_wall_ms\":2000}\n"
                    "{\"request_id\":\"02000000-0000-0000-0200-000000000000\",\"attempt\":1,"
                    "\"model\":\"m\",\"counts\":{\"prompt\":0,\"cached\":0,\"completion\":0,"
                    "\"reasoning\":0},\"outcome\":\"none\",\"state\":\"running\",\"gateway_id\":"
                    "\"01936f2e-1111-7222-8333-444455556666\",\"begun_wall_ms\":1002,"
                    "\"finished_wall_ms\":0}\n");
    free(text);
    usage_close(t);
    unlink(path);
}

int main(void)
{
    CHECK_FATAL(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/usage.table", folder);
    test_life();
    test_reuse();
    test_kill();
    test_bad_files();
    test_print();
    CHECK_INT(rmdir(folder), 0);
    return check_done();
}
