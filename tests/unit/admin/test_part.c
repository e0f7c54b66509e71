#include "admin/cli/part.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/check.h"

static char folder[] = "/tmp/test_part.XXXXXX";

static void write_program(struct part *p, const char *script)
{
    FILE *f = fopen(p->program, "w");
    CHECK_FATAL(f);
    fprintf(f, "#!/bin/sh\n%s\n", script);
    fclose(f);
    CHECK_FATAL(chmod(p->program, 0755) == 0);
}

static struct part new_part(const char *script)
{
    struct part p = {.name = "thing", .config = "the config"};
    struct error err;
    char probe[200];
    snprintf(p.program, sizeof p.program, "%s/program", folder);
    snprintf(p.log_path, sizeof p.log_path, "%s/log", folder);
    snprintf(probe, sizeof probe, "unix:%s/none.sock", folder);
    CHECK_FATAL(address_parse(probe, &p.probe, &err) == OK);
    write_program(&p, script);
    return p;
}

/* Runs it to its end. */
static void run_once(struct part *p, int64_t now_ms)
{
    struct error err;
    int wait_status;
    CHECK_FATAL(part_start(p, now_ms, &err) == OK);
    CHECK_INT(p->state, PART_STARTING);
    CHECK(!part_probe(p, now_ms));
    CHECK_FATAL(waitpid(p->pid, &wait_status, 0) == p->pid);
    part_gone(p, wait_status, now_ms);
    CHECK_INT(p->pid, 0);
}

/* The pause doubles while it keeps ending, up to 10 s. */
static void test_pauses(void)
{
    static const int64_t pauses[] = {100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000};
    struct part p = new_part("exit 3");
    int64_t now = 0;
    for (int i = 0; i < 9; i++) {
        run_once(&p, now);
        CHECK_INT(p.state, PART_PAUSING);
        CHECK_INT(p.pause_ms, pauses[i]);
        CHECK_INT(p.ends, i + 1);
    }
    /* After a good run it begins anew. */
    p.state = PART_READY;
    p.since_ms = now;
    part_gone(&p, 0, now + 60000);
    CHECK_INT(p.pause_ms, 100);
    CHECK_INT(p.ends, 1);
    part_end(&p, now);
    CHECK_INT(p.state, PART_IDLE);
}

static void check_tail(const struct part *p, int lines, const char *want)
{
    char text[1000] = "", path[200];
    snprintf(path, sizeof path, "%s/tail", folder);
    int kept = dup(2);
    CHECK_FATAL(kept >= 0 && freopen(path, "w", stderr));
    part_print_log(p, lines);
    fflush(stderr);
    dup2(kept, 2);
    close(kept);
    FILE *f = fopen(path, "r");
    CHECK_FATAL(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    unlink(path);
    CHECK_STR(text, want);
}

/* Only what the last run wrote, and of that only the end. */
static void test_log(void)
{
    struct part p = new_part("echo old");
    run_once(&p, 0);
    write_program(&p, "echo $1 $2; echo two >&2; printf three");
    run_once(&p, 0);
    check_tail(&p, 10, "    --config the config\n    two\n    three\n");
    check_tail(&p, 2, "    two\n    three\n");
    check_tail(&p, 1, "    three\n");
    write_program(&p, ":");
    run_once(&p, 0);
    check_tail(&p, 10, "");
    unlink(p.log_path);
    check_tail(&p, 10, "");
}

static void test_end(void)
{
    struct part p = new_part("trap 'exit 0' TERM; while :; do sleep 0.01; done");
    struct error err;
    char how[100];
    int wait_status;
    CHECK_FATAL(part_start(&p, 0, &err) == OK);
    part_end(&p, 5);
    CHECK_INT(p.state, PART_ENDING);
    part_signal(&p, SIGKILL); /* the shell may not have set its trap yet */
    CHECK_FATAL(waitpid(p.pid, &wait_status, 0) == p.pid);
    part_gone(&p, wait_status, 6);
    CHECK_INT(p.state, PART_IDLE);
    part_describe_end(3 << 8, how, sizeof how);
    CHECK_STR(how, "exit code 3");
    part_describe_end(SIGKILL, how, sizeof how);
    CHECK_STR(how, "killed by signal 9 (Killed)");
    part_signal(&p, SIGKILL); /* nobody there */
}

static void test_missing_program(void)
{
    struct part p = new_part("");
    unlink(p.program);
    run_once(&p, 0);
    CHECK_INT(p.state, PART_PAUSING);
    check_tail(&p, 1, "    cannot be executed\n");
}

int main(void)
{
    char path[200];
    CHECK_FATAL(mkdtemp(folder));
    test_pauses();
    test_log();
    test_end();
    test_missing_program();
    snprintf(path, sizeof path, "%s/program", folder);
    unlink(path);
    snprintf(path, sizeof path, "%s/log", folder);
    unlink(path);
    CHECK(rmdir(folder) == 0);
    return check_done();
}
