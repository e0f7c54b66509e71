#include "admin/cli/part.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "admin/cli/probe.h"

enum {
    PROBE_TIMEOUT_MS = 500,
    PAUSE_FIRST_MS = 100,
    PAUSE_MOST_MS = 10000,
    GOOD_RUN_MS = 60000, /* after it an end counts as the first again */
    LOG_BYTES_MAX = 64 << 20,
    LOG_TAIL_BYTES = 8192,
};

static void set_state(struct part *p, enum part_state next, int64_t now_ms)
{
    static const bool allowed[5][5] = {
        [PART_IDLE] = {[PART_STARTING] = true},
        [PART_STARTING] = {[PART_READY] = true, [PART_PAUSING] = true, [PART_ENDING] = true},
        [PART_READY] = {[PART_PAUSING] = true, [PART_ENDING] = true},
        [PART_PAUSING] = {[PART_STARTING] = true, [PART_IDLE] = true},
        [PART_ENDING] = {[PART_IDLE] = true},
    };
    assert(allowed[p->state][next]);
    p->state = next;
    p->since_ms = now_ms;
}

/* One older log is kept. */
static int open_log(struct part *p)
{
    struct stat sb;
    if (stat(p->log_path, &sb) == 0 && sb.st_size > LOG_BYTES_MAX) {
        char old[4100];
        snprintf(old, sizeof old, "%s.1", p->log_path);
        rename(p->log_path, old);
    }
    int fd = open(p->log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    p->log_start = fd >= 0 && fstat(fd, &sb) == 0 ? sb.st_size : 0;
    return fd;
}

/* In the child, between fork and exec: only calls that are safe there. */
static void run_child(const struct part *p, int log_fd, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0); /* Ctrl-C reaches us alone; we end the parts in their order */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
        _exit(125);
    int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, 0) < 0 || dup2(log_fd, 1) < 0 || dup2(log_fd, 2) < 0)
        _exit(125);
    execl(p->program, p->program, "--config", p->config, (char *)NULL);
    static const char text[] = "cannot be executed\n";
    if (write(2, text, sizeof text - 1) < 0)
        _exit(126);
    _exit(127);
}

enum status part_start(struct part *p, int64_t now_ms, struct error *err)
{
    int fd = open_log(p);
    if (fd < 0)
        return error_errno(err, errno, "%s", p->log_path);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        run_child(p, fd, parent);
    int errnum = errno;
    close(fd);
    if (pid < 0)
        return error_errno(err, errnum, "cannot start %s", p->program);
    p->pid = pid;
    set_state(p, PART_STARTING, now_ms);
    return OK;
}

bool part_probe(struct part *p, int64_t now_ms)
{
    struct probe_answer answer;
    struct error err;
    enum status st = probe_get(&p->probe, "/readyz", PROBE_TIMEOUT_MS, &answer, &err);
    if (st != OK || answer.status != 200) {
        snprintf(p->why, sizeof p->why, "%.199s", st == OK ? answer.body : err.text);
        p->why[strcspn(p->why, "\n")] = 0;
        return false;
    }
    if (p->state == PART_STARTING)
        set_state(p, PART_READY, now_ms);
    return true;
}

void part_signal(struct part *p, int signum)
{
    if (p->pid)
        kill(p->pid, signum);
}

void part_end(struct part *p, int64_t now_ms)
{
    if (p->state == PART_STARTING || p->state == PART_READY) {
        part_signal(p, SIGTERM);
        set_state(p, PART_ENDING, now_ms);
    } else if (p->state == PART_PAUSING) {
        set_state(p, PART_IDLE, now_ms);
    }
}

void part_gone(struct part *p, int wait_status, int64_t now_ms)
{
    (void)wait_status;
    p->pid = 0;
    if (p->state == PART_ENDING) {
        set_state(p, PART_IDLE, now_ms);
        return;
    }
    bool good = p->state == PART_READY && now_ms - p->since_ms >= GOOD_RUN_MS;
    p->ends = good ? 1 : p->ends + 1;
    p->pause_ms = good || p->pause_ms == 0 ? PAUSE_FIRST_MS : p->pause_ms * 2;
    if (p->pause_ms > PAUSE_MOST_MS)
        p->pause_ms = PAUSE_MOST_MS;
    set_state(p, PART_PAUSING, now_ms);
}

void part_describe_end(int wait_status, char *out, size_t size)
{
    if (WIFSIGNALED(wait_status))
        snprintf(out, size, "killed by signal %d (%s)", WTERMSIG(wait_status),
                 strsignal(WTERMSIG(wait_status)));
    else
        snprintf(out, size, "exit code %d", WEXITSTATUS(wait_status));
}

static size_t read_tail(const struct part *p, char text[LOG_TAIL_BYTES + 1])
{
    struct stat sb;
    size_t len = 0;
    int fd = open(p->log_path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &sb) == 0) {
        int64_t from = sb.st_size - LOG_TAIL_BYTES;
        ssize_t n = pread(fd, text, LOG_TAIL_BYTES, from > p->log_start ? from : p->log_start);
        len = n > 0 ? (size_t)n : 0;
    }
    if (fd >= 0)
        close(fd);
    text[len] = 0;
    return len;
}

void part_print_log(const struct part *p, int lines)
{
    char text[LOG_TAIL_BYTES + 1];
    size_t len = read_tail(p, text);
    char *start = text + len;
    while (start > text && (start[-1] != '\n' || start == text + len || --lines > 0))
        start--;
    for (char *line = start; *line;) {
        size_t n = strcspn(line, "\n");
        fprintf(stderr, "    %.*s\n", (int)n, line);
        line += n + (line[n] == '\n');
    }
}
