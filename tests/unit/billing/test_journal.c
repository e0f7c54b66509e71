#include "billing/journal.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "tests/unit/billing/samples.h"

struct tally {
    int settled, open;
    struct uuid last_open;
};

static void count(const struct meter_context *admit, const struct meter_settle *settle, void *arg)
{
    struct tally *t = arg;
    if (settle) {
        t->settled++;
    } else {
        t->open++;
        t->last_open = admit->request_id;
    }
}

static struct journal_options options_for(const char *dir, struct journal_syncer *syncer)
{
    return (struct journal_options){
        .dir = dir, .segment_bytes = 4096, .reserve_bytes = 64 * 1024, .syncer = syncer};
}

static struct tally recovered(const char *dir)
{
    struct tally t = {0};
    struct error err = {""};
    enum status st = journal_recover(dir, count, &t, &err);
    CHECK_STR(err.text, "");
    CHECK_INT(st, OK);
    return t;
}

/* Appends n pairs, leaving the ADMIT of the last one open. */
static struct uuid append_pairs(const char *dir, int n)
{
    struct journal_options o = options_for(dir, NULL);
    struct journal *j;
    struct error err = {""};
    CHECK_INT(journal_open(&o, &j, &err), OK);
    CHECK_STR(err.text, "");
    struct meter_context c = {0};
    for (int i = 0; i < n; i++) {
        c = sample_context(clock_wall_ms());
        struct meter_settle s = sample_settle(&c);
        CHECK(journal_admit(j, &c) > 0);
        if (i + 1 < n)
            CHECK(journal_settle(j, &s) > 0);
        CHECK_INT(journal_flush(j), OK);
    }
    journal_close(j);
    return c.request_id;
}

static void check_recover(void)
{
    char dir[64];
    sample_folder(dir);
    struct uuid open1 = append_pairs(dir, 40);
    struct tally t = recovered(dir);
    CHECK_INT(t.settled, 39);
    CHECK_INT(t.open, 1);
    CHECK(uuid_equal(&t.last_open, &open1));
    append_pairs(dir, 2);
    t = recovered(dir);
    CHECK_INT(t.settled, 40);
    CHECK_INT(t.open, 2);
    struct segment_list list;
    CHECK_INT(segment_list(dir, &list, NULL), OK);
    CHECK(list.count > 4); /* 4 KiB segments were rotated */
    segment_list_done(&list);
    sample_folder_remove(dir);
    t = recovered(dir); /* no folder: nothing to recover */
    CHECK_INT(t.settled + t.open, 0);
}

static off_t size_of(const char *path)
{
    struct stat st;
    CHECK_FATAL(stat(path, &st) == 0);
    return st.st_size;
}

/* Cut at every length: what is whole before the cut is there, nothing else is. */
static void check_torn(void)
{
    for (int cut = 0; cut < 700; cut += 7) {
        char dir[64], path[SEGMENT_PATH_MAX];
        sample_folder(dir);
        append_pairs(dir, 3);
        sample_segment(dir, false, path);
        off_t size = size_of(path);
        CHECK_FATAL(truncate(path, size - cut) == 0);
        struct tally t = recovered(dir);
        CHECK(t.settled + t.open >= 0 && t.settled <= 2);
        if (cut == 0)
            CHECK_INT(t.settled, 2);
        append_pairs(dir, 2); /* goes on behind the cut */
        struct tally after = recovered(dir);
        CHECK_INT(after.settled, t.settled + 1);
        CHECK_INT(after.open, t.open + 1);
        sample_folder_remove(dir);
    }
}

/* Power lost: the size is there, the last sectors are zeros. */
static void check_zero_tail(void)
{
    char dir[64], path[SEGMENT_PATH_MAX];
    sample_folder(dir);
    append_pairs(dir, 3);
    sample_segment(dir, false, path);
    CHECK_FATAL(truncate(path, size_of(path) + 1000) == 0);
    struct tally t = recovered(dir);
    CHECK_INT(t.settled, 2);
    CHECK_INT(t.open, 1);
    sample_folder_remove(dir);
}

static void flip(const char *path, off_t offset)
{
    int fd = open(path, O_RDWR);
    uint8_t byte;
    CHECK_FATAL(pread(fd, &byte, 1, offset) == 1);
    byte ^= 0x10;
    CHECK_FATAL(pwrite(fd, &byte, 1, offset) == 1);
    close(fd);
}

static void check_flipped(void)
{
    char dir[64], path[SEGMENT_PATH_MAX];
    sample_folder(dir);
    append_pairs(dir, 3);
    sample_segment(dir, false, path);
    for (off_t at = 0; at < size_of(path); at++) {
        struct tally t = {0};
        struct error err = {""};
        flip(path, at);
        CHECK_INT(journal_recover(dir, count, &t, &err), CORRUPT);
        CHECK(strstr(err.text, path) && strstr(err.text, "offset"));
        struct journal_options o = options_for(dir, NULL);
        struct journal *j;
        CHECK_INT(journal_open(&o, &j, &err), CORRUPT);
        flip(path, at);
    }
    CHECK_INT(recovered(dir).settled, 2);
    sample_folder_remove(dir);
}

static void check_second_writer(void)
{
    char dir[64];
    sample_folder(dir);
    struct journal_options o = options_for(dir, NULL);
    struct journal *one, *two;
    struct error err;
    CHECK_INT(journal_open(&o, &one, &err), OK);
    CHECK_INT(journal_open(&o, &two, &err), CONFLICT);
    journal_close(one);
    sample_folder_remove(dir);
}

/* A file-size limit stands for a full disk: the write fails, and stays failed. */
static void check_write_failure(void)
{
    char dir[64];
    sample_folder(dir);
    struct journal_options o = options_for(dir, NULL);
    o.segment_bytes = 1 << 20;
    struct journal *j;
    struct error err = {""};
    CHECK_INT(journal_open(&o, &j, &err), OK);
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    small = (struct rlimit){1000, old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    struct meter_context c = sample_context(clock_wall_ms());
    struct meter_settle s = sample_settle(&c);
    for (int i = 0; i < 10; i++)
        journal_settle(j, &s);
    CHECK_INT(journal_flush(j), IO_FAILED);
    setrlimit(RLIMIT_FSIZE, &old);
    CHECK(journal_failed(j, &err));
    CHECK(strstr(err.text, "cannot write"));
    CHECK_INT(journal_admit(j, &c), 0);
    CHECK_INT(journal_settle(j, &s), 0);
    CHECK_INT(journal_flush(j), IO_FAILED);
    CHECK_INT(journal_written(j), 1);
    journal_close(j);
    CHECK(recovered(dir).settled < 10);
    sample_folder_remove(dir);
}

/* No next segment can be made: admits stop, settles go on, and it ends by itself. */
static void check_full(void)
{
    char dir[64];
    sample_folder(dir);
    struct journal_options o = options_for(dir, NULL);
    struct journal *j;
    struct error err = {""};
    CHECK_INT(journal_open(&o, &j, &err), OK);
    struct rlimit old, small;
    getrlimit(RLIMIT_NOFILE, &old);
    small = (struct rlimit){3, old.rlim_max};
    setrlimit(RLIMIT_NOFILE, &small);
    struct meter_context c = sample_context(clock_wall_ms());
    struct meter_settle s = sample_settle(&c);
    for (int i = 0; i < 40; i++)
        CHECK(journal_settle(j, &s) > 0 && journal_flush(j) == OK);
    CHECK(journal_failed(j, &err));
    CHECK_INT(journal_admit(j, &c), 0);
    setrlimit(RLIMIT_NOFILE, &old);
    usleep(1100 * 1000);
    CHECK_INT(journal_flush(j), OK);
    CHECK(!journal_failed(j, NULL));
    CHECK(journal_admit(j, &c) > 0);
    journal_close(j);
    CHECK_INT(recovered(dir).settled, 40);
    sample_folder_remove(dir);
}

struct shared {
    _Atomic int written; /* settles known to be written */
};

static void append_until_killed(const char *dir, struct shared *shared)
{
    struct error err;
    struct journal_syncer *y = journal_syncer_new(0, &err);
    struct journal_options o = options_for(dir, y);
    struct journal *j;
    if (journal_open(&o, &j, &err) != OK)
        _exit(3);
    for (;;) {
        for (int i = 0; i < 5; i++) {
            struct meter_context c = sample_context(clock_wall_ms());
            struct meter_settle s = sample_settle(&c);
            journal_admit(j, &c);
            journal_settle(j, &s);
        }
        if (journal_flush(j) != OK)
            _exit(4);
        shared->written += 5;
    }
}

/* SIGKILL at random times: every record counted as written is there after recovery. */
static void check_kill(void)
{
    char dir[64];
    sample_folder(dir);
    struct shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK_FATAL(shared != MAP_FAILED);
    int before = 0;
    for (int round = 0; round < 15; round++) {
        pid_t child = fork();
        if (child == 0)
            append_until_killed(dir, shared);
        usleep((useconds_t)(1000 + rand() % 20000));
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        CHECK(WIFSIGNALED(status));
        struct tally t = recovered(dir);
        int written = shared->written;
        CHECK(t.settled >= written);
        CHECK(t.settled - before <= written - before + 5 * (round + 1));
        before = t.settled;
    }
    munmap(shared, sizeof *shared);
    sample_folder_remove(dir);
}

struct waiter {
    struct loop *loop;
    struct journal *j;
    int64_t want;
    int calls;
};

static void durable(void *arg)
{
    struct waiter *w = arg;
    w->calls++;
    if (journal_durable(w->j) >= w->want)
        loop_stop(w->loop);
}

static void give_up(void *arg)
{
    loop_stop(arg);
}

static void check_durable(int64_t interval_ms)
{
    char dir[64];
    sample_folder(dir);
    struct error err = {""};
    struct loop *loop = loop_new(&err);
    struct journal_syncer *y = journal_syncer_new(interval_ms, &err);
    struct waiter w = {.loop = loop};
    struct journal_options o = options_for(dir, y);
    o.loop = loop;
    o.on_durable = durable;
    o.arg = &w;
    CHECK_INT(journal_open(&o, &w.j, &err), OK);
    for (int i = 0; i < 50; i++) {
        struct meter_context c = sample_context(clock_wall_ms());
        w.want = journal_admit(w.j, &c);
        CHECK_INT(journal_flush(w.j), OK);
    }
    CHECK_INT(journal_written(w.j), w.want);
    struct loop_timer *t = loop_timer_new(loop, give_up, loop);
    loop_timer_start(t, 20000);
    loop_run(loop);
    CHECK(w.calls > 0);
    CHECK_INT(journal_durable(w.j), w.want);
    loop_timer_free(t);
    journal_close(w.j);
    journal_syncer_free(y);
    loop_free(loop);
    CHECK_INT(recovered(dir).open, 50);
    sample_folder_remove(dir);
}

/* The part of a child under strace, which makes a system call of the journal fail once. Exits 0
 * when the journal is failed for good and has not said of anything lost that it is safe. */
static int fail_once(const char *dir)
{
    struct error err = {""};
    struct journal_syncer *y = journal_syncer_new(0, &err);
    struct journal_options o = options_for(dir, y);
    struct journal *j;
    if (!y || journal_open(&o, &j, &err) != OK)
        return 3;
    for (int i = 0; i < 4000 && !journal_failed(j, NULL); i++) {
        struct meter_context c = sample_context(clock_wall_ms());
        journal_admit(j, &c);
        journal_flush(j);
        usleep(500);
    }
    int64_t safe = journal_durable(j);
    usleep(20000); /* later syncs would succeed */
    struct meter_context c = sample_context(clock_wall_ms());
    struct meter_settle s = sample_settle(&c);
    bool failed = journal_failed(j, &err) && strstr(err.text, "Input/output error") &&
                  journal_admit(j, &c) == 0 && journal_settle(j, &s) == 0 &&
                  journal_flush(j) == IO_FAILED;
    /* When it was a write that failed, a sync of what stood before it may still be on its way, and
     * what that says is true. After a failed sync nothing more may be called safe. */
    bool honest = strstr(err.text, "cannot write") ? journal_durable(j) <= journal_written(j)
                                                   : journal_durable(j) == safe;
    journal_close(j);
    journal_syncer_free(y);
    return failed && honest ? 0 : 4;
}

static int run_traced(const char *self, const char *dir, const char *inject)
{
    pid_t child = fork();
    if (child == 0) {
        setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* it does not work under ptrace */
        execlp("strace", "strace", "-f", "-qq", "-o", "/dev/null", "-e",
               "trace=fdatasync,pwrite64,fsync", "-e", inject, self, dir, (char *)NULL);
        _exit(127);
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void check_call_failures(const char *self)
{
    static const char *const calls[] = {"inject=fdatasync:error=EIO:when=3",
                                        "inject=pwrite64:error=EIO:when=5",
                                        "inject=fsync:error=EIO:when=3"};
    if (run_traced("true", "", "inject=getpid:delay_enter=0") != 0) {
        printf("strace does not work here: failing calls are left out\n");
        return;
    }
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        char dir[64];
        sample_folder(dir);
        CHECK_INT(run_traced(self, dir, calls[i]), 0);
        recovered(dir);
        sample_folder_remove(dir);
    }
}

int main(int argc, char **argv)
{
    if (argc == 2)
        return fail_once(argv[1]);
    signal(SIGXFSZ, SIG_IGN);
    check_recover();
    check_torn();
    check_zero_tail();
    check_flipped();
    check_second_writer();
    check_write_failure();
    check_full();
    check_kill();
    check_durable(0);
    check_durable(20);
    check_call_failures(argv[0]);
    return check_done();
}
